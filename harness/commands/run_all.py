"""Runs several experiments as one: stages shared, one progress, one summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.commands.made_before import is_made, record_made
from harness.commands.profile_names import with_profile
from harness.commands.run import Prepared, compute_result, describe, prepare, split_request
from harness.commands.terms import check_accepted
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.common.spec import Experiment
from harness.graph.engines import Plan, StageError, StageUserError, make_plan, make_planned
from harness.graph.files import pretty_json, write_files
from harness.graph.progress import WholeDisplay, make_whole_display
from harness.graph.remade import remade_note
from harness.graph.stages import topological
from harness.graph.store import Store
from sparsepo.errors import UserError

MADE, UNCHANGED, FAILED, MISSING = "made", "unchanged", "failed", "missing"
NO_PROFILE = "no profile"
SUMMARY = "summary.json"


@dataclass
class Outcome:
    """What came of one experiment."""

    id: str
    title: str
    state: str
    """made: computed now; unchanged: its files were complete; failed: a stage or its numbers;
    missing: it could not be prepared; no profile: its domain does not have the profile."""
    folder: Path
    reason: str = ""
    """Why there is no result."""
    stages: int = 0
    stages_run: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as summary.json has it."""
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state,
            "reason": self.reason,
            "folder": self.folder.name,
            "stages": self.stages,
            "stages_run": self.stages_run,
        }


@dataclass
class _Group:
    """Experiments of one domain, whose stages are run together."""

    experiments: list[Prepared]
    plan: Plan | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def run_all(
    experiments: Sequence[Experiment], request: RunRequest, display: WholeDisplay | None = None
) -> list[Outcome]:
    """Make several tables and figures.

    Stages of experiments of one domain are run together, and each only once. An experiment whose
    stage fails does not stop those that do not need it. One whose stages and code have not changed
    is left as it is.

    Args:
        experiments: the experiments.
        request: what the user asked for.
        display: shows the progress; by default bars in a terminal and lines elsewhere.

    Returns:
        What came of each experiment, in their order.

    Raises:
        UserError: a mistake in the user's own options, before the first stage; without options of
            the user, if no experiment can be prepared.
    """
    known, without = with_profile(experiments, request.profile)
    prepared, outcomes = _prepare(known, request)
    for experiment in experiments:
        id, folder = experiment.id, request.out / request.profile / experiment.id
        if id in without:
            outcomes[id] = Outcome(id, experiment.title, NO_PROFILE, folder, without[id])
    store = Store(request.store)
    shown = display or make_whole_display(request.quiet)
    try:
        for outcome in outcomes.values():
            shown.note(f"{outcome.id} is left out: {outcome.reason}")
        for one in prepared:
            if note := one.left_out:
                shown.note(note)
        groups = _plan(in_order(prepared), store, shown)
        for group in groups:
            _make(group, store, shown)
            for one in group.experiments:
                done = group.outcomes.get(one.experiment.id) or _finish(one, group, store, shown)
                outcomes[one.experiment.id] = done
    finally:
        shown.close()
    found = [outcomes[experiment.id] for experiment in experiments]
    _write_summary(found, request)
    return found


def describe_all(
    experiments: Sequence[Experiment], request: RunRequest, permit: bool = False
) -> tuple[list[Prepared], dict[str, str]]:
    """Describe every experiment that can be; see `describe`.

    Args:
        experiments: the experiments.
        request: what the user asked for.
        permit: whether experiments that run model-generated programs are described without the
            user's permission to run them.

    Returns:
        The experiments, and id → why one of several is left out.

    Raises:
        UserError: a mistake in the user's own options, or no experiment can be described.
    """
    described: list[Prepared] = []
    experiments, left_out = with_profile(experiments, request.profile)
    for experiment, own in split_request(experiments, request):
        try:
            if permit:
                runs_code = get_domain(experiment.domain).runs_code
                own = replace(own, allow_code_execution=runs_code)
            described.append(describe(experiment, own))
        except UserError as error:
            if _has_options(request) or len(experiments) == 1:
                raise
            left_out[experiment.id] = str(error)
    if not described:
        raise UserError(next(iter(left_out.values())))
    return described, left_out


def in_order(prepared: Sequence[Prepared]) -> list[list[Prepared]]:
    """Group experiments by domain, in the order in which the domains first appear.

    Experiments of one domain share most of their stages; between domains nothing is shared.

    Args:
        prepared: the experiments, in the order of the catalogue.
    """
    groups: dict[str, list[Prepared]] = {}
    for one in prepared:
        groups.setdefault(one.experiment.domain.partition(".")[0], []).append(one)
    return list(groups.values())


