"""Every example runs as it is, offline, and does what it says."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from sparsepo.cli.main import main

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = sorted(file for file in (REPOSITORY / "examples").glob("*.py") if file.name != "tiny.py")
EXPECTED = {
    "compare_methods": r"eval_rewards/accuracies\s+dpo \d.*sparsepo-common \d",
    "from_trl": r"eval_loss",
    "online_dpo": r"reward 0\.[12]\d in the first steps, 0\.[3-9]\d in the last",
    "own_method": r"'loss'",
    "sparsepo_lora": r"step \d+: \d+ % of the reward mask.*adapters default in",
    "token_maps": r"log-ratio(.*\n)+.*% of the chosen response's mask values are zero",
    "train_dpo": r"\d+ weights in",
}
"""A part of what each prints."""


@pytest.fixture(autouse=True)
def as_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script finds its neighbours, and writes to the current folder."""
    monkeypatch.syspath_prepend(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [] if file.stem == "compare_methods" else [str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(file), *arguments])
    runpy.run_path(str(file), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.search(EXPECTED[file.stem], printed, re.S), printed
    if arguments:
        assert (tmp_path / "out" / "README.md").is_file()


def test_every_example_is_listed() -> None:
    listed = re.findall(r"\]\((\w+)\.py\)", (REPOSITORY / "examples" / "README.md").read_text())
    assert sorted(listed) == [file.stem for file in EXAMPLES]


@pytest.mark.usefixtures("clean_registry")
def test_the_method_of_the_example_is_a_plugin_too(tmp_path: Path) -> None:
    tiny = importlib.import_module("tiny")

    rows = tmp_path / "pairs.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in tiny.PAIRS))
    command = [
        "train", "--model", tiny.tiny_model(tmp_path / "model"), "--data", str(rows),
        "--plugin", str(REPOSITORY / "examples" / "own_method.py"), "--method", "margin-hinge",
        "--output", str(tmp_path / "out"), "--set", "margin=2", "max_steps=2", "use_cpu=true",
    ]  # fmt: skip
    assert main(command) == 0
    assert "margin: 2" in (tmp_path / "out" / "recipe.yaml").read_text()
