"""The input for computing an experiment's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.config.profiles import Profile
from harness.domains.common.spec import Experiment, RowSpec, TableSpec
from harness.graph.store import Store

ProfileT = TypeVar("ProfileT", bound=Profile)
GraphT = TypeVar("GraphT")
OtherGraphT = TypeVar("OtherGraphT")


@dataclass(frozen=True)
class FinishedRun(Generic[ProfileT, GraphT]):
    """An experiment whose stages are all in the store."""

    experiment: Experiment
    profile: ProfileT
    graph: GraphT
    """The domain's graph, which knows the stages with each row's results."""
    store: Store
    rows: tuple[RowSpec, ...]
    """The rows to show, in order."""
    provenance: Mapping[str, Any]
    """How the run was made."""

    def of(self, graph: OtherGraphT) -> FinishedRun[ProfileT, OtherGraphT]:
        """Return the same run for a domain with several kinds of graphs, which tells their types.

        Args:
            graph: the run's own.
        """
        return FinishedRun(
            self.experiment, self.profile, graph, self.store, self.rows, self.provenance
        )

    @property
    def table(self) -> TableSpec:
        """Return the experiment, which must be a table."""
        assert isinstance(self.experiment, TableSpec)
        return self.experiment
