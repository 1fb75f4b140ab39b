"""``run --rehearse``: the stages of a profile, executed on stand-ins by a run of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.commands.plan.fetched import Fetched, fetched
from harness.commands.rehearse.reduced import reductions
from harness.commands.run import Prepared
from harness.commands.run_all import describe_all
from harness.commands.terms import check_accepted, with_own_terms
from harness.config.assign import has_key
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.common.provenance import REHEARSAL
from harness.domains.common.spec import Experiment
from harness.graph.screen import duration
from harness.graph.stages import topological

_HUB, _STORE = "hub", ".store"
_ANSWERS, _CONV_WEIGHTS = "answers", "summac_conv.bin"


def rehearse(experiments: Sequence[Experiment], request: RunRequest, out: Path | None) -> int:
    """Execute experiments on stand-ins, one after another; their stages are shared.

    Each is run by a process of its own, because the hub's libraries read their settings once, when
    they are imported.

    Args:
        experiments: the tables and figures.
        request: what the user asked for; its folders are not used.
        out: folder for results, store and stand-ins, which is kept; None for a temporary one, which
            is kept only if a run fails.

    Returns:
        The exit code of the first run that failed, or 0.

    Raises:
        UserError: a mistake in the request, or there is no stand-in for something.
    """
    described, left_out = describe_all(experiments, request)
    check_accepted((stage for one in described for stage in one.targets), request.accept_terms)
    for id, reason in left_out.items():
        _say(request, f"{id} is left out: {reason}")
    needed = fetched(stage for one in described for stage in topological(one.targets))
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-")) if out is None else out.absolute()
    began = time.monotonic()
    _say(request, f"Rehearsal in {folder}, on stand-ins for {_names(needed)}.")
    kept = out is not None
    try:
        _write_stand_ins(needed, folder)
        codes = [_run(one, _changes(one, needed, folder), folder) for one in described]
        failed = [one.experiment.id for one, code in zip(described, codes, strict=True) if code]
        kept = kept or bool(failed)
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    if failed:
        logs = folder / _STORE / "logs"
        _say(request, f"Failed: {', '.join(failed)}; the logs of stages are in {logs}.")
    else:
        _say(request, f"Rehearsed in {duration(time.monotonic() - began)}; nothing failed.")
    return next((code for code in codes if code), 0)


def _names(needed: Sequence[Fetched]) -> str:
    return ", ".join(one.name for one in needed) or "nothing: the profile fetches nothing"


def _write_stand_ins(needed: Sequence[Fetched], folder: Path) -> None:
    """Write stand-ins for everything that is fetched."""
    from transformers.utils import logging

    from harness.commands.rehearse.models import write_conv_weights, write_model
    from harness.commands.rehearse.rows import texts_of, write_rows

    logging.disable_progress_bar()
    home = folder / _HUB
    shutil.rmtree(home, ignore_errors=True)
    data = [one.name for one in needed if one.what == "data"]
    for name in data:
        write_rows(name, home / "datasets")
    texts = [text for name in data for text in texts_of(name)] or ["No text is read here."]
    for name in (one.name for one in needed if one.what == "model"):
        write_model(name, texts, home / "hub")
    if _takes_weights(needed):
        write_conv_weights(folder / _CONV_WEIGHTS)


def _changes(one: Prepared, needed: Sequence[Fetched], folder: Path) -> list[str]:
    """Return the changes of an experiment's profile."""
    answers = None
    embedded = getattr(one.profile, "embedded", False)
    if get_domain(one.experiment.domain).runs_code and not embedded:
        from harness.commands.rehearse.answers import write_answers_of_world

        answers = folder / _ANSWERS
        if not answers.exists():
            write_answers_of_world(answers)
    changes = list(reductions(one.profile, one.experiment.judged, answers))
    if _takes_weights(needed) and has_key(one.profile, "metrics.conv_weights"):
        changes.append(f"metrics.conv_weights={folder / _CONV_WEIGHTS}")
    return changes


def _takes_weights(needed: Sequence[Fetched]) -> bool:
    return any(one.what == "file" for one in needed)


def _run(one: Prepared, changes: Sequence[str], folder: Path) -> int:
    home = folder / _HUB
    environment = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_DATASETS_CACHE": str(home / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        REHEARSAL: "1",
    }
    command = [sys.executable, "-m", "harness", "run", *_options(one)]
    changed = [*one.request.assignments, *changes]
    command += ["--set", *changed] if changed else []
    command += ["--out", str(folder), "--store", str(folder / _STORE)]
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _options(one: Prepared) -> list[str]:
    """Return the options of `run` that say what an experiment's request asks for."""
    request, id = one.request, one.experiment.id
    found = ["--figure" if id.startswith("figure") else "--table", id]
    found += ["--profile", request.profile, "--engine", request.engine]
    for option, value in (
        ("--methods", None if request.methods is None else ",".join(request.methods)),
        ("--seeds", request.seeds),
        ("--workers", request.workers),
        ("--cpus-per-stage", request.cpus_per_stage),
        ("--gpus-per-stage", request.gpus_per_stage),
        ("--tune", None if request.tune == "profile" else request.tune),
    ):
        found += [] if value is None else [option, str(value)]
    found += ["--tune"] if request.tune == "profile" else []
    for model in with_own_terms(one.targets, request).accept_terms:
        found += ["--accept-terms", model]
    for file in request.plugins:
        found += ["--plugin", file]
    for flag, given in (
        ("--allow-code-execution", request.allow_code_execution),
        ("--yes", request.yes),
        ("--quiet", request.quiet),
    ):
        found += [flag] if given else []
    return found


def _say(request: RunRequest, text: str) -> None:
    if not request.quiet:
        print(text, file=sys.stderr, flush=True)
