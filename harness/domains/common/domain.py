"""The interface of a domain: the values, stages, numbers and files of its experiments."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from rich.console import Console

from harness.config.assign import apply_assignments, assigned_keys, set_unless_assigned
from harness.config.profiles import Profile, needs_tune, resolve_device
from harness.config.request import RunRequest
from harness.domains.common.finished import FinishedRun
from harness.domains.common.samples import SampleSet
from harness.domains.common.spec import Experiment, RowSpec
from harness.graph.stages import Stage
from sparsepo.errors import UserError, did_you_mean


class Graph(Protocol):
    """The stages of one experiment."""

    @property
    def targets(self) -> Sequence[Stage]:
        """The stages whose results the numbers are computed from, checks first."""


ProfileT = TypeVar("ProfileT", bound=Profile)
GraphT = TypeVar("GraphT", bound=Graph)


class Domain(ABC, Generic[ProfileT, GraphT]):
    """One kind of experiment: dialogue, sentiment, summarization, code.

    A domain imports no training library: if everything is in the store, a run only hashes
    configurations, reads JSON and renders.
    """

    profiles: ClassVar[Mapping[str, Callable[[], Any]]]
    """Name → a function that returns the profile."""
    runs_code: ClassVar[bool] = False
    """Whether its experiments run model-generated programs."""

    def resolve_profile(self, request: RunRequest) -> ProfileT:
        """Return the profile with the user's changes applied and its device chosen.

        Raises:
            UserError: the profile or a key is unknown, or a value has the wrong type.
        """
        profile: ProfileT = apply_assignments(
            self.get_profile(request.profile), request.assignments
        )
        if request.seeds is not None:
            if request.seeds < 1:
                raise UserError(f"--seeds must be at least 1, not {request.seeds}.")
            profile = replace(profile, seeds=request.seeds)
        profile = _with_trials(profile, request)
        if request.workers is not None and request.workers < 1:
            raise UserError(f"--workers must be at least 1, not {request.workers}.")
        _check_cluster_options(profile, request)
        if profile.name == "tiny":
            own = self.tiny_values_for_real_data(profile, request)
            profile = set_unless_assigned(profile, own, request.assignments)
        if request.gpus_per_stage is not None:
            # The machine that the run is started on need not have a GPU.
            return replace(profile, device="cuda")
        return replace(profile, device=resolve_device(profile.device))

    def tiny_values_for_real_data(
        self, profile: ProfileT, request: RunRequest
    ) -> Mapping[str, Any]:
        """Return the changes of the tiny profile if the user gives it real data.

        Args:
            profile: the profile with the user's changes applied.
            request: the user's options.

        Returns:
            Dotted name → value; values that the user sets are kept.
        """
        return {}

    def get_profile(self, name: str) -> ProfileT:
        """Return a profile by name, without the user's changes.

        Raises:
            UserError: the name is unknown.
        """
        if name not in self.profiles:
            raise UserError(
                f"Unknown profile '{name}'.{did_you_mean(name, self.profiles)} "
                f"Profiles: {', '.join(self.profiles)}."
            )
        profile: ProfileT = self.profiles[name]()
        return profile

    def variant(self, experiment: Experiment, profile: ProfileT, request: RunRequest) -> Experiment:
        """Return the experiment as the profile asks for it, with other rows where it has variants.

        Args:
            experiment: the table or figure.
            profile: the settings.
            request: the user's options.

        Raises:
            UserError: the user asks for a variant that the experiment does not have.
        """
        return experiment

    @abstractmethod
    def build(
        self,
        experiment: Experiment,
        profile: ProfileT,
        rows: tuple[RowSpec, ...],
        plugins: Mapping[str, Path],
        request: RunRequest,
    ) -> GraphT:
        """Return the graph of stages that an experiment needs; nothing is run.

        Args:
            experiment: the table or figure.
            profile: the settings.
            rows: the rows to show.
            plugins: method → the file that it was loaded from with --plugin.
            request: the user's options.

        Raises:
            UserError: a file is missing, a method is unknown, or a value is not used.
        """

    @abstractmethod
    def result(self, run: FinishedRun[ProfileT, GraphT]) -> dict[str, Any]:
        """Compute an experiment's JSON from its artefacts."""

    def sample_stages(self, graph: GraphT) -> Sequence[Stage]:
        """Return the stages that only `samples` reads; they are made after those of the result."""
        return ()

    def samples(self, run: FinishedRun[ProfileT, GraphT]) -> SampleSet | None:
        """Return what the models wrote, for readers; None if an experiment shows no responses."""
        return None

    @abstractmethod
    def files(self, experiment: Experiment, result: Mapping[str, Any]) -> Mapping[str, str | bytes]:
        """Render an experiment's JSON; return file name → content, computed from the JSON alone."""

    @abstractmethod
    def show(self, experiment: Experiment, result: Mapping[str, Any], console: Console) -> None:
        """Print an experiment's results."""


def _with_trials(profile: ProfileT, request: RunRequest) -> ProfileT:
    """Return the profile with the number of trials that the user asks for.

    Raises:
        UserError: there are no trials, or values of `tuning` that nothing uses.
    """
    for key in assigned_keys(request.assignments):
        if request.tune is None and needs_tune(profile, key):
            raise UserError(f"{key} has no effect without --tune; leave it out or add --tune.")
    if isinstance(request.tune, int):
        if request.tune < 1:
            raise UserError(f"--tune must be at least 1 trial, not {request.tune}.")
        profile = replace(profile, tuning=replace(profile.tuning, trials=request.tune))
    tuning = profile.tuning
    if tuning.trials < 1:
        raise UserError(f"tuning.trials must be at least 1, not {tuning.trials}.")
    if tuning.kl_budget is not None and tuning.kl_budget <= 0:
        raise UserError(f"tuning.kl_budget must be above 0 or none, not {tuning.kl_budget:g}.")
    return profile


def _check_cluster_options(profile: Profile, request: RunRequest) -> None:
    """Check what stages reserve on a cluster.

    Raises:
        UserError: an amount is impossible, or nothing would use it.
    """
    given = {
        "--cpus-per-stage": request.cpus_per_stage,
        "--gpus-per-stage": request.gpus_per_stage,
    }
    for option, amount in given.items():
        if amount is None:
            continue
        if request.engine != "ray":
            raise UserError(f"{option} has no effect without --engine ray; leave it out.")
        if not 0 < amount < math.inf:
            raise UserError(f"{option} must be above 0, not {amount:g}.")
    gpus = request.gpus_per_stage
    if gpus is None:
        return
    if gpus > 1:
        raise UserError(f"--gpus-per-stage must be at most 1, not {gpus:g}: a stage uses one GPU.")
    if profile.device == "cpu":
        raise UserError(
            f"The profile {profile.name} runs on the CPU; leave --gpus-per-stage out, or add "
            "--set device=cuda."
        )
