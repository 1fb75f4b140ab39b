"""The example plug-in package, installed as a user would, and a plug-in from a single file."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_table import SMALL

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "tests" / "plugin_pkg"

PROBE = """
import json, torch, sparsepo
from sparsepo.registry import method_origin
cls = sparsepo.available_methods()["squared-margin"]
method = sparsepo.get_method("squared-margin", beta=0.25)
def stats(policy, reference):
    return sparsepo.TokenStats(
        policy_logps=torch.tensor([policy]), ref_logps=torch.tensor([reference]), kl=None,
        response_mask=torch.ones(1, len(policy), dtype=torch.bool))
out = method(stats([-1.0, -2.0], [-2.0, -4.0]), stats([-3.0, -1.0, -2.0], [-2.0, -2.0, -1.0]))
print(json.dumps([cls.__module__, method_origin("squared-margin"), out.loss.item(),
                  out.chosen_rewards.item(), list(sparsepo.available_methods())]))
"""


def run(*arguments: str, target: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(REPOSITORY)] if target is None else [str(target), str(REPOSITORY)]
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=target or REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package into a folder of its own, without the network."""
    pytest.importorskip("hatchling", reason="the development extra builds the example package")
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    result = run("-m", "pip", "install", *options, str(target), str(PACKAGE))
    assert result.returncode == 0, result.stderr
    return target


def test_an_installed_package_adds_its_method(installed: Path) -> None:
    result = run("-c", PROBE, target=installed)
    assert result.returncode == 0, result.stderr
    module, origin, loss, reward, names = json.loads(result.stdout)
    assert module == "sparsepo_squared"
    assert origin == "package sparsepo-squared"
    # Sums of the log-ratios: 3 chosen, -1 rejected; target 1/(2·0.25) = 2.
    assert math.isclose(loss, (3 + 1 - 2) ** 2, abs_tol=1e-6)
    assert math.isclose(reward, 0.25 * 3, abs_tol=1e-6)
    assert names[0] == "sft"
    assert names[-1] == "squared-margin"


def test_without_the_package_there_is_no_such_method() -> None:
    result = run("-c", "import sparsepo; sparsepo.get_method('squared-margin')")
    assert result.returncode != 0
    assert "Unknown method 'squared-margin'" in result.stderr


def test_the_installed_method_is_listed_by_the_harness(installed: Path) -> None:
    result = run("-m", "harness", "list", target=installed)
    assert result.returncode == 0, result.stderr
    assert "squared-margin" in result.stdout.split()
    assert "sparsepo-squared" in result.stdout


def test_the_installed_method_is_a_row_of_table_1(installed: Path, tmp_path: Path) -> None:
    command = [
        "-m",
        "harness",
        "run",
        "--table",
        "1",
        "--methods",
        "sft,squared-margin",
        "--seeds",
        "1",
    ]
    result = run(*command, "--out", str(tmp_path), "--set", *SMALL, target=installed)
    assert result.returncode == 0, result.stderr
    table = json.loads((tmp_path / "tiny" / "table1" / "table1.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["sft", "squared-margin"]
    row = table["rows"][1]
    assert row["label"] == "Squared margin"
    assert row["paper"] is None
    assert row["values"]["avg"]["seeds"] == 1
    assert "Squared margin" in result.stdout


def test_a_single_file_is_a_plugin_too() -> None:
    code = (
        "import sparsepo;"
        f"print(sparsepo.load_plugin({str(PACKAGE / 'sparsepo_squared' / '__init__.py')!r}),"
        "sparsepo.get_method('squared-margin', beta=0.5))"
    )
    result = run("-c", code)
    assert result.stdout.strip() == "['squared-margin'] SquaredMargin(beta=0.5)", result.stderr
