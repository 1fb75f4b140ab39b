"""From an empty folder to a row of Table 1: a stranger's method, and a stranger's mask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main
from sparsepo import registry
from sparsepo.cli.main import main as sparsepo_main
from tests.small_table import SMALL

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_plugged_in", {})


@pytest.mark.parametrize("mask", [False, True])
def test_what_is_written_passes_its_checks(
    mask: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--mask"] if mask else []
    assert main(["new-method", "my-idea", "--folder", str(tmp_path / "new"), *options]) == 0
    assert "python -m sparsepo check" in capsys.readouterr().out
    file = tmp_path / "new" / "my_idea.py"
    assert sparsepo_main(["check", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  ok    ") == 11
    assert "my-idea (My idea)" in printed
    assert "FAIL" not in printed


def test_its_test_passes_where_it_is(tmp_path: Path) -> None:
    assert main(["new-method", "my-idea", "--folder", str(tmp_path)]) == 0
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         "test_my_idea.py"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert "11 passed" in found.stdout, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("loss=per_pair.mean()", "loss=per_pair.sum()", "loss is not the mean of per_pair"),
        ("(self.beta * chosen_sum).detach()", "self.beta * chosen_sum", "detach it"),
        ("response_sum(log_ratios(chosen), chosen)", "log_ratios(chosen).sum(-1)", "outside of"),
        ("Needs()", "Needs(kl=True)", "kl is declared in needs and is not read"),
        ("low=0, open_low=True", "", "beta=nan is accepted"),
        ("source: ClassVar[str] = \"the paper and its equation\"", "source: ClassVar[str] = ''",
         "name the paper and the equation"),
        ("(chosen_sum - rejected_sum)", "(rejected_sum - chosen_sum)", "the loss does not fall"),
        ("return LossOutput(", "return LossOutput(oops, ", "it raises NameError"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_remedy(
    old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-method", "my-idea", "--folder", str(tmp_path)]) == 0
    file = tmp_path / "my_idea.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    capsys.readouterr()
    assert sparsepo_main(["check", str(file)]) == 2
    shown = capsys.readouterr()
    failed = [line for line in shown.out.splitlines() if line.startswith("  FAIL")]
    assert any(said in line for line in failed), shown.out
    assert "Checks failed: my-idea" in shown.err
    assert "Traceback" not in shown.out + shown.err


def test_a_file_without_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.py").write_text("")
    assert sparsepo_main(["check", str(tmp_path / "empty.py")]) == 2
    assert "defines no subclass of sparsepo.Method" in capsys.readouterr().err
    assert sparsepo_main(["check", str(tmp_path / "none.py")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("My Method", "use lower-case letters"), ("dpo", "There is a method 'dpo' already"),
     ("-x", "use lower-case letters"), ("../x", "use lower-case letters")],
)  # fmt: skip
def test_names_that_cannot_be_used(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-method", "--folder", str(tmp_path), "--", name]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-method", "my-idea", "--folder", str(tmp_path)]) == 0
    (tmp_path / "my_idea.py").write_text("mine")
    assert main(["new-method", "my-idea", "--folder", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "my_idea.py").read_text() == "mine"


@pytest.mark.slow
def test_a_strangers_method_and_mask_are_rows_and_on_the_leaderboard_and_the_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, options in (("idea", []), ("idea-mask", ["--mask"])):
        assert main(["new-method", name, "--folder", str(tmp_path), *options]) == 0
    plugins = [f"--plugin={tmp_path / file}" for file in ("idea.py", "idea_mask.py")]
    capsys.readouterr()
    assert main(["list", *plugins]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {"idea", "idea-mask"} <= {line.split()[0] for line in listed if line.strip()}
    out = ["--out", str(tmp_path / "out")]
    run = ["run", "--table", "1", "--methods", "sft,dpo,idea,idea-mask", "--seeds", "2"]
    assert main([*run, *plugins, *out, "--quiet", "--set", *SMALL]) == 0
    table = json.loads((tmp_path / "out" / "tiny" / "table1" / "table1.json").read_text())
    rows = {row["id"]: row["values"]["avg"] for row in table["rows"]}
    # The file that is written first has DPO's loss.
    assert rows["idea"]["per_chain"] == rows["dpo"]["per_chain"]
    assert rows["idea-mask"]["seeds"] == 2
    assert main(["leaderboard", "--results", str(tmp_path / "out")]) == 0
    board = json.loads((tmp_path / "out" / "tiny" / "leaderboard" / "leaderboard.json").read_text())
    assert {"idea", "idea-mask"} <= {entry["id"] for entry in board["entries"]}
    site = tmp_path / "site"
    assert main(["report", "--results", str(tmp_path / "out"), "--out", str(site)]) == 0
    labels = {row["id"]: row["label"] for row in table["rows"]}
    for page in ("table1.html", "table1.samples.html", "leaderboard.html"):
        text = (site / "tiny" / page).read_text()
        assert labels["idea"] in text and labels["idea-mask"] in text, page
