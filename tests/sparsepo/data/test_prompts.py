"""Prompts of pairs that have no column for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sparsepo import UserError
from sparsepo.data import read_pairs
from sparsepo.data.prompts import read_prompts

TALK = "\n\nHuman: {}\n\nAssistant:"


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_pairs_that_contain_their_prompt_give_it(tmp_path: Path) -> None:
    """As in Helpfulness & harmlessness: whole dialogues. The prompts are those of the pairs."""
    rows: list[dict[str, object]] = [
        {"chosen": TALK.format("Tea?") + " Yes.", "rejected": TALK.format("Tea?") + " No!"},
        {"chosen": TALK.format("Rain?") + " A bit.", "rejected": TALK.format("Rain?") + " Snow."},
        {"chosen": TALK.format("Tea?") + " Sure.", "rejected": TALK.format("Tea?") + " Never."},
        {"chosen": "Same.", "rejected": "Same."},
        {"chosen": "Yes.", "rejected": "No."},
    ]
    file = write(tmp_path / "hh.jsonl", rows)
    data = read_prompts(file)
    assert [prompt.content for prompt in data] == [TALK.format("Tea?"), TALK.format("Rain?")]
    pairs = read_pairs(file)
    assert [prompt.prompt_id for prompt in data] == [pair.pair_id for pair in pairs[:2]]
    assert data.report.rows == 5 and data.report.kept == 2
    assert dict(data.report.skipped) == {
        "identical responses": 1, "prompt of an earlier row": 1, "missing prompt": 1
    }  # fmt: skip


def test_chats_that_contain_their_prompt_give_its_messages(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Tea?"}
    row: dict[str, object] = {
        side: [asked, {"role": "assistant", "content": text}]
        for side, text in (("chosen", "Yes."), ("rejected", "No!"))
    }
    (prompt,) = read_prompts(write(tmp_path / "chat.jsonl", [row]))
    assert prompt.content == [asked]


def test_without_any_prompt_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no shared beginning.*column prompt"):
        read_prompts(write(tmp_path / "a.jsonl", [{"chosen": "Yes.", "rejected": "No."}]))
    with pytest.raises(UserError, match=r"has no column .prompt.; its columns are text"):
        read_prompts(write(tmp_path / "b.jsonl", [{"text": "Tea?"}]))