def show_summary(outcomes: Sequence[Outcome], request: RunRequest, console: Console) -> None:
    """Print what was made, what is missing and why, and where it is."""
    where = request.out / request.profile
    table = Table(title=f"Experiments, {request.profile} profile", title_justify="left")
    table.add_column("experiment", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("stages run", justify="right", no_wrap=True)
    table.add_column("where, or why not")
    for one in outcomes:
        there = one.state in (MADE, UNCHANGED)
        table.add_row(
            one.id,
            one.state,
            f"{one.stages_run} of {one.stages}" if one.stages else "–",
            Text(str(one.folder) if there else one.reason),
        )
    console.print(table)
    made = sum(one.state in (MADE, UNCHANGED) for one in outcomes)
    possible = sum(one.state != NO_PROFILE for one in outcomes)
    console.print(
        Text(f"{made} of {possible} experiments are in {where}; this table: {where / SUMMARY}")
    )
    if made < possible:
        console.print("Run the same command again to make what is missing.")


def _prepare(
    experiments: Sequence[Experiment], request: RunRequest
) -> tuple[list[Prepared], dict[str, Outcome]]:
    prepared: list[Prepared] = []
    left: dict[str, Outcome] = {}
    for experiment, own in split_request(experiments, request):
        try:
            prepared.append(prepare(experiment, own))
        except UserError as error:
            if _has_options(request) or len(experiments) == 1:
                raise
            folder = request.out / request.profile / experiment.id
            left[experiment.id] = Outcome(
                experiment.id, experiment.title, MISSING, folder, str(error)
            )
    if not prepared:
        raise UserError(next(iter(left.values())).reason)
    check_accepted((stage for one in prepared for stage in one.targets), request.accept_terms)
    return prepared, left


def _has_options(request: RunRequest) -> bool:
    """Whether the user changes what is run, so that a mistake is probably in that change."""
    given = (request.methods, request.seeds, request.tune, request.workers)
    return bool(request.assignments or request.plugins) or any(one is not None for one in given)


def _plan(experiments: list[list[Prepared]], store: Store, shown: WholeDisplay) -> list[_Group]:
    groups = [_Group(own) for own in experiments]
    for group in groups:
        group.plan = make_plan(_targets(group.experiments), store, shown)
        shown.expect(group.experiments[0].expect(group.plan.missing))
    plans = [group.plan for group in groups if group.plan is not None]
    workers = max(_workers(group) for group in groups)
    if note := remade_note([stage for plan in plans for stage in plan.missing], store):
        shown.note(note)
    shown.plan_whole(
        [stage for plan in plans for stage in plan.order],
        [stage for plan in plans for stage in plan.missing],
        workers,
    )
    return groups


def _targets(experiments: Sequence[Prepared]) -> list[Any]:
    return [stage for one in experiments for stage in one.targets]


def _workers(group: _Group) -> int:
    return max(getattr(one.engine, "workers", None) or 1 for one in group.experiments)


def _make(group: _Group, store: Store, shown: WholeDisplay) -> None:
    """Run the stages of a group; experiments that need a failed stage get an outcome."""
    left = list(group.experiments)
    plan = group.plan
    engine = max(left, key=lambda one: getattr(one.engine, "workers", None) or 1).engine
    while left and plan is not None and plan.missing:
        try:
            make_planned(plan, store, engine, shown)
            return
        except (StageError, StageUserError) as error:
            shown.note(str(error))
            failed = [one for one in left if _needs(one, error.address)] or left
            for one in failed:
                group.outcomes[one.experiment.id] = _outcome(one, group, FAILED, str(error))
            left = [one for one in left if one not in failed]
            if error.address is not None:
                shown.drop([error.address])
        # What was made before the failure is in the store now.
        plan = make_plan(_targets(left), store, shown)


def _needs(one: Prepared, address: str | None) -> bool:
    return any(stage.address == address for stage in topological(one.targets))


def _finish(one: Prepared, group: _Group, store: Store, shown: WholeDisplay) -> Outcome:
    """Compute an experiment's numbers and write its files, unless they are there already."""
    try:
        if is_made(one):
            return _outcome(one, group, UNCHANGED)
        shown.note(f"{one.experiment.id}: computing its numbers")
        _, files = compute_result(one, store)
        write_files(one.folder, files)
        record_made(one)
    except UserError as error:
        return _outcome(one, group, FAILED, str(error))
    return _outcome(one, group, MADE)


def _outcome(one: Prepared, group: _Group, state: str, reason: str = "") -> Outcome:
    own = {stage.address for stage in topological(one.targets)}
    missing = [] if group.plan is None else group.plan.missing
    run = sum(stage.address in own for stage in missing)
    experiment = one.experiment
    return Outcome(experiment.id, experiment.title, state, one.folder, reason, len(own), run)


def _write_summary(outcomes: Sequence[Outcome], request: RunRequest) -> None:
    content = {
        "profile": request.profile,
        "experiments": [one.as_json() for one in outcomes],
    }
    write_files(request.out / request.profile, {SUMMARY: pretty_json(content)})
