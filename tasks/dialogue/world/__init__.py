"""The embedded world: a model organism of the trade-off between alignment and reasoning.

Its base corpus teaches a tiny model to talk, well and badly, and small, exactly checkable skills of
the six leaderboard families. Its preference pairs contrast helpful, harmless answers with others
and contain no skills, so the cost of alignment can be measured.
"""

from tasks.dialogue.world.config import BENCHMARKS, WorldConfig
from tasks.dialogue.world.write import write_world

__all__ = ["BENCHMARKS", "WorldConfig", "write_world"]
