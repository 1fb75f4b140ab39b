"""Hostile and awkward programs: no wrong verdict, no escape, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.sandbox import UNPROTECTED
from tests.tasks.sandbox import battery
from tests.tasks.sandbox.ordinary import become_ordinary

ROOT = Path(__file__).resolve().parents[3]


def test_no_program_gets_its_way(tier: str, tmp_path: Path) -> None:
    wrong, verdicts = battery.run(tier, tmp_path, workers=2)
    assert wrong == []
    assert {verdict.tier for verdict in verdicts} == {tier}
    assert len(verdicts) == len(battery.rows())


@pytest.mark.usefixtures("root")
def test_nor_does_any_when_an_ordinary_user_runs_it(tier: str) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, str(Path(battery.__file__)), "--tier", tier, "--workers", "2"],
        preexec_fn=become_ordinary,
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if "No isolation" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["tier"] == tier


# Programs that hurt nobody but what was planted for them, and what the battery must say when
# nothing holds them back.
UNHINDERED = {
    "read_project_file": "read_project_file: passed",
    "read_etc_passwd": "read_etc_passwd: passed",
    "write_project": "planted files changed",
    "write_var_tmp": "left /var/tmp/evil_vt",
    "write_shm": "left /dev/shm/evil_shm",
    "tcp_loopback": "reached ('127.0.0.1'",
    "unix_socket": "/project/sock",
    "abstract_unix_socket": "sbxcanary",
    "kill_sibling": "the canary process has ended",
    "daemonize": "boxes left",
    "eq_always_true": "eq_always_true: passed",
    "eq_always_true_object": "eq_always_true_object: passed",
}


def test_the_battery_tells_when_nothing_protects(tmp_path: Path) -> None:
    wrong, _ = battery.run(UNPROTECTED, tmp_path, names=set(UNHINDERED), confirm=False)
    silent = [
        name for name, report in UNHINDERED.items() if not any(report in line for line in wrong)
    ]
    assert silent == [], wrong


def test_a_pass_of_the_fast_form_can_be_forged_and_is_listed_as_such(tmp_path: Path) -> None:
    name = "eq_always_true"
    _, (fast,) = battery.run(None, tmp_path, names={name}, confirm=False)
    assert fast.outcome == "passed"
    (tmp_path / "temporary").rmdir()
    for child in ("home", "project"):
        (tmp_path / child).rename(tmp_path / f"{child}-before")
    wrong, (strict,) = battery.run(None, tmp_path, names={name})
    assert wrong == []
    assert (strict.outcome, strict.suspected_forgery) == ("failed", True)
