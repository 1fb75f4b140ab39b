"""The stage that writes the embedded world of code."""

from __future__ import annotations

from harness.graph.stages import StageContext
from tasks.code.world import CodeWorldConfig, write_world


def make_world(context: StageContext) -> None:
    """Write the embedded world; the configuration is a CodeWorldConfig's fields."""
    context.progress(0, 1, "worlds")
    config = dict(context.config)
    config["mistake_shares"] = tuple(config["mistake_shares"])
    write_world(CodeWorldConfig(**config), context.work)
