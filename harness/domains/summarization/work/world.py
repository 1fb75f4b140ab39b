"""The stage that writes the embedded world of posts."""

from __future__ import annotations

from harness.graph.stages import StageContext
from tasks.summarization.world import PostWorldConfig, write_world


def make_world(context: StageContext) -> None:
    """Write the embedded world; the configuration is a PostWorldConfig's fields."""
    context.progress(0, 1, "worlds")
    config = dict(context.config)
    config["details"] = tuple(config["details"])
    write_world(PostWorldConfig(**config), context.work)
