"""Reads prompts alone, for training on samples of the policy itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from sparsepo.data.columns import check_media, make_prompt, prompt_columns
from sparsepo.data.messages import chat_template_kwargs, without_nulls
from sparsepo.data.pairs import (
    MISSING_PROMPT,
    NOT_UNICODE,
    Content,
    PairData,
    ReadReport,
    given_id,
    in_words,
    is_missing,
    is_unicode,
    pairs_of_rows,
    stem,
    text_or_messages,
    unique,
)
from sparsepo.data.rows import Row, is_arrow, read_rows
from sparsepo.errors import EmptyDataError, UserError

REPEATED = "prompt of an earlier row"
"""Why a row is skipped: its prompt would be sampled more often than the others."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, as text or as the messages before the response."""

    prompt_id: str
    content: Content
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for the chat template besides the messages."""


@dataclass(frozen=True)
class PromptData(Sequence[Prompt]):
    """Prompts, as a sequence, and the counts of what was read."""

    prompts: list[Prompt]
    report: ReadReport

    def __len__(self) -> int:
        return len(self.prompts)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...

    @overload
    def __getitem__(self, index: slice) -> list[Prompt]: ...

    def __getitem__(self, index: int | slice) -> Prompt | list[Prompt]:
        return self.prompts[index]


def read_prompts(source: str | Path, split: str = "train") -> PromptData:
    """Read the prompts of a file, a folder or a hub data set.

    Args:
        source: as for `read_pairs`; each row has `prompt`, or another column that `read_pairs`
            takes a prompt from. Responses in the rows are not read, unless they contain the prompt:
            in pairs without such a column it is their shared beginning.
        split: the split of a folder or hub data set.

    Returns:
        The prompts in the order of the rows. Rows of the same prompt are kept once.

    Raises:
        UserError: the source is missing or unreadable, has no prompt column, or no usable row.
    """
    return prompts_of_rows(read_rows(source, split), source, split, arrow=is_arrow(source))


def prompts_of_rows(
    rows: Iterable[Row], source: str | Path, split: str = "train", *, arrow: bool = False
) -> PromptData:
    """Turn rows into prompts as `read_prompts` does.

    Args:
        rows: the rows, such as a list of dictionaries or a `datasets.Dataset`.
        source: what was read, for ids and messages.
        split: the split, part of the ids of hub data.
        arrow: the rows come from Arrow, which fills fields that an object lacks with null.

    Raises:
        UserError: as `read_prompts` does.
    """
    given = [dict(row) for row in rows]
    if not given:
        raise UserError(f"{source} contains no rows; give data with at least one.")
    columns = list(dict.fromkeys(name for row in given for name in row))
    names = prompt_columns(columns)
    if not names and {"chosen", "rejected"} <= set(columns):
        return _of_pairs(pairs_of_rows(given, source, split, arrow=arrow))
    if not names:
        raise UserError(
            f"{source} has no column 'prompt'; its columns are {', '.join(columns)}. Samples need "
            "the prompt in a column of its own."
        )
    prompts: list[Prompt] = []
    skipped: Counter[str] = Counter()
    taken: set[str] = set()
    seen: set[str] = set()
    for index, row in enumerate(given):
        row = {name: without_nulls(value) for name, value in row.items()} if arrow else row
        where = f"{source}, row {index}"
        content = _content(row, names, where)
        reason = _reason_to_skip(content, seen)
        if content is None or reason is not None:
            skipped[reason or MISSING_PROMPT] += 1
            continue
        seen.add(repr(content))
        prompt_id = unique(given_id(row) or f"{stem(source, split)}:{index}", taken)
        extra = {} if isinstance(content, str) else chat_template_kwargs(row, where)
        prompts.append(Prompt(prompt_id, content, extra))
    if not prompts:
        raise EmptyDataError(
            f"No usable row in {source}: all {len(given)} were skipped ({in_words(skipped)})."
        )
    return PromptData(prompts, ReadReport(str(source), len(given), len(prompts), dict(skipped)))


def _of_pairs(pairs: PairData) -> PromptData:
    """Return the prompts of pairs whose responses contain them."""
    prompts: list[Prompt] = []
    skipped = Counter(pairs.report.skipped)
    seen: set[str] = set()
    for pair in pairs:
        reason = MISSING_PROMPT if not pair.prompt else _reason_to_skip(pair.prompt, seen)
        if reason is not None:
            skipped[reason] += 1
            continue
        seen.add(repr(pair.prompt))
        prompts.append(Prompt(pair.pair_id, pair.prompt, pair.chat_template_kwargs))
    report = replace(pairs.report, kept=len(prompts), skipped=dict(skipped))
    if not prompts:
        raise EmptyDataError(
            f"The pairs of {report.source} have no shared beginning, which would be their prompt; "
            "give rows with the column prompt."
        )
    return PromptData(prompts, report)


def _content(row: Row, names: Sequence[str], where: str) -> Content | None:
    check_media(row, where)
    if tuple(names) != ("prompt",):
        return make_prompt(row, names, where)
    value = row.get("prompt")
    return None if is_missing(value) else text_or_messages(value, f"{where}: 'prompt'")


def _reason_to_skip(content: Content | None, seen: set[str]) -> str | None:
    if content is None or content == []:
        return MISSING_PROMPT
    if not is_unicode(content):
        return NOT_UNICODE
    return REPEATED if repr(content) in seen else None
