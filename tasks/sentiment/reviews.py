"""Reads reviews and ready-made sentiment preferences, each in its own schema."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsepo.data.pairs import PairData, ReadReport, SkipRow, build_pairs
from sparsepo.data.rows import kind_of, read_rows
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.sentiment.pairs import NO_REWARD, rank_samples

SPLITS = ("train", "test")
TEST_SHARE = 0.2
"""Share of a single file's texts or prompts in its test split."""

EMPTY_TEXT = "empty text"
SAME_SCORE = "same score"


@dataclass(frozen=True, slots=True)
class ReviewData:
    """Reviews with their labels and a report."""

    texts: list[str]
    labels: list[int | None]
    """1 positive, 0 negative; None if the row has no label."""
    report: ReadReport


def read_reviews(source: str | Path, split: str = "train") -> ReviewData:
    """Read reviews in IMDB's schema: `text`, and `label` if there is one.

    Line-break markup, which is frequent in IMDB, and white space of any length become a single
    space.

    Args:
        source: a hub id such as `stanfordnlp/imdb`, a folder, or one file. One file is split by a
            hash of the text: about a fifth of the reviews are `test`.
        split: "train" or "test".

    Raises:
        UserError: unknown split, missing or damaged source, no column `text`, a label that is not
            0 or 1, or no usable row.
    """
    _require_split(split)
    texts: list[str] = []
    labels: list[int | None] = []
    skipped: Counter[str] = Counter()
    rows = 0
    single = Path(source).is_file()
    for index, row in enumerate(read_rows(source, split)):
        where = f"{source}, row {index}"
        if index == 0 and "text" not in row:
            raise UserError(f"{source} has no column 'text'; its columns are {', '.join(row)}.")
        text = _text(row.get("text"), f"{where}: 'text'")
        if single and _is_test(text) != (split == "test"):
            continue
        rows += 1
        text = " ".join(text.replace("<br />", " ").split())
        if not text:
            skipped[EMPTY_TEXT] += 1
            continue
        texts.append(text)
        labels.append(_label(row.get("label"), where))
    if not texts:
        raise UserError(f"{source} has no usable review of the split {split!r}; check the file.")
    return ReviewData(texts, labels, ReadReport(str(source), rows, len(texts), dict(skipped)))


def read_scored_pairs(source: str | Path, split: str | None = None) -> PairData:
    """Read ready-made pairs in the schema of `imdb-po-{split}.json` or TRL.

    A row has `prompt`, and `chosen` and `rejected` as `{"text", "score"}` or as text. The missing
    space after the prompt is restored. Rows with equal scores are skipped, because they have no
    preference; scores in the wrong order are an error.

    Args:
        source: a file, folder or hub id.
        split: "train" or "test"; one file is split by a hash of the prompt, None reads it whole.

    Raises:
        UserError: missing source or column, wrong types, chosen scored below rejected, a score that
            is not a finite number, or no usable row.
    """
    if split is not None:
        _require_split(split)
    single = Path(source).is_file()
    rows = []
    for index, row in enumerate(read_rows(source, split or "train")):
        for column in ("prompt", "chosen", "rejected"):
            if index == 0 and column not in row:
                raise UserError(
                    f"{source} has no column '{column}'; its columns are {', '.join(row)}."
                )
        if not single or split is None or _is_test(str(row.get("prompt"))) == (split == "test"):
            rows.append({"pair_id": f"{Path(source).name.split('.')[0]}:{index}", **row})
    return build_pairs(rows, _scored_pair, source, split or "train")


def read_preferences(source: str | Path, split: str) -> PairData:
    """Read pairs of one split from ready-made pairs or from scored samples, by their columns.

    For samples, the first two completions of each prompt are its pair, as in ODPO.

    Args:
        source: a file, folder or hub id, for `read_scored_pairs` or, if its rows have a `reward`,
            for `read_samples`.
        split: "train" or "test"; samples are split by a hash of the prompt.

    Raises:
        UserError: see `read_scored_pairs` and `read_samples`.
    """
    _require_split(split)
    first = next(iter(read_rows(source, split)), {})
    if "reward" not in first:
        return read_scored_pairs(source, split)
    samples, missing = read_samples(source, split)
    own = [
        (prompt, scored)
        for prompt, scored in samples
        if len(scored) > 1 and _is_test(prompt) == (split == "test")
    ]
    ranked = rank_samples(
        [prompt for prompt, _ in own],
        [[text for text, _ in scored[:2]] for _, scored in own],
        [[reward for _, reward in scored[:2]] for _, scored in own],
        f"{Path(source).name.split('.')[0]}:{split}",
    )
    skipped = {**ranked.skipped, **({NO_REWARD: missing} if missing else {})}
    report = ReadReport(str(source), ranked.prompts, len(ranked.pairs), skipped)
    return PairData(ranked.pairs, report)


