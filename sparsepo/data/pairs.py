"""Reads user data as PreferencePair: TRL's column conventions, from files, folders or the hub.

A row has `chosen` and `rejected`, and usually `prompt`; each is text or a list of chat messages.
The columns of other public data sets are converted (`columns.py`, `messages.py`). Rows without a
preference (a missing or empty response, two identical ones …) are skipped and counted. Malformed
data (a missing column, a number instead of text, a broken line) is a UserError that names the
location.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, overload

from sparsepo.data.columns import (
    ALWAYS_READ,
    FOR_THE_TEMPLATE,
    check_media,
    check_unclear,
    make_prompt,
    missing_column,
    prompt_columns,
)
from sparsepo.data.judgements import COLUMNS as JUDGEMENTS
from sparsepo.data.judgements import scores_of, win_probability_of
from sparsepo.data.messages import (
    chat_template_kwargs,
    is_blank,
    is_message,
    to_messages,
    without_nulls,
)
from sparsepo.data.rows import Row, is_arrow, read_rows
from sparsepo.data.unpaired import COLUMNS as UNPAIRED
from sparsepo.data.unpaired import COMPLETION, is_unpaired, label_of
from sparsepo.errors import EmptyDataError, UserError
from sparsepo.types import Message, PreferencePair

__all__ = [
    "DIALOGUES_PART",
    "EMPTY_RESPONSE",
    "IDENTICAL_RESPONSES",
    "MISSING_PROMPT",
    "MISSING_RESPONSE",
    "NOT_UNICODE",
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
NOT_UNICODE: Final = "text with lone surrogates, which is not Unicode"


@dataclass(frozen=True, slots=True)
class ReadReport:
    """The counts of rows read from one source."""

    source: str
    """The file, folder or hub id that was read."""
    rows: int
    """Rows found."""
    kept: int
    """Rows that became pairs."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason → number of rows left out for it."""
    unused_columns: tuple[str, ...] = ()
    """Columns of the data that were not used."""

    def counts(self) -> dict[str, Any]:
        """Return what depends on the rows alone: rows, kept, and skipped by reason."""
        return {"rows": self.rows, "kept": self.kept, "skipped": dict(self.skipped)}

    def __str__(self) -> str:
        """One line: "pairs.jsonl: 98 of 100 rows kept; skipped: 2 empty response"."""
        line = f"{self.source}: {self.kept} of {self.rows} rows kept"
        if self.skipped:
            line += "; skipped: " + in_words(self.skipped)
        if self.unused_columns:
            line += "; columns not used: " + ", ".join(self.unused_columns)
        return line


@dataclass(frozen=True)
class PairData(Sequence[PreferencePair]):
    """Preference pairs, as a sequence, and the counts of what was read."""

    pairs: list[PreferencePair]
    report: ReadReport

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> PreferencePair: ...

    @overload
    def __getitem__(self, index: slice) -> list[PreferencePair]: ...

    def __getitem__(self, index: int | slice) -> PreferencePair | list[PreferencePair]:
        return self.pairs[index]


class SkipRow(Exception):  # noqa: N818 - a signal to the reader, not an error
    """Raised by a row's parser if the row has no preference; its text is the reason."""


def read_pairs(source: str | Path, split: str = "train", *, unpaired: bool = False) -> PairData:
    """Read preference pairs in TRL's column conventions.

    Accepted rows: `prompt`, `chosen`, `rejected`, each text or a list of chat messages (a response
    may also be a `{"text": …}` object); or `chosen` and `rejected` alone, the shared beginning
    being the prompt. Text is cut at the last white space of the shared beginning, which splits no
    word; chat is cut after the last message that is not the assistant's. Messages may be
    ShareGPT's, and in place of `prompt` there may be `conversations`, `question`, `instruction` or
    `input`, with `system`. `tools`, `documents` and `chat_template_kwargs` go to the chat template.

    Args:
        source: a .jsonl, .json or .parquet file (gzip or not), a folder (the hub's layout or
            `Dataset.save_to_disk`), or a data set's id on the hub.
        split: which split of a folder or hub data set; a single file is one split, read whole.
        unpaired: whether rows may have `completion` and `label` (true if it is desirable) in place
            of `chosen` and `rejected`; each becomes a pair that lacks the other response.

    Returns:
        The pairs in the order of the rows, and the counts of what was skipped. A pair's id is the
        row's `pair_id` or `id`, otherwise `<file stem>:<row>`, rows counted from 0.

    Raises:
        UserError: the source is missing or unreadable, lacks a column, has values of a wrong type,
            or has no usable row.
    """
    rows = read_rows(source, split)
    return pairs_of_rows(rows, source, split, arrow=is_arrow(source), unpaired=unpaired)


