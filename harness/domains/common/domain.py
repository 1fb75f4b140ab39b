"""What a domain is: the values, stages, numbers and files that its experiments share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from rich.console import Console

from harness.config.assign import apply_assignments, set_unless_assigned
from harness.config.profiles import Profile, resolve_device
from harness.config.request import RunRequest
from harness.domains.common.finished import FinishedRun
from harness.domains.common.spec import Experiment, RowSpec
from harness.graph.stages import Stage
from sparsepo.errors import UserError, did_you_mean


class Graph(Protocol):
    """The stages of one experiment, and where in them its numbers are."""

    @property
    def targets(self) -> Sequence[Stage]:
        """What has to be in the store before the numbers can be computed, checks first."""


ProfileT = TypeVar("ProfileT", bound=Profile)
GraphT = TypeVar("GraphT", bound=Graph)


class Domain(ABC, Generic[ProfileT, GraphT]):
    """One kind of experiment: dialogue, code, sentiment.

    Nothing here imports a training library: when everything is in the store, a run only hashes
    configurations, reads JSON and renders.
    """

    profiles: ClassVar[Mapping[str, Callable[[], Any]]]
    """Name → a function that makes the profile."""
    runs_code: ClassVar[bool] = False
    """Whether its experiments run programs that a model wrote."""

    def resolve_profile(self, request: RunRequest) -> ProfileT:
        """Return the profile with the user's changes made and its device chosen.

        Raises:
            UserError: for an unknown profile or key, or a value of the wrong type.
        """
        profile: ProfileT = apply_assignments(
            self.get_profile(request.profile), request.assignments
        )
        if request.seeds is not None:
            if request.seeds < 1:
                raise UserError(f"--seeds must be at least 1, not {request.seeds}.")
            profile = replace(profile, seeds=request.seeds)
        if request.workers is not None and request.workers < 1:
            raise UserError(f"--workers must be at least 1, not {request.workers}.")
        if profile.name == "tiny":
            own = self.tiny_values_for_real_data(profile, request)
            profile = set_unless_assigned(profile, own, request.assignments)
        return replace(profile, device=resolve_device(profile.device))

    def tiny_values_for_real_data(
        self, profile: ProfileT, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return what the tiny profile changes where the user gives it real data.

        Args:
            profile: with the user's changes made.
            request: what the user asked for.

        Returns:
            Dotted name → value; a value that the user sets is left as the user set it.
        """
        return {}

    def get_profile(self, name: str) -> ProfileT:
        """Return a profile by name, as it is before any change.

        Raises:
            UserError: for an unknown name.
        """
        if name not in self.profiles:
            raise UserError(
                f"Unknown profile '{name}'.{did_you_mean(name, self.profiles)} "
                f"Profiles: {', '.join(self.profiles)}."
            )
        profile: ProfileT = self.profiles[name]()
        return profile

    @abstractmethod
    def build(
        self,
        experiment: Experiment,
        profile: ProfileT,
        rows: tuple[RowSpec, ...],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> GraphT:
        """Describe what an experiment needs; nothing is run.

        Args:
            experiment: what is to be shown.
            profile: all values.
            rows: those to be shown.
            plugins: method → the file that it was loaded from with --plugin.
            request: what the user asked for.

        Raises:
            UserError: for a missing file, an unknown method, or a value that nothing uses.
        """

    @abstractmethod
    def result(self, run: FinishedRun[ProfileT, GraphT]) -> dict[str, Any]:
        """Compute an experiment's JSON from its artefacts."""

    @abstractmethod
    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Render an experiment's JSON: file name → content; all values are the JSON's."""

    @abstractmethod
    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print an experiment's JSON for people."""
