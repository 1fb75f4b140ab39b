"""Reading unpaired rows: one completion and a label each."""

from __future__ import annotations

from typing import Any

import pytest

from sparsepo.data.pairs import EMPTY_RESPONSE, MISSING_PROMPT, MISSING_RESPONSE, pairs_of_rows
from sparsepo.data.split import hold_out
from sparsepo.errors import EmptyDataError, UserError

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say hi."}]
GOOD = {"role": "assistant", "content": "Hi!"}


def row(completion: Any = " Hi!", label: Any = True, prompt: Any = "Say hi.") -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label}


def read(*rows: dict[str, Any], unpaired: bool = True, arrow: bool = False) -> Any:
    return pairs_of_rows(rows, "rows", unpaired=unpaired, arrow=arrow)


def test_a_row_becomes_a_pair_that_lacks_the_other_response() -> None:
    data = read(row(), row(" No.", False), {**row(" Hey!"), "id": "own"})
    found = [(p.pair_id, p.chosen, p.rejected, p.label) for p in data.pairs]
    assert found == [
        ("rows:train:0", " Hi!", "", True),
        ("rows:train:1", "", " No.", False),
        ("own", " Hey!", "", True),
    ]
    assert {pair.prompt for pair in data.pairs} == {"Say hi."}


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [(CHAT, [GOOD]), (CHAT, "Hi!"), (CHAT, [*CHAT, GOOD]), (None, [*CHAT, GOOD])],
    ids=["messages", "text as the assistant's", "prompt repeated", "whole dialogue"],
)
@pytest.mark.parametrize("label", [True, False])
def test_chat_messages(prompt: Any, completion: Any, label: bool) -> None:
    given = row(completion, label, prompt)
    if prompt is None:
        del given["prompt"]
    (pair,) = read(given).pairs
    assert pair.prompt == CHAT
    assert (pair.chosen, pair.rejected) == (([GOOD], []) if label else ([], [GOOD]))


def test_columns_of_the_template_and_null_fields_are_read_as_for_pairs() -> None:
    message = {**GOOD, "tool_calls": None}
    (pair,) = read(
        {**row([message], True, CHAT), "chat_template_kwargs": {"enable_thinking": False}},
        arrow=True,
    ).pairs
    assert pair.chosen == [GOOD]
    assert dict(pair.chat_template_kwargs) == {"enable_thinking": False}
    data = read({**row(), "score_chosen": "not a score", "more": 1})
    assert data.pairs[0].scores is None
    assert data.report.unused_columns == ("score_chosen", "more")


@pytest.mark.parametrize(
    ("label", "found"),
    [(1, "a number"), (0.5, "a number"), ("true", "text"), (None, "missing"), ([True], "a list")],
)
def test_a_label_that_is_not_boolean_is_refused(label: Any, found: str) -> None:
    with pytest.raises(UserError, match=f"rows, row 1: 'label' is {found}; it must be true for"):
        read(row(), row(label=label))


def test_a_missing_label_is_refused() -> None:
    without = {"prompt": "a", "completion": " b"}
    with pytest.raises(UserError, match="row 1: 'label' is missing"):
        read(row(), without)
    with pytest.raises(UserError, match=r"rows has no column 'label'; .*Add it: true for"):
        read(without)


def test_rows_without_a_response_or_a_prompt_are_skipped_and_counted() -> None:
    data = read(row(), row(" "), row("", False), row(None), row(prompt=None))
    assert len(data.pairs) == 1
    assert data.report.skipped == {EMPTY_RESPONSE: 2, MISSING_RESPONSE: 1, MISSING_PROMPT: 1}
    with pytest.raises(EmptyDataError, match="1 missing prompt"):
        read({"completion": "Say hi. Hi!", "label": True})


def test_they_are_refused_where_pairs_are_needed() -> None:
    with pytest.raises(UserError, match=r"no column 'chosen'; .*\(kto, bco\); give a chosen and"):
        read(row(), unpaired=False)


def test_pairs_are_read_as_pairs_even_where_unpaired_rows_may_be() -> None:
    pair = {"prompt": "a", "chosen": " b", "rejected": " c", "label": "text", "completion": 3}
    (found,) = read(pair).pairs
    assert (found.chosen, found.rejected, found.label) == (" b", " c", None)


def test_no_prompt_is_on_both_sides_of_a_split() -> None:
    rows = [row(f" {n}", bool(n % 2), f"prompt {n // 2}") for n in range(20)]
    training, held = hold_out(read(*rows).pairs, 0.2)
    assert len(held) == 4
    assert not {p.prompt for p in training} & {p.prompt for p in held}