def pairs_of_rows(
    rows: Iterable[Row],
    source: str | Path,
    split: str = "train",
    *,
    arrow: bool = False,
    unpaired: bool = False,
) -> PairData:
    """Turn rows into preference pairs as `read_pairs` does.

    Args:
        rows: the rows, such as a list of dictionaries or a `datasets.Dataset`.
        source: what was read, for ids and messages.
        split: the split, part of the ids of hub data.
        arrow: the rows come from Arrow (Parquet, `datasets`), which fills fields that an object
            lacks with null; such fields are dropped.
        unpaired: see `read_pairs`.

    Returns:
        As `read_pairs` does.

    Raises:
        UserError: as `read_pairs` does.
    """
    given: list[Row] = [dict(row) for row in rows]
    single = unpaired and is_unpaired({name for row in given for name in row})
    columns = require_columns(given, UNPAIRED if single else ("chosen", "rejected"), str(source))
    if arrow:
        given = [{name: without_nulls(value) for name, value in row.items()} for row in given]
    names = prompt_columns(columns)

    def parse(row: Row, where: str) -> tuple[Content, Content, Content]:
        check_media(row, where)
        responses = _completion(row, where) if single else _responses(row, where)
        if not names:
            return _without_prompt(*responses)
        if names == ("prompt",):
            return _with_prompt(*responses, row.get("prompt"), where)
        return _with_prompt(*responses, make_prompt(row, names, where), where)

    if not names and not _repeats_prompt(given, COMPLETION if single else "chosen"):
        check_unclear(columns, str(source))
    data = build_pairs(given, parse, source, split, unpaired=single)
    used = {*ALWAYS_READ, *(UNPAIRED if single else JUDGEMENTS), *names}
    if any(not isinstance(pair.prompt, str) for pair in data.pairs):
        used |= set(FOR_THE_TEMPLATE)
    unused = tuple(name for name in columns if name not in used)
    return PairData(data.pairs, replace(data.report, unused_columns=unused))


def build_pairs(
    rows: Iterable[Row],
    parse: RowParser,
    source: str | Path,
    split: str = "train",
    *,
    unpaired: bool = False,
) -> PairData:
    """Turn rows into pairs with a data set's own parser, and count skipped rows.

    Args:
        rows: the rows as read.
        parse: see RowParser.
        source: what was read, for ids and messages.
        split: the split, part of the ids of hub data.
        unpaired: whether rows have one response, which the parser returns twice, and a label.

    Returns:
        The pairs with unique ids, and the report.

    Raises:
        UserError: no row is usable.
    """
    start = stem(source, split)
    pairs: list[PreferencePair] = []
    skipped: Counter[str] = Counter()
    taken: set[str] = set()
    count = 0
    for index, row in enumerate(rows):
        count += 1
        try:
            where = f"{source}, row {index}"
            prompt, chosen, rejected = parse(row, where)
            label = label_of(row, where) if unpaired else None
            if label is not None:
                nothing: Content = "" if isinstance(chosen, str) else []
                chosen, rejected = (chosen, nothing) if label else (nothing, rejected)
            _check_preference(prompt, chosen, rejected, label)
            chat = not isinstance(prompt, str)
            for_template = chat_template_kwargs(row, where) if chat else {}
        except SkipRow as reason:
            skipped[str(reason)] += 1
            continue
        pair_id = unique(given_id(row) or f"{start}:{index}", taken)
        pairs.append(
            PreferencePair(
                pair_id,
                prompt,
                chosen,
                rejected,
                for_template,
                None if unpaired else scores_of(row, where),
                None if unpaired else win_probability_of(row, where),
                label,
            )
        )
    if count == 0:
        raise UserError(f"{source} contains no rows; give data with at least one.")
    if not pairs:
        raise EmptyDataError(
            f"No usable row in {source}: all {count} were skipped ({in_words(skipped)})."
        )
    return PairData(pairs, ReadReport(str(source), count, len(pairs), dict(skipped)))


# --- one row ------------------------------------------------------------------------------------


def _without_prompt(chosen: Content, rejected: Content) -> tuple[Content, Content, Content]:
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _split_shared_text(chosen, rejected)
    return _split_shared_chat(_as_messages(chosen), _as_messages(rejected))


