"""`python -m harness passk` on a machine as it is: an ordinary user, a full disk, two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import main
from tests.tasks.code.rows import PLAIN, write_rows
from tests.tasks.sandbox.ordinary import become_ordinary, closed_folder
from tests.tiny_disk import tiny_disk

REPOSITORY = Path(__file__).parents[3]
SAMPLES = [("add", f"    return a + b  # {number}\n") for number in range(30)]
SAMPLES += [("add", "    return a - b\n"), ("add", "    while True:\n        pass\n")]
SAMPLES += [("neg", "def neg(x):\n    return -x\n")]
RIGHT = ["passed"] * 30 + ["failed", "timeout", "passed"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may write to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        write_rows(folder / "problems.jsonl", PLAIN)
        rows = [{"task_id": task_id, "completion": text} for task_id, text in SAMPLES]
        write_rows(folder / "samples.jsonl", rows)
        yield folder


def arguments(place: Path, out: str = "out.json") -> list[str]:
    given = ["passk", "--problems", str(place / "problems.jsonl"), "--allow-code-execution"]
    return [*given, "--samples", str(place / "samples.jsonl"), "--out", str(place / out)]


def start(
    place: Path, out: str = "out.json", before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "HOME": "/nonexistent",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments(place, out)],
        preexec_fn=before,
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def verdicts(file: Path) -> list[str]:
    return [result["verdict"] for result in json.loads(file.read_text())["results"]]


def test_an_ordinary_user_is_killed_and_goes_on(place: Path) -> None:
    before = None
    if os.geteuid() == 0:
        if folder := closed_folder():
            pytest.skip(f"{folder} is closed to ordinary users")
        before = become_ordinary
    first = start(place, before=before)
    while not (journals := list(place.glob("*.partial"))) or len(journals[0].read_bytes()) < 2000:
        assert first.poll() is None, first.communicate()
        time.sleep(0.005)
    first.kill()
    first.communicate()
    second = start(place, before=before)
    out, err = second.communicate()
    if "No isolation" in err:
        pytest.skip(err.strip().splitlines()[-1])
    assert second.returncode == 0, err
    assert verdicts(place / "out.json") == RIGHT
    assert "had been run before" in out
    assert "resuming after" in err
    assert list(place.glob("*.partial")) == []
    if before is not None:
        assert (place / "out.json").stat().st_uid == 65534


def test_two_at_once(place: Path) -> None:
    """To one file the second is turned away; to two files both are right."""
    processes = [start(place), start(place), start(place, "other.json")]
    for process in processes:
        process.communicate()
    assert sorted(process.returncode for process in processes[:2]) == [0, 2]
    assert processes[2].returncode == 0
    assert verdicts(place / "out.json") == verdicts(place / "other.json") == RIGHT


def test_a_full_disk_loses_no_verdict(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The journal keeps what fits; with room again the run goes on."""
    with tiny_disk(place / "disk", 64) as disk:
        out = disk / "out.json"
        given = arguments(place)
        given[-1] = str(out)
        (disk / "rest").write_bytes(b"x" * (60 << 10))  # 4 KiB are left
        assert main([*given, "--workers", "1"]) == 2
        shown = capsys.readouterr().err
        assert "No space left" in shown
        assert shown.splitlines()[-1].startswith("Error: ")
        assert not out.exists()
        (journal,) = disk.glob("*.partial")
        kept = journal.read_bytes().count(b"\n") - 1
        assert 0 < kept < len(SAMPLES)
        (disk / "rest").unlink()
        assert main([*given, "--workers", "1"]) == 0
        assert f"{kept} had been run before" in capsys.readouterr().out
        assert verdicts(out) == RIGHT
