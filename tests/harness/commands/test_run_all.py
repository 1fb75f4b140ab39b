"""Several experiments as one run: shared stages, failures, what is left as it is, the summary."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

import harness.domains
from harness.cli import main
from harness.commands import profile_names as names
from harness.commands import run_all as module
from harness.commands.run import compute_result, prepare
from harness.domains.catalogue import EXPERIMENTS, load_experiments
from sparsepo.errors import UserError
from tests.harness.domains.test_new_domain import FILES

THREE = """
    from harness.domains.common.spec import ColumnSpec, RowSpec, TableSpec

    def _table(id, *values):
        return TableSpec(
            id=id,
            title=f"Toy {id}",
            domain="toys",
            rows=tuple(RowSpec(f"r{v}", "dpo", f"Row {v}", {"beta": v}) for v in values),
            columns=(ColumnSpec("cost", "Cost", higher_is_better=False),),
            baseline=f"r{values[0]}",
            reference=f"r{values[0]}",
        )

    EXPERIMENTS = (_table("table97", 1, 2), _table("table98", 2, 3), _table("table99", 4, 5))
"""
Run = Callable[..., int]
ALL = ("table97", "table98", "table99")


@pytest.fixture
def run(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A domain of three tables, two of which share a stage; `run(*options)` runs all of them."""
    # Not "toy", which another test imports, with other experiments.
    folder = tmp_path / "domains" / "toys"
    folder.mkdir(parents=True)
    init = FILES["__init__.py"].replace(
        '"toy_stages:number"',
        '"toy_stages:crash" if row.settings["beta"] == _broken(request) else _function(request)',
    )
    init = init.replace(
        '"trace": trace}', '"trace": trace, "steps": 10 * row.settings["beta"]}, resumable=True'
    )
    init = textwrap.dedent(init) + textwrap.dedent(
        """
        def _broken(request):
            marker = request.out / "broken"
            return int(marker.read_text()) if marker.exists() else None

        def _function(request):
            slow = (request.out / "slow").exists()
            return "toy_stages:slow" if slow else "toy_stages:number"
        """
    )
    (folder / "__init__.py").write_text(init)
    (folder / "experiments.py").write_text(textwrap.dedent(THREE))
    places = [*harness.domains.__path__, str(folder.parent)]
    monkeypatch.setattr(harness.domains, "__path__", places)
    monkeypatch.setattr(harness.domains, "DOMAINS", ("toys",))
    own = load_experiments(["toys"])
    # Not item by item, which would be undone in the opposite order.
    before = dict(EXPERIMENTS)
    EXPERIMENTS.clear()
    EXPERIMENTS.update(own)
    (tmp_path / "out").mkdir()

    def run_it(*options: str) -> int:
        return main(["run", "--all", "--out", str(tmp_path / "out"), "--workers", "1", *options])

    yield run_it
    EXPERIMENTS.clear()
    EXPERIMENTS.update(before)


def summary(tmp_path: Path) -> dict[str, dict[str, object]]:
    found = json.loads((tmp_path / "out" / "tiny" / module.SUMMARY).read_text())
    return {one["id"]: one for one in found["experiments"]}


def stages_run(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "out" / "trace.txt").read_text().splitlines()]


def test_stages_are_shared_and_one_summary_is_printed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    shown = capsys.readouterr()
    assert sorted(stages_run(tmp_path)) == ["r1", "r2", "r3", "r4", "r5"]
    assert "5 stages, 0 in the store, 5 to run" in shown.err
    assert "[5/5]" in shown.err
    assert shown.out.count("table98") == 2  # its row, and its folder in it
    assert "3 of 3 experiments" in shown.out
    assert {id: one["state"] for id, one in summary(tmp_path).items()} == dict.fromkeys(ALL, "made")
    assert summary(tmp_path)["table98"]["stages"] == 2


def test_a_second_run_leaves_what_is_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--quiet") == 0
    files = {path: path.read_bytes() for path in (tmp_path / "out" / "tiny").rglob("table*.*")}
    (tmp_path / "out" / "tiny" / "table98" / "table98.md").write_text("changed")
    computed: list[str] = []
    original = compute_result

    def compute(one: Any, store: Any) -> Any:
        computed.append(one.experiment.id)
        return original(one, store)

    monkeypatch.setattr(module, "compute_result", compute)
    assert run("--quiet") == 0
    assert computed == ["table98"]
    assert {path: path.read_bytes() for path in files} == files
    states = {id: one["state"] for id, one in summary(tmp_path).items()}
    assert states == {"table97": "unchanged", "table98": "made", "table99": "unchanged"}
    assert len(stages_run(tmp_path)) == 5


def test_a_failed_stage_fails_only_what_needs_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "broken").write_text("3")
    assert run() == 1
    shown = capsys.readouterr()
    found = summary(tmp_path)
    assert [found[id]["state"] for id in ALL] == ["made", "failed", "made"]
    assert "Stage r3 failed with ValueError" in str(found["table98"]["reason"])
    assert "2 of 3 experiments" in shown.out
    assert "Run the same command again" in shown.out
    (tmp_path / "out" / "broken").unlink()
    assert run("--quiet") == 0
    assert [one["state"] for one in summary(tmp_path).values()] == [
        "unchanged",
        "made",
        "unchanged",
    ]


