"""A check that fails, crashes or hangs leaves the others alone, and its line says what happened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gpu import processes
from benchmarks.gpu.processes import Checks, Suite, marked_tests, outcome_of
from benchmarks.process import BenchmarkError

FAULTY = "tests.benchmarks.gpu.faulty_checks"


@pytest.fixture
def checks(tmp_path: Path) -> Iterator[Checks]:
    process = Checks("cpu", True, tmp_path, {})
    yield process
    process.close()


def test_what_a_check_meets_is_said_and_survived(checks: Checks) -> None:
    """In one process, the last of all still passes."""
    expected = {
        "wrong": ("failed", "the values differ by 0.3"),
        "refused": ("failed", "This cannot be; do that"),
        "absent": ("not run", "there is no such thing here"),
        "uninstalled": ("not run", "no_such_package is not installed"),
        "too_large": ("failed", "out of memory, with 0.0 GiB allocated at most"),
        "fine": ("passed", "on cpu, small=True"),
    }
    found = {name: checks.run(f"{FAULTY}:{name}", 200) for name in expected}
    assert {n: (a["verdict"], a["text"]) for n, a in found.items()} == expected
    assert "AssertionError" in "\n".join(found["wrong"]["traceback"])
    assert found["fine"]["figures"] == {"one": 1.0}
    assert checks.starts == 1


@pytest.mark.slow
def test_a_crash_a_hang_and_a_broken_device_get_a_new_process(checks: Checks) -> None:
    crashed = checks.run(f"{FAULTY}:crash", 200)
    assert crashed["verdict"] == "failed"
    assert crashed["text"] == "the check stopped: about to crash"
    broken = checks.run(f"{FAULTY}:device_error", 200)
    assert broken["text"].startswith("RuntimeError: CUDA error: an illegal memory access")
    # Its time must not go by while the process starts.
    checks.ready(200)
    hanging = checks.run(f"{FAULTY}:hang", 3)
    assert hanging["verdict"] == "failed"
    assert "gave no answer within 3 s" in hanging["text"]
    assert hanging["late"] and not crashed["late"]
    assert checks.run(f"{FAULTY}:fine", 200)["verdict"] == "passed"
    assert checks.starts == 4


def test_a_process_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    checks = Checks("cpu", True, tmp_path, {"PYTHONHOME": str(tmp_path / "nothing")})
    with pytest.raises(BenchmarkError, match="the check stopped: "):
        checks.ready(60)
    checks.close()


# The suite's tests

PASSED = "tests/test_x.py::test_flex[1-None] PASSED [ 50%]"


@pytest.mark.parametrize(
    ("output", "verdict", "text"),
    [
        (f"collected 2 items\n{PASSED}\n{PASSED}\n", "passed", "2 passed"),
        (
            f"collected 90 items / 78 deselected / 12 selected\n{PASSED}\na.py::b[c] ",
            "passed",
            "1 passed, 11 not reached",
        ),
        (
            f"collected 2 items\n{PASSED}\na.py::b FAILED [100%]\n",
            "failed",
            "1 passed, 1 failed",
        ),
        (
            "collected 1 item\na.py::b SKIPPED (needs a CUDA device) [100%]\n",
            "not run",
            "1 skipped",
        ),
        ("collected 3 items\n", "not run", "3 not reached"),
        ("ModuleNotFoundError: No module named 'x'\n", "failed", "ModuleNotFoundError: No module"),
        ("", "failed", "pytest wrote nothing"),
    ],
)
def test_the_output_of_pytest_is_read_even_if_it_was_cut(
    output: str, verdict: str, text: str
) -> None:
    found = outcome_of(output)
    assert found["verdict"] == verdict
    assert found["text"].startswith(text)


def test_the_tests_that_need_a_gpu_are_found() -> None:
    assert "tests/sparsepo/batches/test_attention.py" in marked_tests()


def test_the_suites_tests_run_where_there_is_no_gpu_too(tmp_path: Path) -> None:
    """All of them are skipped."""
    suite = Suite(tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    found = suite.finish(280)
    assert found["verdict"] == "not run", found["traceback"]
    assert found["figures"]["skipped"] == 12
    assert found["text"] == "12 skipped"


def test_a_suite_that_hangs_is_ended(tmp_path: Path) -> None:
    suite = Suite(tmp_path, {})
    found = suite.finish(0.01)
    assert suite._process is not None
    assert suite._process.poll() is not None
    assert (found["verdict"], found["text"]) == ("not run", "none was reached in the time")


def test_without_pytest_or_tests_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "marked_tests", list)
    assert Suite(tmp_path, {}).finish(1)["text"] == "there is no folder tests beside benchmarks"
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    assert Suite(tmp_path, {}).finish(1)["text"] == "pytest is not installed"
