"""Finds the columns that contain the prompt, and explains missing chosen and rejected columns.

All formats are converted to TRL's `prompt`, `chosen` and `rejected`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sparsepo.data.messages import to_messages
from sparsepo.data.rows import Row, kind_of
from sparsepo.errors import UserError
from sparsepo.types import Message

ALWAYS_READ: Final = ("chosen", "rejected", "prompt", "pair_id", "id")
FOR_THE_TEMPLATE: Final = ("tools", "documents", "chat_template_kwargs")
SYSTEM: Final = ("system", "system_prompt")
MEDIA: Final = ("images", "videos", "audios")
"""Columns of TRL and LLaMA-Factory for media other than text."""

UNCLEAR: Final = ("messages", "query", "context", "problem", "inputs", "dialogue", "post")
"""Columns that usually contain a prompt, in formats that differ between data sets."""

RENAMED: Final = (
    ("response_j", "response_k"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("better", "worse"),
    ("y_w", "y_l"),
)
"""Other names of the chosen and rejected response."""

TWO_RESPONSES: Final = (
    ("response_0", "response_1"),
    ("response_a", "response_b"),
    ("response_1", "response_2"),
    ("answer_0", "answer_1"),
)
"""Names of two responses, of which another column names the better one."""


def prompt_columns(columns: Collection[str]) -> tuple[str, ...]:
    """Return the columns that make up the prompt; empty if the responses contain it.

    Args:
        columns: the columns of the data, including `chosen` and `rejected`.

    Raises:
        UserError: a column seems to contain the prompt, but in an unknown form.
    """
    if "prompt" in columns:
        return ("prompt",)
    for main, others in (
        ("conversations", SYSTEM),
        ("question", SYSTEM),
        ("instruction", ("input", "history", *SYSTEM)),
        ("input", ("history", *SYSTEM)),
    ):
        if main in columns:
            return (main, *(name for name in others if name in columns))
    return ()


def make_prompt(row: Row, names: Sequence[str], where: str) -> list[Message] | None:
    """Return the messages of a prompt in columns other than `prompt`, or None if it is missing.

    Args:
        row: one row.
        names: the columns that `prompt_columns` returned; the first is the main one.
        where: the row, for error messages.

    Raises:
        UserError: one of the columns has the wrong type.
    """
    main = row.get(names[0])
    if not main:
        return None
    if names[0] == "conversations":
        messages = to_messages(main, f"{where}: 'conversations'")
    else:
        # As in Alpaca's format, an instruction may have an additional input.
        text = _text(row, names[0], where)
        if names[0] == "instruction" and (more := _text(row, "input", where)).strip():
            text = f"{text}\n{more}"
        messages = [*_history(row, where), {"role": "user", "content": text}]
    system = next((text for name in SYSTEM if (text := _text(row, name, where)).strip()), "")
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def check_unclear(columns: Collection[str], source: str) -> None:
    """Raise a UserError if rows have no prompt column, but a column that may contain the prompt."""
    for name in UNCLEAR:
        if name in columns:
            raise UserError(
                f"{source} has no column 'prompt', but a column '{name}'; rename it to 'prompt' if "
                "it contains the prompt, or remove it if 'chosen' and 'rejected' include theirs."
            )


def check_media(row: Row, where: str) -> None:
    """Raise a UserError if a row has images or other media, which would be ignored."""
    for name in MEDIA:
        if isinstance(row.get(name), list) and row[name]:
            raise UserError(f"{where} has {name}, but training supports only text; remove the row.")


def missing_column(column: str, present: Sequence[str], source: str) -> UserError:
    """Return the error for data without a required column, with a remedy that fits.

    Args:
        column: the missing column.
        present: the columns of the data.
        source: the name of the data.
    """
    sentence = f"{source} has no column '{column}'; its columns are {', '.join(present)}."
    if column == "label":
        return UserError(f"{sentence} Add it: true for a desirable completion, otherwise false.")
    return UserError(sentence + _remedy(present))


def _remedy(present: Collection[str]) -> str:
    names = set(present)
    for chosen, rejected in RENAMED:
        if {chosen, rejected} <= names:
            renamed = [(chosen, "chosen"), (rejected, "rejected")]
            return " Rename " + " and ".join(
                f"'{old}' to '{new}'" for old, new in renamed if old != new
            ) + "."  # fmt: skip
    for first, second in TWO_RESPONSES:
        if {first, second} <= names:
            return (
                f" Write the better one of '{first}' and '{second}' under 'chosen' and the other "
                "under 'rejected'."
            )
    if {"completion", "label"} <= names:
        return (
            " These are rated single answers, which only the methods for unpaired data train on "
            "(kto, bco); give a chosen and a rejected answer instead, or train with one of them."
        )
    for name in ("completions", "responses", "output", "generations", "answers"):
        if name in names:
            return (
                f" Write the better of its '{name}' under 'chosen' and a worse one under "
                "'rejected'."
            )
    if names & {"conversations", "messages", "completion", "text"}:
        return " These are single answers; a preference needs a chosen and a rejected one."
    return " Preference pairs need 'chosen' and 'rejected', and usually 'prompt'."


def _text(row: Row, name: str, where: str) -> str:
    value: Any = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: '{name}' is {kind_of(value)}; it must be text.")
    return value


def _history(row: Row, where: str) -> list[Message]:
    """Return earlier turns, which Alpaca's format has as a list of [question, answer]."""
    messages: list[Message] = []
    for turn in row.get("history") or []:
        if not isinstance(turn, list) or [type(text) for text in turn] != [str, str]:
            raise UserError(f"{where}: 'history' must be a list of [question, answer].")
        messages.append({"role": "user", "content": turn[0]})
        messages.append({"role": "assistant", "content": turn[1]})
    return messages
