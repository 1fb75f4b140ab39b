"""The command's lines, card and exit code, without processes; its time is shared by all parts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmarks.gpu import command
from benchmarks.gpu.race import contests
from benchmarks.gpu.report import Line, Report, markdown, summary
from benchmarks.process import REPOSITORY
from tests.benchmarks.test_training import made_up

CPU = ["--device", "cpu", "--small"]
CHECKS = ",".join(part.name for part in command.CHECKS)


class MadeUp:
    """Answers as the process of the checks does."""

    answers: ClassVar[dict[str, Any]] = {}
    machine: ClassVar[dict[str, Any]] = {"cuda": False}
    asked: ClassVar[list[tuple[str, float]]] = []

    def __init__(self, *_: Any) -> None:
        self.asked.clear()

    def start(self) -> None:
        """Start nothing."""

    close = start

    def ready(self, limit: float) -> dict[str, Any]:
        """Return the machine."""
        return self.machine

    def run(self, check: str, limit: float) -> dict[str, Any]:
        """Return what was made up for a check."""
        self.asked.append((check, limit))
        name = check.rpartition(":")[2]
        passed = {"verdict": "passed", "text": f"{name} is | right", "figures": {}}
        found: dict[str, Any] = self.answers.get(name, passed)
        return found


@pytest.fixture
def made_up_checks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def make(**answers: Any) -> None:
        monkeypatch.setattr(MadeUp, "answers", answers)
        monkeypatch.setattr(command, "Checks", MadeUp)

    make()
    return make


def test_the_card_has_a_verdict_per_line(
    tmp_path: Path, made_up_checks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up_checks(quantized={"verdict": "not run", "text": "x is not installed", "figures": {}})
    arguments = [*CPU, "--only", f"{CHECKS},tests", "--out", str(tmp_path), "--name", "card"]
    assert command.main(arguments) == 0
    page = (tmp_path / "card.md").read_text()
    for part in command.CHECKS:
        assert f"| {part.title} | " in page
    assert "| QLoRA | not run | x is not installed | 0 |" in page
    assert "| the suite's tests that need a GPU | not run | they need a GPU | 0 |" in page
    assert "fused_operation is \\| right" in page
    assert "7 passed, 2 not run" in page
    assert ", reduced sizes" in page and "the times say nothing" in page
    # No path of the machine.
    assert str(tmp_path) not in page
    assert "--out card" not in page and f"--out {tmp_path.name}" in page
    data = json.loads((tmp_path / "card.json").read_text())
    assert [line["part"] for line in data["lines"]] == [*CHECKS.split(","), "tests"]
    assert data["facts"]["torch"]
    assert "7 passed, 2 not run" in capsys.readouterr().out


def test_a_check_that_failed_is_the_exit_code(
    tmp_path: Path, made_up_checks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up_checks(
        adapters={"verdict": "failed", "text": "wrong", "figures": {}, "traceback": ["at line 3"]}
    )
    assert command.main([*CPU, "--only", "fused,lora,resume", "--out", str(tmp_path)]) == 1
    (page,) = tmp_path.glob("*-gpu.md")
    assert "| LoRA | **failed** | wrong | 0 |" in page.read_text()
    # What comes after it runs nevertheless.
    assert [check.rpartition(":")[2] for check, _ in MadeUp.asked] == [
        "fused_operation",
        "adapters",
        "resuming",
    ]
    assert "LoRA:\nat line 3" in capsys.readouterr().err


def test_without_out_a_trial_on_a_cpu_writes_no_card(
    made_up_checks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(command, "write_report", lambda *given: written.append(given))
    assert command.main([*CPU, "--only", "fused"]) == 0
    assert not written


def test_what_has_no_time_left_says_so(
    tmp_path: Path, made_up_checks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances by 100 s a check."""
    now = time.monotonic()
    clock = iter(range(10_000))
    monkeypatch.setattr(command.time, "monotonic", lambda: now + 10 * next(clock))
    only = f"{CHECKS},head,hh"
    arguments = [*CPU, "--only", only, "--budget", "120", "--out", str(tmp_path), "--name", "x"]
    assert command.main(arguments) == 0
    lines = json.loads((tmp_path / "x.json").read_text())["lines"]
    assert lines[0]["verdict"] == "passed"
    late = [line for line in lines if line["text"] == command.NO_TIME]
    assert late and late[-1]["part"] == "head"
    assert all(line["verdict"] == "not run" for line in lines if line["part"] == "hh")
    assert all(limit <= 120 for _, limit in MadeUp.asked)


def test_a_check_that_the_runs_time_ended_has_not_failed(
    tmp_path: Path, made_up_checks: Any
) -> None:
    late = {"verdict": "failed", "text": "no answer", "figures": {}, "late": True}
    made_up_checks(fused_operation=late)
    arguments = [*CPU, "--only", "fused", "--out", str(tmp_path), "--name", "x"]
    assert command.main(arguments) == 0
    (line,) = json.loads((tmp_path / "x.json").read_text())["lines"]
    assert (line["verdict"], line["text"]) == ("not run", command.NO_TIME)


