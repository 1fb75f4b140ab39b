"""What runs while a stage runs is in its code version: watched, not read off its imports."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import pytest

from harness.commands.run import prepare
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.closure import NEUTRAL, PACKAGES, _files, find_module, import_closure
from harness.graph.engines.worker import Job, make
from harness.graph.stages import Stage, load_function, topological
from harness.graph.store import Store
from tests.harness.domains.code.test_table2 import solutions
from tests.small_code_table import SMALL_CODE
from tests.small_sentiment import SMALL as SMALL_SENTIMENT
from tests.small_summarization import SMALL as SMALL_SUMMARIZATION
from tests.small_table import SMALL

ON_POLICY = ("on_policy.diversity_prompts=2", "on_policy.diversity_samples=2")
ROOT = Path(__file__).parents[3]
OURS = tuple(str(ROOT / package) for package in PACKAGES)


def executed(stages: Sequence[Stage], store: Store) -> Mapping[str, set[str]]:
    """Make stages in this process, and return the files whose functions each of them ran."""
    found: dict[str, set[str]] = {}

    def watch(frame: FrameType, event: str, argument: object) -> None:
        # Modules and class bodies run when they are imported, for whichever stage is the first.
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            names.add(frame.f_code.co_filename)

    for stage in stages:
        load_function(stage.function)
        names = found.setdefault(stage.name, set())
        before = sys.gettrace()
        sys.settrace(watch)
        try:
            assert make(store, Job.of(stage), lambda done, total, what: None)
        finally:
            sys.settrace(before)
    return {stage: {file for file in ran if file.startswith(OURS)} for stage, ran in found.items()}


def covered(stage: Stage) -> set[str]:
    """Return the files that a stage's code version covers."""
    files: set[Path | None] = set()
    for name, source in import_closure(stage.modules, stage.without).items():
        files.add(find_module(name))
        files |= {file for place in source.beside for file in _files(place)}
    return {str(file) for file in files}


@pytest.mark.parametrize(
    ("methods", "assignments"),
    [
        ({"table1": ("dpo",), "winrate-dialogue": ("sft", "dpo")}, SMALL),
        (
            {
                "figure2": ("sft", "dpo"),
                "figure3": None,
                "figure1": ("dpo",),
                "noise": ("dpo",),
                "transfer": ("shuffled-common", "oracle"),
                "on-policy": ("inpo", "rto"),
            },
            (*SMALL_SENTIMENT, "base.steps=20", "sweep.beta=1", "noise.shares=0.25", *ON_POLICY),
        ),
        ({"figure5": ("sft", "dpo")}, SMALL_SUMMARIZATION),
        ({"table2": ("base", "dpo")}, SMALL_CODE),
    ],
    ids=["dialogue", "sentiment", "summarization", "code"],
)
def test_no_function_runs_that_the_code_version_does_not_cover(
    methods: Mapping[str, tuple[str, ...] | None], assignments: tuple[str, ...], tmp_path: Path
) -> None:
    if "table2" in methods:
        assignments = (*assignments, f"data.answers={solutions(tmp_path / 'answers')}")
    stages: dict[str, Stage] = {}
    for experiment, shown in methods.items():
        request = RunRequest(
            methods=shown,
            seeds=1,
            assignments=assignments,
            out=tmp_path / "out",
            store=tmp_path / "store",
        )
        graph = prepare(EXPERIMENTS[experiment], request).graph
        stages |= {stage.address: stage for stage in topological(graph.targets)}
    ran = executed(list(stages.values()), Store(tmp_path / "store"))
    neutral = tuple(str(ROOT.joinpath(*name.split("."))) for name in NEUTRAL)
    # What saves a model describes it with what the trainer knows.
    describing = {str(find_module(name)) for name in import_closure(["sparsepo.training.card"])}
    for stage in stages.values():
        own = str(find_module(stage.modules[0]))
        assert own in ran[stage.name]
        outside = ran[stage.name] - covered(stage)
        if str(find_module("sparsepo.training.sharing")) in covered(stage):
            outside -= describing
        assert not [file for file in outside if not file.startswith(neutral)], stage.name
