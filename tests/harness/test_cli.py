"""What a user meets: exit codes, one plain line per mistake, nothing half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main, upkeep
from harness.graph.engines.worker import StageError
from harness.graph.store import Store
from sparsepo.errors import UserError

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "tiny-table1-all-methods"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, so that whatever is written shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPARSEPO_STORE", raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("rum --table 1", "Unknown command 'rum'. Did you mean 'run'?"),
        ("run", "Give one of --table N"),
        ("run --table 1 --all", "Give one of --table N"),
        ("run --table 9", "Unknown table 9."),
        ("run --table 9", "python -m harness list"),
        ("run --figure 99", "Unknown figure 99."),
        ("run --table 1 --profile tinny", "Unknown profile 'tinny'. Did you mean 'tiny'?"),
        ("run --table 1 --profil tiny", "Unknown option --profil. Did you mean '--profile'?"),
        ("run --table 1 --methods dpoo", "Unknown row or method 'dpoo'. Did you mean 'dpo"),
        ("run --table 1 --methods ,", "--methods is empty"),
        ("run --table 1 --seeds two", "Argument --seeds: invalid int value: 'two'"),
        ("run --table 1 --seeds 0", "--seeds must be at least 1, not 0."),
        ("run --table 1 --set po.epoch=1", "Did you mean 'epochs'?"),
        ("run --table 1 --set methods.dpo.gamma=1", "does not use the hyper-parameter 'gamma'"),
        ("run --table 1 --set data.hh_rlhf=nope.jsonl", "nope.jsonl does not exist"),
        ("run --table 1 --set data.bbh=nope.jsonl", "nope.jsonl does not exist"),
        ("run --table 1 --plugin nope.py", "nope.py does not exist"),
        ("run --table 1 --engine slurm", "Unknown engine 'slurm'"),
        ("run --table 1 --workers 0", "--workers must be at least 1, not 0."),
        ("run --table", "expected one argument"),
        # Found in a later experiment, before the first one is begun.
        ("run --all --methods sft", "Method 'sft' reads no reference"),
        ("run --table 1 --allow-code-execution", "table1 runs no model-generated programs"),
        ("draw nope.json", "nope.json cannot be read: No such file or directory"),
        ("draw", "The following arguments are required: FILE.json"),
    ],
)
def test_mistakes(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(arguments.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", ["--help", "run --help", "list --help", "clean --help"])
def test_help(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 0
    assert "usage: python -m harness" in capsys.readouterr().out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "usage" in capsys.readouterr().out


def test_list_names_everything(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from sparsepo.methods.dpo import DPO\n"
        "@dataclass(frozen=True)\n"
        "class Mine(DPO):\n"
        "    name = 'mine-in-a-file'\n"
        "    title = 'Mine'\n"
    )
    assert main(["list", "--plugin", str(plugin)]) == 0
    text = capsys.readouterr().out
    for name in ("table1", "tiny", "small", "paper", "sparsepo-independent", "local", "ray"):
        assert f"  {name}" in text
    assert "Mine (file mine.py)" in text


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("list", "--method", "ppo"), "ppo"),
        (("report", "--out", "site"), "written: site/index.html (1 results"),
        (("leaderboard", "--out", "board"), "written: board/leaderboard"),
    ],
    ids=["list", "report", "leaderboard"],
)
def test_what_runs_no_stage_starts_without_the_libraries_of_training(
    command: tuple[str, ...], shown: str, tmp_path: Path
) -> None:
    shutil.copytree(PUBLISHED, tmp_path / "results" / "tiny" / "table1")
    code = (
        f"import sys; from harness.cli import main; code = main({list(command)}); "
        "sys.exit(code or any(x in sys.modules for x in ('transformers', 'peft', 'datasets')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_a_file_in_the_stores_place(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    assert main(["run", "--table", "1", "--store", "blocked"]) == 2
    assert "a file has its name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["blocked"]


def test_a_broken_benchmark_file_stops_the_run_early(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bbh.jsonl").write_text('{"input": "a", "target": "b"}\n')
    (tmp_path / "hh.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    common = "run --table 1 --methods sft --quiet --set base.steps=100000"
    assert main(f"{common} data.bbh=bbh.jsonl".split()) == 2
    error = capsys.readouterr().err
    assert "subset" in error
    assert error.count("\n") == 1
    assert main(f"{common} data.hh_rlhf=hh.jsonl".split()) == 2
    error = capsys.readouterr().err
    assert "column" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "results" / "tiny").exists()


def test_doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    assert main(["doctor", "--store", "blocked"]) == 2
    shown = capsys.readouterr()
    assert "FAIL store" in shown.out
    assert "Not ready: " in shown.err
    assert "store" in shown.err
    main(["doctor"])
    text = capsys.readouterr().out
    assert "python" in text
    assert "torch" in text
    assert [path.name for path in tmp_path.iterdir()] == ["blocked"]


def test_doctor_finds_a_version_out_of_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from packaging.requirements import Requirement

    from harness.commands import doctor

    wanted = [
        (Requirement("numpy>=99"), None),
        (Requirement("no-such-package>=1"), None),
        (Requirement("no-such-extra>=1"), "ray"),
        (Requirement("numpy>=1"), None),
    ]
    monkeypatch.setattr(doctor, "requirements", lambda: wanted)
    packages = list(doctor.diagnose(Path("store")))[1:5]
    assert [c.ok for c in packages] == [False, False, False, True]
    assert "pip install 'numpy>=99'" in packages[0].text
    assert packages[2].required is False


def test_clean(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["clean"]) == 0
    assert "nothing to clean" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    store = Store(tmp_path / "results" / ".store")
    store.begin("0" * 64, keep=False)
    assert main(["clean"]) == 0
    assert "removed 1 " in capsys.readouterr().out


def test_store_from_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEPO_STORE", "elsewhere")
    assert main(["clean"]) == 0
    assert "elsewhere does not exist" in capsys.readouterr().out
    assert main(["clean", "--store", "third"]) == 0
    assert "third does not exist" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--out other", True),
        ("--out other --store results/.store", False),
        ("--out other --quiet", False),
        ("", False),
    ],
)
def test_another_out_has_another_store_and_says_so(
    options: str,
    told: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(prepared: object) -> None:
        raise UserError("stopped")

    monkeypatch.setattr("harness.commands.run.run_prepared", stop)
    (tmp_path / "results" / ".store").mkdir(parents=True)
    assert main(f"run --table 1 {options}".split()) == 2
    hint = (
        "There is nothing in the store other/.store yet; to use what results/.store holds, add "
        "--store results/.store.\n"
    )
    assert capsys.readouterr().err == (hint if told else "") + "Error: stopped\n"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StageError("Stage x failed."), 1, "Error: Stage x failed.\n"),
        (KeyboardInterrupt(), 130, "Interrupted; run the same command again"),
    ],
)
def test_other_endings(
    error: BaseException,
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setattr(upkeep, "listing", fail)
    assert main(["list"]) == code
    shown = capsys.readouterr().err
    assert text in shown
    assert shown.count("\n") == 1


def heed_interrupts() -> None:
    """A process started in the background inherits that Ctrl-C is ignored: undo that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_a_signal_in_the_middle(
    number: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    repository = str(Path(__file__).parents[2])
    arguments = "run --table 1 --methods sft --quiet --set world.documents=500000 --out"
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments.split(), str(tmp_path / "out")],
        cwd=repository,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    partial = tmp_path / "out" / ".store" / "partial"
    for _ in range(12_000):
        if partial.is_dir() and any(len(path.name) == 64 for path in partial.iterdir()):
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert err.count("\n") == 1
    assert word in err
    assert out == ""
    assert not (tmp_path / "out" / "tiny").exists()
