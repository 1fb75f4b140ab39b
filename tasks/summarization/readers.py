"""Reads TL;DR in its real schemas: preference pairs, and posts with a reference summary.

Real files contain irregular rows: empty posts, summaries that are rated equally, missing texts.
They are skipped, counted and reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsepo.data.pairs import (
    EMPTY_RESPONSE,
    MISSING_RESPONSE,
    Content,
    PairData,
    SkipRow,
    build_pairs,
    read_rows,
)
from sparsepo.data.splits import check_split, is_test, numbered_rows, split_files
from sparsepo.errors import UserError
from sparsepo.types import Message
from tasks.summarization.filters import LENGTHS_DIFFER, LONGEST_DIFFERENCE, length_difference
from tasks.summarization.schemas import Schema, parse, prompt_of, rated_rows, schema_of

REPEATED = "prompt repeated"
HUB_SPLITS = {
    "comparisons": {"train": "train", "test": "validation"},
    "axis": {"train": "validation", "test": "test"},
}
"""Subset of openai/summarize_from_feedback → what its splits are called on the hub; "axis" has no
training split."""
_REFERENCES = ("summary", "label", "completion")
"""Names of the column with the reference: TL;DR's own, CarperAI's, TRL's."""


@dataclass(frozen=True, slots=True)
class SummaryPrompt:
    """A post to be summarized, with a reference summary."""

    prompt_id: str
    prompt: str
    reference: str


@dataclass(frozen=True, slots=True)
class PromptData:
    """Posts, and the counts of what was read."""

    prompts: list[SummaryPrompt]
    rows: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason → number of rows left out for it."""

    def counts(self) -> dict[str, Any]:
        """Return rows, kept, and skipped by reason."""
        return {"rows": self.rows, "kept": len(self.prompts), "skipped": dict(self.skipped)}


def read_tldr(
    source: str | Path,
    split: str = "train",
    *,
    subset: str | None = None,
    longest_difference: int | None = LONGEST_DIFFERENCE,
) -> PairData:
    """Read preference pairs of TL;DR as chat messages, in any schema of `schemas`.

    Args:
        source: a hub id (`openai/summarize_from_feedback`), a folder, or one file. In a folder, at
            any depth, the files of a split are those whose names contain its name as a word. One
            file is split by a hash of the prompt: about a fifth of the prompts are `test`.
        split: "train" or "test".
        subset: the hub's name of a subset, "comparisons" or "axis"; files have none.
        longest_difference: pairs whose summaries differ by more words are skipped; None keeps all.

    Returns:
        The pairs (the prompt is one user turn, ending in "TL;DR:"; a response is one assistant
        turn without surrounding white space) and the report, whose counts are those of the split.

    Raises:
        UserError: unknown split, missing or damaged source, unknown columns, no usable row.
    """
    check_split(split, "TL;DR")
    rows = list(_rows(source, split, subset))
    if not rows:
        raise UserError(
            f"{source} has no rows of the split {split!r}; check the file, or choose another split."
        )
    schema = schema_of(rows[0], str(source))
    if schema == "axis":
        rows = list(rated_rows(rows, str(source)))

    def parser(row: dict[str, Any], where: str) -> tuple[Content, Content, Content]:
        prompt, chosen, rejected = parse(schema, row, where)
        limit = longest_difference
        if limit is not None and length_difference(chosen, rejected) > limit:
            raise SkipRow(LENGTHS_DIFFER.format(limit))
        return (
            as_prompt(prompt),
            [{"role": "assistant", "content": chosen.strip()}],
            [{"role": "assistant", "content": rejected.strip()}],
        )

    return build_pairs(rows, parser, source, split)


def read_prompts(source: str | Path, split: str = "test") -> PromptData:
    """Read posts with reference summaries: `summary`, and `prompt` or `subreddit, title, post`.

    The reference may also be called `label` or `completion`, as in copies on the hub.

    Args:
        source: a file, a folder, or a hub id. A file is read whole.
        split: the split of a folder or hub data set.

    Returns:
        Each prompt once, and the counts.

    Raises:
        UserError: missing or damaged source, missing columns, wrong types, no usable row.
    """
    prompts: dict[str, SummaryPrompt] = {}
    skipped: Counter[str] = Counter()
    count, name = 0, ""
    for index, row in enumerate(read_rows(source, split)):
        if index == 0:
            name = _reference_column(row, source)
        count += 1
        try:
            prompt = prompt_of(row, f"{source}, row {index}")
            reference = _reference(row.get(name), f"{source}, row {index}: '{name}'")
        except SkipRow as reason:
            skipped[str(reason)] += 1
            continue
        if prompt in prompts:
            skipped[REPEATED] += 1
            continue
        prompts[prompt] = SummaryPrompt(f"prompt:{index}", prompt, reference)
    if not prompts:
        reasons = ", ".join(f"{number} {reason}" for reason, number in skipped.items())
        raise UserError(f"No usable row in {source}: {reasons or 'it has none'}.")
    return PromptData(list(prompts.values()), count, dict(skipped))


def as_prompt(prompt: str) -> list[Message]:
    """Return a prompt of TL;DR as chat messages."""
    return [{"role": "user", "content": prompt}]


def _reference_column(row: dict[str, Any], source: str | Path) -> str:
    name = next((name for name in _REFERENCES if name in row), None)
    if name is None or not {"prompt", "post"} & row.keys():
        raise UserError(
            f"{source} has the columns {', '.join(row)}; posts need 'summary', and 'prompt' or "
            "'post'."
        )
    return name


def _reference(summary: Any, where: str) -> str:
    if summary is None:
        raise SkipRow(MISSING_RESPONSE)
    if not isinstance(summary, str):
        raise UserError(f"{where} should be text, not {type(summary).__name__}.")
    if not summary.strip():
        raise SkipRow(EMPTY_RESPONSE)
    return summary.strip()


def _rows(source: str | Path, split: str, subset: str | None) -> Iterator[dict[str, Any]]:
    path = Path(source)
    if path.is_file():
        schema: Schema | None = None
        for index, row in enumerate(numbered_rows(path, split)):
            schema = schema or schema_of(row, str(path))
            if is_test(_split_key(schema, row, f"{path}, row {index}")) == (split == "test"):
                yield row
    elif path.is_dir() and (files := split_files(path, split)):
        for file in files:
            yield from numbered_rows(file, split)
    else:
        yield from read_rows(source, HUB_SPLITS.get(subset or "", {}).get(split, split), subset)


def _split_key(schema: Schema, row: dict[str, Any], where: str) -> str:
    """Return what decides a row's side: its post, so that none is on both sides."""
    if schema in ("comparisons", "axis"):
        info = row.get("info")
        row = info if isinstance(info, dict) else {}
    try:
        return prompt_of(row, where)
    except SkipRow:
        return ""
