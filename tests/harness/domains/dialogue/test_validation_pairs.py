"""The pairs that trials of Table 1 are compared by."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from harness.domains.common.work.files import read_pairs_file
from harness.domains.dialogue.work.validation_pairs import make_validation_pairs
from harness.graph.stages import StageContext
from tasks.dialogue.judge import compare
from tasks.dialogue.world import WorldConfig


def test_the_worlds_rules_judge_every_validation_prompt(tmp_path: Path) -> None:
    world = WorldConfig(instructed_share=0.5)
    config = {"world": asdict(world), "pairs": 200}
    context = StageContext("pairs", config, {}, {}, tmp_path, lambda *told: None, 1)

    make_validation_pairs(context)

    pairs = read_pairs_file(tmp_path / "validation.jsonl")
    assert len(pairs) == 200
    for pair in pairs:
        assert not isinstance(pair.prompt, str)
        assert not isinstance(pair.chosen, str)
        assert compare(pair.prompt, "no", pair.chosen[-1]["content"]) in (0.0, 0.5, 1.0)
