"""Tuned rows: their trials as stages, the choice among them, and what a result says of both.

The trials' settings do not depend on each other's outcomes, so that all trials are ordinary stages
of the static graph: they run side by side, are stored, and an interrupted tuning repeats none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from harness.config.profiles import Profile
from harness.config.search import Trial, draw_trials, search_space
from harness.domains.common.spec import Experiment, RowSpec
from harness.graph.stages import Stage
from harness.graph.store import Store
from harness.render.columns import TUNED


def with_tuned_rows(experiment: Experiment, rows: Sequence[RowSpec]) -> tuple[RowSpec, ...]:
    """Return rows with a tuned one for each method, after all that are as published.

    Args:
        experiment: whose `untuned` rows have none, because they are no preference optimization.
        rows: the rows as published.

    Raises:
        UserError: a method declares no ranges, or impossible ones.
    """
    tuned = []
    for row in rows:
        if row.id not in experiment.untuned:
            search_space(row.method, row.settings)
            tuned.append(
                replace(row, id=f"{row.id}{TUNED}", label=f"{row.label}, tuned", tuned=True)
            )
    return (*rows, *tuned)


@dataclass(frozen=True)
class Attempt:
    """The stages of one trial."""

    trial: Trial
    run: Stage
    measured: Stage
    """Writes trial.json; see `common.work.outcome`."""


@dataclass(frozen=True)
class Search:
    """The tuning of a row in one chain."""

    seed: int
    """The chain's."""
    attempts: tuple[Attempt, ...]
    choice: Stage
    """Writes choice.json; see `common.work.choose`."""

    def kept(self, name: str) -> Stage:
        """Return the stage that keeps the chosen trial's run.

        Args:
            name: the stage's.
        """
        runs = {str(one.trial.number): one.run for one in self.attempts}
        return Stage(
            name,
            "harness.domains.common.work.keep:keep_trial",
            {},
            {"choice": self.choice, **runs},
            seconds_hint=1,
        )


class _Tunable(Protocol):
    """A domain's model of a row in one chain."""

    @property
    def search(self) -> Search | None: ...


def searches_of(systems: Mapping[str, Sequence[_Tunable]]) -> dict[str, list[Search]]:
    """Return the searches of the tuned rows, chain by chain.

    Args:
        systems: row → its model in each chain.
    """
    found = {
        row: [one.search for one in own if one.search is not None] for row, own in systems.items()
    }
    return {row: own for row, own in found.items() if own}


def search(
    profile: Profile,
    row: RowSpec,
    run: Callable[[Trial], Stage],
    measure: Callable[[Stage], Stage],
    *,
    fixed: Mapping[str, Any] | None = None,
) -> Search:
    """Return the stages that tune a row in one chain.

    Args:
        profile: the chain's settings.
        row: the tuned row.
        run: returns the training run of a trial.
        measure: returns the stage that measures a run on validation data.
        fixed: values that are varied or set elsewhere, such as β in a sweep.

    Raises:
        UserError: see `draw_trials`.
    """
    trials = draw_trials(profile, row.method, row.settings, fixed)
    attempts = []
    for trial in trials:
        trained = run(trial)
        attempts.append(Attempt(trial, trained, measure(trained)))
    choice = Stage(
        f"choice of a trial of {row.id} seed {profile.seed}",
        "harness.domains.common.work.choose:choose_trial",
        {
            "row": f"{row.label} (seed {profile.seed})",
            "kl_budget": profile.tuning.kl_budget,
            "settings": [dict(trial.settings) for trial in trials],
        },
        {str(one.trial.number): one.measured for one in attempts},
        seconds_hint=1,
    )
    return Search(profile.seed, tuple(attempts), choice)


def trial_name(profile: Profile, row: RowSpec, trial: Trial) -> str:
    """Return the name of a trial's run in progress and logs."""
    return f"{row.id}, trial {trial.number}, seed {profile.seed}"


def as_trial(stage: Stage) -> Stage:
    """Return a training stage of `train_policy` as one that may diverge."""
    return replace(stage, function="harness.domains.common.work.trial:train_trial")


def measuring_stage(
    function: str,
    trial: Stage,
    config: Mapping[str, Any],
    inputs: Mapping[str, Stage],
    **more: Any,
) -> Stage:
    """Return the stage that measures a trial's run, the input "run", on validation data."""
    return Stage(f"validation of {trial.name}", function, config, {"run": trial, **inputs}, **more)


def tuning_json(
    profile: Profile, rows: Mapping[str, Sequence[Search]], store: Store
) -> dict[str, Any]:
    """Return the `tuning` of a result's JSON; empty without tuned rows.

    Args:
        profile: all values.
        rows: tuned row → its search in each chain.
        store: has the artefacts.

    Returns:
        `trials`, `criterion` and `kl_budget` of the profile, and `rows`: tuned row → chain → the
        `chosen` trial's number, all `trials` (settings, state, criterion, KL, seconds of training
        and measuring) and their `seconds` together.
    """
    if not rows:
        return {}
    found = {
        row: {f"seed {one.seed}": _search_json(one, store) for one in searches}
        for row, searches in rows.items()
    }
    settings = profile.tuning
    return {
        "tuning": {
            "trials": settings.trials,
            "criterion": settings.criterion,
            "kl_budget": settings.kl_budget,
            "rows": found,
        }
    }


def _search_json(one: Search, store: Store) -> dict[str, Any]:
    trials = []
    for attempt in one.attempts:
        measured = store.read_json(attempt.measured, "trial.json")
        seconds = sum(
            float(store.record(stage.address)["seconds"])
            for stage in (attempt.run, attempt.measured)
        )
        trials.append(
            {
                "number": attempt.trial.number,
                "settings": dict(attempt.trial.values),
                **measured,
                "seconds": round(seconds, 3),
            }
        )
    return {
        "chosen": store.read_json(one.choice, "choice.json")["chosen"],
        "trials": trials,
        "seconds": round(sum(trial["seconds"] for trial in trials), 3),
    }
