"""The embedded world of code: small programming problems that a tiny model sometimes solves.

A problem is a composition of a source, a filter, a map and a reduction. The base model's corpus
contains many compositions, in which each operation has its own share of mistakes. The problems are
different compositions: a model has to combine what it knows, and makes the mistakes that it has
read. Their tests distinguish the correct program from every composition with a mistake.
"""

from tasks.code.world.config import CodeWorldConfig
from tasks.code.world.write import write_world

__all__ = ["CodeWorldConfig", "write_world"]
