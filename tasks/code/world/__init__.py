"""The embedded world of code: small programming problems that a tiny model solves now and then.

A problem is a composition of a source, a filter, a map and a reduction. The base model's corpus
writes many compositions, each operation with its own share of mistakes; the problems are others,
so that a model has to compose what it knows, and makes the mistakes that it has read. Their tests
tell the right program from every composition of right and mistaken operations.
"""

from tasks.code.world.config import CodeWorldConfig
from tasks.code.world.write import write_world

__all__ = ["CodeWorldConfig", "write_world"]
