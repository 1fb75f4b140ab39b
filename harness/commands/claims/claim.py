"""A claim of the paper: its wording, where it stands, and the predicate that tests it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.commands.claims.predicates import Predicate, leaves

BASELINES = ("dpo", "tdpo1", "tdpo2", "simpo", "dpop")
"""The methods that the paper compares with."""
SPARSE = ("sparsepo-common", "sparsepo-independent")
MASKED = ("mapo", *SPARSE)
"""The paper's own methods."""
ALIGNED = (*BASELINES, *MASKED)
SCORE_MARGIN = 2.0
"""Points within which scores count as the same [ours]: the paper calls 2 points an improvement."""


@dataclass(frozen=True)
class Claim:
    """One claim."""

    id: str
    section: str
    """Of the paper."""
    where: str
    """Its table or figure."""
    text: str
    """What is claimed, in our words."""
    means: str
    """What is tested."""
    predicate: Predicate
    margin: float | None = None
    """Difference below which two values count as the same, for claims of equality."""

    @property
    def experiments(self) -> tuple[str, ...]:
        """Return the ids of the experiments that it needs, each once."""
        found = (id for leaf in leaves(self.predicate) for id in leaf.measure.experiments)
        return tuple(dict.fromkeys(found))
