"""The embedded world of summarization: posts with known facts, and summaries good and bad."""

from tasks.summarization.world.config import PostWorldConfig
from tasks.summarization.world.write import write_world

__all__ = ["PostWorldConfig", "write_world"]
