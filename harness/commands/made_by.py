"""What a result says of its making: the command, and the code of its stages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.config.request import RunRequest
from harness.domains.common.spec import Experiment
from harness.graph.closure import code_version
from harness.graph.stages import Stage, topological

_NUMBERED = re.compile(r"(table|figure)(\d+)")
_DIGITS = 16


def command_of(experiment: Experiment, request: RunRequest) -> str:
    """Return the command that makes a result, without what cannot affect it.

    Args:
        experiment: the table or figure.
        request: what the user asked for; files appear by their name, without their folder.
    """
    return shlex.join(["python", "-m", "harness", "run", *_options(experiment, request)])


def selector(experiment: str) -> list[str]:
    """Return the options that select an experiment, such as ``--table 1``.

    Args:
        experiment: its id.
    """
    found = _NUMBERED.fullmatch(experiment)
    return ["--table", experiment] if found is None else [f"--{found[1]}", found[2]]


def stage_codes(targets: Iterable[Stage]) -> dict[str, str]:
    """Return the code version of each stage function, without the files of methods.

    Two results whose functions have equal versions are measured alike, whatever they train.

    Args:
        targets: the stages whose results are shown.

    Returns:
        ``package.module:function`` → 16 hexadecimal digits, sorted.
    """
    stages = {stage.function: stage for stage in topological(targets)}
    return {
        function: code_version((function.partition(":")[0],), stage.without)[:_DIGITS]
        for function, stage in sorted(stages.items())
    }


def _options(experiment: Experiment, request: RunRequest) -> Iterator[str]:
    yield from selector(experiment.id)
    yield from ("--profile", request.profile)
    if request.methods is not None:
        yield from ("--methods", ",".join(request.methods))
    if request.seeds is not None:
        yield from ("--seeds", str(request.seeds))
    if request.tune is not None:
        yield "--tune"
        if isinstance(request.tune, int):
            yield str(request.tune)
    if request.assignments:
        yield "--set"
        yield from map(_named, request.assignments)
    for plugin in request.plugins:
        yield from ("--plugin", Path(plugin).name)
    if request.allow_code_execution:
        yield "--allow-code-execution"


def _named(assignment: str) -> str:
    """Return an assignment whose value, if it is a local file or folder, is its name alone."""
    key, equals, value = assignment.partition("=")
    try:
        local = "/" in value and Path(value).expanduser().exists()
    except OSError:
        local = False
    return f"{key}{equals}{Path(value).name if local else value}"
