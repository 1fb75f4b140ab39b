"""Before the first question to a judge at an endpoint: is it there, and is its cost agreed to?"""

from __future__ import annotations

import sys

from harness.config.assign import assigned_keys
from harness.config.request import RunRequest
from harness.domains.common.spec import Experiment
from harness.domains.common.winrate.stages import WinrateGraph
from harness.graph.store import Store
from sparsepo.errors import UserError


def check_judge_options(experiment: Experiment, request: RunRequest) -> None:
    """Check that options about a judge have an effect.

    Raises:
        UserError: the experiment has no judge that can be chosen.
    """
    if experiment.judged:
        return
    for key in sorted(assigned_keys(request.assignments)):
        if key.partition(".")[0] == "judge":
            raise UserError(f"{key} has no effect on {experiment.id}; leave it out.")
    if request.yes:
        raise UserError(f"{experiment.id} asks no judge at an endpoint; leave --yes out.")


def require_agreement(graph: object, request: RunRequest) -> None:
    """Check a judge at an endpoint, show what it will cost, and have it agreed to.

    Nothing is asked for if all verdicts are in the store, or if the judge costs nothing.

    Args:
        graph: the experiment's; other graphs than those of win rates pass.
        request: the user's options.

    Raises:
        UserError: the endpoint cannot be used, or the cost is not agreed to.
    """
    if not isinstance(graph, WinrateGraph):
        return
    judge = graph.judge
    if judge.kind != "endpoint":
        if request.yes:
            raise UserError(f"A judge of kind {judge.kind} costs nothing; leave --yes out.")
        return
    store = Store(request.store)
    if all(store.folder(stage.address).is_dir() for stage in graph.asking):
        return
    # Connecting loads a package of clients, and tells a wrong key before anything is trained.
    from tasks.judges.endpoint import connect

    connect(judge)
    if judge.is_free:
        return
    sentence = graph.cost.sentence(judge)
    if request.yes or judge.agree:
        if not request.quiet:
            print(sentence, file=sys.stderr)
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(f"{sentence} Agree with --yes or --set judge.agree=true.")
    print(f"{sentence} Ask? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was run, because the judge's cost was not agreed to.")
