"""The stage that adds real dialogues to the base model's corpus."""

from __future__ import annotations

from typing import Any

from harness.domains.common.work.files import read_pairs_file
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl, write_jsonl
from sparsepo.types import PreferencePair
from tasks.dialogue.world.chat import render_chat


def make_corpus(context: StageContext) -> None:
    """Write corpus.jsonl, the world's corpus with the real training dialogues distributed over it.

    Both responses of a pair are written, because the base model learns to talk, not to prefer.
    """
    pairs = read_pairs_file(context.inputs["pairs"] / "train.jsonl")
    world = list(read_jsonl(context.inputs["world"] / "corpus.jsonl"))
    dialogues = [
        {"text": _render(pair, response)}
        for pair in pairs
        for response in (pair.chosen, pair.rejected)
    ]
    # Distributed evenly, because the base model reads neighbouring documents in one window.
    step = max(1, len(world) // max(1, len(dialogues)))
    rows: list[dict[str, Any]] = []
    for index, row in enumerate(world):
        rows.append(row)
        if index % step == 0 and dialogues:
            rows.append(dialogues.pop())
    write_jsonl([*rows, *dialogues], context.work / "corpus.jsonl")


def _render(pair: PreferencePair, response: Any) -> str:
    assert not isinstance(pair.prompt, str)
    turns = [(str(m["role"]), str(m["content"])) for m in [*pair.prompt, *response]]
    return render_chat(turns)
