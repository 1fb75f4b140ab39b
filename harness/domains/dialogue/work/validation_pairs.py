"""The stage that draws validation pairs from the embedded world."""

from __future__ import annotations

from random import Random

from harness.domains.common.work.files import write_pairs
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from tasks.dialogue.hh import read_hh
from tasks.dialogue.world import WorldConfig
from tasks.dialogue.world.write import pair_rows


def make_validation_pairs(context: StageContext) -> None:
    """Write validation.jsonl: pairs whose prompts are on the training side of the world's split.

    They have a seed of their own and only requests that the world's rules judge. No test prompt is
    among them, and no file of the world changes.

    Configuration: `world` (a WorldConfig's fields), `pairs` (how many).
    """
    # Its rules judge no answer to one of IFEval's instructions.
    config = WorldConfig(**context.config["world"] | {"instructed_share": 0.0})
    rows = pair_rows(
        config, Random(f"{config.seed}/validation"), context.config["pairs"], held_out=False
    )
    file = context.work / "pairs_train.jsonl"
    write_jsonl(rows, file)
    write_pairs(read_hh(context.work, "train").pairs, context.work / "validation.jsonl")
    file.unlink()
