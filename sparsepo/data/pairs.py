"""User data to PreferencePair: TRL's column conventions, from files, folders or the hub.

A row holds `chosen` and `rejected`, and usually `prompt`; each is text or a list of chat messages.
Rows that carry no preference (a missing or empty response, two identical ones …) are skipped and
counted; data of the wrong shape (no such column, a number where text belongs, a broken line) is a
UserError that names the place.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sparsepo.data.rows import Row, kind_of, read_rows
from sparsepo.errors import EmptyDataError, UserError
from sparsepo.types import Message, PreferencePair

__all__ = [
    "DIALOGUES_PART",
    "EMPTY_RESPONSE",
    "IDENTICAL_RESPONSES",
    "MISSING_PROMPT",
    "MISSING_RESPONSE",
    "NO_ASSISTANT_TURN",
    "Content",
    "PairData",
    "ReadReport",
    "Row",
    "RowParser",
    "SkipRow",
    "build_pairs",
    "pairs_of_rows",
    "read_pairs",
    "read_rows",
]

Content = str | list[Message]
RowParser = Callable[[Row, str], tuple[Content, Content, Content]]
"""`(row, where) -> (prompt, chosen, rejected)`; `where` names the row for error messages, and
SkipRow is raised for a row without a preference."""

MISSING_PROMPT: Final = "missing prompt"
MISSING_RESPONSE: Final = "missing response"
EMPTY_RESPONSE: Final = "empty response"
IDENTICAL_RESPONSES: Final = "identical responses"
NO_ASSISTANT_TURN: Final = "no assistant turn at the end"
DIALOGUES_PART: Final = "dialogues part before the last turn"


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What reading one source came to."""

    source: str
    """The file, folder or hub id that was read."""
    rows: int
    """Rows found."""
    kept: int
    """Rows that became pairs."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason → number of rows left out for it."""

    def __str__(self) -> str:
        """One line: "pairs.jsonl: 98 of 100 rows kept; skipped: 2 empty response"."""
        line = f"{self.source}: {self.kept} of {self.rows} rows kept"
        if self.skipped:
            line += "; skipped: " + _counts(self.skipped)
        return line


@dataclass(frozen=True, slots=True)
class PairData:
    """Preference pairs and how they came to be."""

    pairs: list[PreferencePair]
    report: ReadReport


class SkipRow(Exception):  # noqa: N818 - a signal to the reader, not an error
    """Raised by a row's parser when the row carries no preference; its text is the reason."""


def read_pairs(source: str | Path, split: str = "train") -> PairData:
    """Read preference pairs in TRL's column conventions.

    Accepted rows: `prompt`, `chosen`, `rejected`, each text or a list of chat messages (a response
    may also be a `{"text": …}` object); or `chosen` and `rejected` alone, the shared beginning
    being the prompt. Text is cut at the last white space of the shared beginning, so that no word
    is split; chat is cut after the last message that is not the assistant's.

    Args:
        source: a .jsonl, .json or .parquet file (gzip or not), a folder (the hub's layout or
            `Dataset.save_to_disk`), or a data set's id on the hub.
        split: which split of a folder or hub data set; a single file is one split, read whole.

    Returns:
        The pairs in the order of the rows, and the counts of what was skipped. A pair's id is the
        row's `pair_id` or `id`, otherwise `<file stem>:<row>`, rows counted from 0.

    Raises:
        UserError: nothing there, unreadable, without the columns, of wrong types, or without one
            usable row.
    """
    return pairs_of_rows(read_rows(source, split), source, split)


def pairs_of_rows(
    rows: Iterable[Row], source: str | Path, split: str = "train", *, arrow: bool = False
) -> PairData:
    """Turn rows into preference pairs as `read_pairs` does.

    Args:
        rows: the rows, such as a list of dictionaries or a `datasets.Dataset`.
        source: what was read, for ids and messages.
        split: the split, part of the ids of hub data.
        arrow: the rows come from Arrow (Parquet, `datasets`), which fills fields that an object
            lacks with null; such fields are dropped.

    Returns:
        As `read_pairs` does.

    Raises:
        UserError: as `read_pairs` does.
    """
    given: list[Row] = [dict(row) for row in rows]
    _require_columns(given, ("chosen", "rejected"), str(source))
    has_prompt = any("prompt" in row for row in given)

    parse = _with_prompt if has_prompt else _without_prompt
    return build_pairs(given, parse, source, split)


def build_pairs(
    rows: Iterable[Row],
    parse: RowParser,
    source: str | Path,
    split: str = "train",
) -> PairData:
    """Turn rows into pairs with a data set's own parser, counting what is left out.

    Args:
        rows: the rows as read.
        parse: see RowParser.
        source: what was read, for ids and messages.
        split: the split, part of the ids of hub data.

    Returns:
        The pairs with unique ids, and the report.

    Raises:
        UserError: when no row is left.
    """
    stem = _stem(source, split)
    pairs: list[PreferencePair] = []
    skipped: Counter[str] = Counter()
    taken: set[str] = set()
    count = 0
    for index, row in enumerate(rows):
        count += 1
        try:
            prompt, chosen, rejected = parse(row, f"{source}, row {index}")
            _check_preference(chosen, rejected)
        except SkipRow as reason:
            skipped[str(reason)] += 1
            continue
        pair_id = _unique(_given_id(row) or f"{stem}:{index}", taken)
        pairs.append(PreferencePair(pair_id, prompt, chosen, rejected))
    if count == 0:
        raise UserError(f"{source} holds no rows.")
    if not pairs:
        raise EmptyDataError(
            f"No usable row in {source}: all {count} were skipped ({_counts(skipped)})."
        )
    return PairData(pairs, ReadReport(str(source), count, len(pairs), dict(skipped)))


