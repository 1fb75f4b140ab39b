"""The embedded world: a model organism of the trade-off between alignment and reasoning.

Its base corpus teaches a tiny model to talk, well and badly, and to do small, exactly checkable
skills of the six leaderboard families. Its preference pairs set helpful, harmless answers against
the others and hold no skill at all, so that what alignment costs can be measured.
"""

from tasks.dialogue.world.config import BENCHMARKS, WorldConfig
from tasks.dialogue.world.write import write_world

__all__ = ["BENCHMARKS", "WorldConfig", "write_world"]