def test_what_cannot_be_prepared_is_missing_with_its_reason(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = prepare

    def refuse(experiment: Any, request: Any) -> Any:
        if experiment.id == "table97":
            raise UserError("The data are not here; name them.")
        return original(experiment, request)

    monkeypatch.setattr(module, "prepare", refuse)
    monkeypatch.setattr(module, "_has_options", lambda request: False)
    assert run() == 2
    shown = capsys.readouterr()
    assert "table97 is left out: The data are not here" in shown.err
    assert [one["state"] for one in summary(tmp_path).values()] == ["missing", "made", "made"]


def test_a_domain_without_the_profile_is_named_and_the_others_are_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table 99 is another domain's, which has the profile `tiny` under another name alone."""
    other = replace(EXPERIMENTS["table99"], domain="others")
    EXPERIMENTS["table99"] = other
    original = names.get_domain

    def domain_of(name: str) -> Any:
        return SimpleNamespace(profiles={"vast": None}) if name == "others" else original(name)

    monkeypatch.setattr(names, "get_domain", domain_of)
    assert run() == 0
    shown = capsys.readouterr()
    said = "it has no profile tiny, only vast"
    assert f"table99 is left out: {said}" in shown.err
    assert "2 of 2 experiments" in shown.out
    assert "Run the same command again" not in shown.out
    found = summary(tmp_path)
    assert [found[id]["state"] for id in ALL] == ["made", "made", "no profile"]
    assert found["table99"]["reason"] == said
    # Several are planned and run alike; nothing may be left to run.
    kept, left_out = names.with_profile(list(EXPERIMENTS.values()), "tiny")
    assert [one.id for one in kept] == ["table97", "table98"]
    assert left_out == {"table99": said}
    assert names.with_profile([other], "tiny") == ([other], {})
    with pytest.raises(UserError, match="table99 is left out, and nothing remains: it has no prof"):
        names.with_profile([other, other], "tiny")


def test_a_mistake_in_options_stops_before_the_first_stage(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--methods", "nothing") == 2
    assert "Unknown row or method 'nothing'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "trace.txt").exists()


def test_an_interrupted_run_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = compute_result

    def stop(one: Any, store: Any) -> Any:
        if one.experiment.id == "table98":
            raise KeyboardInterrupt
        return original(one, store)

    monkeypatch.setattr(module, "compute_result", stop)
    assert run("--quiet") == 130
    monkeypatch.setattr(module, "compute_result", original)
    assert run("--quiet") == 0
    states = [one["state"] for one in summary(tmp_path).values()]
    assert states == ["unchanged", "made", "made"]
    assert len(stages_run(tmp_path)) == 5


def started(run: Run, *options: str) -> int:
    """Run the command in a process of its own, which has imported everything already."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        code = run("--quiet", *options)
    finally:
        os._exit(code)


def steps_done(store: Path) -> int:
    """Return how many steps the stages have done, finished or not."""
    done = 0
    for state in [*store.glob("*/state.txt"), *store.glob("partial/*/state.txt")]:
        # A stage may end between the two.
        with suppress(OSError, ValueError):
            done += int(state.read_text())
    return done


def files_of(out: Path) -> dict[str, bytes]:
    """Return what the run has written, but for what tells of durations and of this run."""
    others = ("timings.json", ".made.json", module.SUMMARY)
    found = (path for path in (out / "tiny").rglob("*") if path.is_file())
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in found
        if path.name not in others
    }


def test_killed_at_three_random_moments_it_writes_the_same_bytes(run: Run, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    for folder in (out, whole):
        folder.mkdir(exist_ok=True)
        (folder / "slow").touch()
    assert run("--quiet", "--out", str(whole)) == 0
    total = steps_done(whole / ".store")
    assert total == 150
    random = Random(13)
    for moment in sorted(random.sample(range(1, total - 10), 3)):
        process = started(run)
        # Only so that a broken build does not hang.
        deadline = time.monotonic() + 600
        while steps_done(out / ".store") < moment:
            assert time.monotonic() < deadline, "the run does not go on"
            time.sleep(0.005)
        time.sleep(random.uniform(0.0, 0.05))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "the run had ended before it was killed"
    assert not (out / "tiny" / module.SUMMARY).exists()
    assert run("--quiet") == 0
    written = files_of(out)
    assert {f"tiny/{id}/{id}.json" for id in ALL} <= set(written)
    assert written == files_of(whole)
    # What had been done was not done again.
    starts = [line.split() for line in (out / "trace.txt").read_text().splitlines()]
    assert any(int(line[2]) > 0 for line in starts)
    assert sum(int(line[2]) == 0 for line in starts) <= 5 + 3
