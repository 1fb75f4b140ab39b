"""Which columns of a data set hold the prompt, and what to say where chosen or rejected is missing.

TRL's `prompt`, `chosen` and `rejected` are the form that everything else is brought into.
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
"""Columns of TRL and LLaMA-Factory for what is not text."""

UNCLEAR: Final = ("messages", "query", "context", "problem", "inputs", "dialogue", "post")
"""Columns that usually hold a prompt, in a form that differs from data set to data set."""

RENAMED: Final = (
    ("response_j", "response_k"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("better", "worse"),
    ("y_w", "y_l"),
)
"""Other names for a pair's responses."""

TWO_RESPONSES: Final = (
    ("response_0", "response_1"),
    ("response_a", "response_b"),
    ("response_1", "response_2"),
    ("answer_0", "answer_1"),
)
"""Names for two responses of which another column tells the better one."""


def prompt_columns(columns: Collection[str]) -> tuple[str, ...]:
    """Return the columns of which a prompt is made, empty where the responses contain it.

    Args:
        columns: those of the data, which have `chosen` and `rejected`.

    Raises:
        UserError: a column seems to hold the prompt, but nothing tells how.
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
    """Return the messages of a prompt that is not under `prompt`, or None where it is missing.

    Args:
        row: one row.
        names: what `prompt_columns` found; the first is the main one.
        where: names the row in error messages.

    Raises:
        UserError: a column of them has the wrong type.
    """
    main = row.get(names[0])
    if not main:
        return None
    if names[0] == "conversations":
        messages = to_messages(main, f"{where}: 'conversations'")
    else:
        # As in Alpaca's format, an instruction may have an input that belongs to it.
        text = _text(row, names[0], where)
        if names[0] == "instruction" and (more := _text(row, "input", where)).strip():
            text = f"{text}\n{more}"
        messages = [*_history(row, where), {"role": "user", "content": text}]
    system = next((text for name in SYSTEM if (text := _text(row, name, where)).strip()), "")
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def check_unclear(columns: Collection[str], source: str) -> None:
    """Raise a UserError where rows without a prompt column have one that may be meant as one."""
    for name in UNCLEAR:
        if name in columns:
            raise UserError(
                f"{source} has no column 'prompt' but a column '{name}'; rename it to 'prompt' if "
                "it is one, or remove it if 'chosen' and 'rejected' begin with their prompt."
            )


def check_media(row: Row, where: str) -> None:
    """Raise a UserError for a row with images or other media, which would be ignored."""
    for name in MEDIA:
        if isinstance(row.get(name), list) and row[name]:
            raise UserError(f"{where} has {name}, but only text can be trained on; remove the row.")


def missing_column(column: str, present: Sequence[str], source: str) -> UserError:
    """Return the error for data without `chosen` or `rejected`, with the remedy where one is known.

    Args:
        column: what is missing.
        present: the columns that the data has.
        source: names the data.
    """
    sentence = f"{source} has no column '{column}'; its columns are {', '.join(present)}."
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
        return " These are rated single answers (KTO); give a chosen and a rejected one per prompt."
    for name in ("completions", "responses", "output", "generations", "answers"):
        if name in names:
            return (
                f" Write the better of its '{name}' under 'chosen', a worse one under 'rejected'."
            )
    if names & {"conversations", "messages", "completion", "text"}:
        return " These are single answers; a preference needs a chosen and a rejected one."
    return " Preference pairs have 'chosen' and 'rejected', and usually 'prompt'."


def _text(row: Row, name: str, where: str) -> str:
    value: Any = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{where}: '{name}' is {kind_of(value)}; it has to be text.")
    return value


def _history(row: Row, where: str) -> list[Message]:
    """Earlier turns, as Alpaca's format has them: a list of [question, answer]."""
    messages: list[Message] = []
    for turn in row.get("history") or []:
        if not isinstance(turn, list) or [type(text) for text in turn] != [str, str]:
            raise UserError(f"{where}: 'history' has to be a list of [question, answer].")
        messages.append({"role": "user", "content": turn[0]})
        messages.append({"role": "assistant", "content": turn[1]})
    return messages
