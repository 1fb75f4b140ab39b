"""The stage that writes the embedded world of dialogue."""

from __future__ import annotations

from harness.graph.stages import StageContext
from tasks.dialogue.world import WorldConfig, write_world


def make_world(context: StageContext) -> None:
    """Write the embedded world; the configuration is a WorldConfig's fields."""
    context.progress(0, 1, "worlds")
    write_world(WorldConfig(**context.config), context.work)