# --- one row ------------------------------------------------------------------------------------


def _without_prompt(row: Row, where: str) -> tuple[Content, Content, Content]:
    chosen, rejected = _responses(row, where)
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _split_shared_text(chosen, rejected)
    return _split_shared_chat(_as_messages(chosen), _as_messages(rejected))


def _with_prompt(row: Row, where: str) -> tuple[Content, Content, Content]:
    chosen, rejected = _responses(row, where)
    if _is_missing(row.get("prompt")):
        raise SkipRow(MISSING_PROMPT)
    prompt = _text_or_messages(row["prompt"], f"{where}: 'prompt'")
    if isinstance(prompt, str) and isinstance(chosen, str):
        return prompt, chosen, rejected
    if isinstance(chosen, str):
        return prompt, _as_messages(chosen), _as_messages(rejected)
    return _chat_with_prompt(prompt, chosen, _as_messages(rejected))


def _responses(row: Row, where: str) -> tuple[Content, Content]:
    chosen = _response(row.get("chosen"), f"{where}: 'chosen'")
    rejected = _response(row.get("rejected"), f"{where}: 'rejected'")
    if isinstance(chosen, list) != isinstance(rejected, list):
        raise UserError(
            f"{where}: 'chosen' and 'rejected' have to be both text or both lists of messages."
        )
    return chosen, rejected


def _chat_with_prompt(
    prompt: Content, chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    begun, chosen = _split_response(chosen)
    also_begun, rejected = _split_response(rejected)
    if begun != also_begun:
        raise SkipRow(DIALOGUES_PART)
    # Some sets (UltraFeedback's) repeat the whole prompt in both responses, and may have a system
    # message there that the text prompt lacks: the fuller one is the prompt.
    if not begun:
        return given, chosen, rejected
    if isinstance(prompt, str) or begun[: len(given)] == given:
        return begun, chosen, rejected
    return [*given, *begun], chosen, rejected


def _split_shared_chat(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    prompt, chosen = _split_response(chosen)
    also_prompt, rejected = _split_response(rejected)
    if prompt != also_prompt:
        raise SkipRow(DIALOGUES_PART)
    return prompt, chosen, rejected


def _split_response(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Cut after the last message that is not the assistant's."""
    start = len(messages)
    while start > 0 and messages[start - 1]["role"] == "assistant":
        start -= 1
    if start == len(messages):
        raise SkipRow(NO_ASSISTANT_TURN)
    return messages[:start], messages[start:]


def _split_shared_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Cut at the last white space of the shared beginning, which the responses then begin with."""
    if chosen == rejected:
        raise SkipRow(IDENTICAL_RESPONSES)
    limit = min(len(chosen), len(rejected)) - 1
    shared = next((i for i in range(limit) if chosen[i] != rejected[i]), max(limit, 0))
    # The word that differs may have begun before the first different character.
    while shared > 0 and not chosen[shared].isspace():
        shared -= 1
    while shared > 0 and chosen[shared - 1].isspace():
        shared -= 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _response(value: Any, where: str) -> Content:
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    if _is_missing(value):
        raise SkipRow(MISSING_RESPONSE)
    return _text_or_messages(value, where)


def _text_or_messages(value: Any, where: str) -> Content:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise UserError(f"{where} is {kind_of(value)}; it has to be text or a list of messages.")
    return [_message(item, f"{where}, message {index}") for index, item in enumerate(value)]


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise UserError(f"{where} is {kind_of(item)}; it has to have 'role' and 'content'.")
    for key in ("role", "content"):
        if not isinstance(item.get(key), str):
            raise UserError(
                f"{where} has no text under '{key}' (its fields: {', '.join(map(str, item))})."
            )
    return {"role": item["role"], "content": item["content"]}


def _check_preference(chosen: Content, rejected: Content) -> None:
    if _is_blank(chosen) or _is_blank(rejected):
        raise SkipRow(EMPTY_RESPONSE)
    if chosen == rejected:
        raise SkipRow(IDENTICAL_RESPONSES)


def _is_blank(response: Content) -> bool:
    if isinstance(response, str):
        return not response.strip()
    return not any(message["content"].strip() for message in response)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_messages(response: Content) -> list[Message]:
    if isinstance(response, str):
        return [{"role": "assistant", "content": response}]
    return response


# --- ids, columns, words ------------------------------------------------------------------------


def _require_columns(rows: list[Row], columns: tuple[str, ...], source: str) -> None:
    if not rows:
        raise UserError(f"{source} holds no rows.")
    present = list(dict.fromkeys(name for row in rows for name in row))
    for column in columns:
        if column not in present:
            raise UserError(
                f"{source} has no column '{column}'; its columns are {', '.join(present)}."
            )


def _given_id(row: Row) -> str | None:
    for name in ("pair_id", "id"):
        value = row.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def _unique(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, with #2, #3 … where an earlier row has it already."""
    pair_id, repeat = wanted, 1
    while pair_id in taken:
        repeat += 1
        pair_id = f"{wanted}#{repeat}"
    taken.add(pair_id)
    return pair_id


def _stem(source: str | Path, split: str) -> str:
    path = Path(source)
    if path.is_file():
        return path.name.split(".")[0] or path.name
    return f"{path.name if path.is_dir() else source}:{split}"


def _counts(skipped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items())
