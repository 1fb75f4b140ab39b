"""The commands `run` and `plan`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import (
    EXIT_FAILED,
    EXIT_USER,
    RESULTS,
    console,
    names_of,
    store_beside,
    store_of,
    tell_written,
)
from harness.domains.common.spec import Experiment
from sparsepo.errors import UserError

if TYPE_CHECKING:
    from harness.config.request import RunRequest


def run(options: argparse.Namespace) -> int:
    """Run experiments, or rehearse them."""
    from harness.commands.profile_names import with_profile
    from harness.commands.run import prepare, run_prepared, split_request
    from harness.commands.terms import check_accepted

    request = request_of(
        options,
        out=RESULTS if options.out is None else options.out,
        allow_code_execution=options.allow_code_execution,
        yes=options.yes,
        accept_terms=tuple(options.accept_terms),
        quiet=options.quiet,
    )
    experiments = experiments_of(options)
    if options.rehearse:
        return _rehearse(experiments, request, options)
    if options.all:
        _hint_at_store(request.store, options.quiet)
        return _run_all(experiments, request)
    experiments, left_out = with_profile(experiments, request.profile)
    for id, reason in left_out.items():
        print(f"{id} is left out: {reason}", file=sys.stderr)
    wanted = [prepare(*each) for each in split_request(experiments, request)]
    check_accepted((stage for one in wanted for stage in one.targets), request.accept_terms)
    _hint_at_store(request.store, options.quiet)
    for prepared in wanted:
        result = run_prepared(prepared)
        if not options.quiet:
            _show(prepared.experiment, result, prepared.folder)
    return 0


def plan(options: argparse.Namespace) -> int:
    """Say what a run will take."""
    from harness.commands.plan.command import PlanOptions, make_plan_of, show_plan
    from harness.commands.plan.cost_model import Utilisation
    from harness.graph.files import pretty_json, write_files

    given = {"compute": options.utilisation, "bandwidth": options.bandwidth_utilisation}
    reached = Utilisation(**{name: share for name, share in given.items() if share is not None})
    request = request_of(options, out=options.results)
    made = make_plan_of(experiments_of(options), request, PlanOptions(reached))
    if options.out is not None:
        write_files(options.out.parent, {options.out.name: pretty_json(made.as_json())})
    if not options.quiet:
        show_plan(made)
        if options.out is not None:
            print(f"written: {options.out}")
    return 0


def _rehearse(
    experiments: Sequence[Experiment], request: RunRequest, options: argparse.Namespace
) -> int:
    from harness.commands.rehearse import rehearse

    if options.store is not None:
        raise UserError("A rehearsal has a store of its own; leave --store out.")
    return rehearse(experiments, request, options.out)


def _run_all(experiments: Sequence[Experiment], request: RunRequest) -> int:
    from harness.commands.run_all import FAILED, MISSING, run_all, show_summary

    outcomes = run_all(experiments, request)
    if not request.quiet:
        show_summary(outcomes, request, console())
    states = {outcome.state for outcome in outcomes}
    return EXIT_FAILED if FAILED in states else EXIT_USER if MISSING in states else 0


def experiments_of(options: argparse.Namespace) -> list[Experiment]:
    """Return the experiments that the options name.

    Raises:
        UserError: none or several of --table, --figure and --all, or no such experiment.
    """
    from harness.domains.catalogue import EXPERIMENTS, get_experiments

    chosen = [name for name in ("table", "figure") if getattr(options, name) is not None]
    if len(chosen) + bool(options.all) != 1:
        raise UserError("Give one of --table N, --figure N or --all.")
    if options.all:
        return list(EXPERIMENTS.values())
    return get_experiments(chosen[0], getattr(options, chosen[0]))


def request_of(options: argparse.Namespace, out: Path, **more: Any) -> RunRequest:
    """Return the request of `run` or `plan`; `more` has the options that `run` alone has."""
    from harness.config.request import RunRequest

    return RunRequest(
        profile=options.profile,
        methods=names_of(options.methods),
        seeds=options.seeds,
        # argparse would read a text here as a number that the user has given.
        tune="profile" if options.tune is True else options.tune,
        assignments=tuple(options.set),
        plugins=tuple(options.plugin),
        engine=options.engine,
        workers=options.workers,
        cpus_per_stage=options.cpus_per_stage,
        gpus_per_stage=options.gpus_per_stage,
        out=out,
        store=store_of(options, out),
        **more,
    )


def _hint_at_store(store: Path, quiet: bool) -> None:
    usual = store_beside(RESULTS)
    if not quiet and not store.exists() and usual.is_dir():
        print(
            f"There is nothing in the store {store} yet; to use what {usual} holds, add "
            f"--store {usual}.",
            file=sys.stderr,
        )


def _show(experiment: Experiment, result: Mapping[str, Any], folder: Path) -> None:
    from harness.domains import get_domain

    get_domain(experiment.domain).show(experiment, result, console())
    tell_written(folder, experiment.id)
