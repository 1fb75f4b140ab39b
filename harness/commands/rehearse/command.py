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
from harness.commands.run import Prepared, describe, split_request
from harness.config.assign import has_key
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.common.spec import Experiment
from harness.graph.screen import duration
from harness.graph.stages import topological

_HUB, _ANSWERS = "hub", "answers"


def rehearse(
    experiments: Sequence[Experiment],
    request: RunRequest,
    asked: Sequence[str],
    out: Path | None,
) -> int:
    """Execute experiments on stand-ins.

    The run is a process of its own, because the hub's libraries read their settings once, when they
    are imported.

    Args:
        experiments: the tables and figures.
        request: what the user asked for.
        asked: the user's options that say so, as for `run`, without --rehearse, --out and --store.
        out: folder for results, store and stand-ins, which is kept; None for a temporary one, which
            is kept only if the run fails.

    Returns:
        The exit code of the run.

    Raises:
        UserError: a mistake in the request, or there is no stand-in for something.
    """
    described = [describe(*each) for each in split_request(experiments, request)]
    needed = fetched(stage for one in described for stage in topological(one.targets))
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-")) if out is None else out.absolute()
    began = time.monotonic()
    _say(request, f"Rehearsal in {folder}, on stand-ins for {_names(needed)}.")
    try:
        changes = _stand_ins(described, needed, folder)
        code = _run(asked, changes, folder)
    except BaseException:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if code == 0:
        _say(request, f"Rehearsed in {duration(time.monotonic() - began)}; nothing failed.")
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(request, f"The rehearsal failed; its logs are in {folder / '.store' / 'logs'}.")
    return code


def _names(needed: Sequence[Fetched]) -> str:
    return ", ".join(one.name for one in needed) or "nothing: the profile fetches nothing"


def _stand_ins(described: Sequence[Prepared], needed: Sequence[Fetched], folder: Path) -> list[str]:
    """Write all stand-ins; return the changes of the profiles."""
    from transformers.utils import logging

    from harness.commands.rehearse.answers import write_answers_of_world
    from harness.commands.rehearse.models import write_conv_weights, write_model
    from harness.commands.rehearse.rows import texts_of, write_rows

    logging.disable_progress_bar()
    home = folder / _HUB
    shutil.rmtree(home, ignore_errors=True)
    data = [one.name for one in needed if one.what == "data"]
    for name in data:
        write_rows(name, home / "datasets")
    texts = [text for name in data for text in texts_of(name)] or ["No text is read here."]
    for one in needed:
        if one.what == "model":
            write_model(one.name, texts, home / "hub")
    changes: dict[str, None] = {}
    for one in described:
        answers = None
        if get_domain(one.experiment.domain).runs_code and not one.profile.embedded:
            answers = folder / _ANSWERS
            if not answers.exists():
                write_answers_of_world(answers)
        changes |= dict.fromkeys(reductions(one.profile, one.experiment.judged, answers))
        if any(each.what == "file" for each in needed) and has_key(
            one.profile, "metrics.conv_weights"
        ):
            file = folder / "summac_conv.bin"
            write_conv_weights(file)
            changes[f"metrics.conv_weights={file}"] = None
    return list(changes)


def _run(asked: Sequence[str], changes: Sequence[str], folder: Path) -> int:
    home = folder / _HUB
    environment = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_DATASETS_CACHE": str(home / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "harness", "run", *asked]
    if changes:
        command += ["--set", *changes]
    command += ["--out", str(folder), "--store", str(folder / ".store")]
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _say(request: RunRequest, text: str) -> None:
    if not request.quiet:
        print(text, file=sys.stderr, flush=True)