def test_a_line_names_no_folder_of_the_machine(tmp_path: Path, made_up_checks: Any) -> None:
    text = "File /home/me/env-1/lib/torch/nn.py, line 3; a/b of http://x.org/y and 1/2 tokens/s"
    made_up_checks(fused_operation={"verdict": "failed", "text": text, "figures": {}})
    arguments = [*CPU, "--only", "fused", "--out", str(tmp_path), "--name", "x"]
    assert command.main(arguments) == 1
    (line,) = json.loads((tmp_path / "x.json").read_text())["lines"]
    assert line["text"] == "File nn.py, line 3; a/b of http://x.org/y and 1/2 tokens/s"


def test_on_a_gpu_a_check_has_a_limit_of_its_own() -> None:
    options = command.build_parser().parse_args([])
    report = Report("d", "c", {}, "bfloat16")
    run = command.Run(options, report, Path(), lambda _: None, time.monotonic())
    assert run.limit(30) == 30
    assert 400 < run.limit(1e6) <= 480 - command.RESERVE
    assert options.budget <= 480


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "--device cpu needs --small"),
        ([*CPU, "--only", "fused,lara"], "--only cannot be 'lara'. Did you mean 'lora'?"),
        ([*CPU, "--budget", "3"], "--budget must be more than 11 seconds, not 3"),
        (["--only", "fused"], "There is no GPU that torch can use"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str],
    message: str,
    made_up_checks: Any,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert command.main([*arguments, "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Error: ") and message in printed and printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_parts_are_those_that_can_be_asked_for() -> None:
    assert tuple(contest.name for contest in contests(small=True)) == command.CONTESTS
    assert len(set(command.PARTS)) == len(command.PARTS)


def test_processes_run_beside_each_other_only_where_they_all_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command.os, "sched_getaffinity", lambda _: set(range(16)))
    assert command.has_room({"memory": 139 * 2**30})
    assert not command.has_room({"memory": 80 * 2**30})
    monkeypatch.setattr(command.os, "sched_getaffinity", lambda _: {0, 1})
    assert not command.has_room({"memory": 139 * 2**30})


def test_with_room_the_checks_run_in_two_lanes_and_keep_their_order(
    tmp_path: Path, made_up_checks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first check ends last."""
    lanes: list[str] = []

    class Slow(MadeUp):
        def __init__(self, device: str, small: bool, folder: Path, environment: Any) -> None:
            self.lane = folder.name

        def run(self, check: str, limit: float) -> dict[str, Any]:
            while check.endswith("fused_operation") and len(lanes) < 5:
                time.sleep(0.01)
            lanes.append(self.lane)
            return super().run(check, limit)

    monkeypatch.setattr(command, "Checks", Slow)
    machine = {"cuda": True, "memory": 2**40, "GPU": "x", "capability": "9.0", "CUDA": "13"}
    monkeypatch.setattr(MadeUp, "machine", {**machine, "float32": "highest"})
    monkeypatch.setattr(command.os, "sched_getaffinity", lambda _: set(range(16)))
    arguments = ["--only", CHECKS, "--out", str(tmp_path), "--name", "x"]
    assert command.main(arguments) == 0
    lines = json.loads((tmp_path / "x.json").read_text())["lines"]
    assert [line["part"] for line in lines] == CHECKS.split(",")
    assert lanes[:5] == 5 * ["checks-1"] and lanes[5:] == 3 * ["checks-0"]
    assert "GPU x; GPU memory 1024 GiB; compute capability 9.0" in (tmp_path / "x.md").read_text()


def test_one_card_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several, transformers would wrap the model in DataParallel."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert command.environment_of("cuda")["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert command.environment_of("cuda")["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in command.environment_of("cpu")


def test_measurements_are_tables_of_the_card() -> None:
    lines = [
        Line("head", "head", "measured", "fast", 1.0, {"matmul_flops": 5e14}),
        Line("hh", "x", "failed", "slow", 1.0),
    ]
    report = Report("d", "c", {"GPU": "one"}, "bfloat16")
    report.lines, report.measurements = lines, [made_up("made up, whole model")]
    page = markdown(report)
    assert "measured matmul rate 500 TFLOP/s in bfloat16" in page
    assert "## made up, whole model" in page and "utilisation" in page
    assert "| sparsepo, sparsepo-common | 2.00 |" in page and "0.50 [0.25, 0.90]" in page
    assert "peak allocated on the GPU" in page and "reduced" not in page
    assert summary(lines) == "1 failed, 1 measured"


def test_the_documentation_has_the_card_or_says_that_there_is_none() -> None:
    page = (REPOSITORY / "docs" / "speed.md").read_text()
    assert "python -m benchmarks.gpu" in page
    cards = sorted((REPOSITORY / "benchmarks" / "cards").glob("*-gpu*.md"))
    assert ("no GPU card yet" in page) == (not cards)
    assert all(card.name in page for card in cards)


def test_the_command_imports_nothing_slow_before_its_processes_start() -> None:
    """They start seconds earlier for it."""
    code = "import sys, benchmarks.gpu.command; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