def _with_prompt(
    chosen: Content, rejected: Content, given: Any, where: str
) -> tuple[Content, Content, Content]:
    if is_missing(given):
        raise SkipRow(MISSING_PROMPT)
    prompt = text_or_messages(given, f"{where}: 'prompt'")
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
            f"{where}: 'chosen' and 'rejected' must be both text or both lists of messages."
        )
    return chosen, rejected


def _completion(row: Row, where: str) -> tuple[Content, Content]:
    """Return the only response of an unpaired row twice; its label decides which one stays."""
    completion = _response(row.get(COMPLETION), f"{where}: '{COMPLETION}'")
    if isinstance(completion, str) and not prompt_columns(row):
        raise SkipRow(MISSING_PROMPT)
    return completion, completion


def _chat_with_prompt(
    prompt: Content, chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    begun, chosen = _split_response(chosen)
    also_begun, rejected = _split_response(rejected)
    if begun != also_begun:
        raise SkipRow(DIALOGUES_PART)
    # Some data sets (UltraFeedback) repeat the whole prompt in both responses, possibly with a
    # system message that the text prompt lacks: the longer version is the prompt.
    if given[len(given) - len(begun) :] == begun:
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
    # The word that differs may start before the first different character.
    while shared > 0 and not chosen[shared].isspace():
        shared -= 1
    while shared > 0 and chosen[shared - 1].isspace():
        shared -= 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _response(value: Any, where: str) -> Content:
    if isinstance(value, Mapping) and "text" in value and not is_message(value):
        value = value["text"]
    if is_missing(value):
        raise SkipRow(MISSING_RESPONSE)
    return text_or_messages(value, where)


def text_or_messages(value: Any, where: str) -> Content:
    """Return a text as it is, and messages in our form."""
    return value if isinstance(value, str) else to_messages(value, where)


def _check_preference(
    prompt: Content, chosen: Content, rejected: Content, label: bool | None
) -> None:
    if (label is not False and _is_blank(chosen)) or (label is not True and _is_blank(rejected)):
        raise SkipRow(EMPTY_RESPONSE)
    if label is None and chosen == rejected:
        raise SkipRow(IDENTICAL_RESPONSES)
    if prompt == []:
        raise SkipRow(MISSING_PROMPT)
    if not all(map(is_unicode, (prompt, chosen, rejected))):
        raise SkipRow(NOT_UNICODE)


def is_unicode(value: Any) -> bool:
    """Return whether text, at any depth, can be encoded; JSON may contain lone surrogates."""
    if isinstance(value, Mapping):
        return all(is_unicode(item) for item in value.values())
    if isinstance(value, list):
        return all(map(is_unicode, value))
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_blank(response: Content) -> bool:
    return not response.strip() if isinstance(response, str) else is_blank(response)


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: null, or NaN in place of it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_messages(response: Content) -> list[Message]:
    if isinstance(response, str):
        return [{"role": "assistant", "content": response}]
    return response


# --- ids, columns, words ------------------------------------------------------------------------


def require_columns(rows: list[Row], columns: tuple[str, ...], source: str) -> list[str]:
    """Return all columns, or raise a UserError if one of `columns` is missing."""
    if not rows:
        raise UserError(f"{source} contains no rows; give data with at least one.")
    present = list(dict.fromkeys(name for row in rows for name in row))
    for column in columns:
        if column not in present:
            raise missing_column(column, present, source)
    return present


def _repeats_prompt(rows: list[Row], column: str) -> bool:
    """Return whether responses are whole dialogues, which begin with the prompt."""
    responses = (row[column] for row in rows if isinstance(row.get(column), list))
    return any(len(messages) > 1 for messages in responses)


def given_id(row: Row) -> str | None:
    """Return the id that a row comes with, or None."""
    for name in ("pair_id", "id"):
        value = row.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return None


def unique(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, with #2, #3 … appended if an earlier row has the same id."""
    pair_id, repeat = wanted, 1
    while pair_id in taken:
        repeat += 1
        pair_id = f"{wanted}#{repeat}"
    taken.add(pair_id)
    return pair_id


def stem(source: str | Path, split: str) -> str:
    """Return how the ids of rows without their own begin."""
    path = Path(source)
    if path.is_file():
        return path.name.split(".")[0] or path.name
    return f"{path.name if path.is_dir() else source}:{split}"


def in_words(skipped: Mapping[str, int]) -> str:
    """Return counts as text: "2 empty response, 1 missing prompt"."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items())