def read_samples(
    source: str | Path, split: str = "train"
) -> tuple[list[tuple[str, list[tuple[str, float]]]], int]:
    """Read scored samples: rows of `prompt`, `text`, `reward`, several per prompt.

    Args:
        source: a file, folder or hub id.
        split: split of a folder or hub data set; a single file is read completely.

    Returns:
        (prompt, its (completion, reward) in order) for each prompt in order of appearance, and the
        number of rows skipped because their reward is not a finite number.

    Raises:
        UserError: a missing source or column, wrong types, or no usable row.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    missing = 0
    for index, row in enumerate(read_rows(source, split)):
        where = f"{source}, row {index}"
        for column in ("prompt", "text", "reward"):
            if column not in row:
                raise UserError(f"{where} has no '{column}'; its columns are {', '.join(row)}.")
        prompt = _text(row["prompt"], f"{where}: 'prompt'")
        completion = _continuation(prompt, _text(row["text"], f"{where}: 'text'"))
        reward = _number(row["reward"], f"{where}: 'reward'")
        if reward is None:
            missing += 1
        else:
            found.setdefault(prompt, []).append((completion, reward))
    if not found:
        raise UserError(f"{source} has no sample with a finite reward; check its column 'reward'.")
    return list(found.items()), missing


def pair_texts(pairs: Iterable[PreferencePair]) -> Iterator[str]:
    """Yield prompt and response of each side of text pairs, as one text."""
    for pair in pairs:
        for response in (pair.chosen, pair.rejected):
            yield f"{pair.prompt}{response}"


def _scored_pair(row: dict[str, Any], where: str) -> tuple[str, str, str]:
    prompt = _text(row.get("prompt"), f"{where}: 'prompt'")
    texts, scores = [], []
    for column in ("chosen", "rejected"):
        value = row.get(column)
        scored = isinstance(value, dict)
        text = value.get("text") if isinstance(value, dict) else value
        texts.append(_continuation(prompt, _text(text, f"{where}: '{column}'")))
        score = None
        if scored and isinstance(value, dict) and value.get("score") is not None:
            score = _number(value["score"], f"{where}: score of '{column}'")
            if score is None:
                raise UserError(
                    f"{where}: the score of '{column}' is not a finite number; correct it."
                )
        scores.append(score)
    if scores[0] is not None and scores[1] is not None:
        if scores[0] == scores[1]:
            raise SkipRow(SAME_SCORE)
        if scores[0] < scores[1]:
            raise UserError(
                f"{where}: 'chosen' has the lower score ({scores[0]:g} against {scores[1]:g}); "
                "swap the columns."
            )
    return prompt, texts[0], texts[1]


def _continuation(prompt: str, text: str) -> str:
    """Restore the missing space between a prompt and its continuation."""
    if not text or not prompt or prompt[-1].isspace():
        return text
    return f" {text}" if text[0].isalnum() or text[0] in "\"'(<-$&" else text


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} is {kind_of(value)}; it must be text.")
    return value


def _number(value: Any, where: str) -> float | None:
    """Return a finite number, None for NaN or infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        if value is None:
            return None
        raise UserError(f"{where} is {kind_of(value)}; it must be a number.")
    return float(value) if math.isfinite(value) else None


def _label(value: Any, where: str) -> int | None:
    # The hub's unsupervised split has -1 for "no label".
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        raise UserError(f"{where}: the label is {value!r}; it must be 0 (negative) or 1.")
    return int(value)


def _is_test(text: str, share: float = TEST_SHARE) -> bool:
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def _require_split(split: str) -> None:
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}; there are {' and '.join(SPLITS)}.")
