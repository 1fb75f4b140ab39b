"""What can be asked for with --tune, and that nothing changes without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.commands.run import Prepared, prepare, split_request
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.stages import topological
from sparsepo.errors import UserError

TUNABLE = ("table1", "table2", "figure2")


def prepared(name: str, tmp_path: Path, **changes: Any) -> Prepared:
    request = RunRequest(out=tmp_path / "out", store=tmp_path / "store", **changes)
    return prepare(EXPERIMENTS[name], request)


def addresses(of: Prepared) -> dict[str, str]:
    return {stage.name: stage.address for stage in topological(of.graph.targets)}


@pytest.mark.parametrize("name", TUNABLE)
def test_the_published_rows_are_the_same_stages_with_and_without_tuned_ones(
    name: str, tmp_path: Path
) -> None:
    without = addresses(prepared(name, tmp_path))
    tuned = addresses(prepared(name, tmp_path, tune=3))
    assert set(without.values()) < set(tuned.values())
    assert not any("trial" in stage or "validation of" in stage for stage in without)
    more = addresses(prepared(name, tmp_path, tune=4))
    # The trials that there are stay; each row and chain has one more.
    assert {key for key in tuned if ", trial " in key} < {key for key in more if ", trial " in key}
    for key in more:
        if key in tuned and ", trial " in key:
            assert more[key] == tuned[key]


@pytest.mark.parametrize("name", TUNABLE)
def test_every_method_has_as_many_trials_in_every_chain(name: str, tmp_path: Path) -> None:
    graph = prepared(name, tmp_path, tune=3, seeds=2).graph
    rows = [row.id for row in EXPERIMENTS[name].rows if row.id not in EXPERIMENTS[name].untuned]
    assert list(graph.searches) == [f"{row}-tuned" for row in rows]
    for searches in graph.searches.values():
        assert [one.seed for one in searches] == [42, 43]
        assert all(len(one.attempts) == 3 for one in searches)


def test_the_names_of_stages_are_unique(tmp_path: Path) -> None:
    for name in TUNABLE:
        stages = topological(prepared(name, tmp_path, tune=3).graph.targets)
        assert len({stage.name for stage in stages}) == len(stages)


def test_the_first_trial_of_table_1_is_the_published_run(tmp_path: Path) -> None:
    graph = prepared("table1", tmp_path, tune=2, seeds=1).graph
    for row, (search,) in graph.searches.items():
        published = graph.systems[row.removesuffix("-tuned")][0].model
        assert search.attempts[0].run.address == published.address


def test_no_problem_of_table_2_decides_its_tuned_rows(tmp_path: Path) -> None:
    graph = prepared("table2", tmp_path, tune=2, seeds=1).graph
    for (search,) in graph.searches.values():
        for stage in topological([search.choice]):
            if "sampling" in stage.config:
                assert set(stage.config["sampling"]["samples"]) == {"mbpp_validation"}
            assert "tuning verdicts" not in stage.name


def test_with_the_users_solutions_the_validation_problems_are_read_alone(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    assignments = (f"data.answers={tmp_path / 'answers'}",)
    graph = prepared("table2", tmp_path, tune=2, seeds=1, assignments=assignments).graph
    stages = {stage.name: stage for stage in topological(graph.targets)}
    assert stages["validation problems seed 42"].config["sets"] == ["mbpp_validation"]
    assert "mbpp_validation" not in stages["problems seed 42"].config["sets"]


def test_the_sweep_of_figure_2_stays_and_its_trials_have_one_beta(tmp_path: Path) -> None:
    graph = prepared("figure2", tmp_path, tune=3, seeds=1).graph
    for row, (search,) in graph.searches.items():
        own, tuned = graph.of(row.removesuffix("-tuned")), graph.of(row)
        assert [(one.beta, one.gamma) for one in own] == [(one.beta, one.gamma) for one in tuned]
        betas = {one.run.config["hyper_parameters"]["beta"] for one in search.attempts}
        assert betas == ({2.0} if row == "simpo-tuned" else {0.8})
        assert all("beta" not in one.trial.values for one in search.attempts)
        assert all(one.trained.inputs["choice"] is search.choice for one in tuned)


def test_the_profiles_number_of_trials_is_the_default(tmp_path: Path) -> None:
    found = prepared("table1", tmp_path, tune="profile", assignments=("tuning.trials=5",))
    assert found.profile.tuning.trials == 5


def test_a_tuned_result_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert prepared("table1", tmp_path).folder.name == "table1"
    assert prepared("table1", tmp_path, tune=2).folder.name == "table1-tuned"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("table1", {"tune": 0}, "--tune must be at least 1 trial, not 0"),
        ("table1", {"tune": -3}, "--tune must be at least 1 trial, not -3"),
        ("table1", {"tune": "profile", "assignments": ("tuning.trials=0",)}, "at least 1, not 0"),
        ("table1", {"tune": 2, "assignments": ("tuning.kl_budget=0",)}, "must be above 0 or none"),
        ("table1", {"tune": 2, "assignments": ("tuning.criterion=luck",)}, "one of win_rate"),
        ("table1", {"assignments": ("tuning.trials=4",)}, "has no effect without --tune"),
        ("table2", {"assignments": ("tuning.validation_samples=4",)}, "no effect without --tune"),
        ("table2", {"tune": 2, "assignments": ("tuning.validation_samples=4",)}, "at least 10"),
        ("table2", {"tune": 2, "assignments": ("tuning.kl_budget=5",)}, "no KL of programs"),
        ("figure3", {"tune": 2}, "figure3 has no tuned rows"),
    ],
)
def test_a_wrong_request_is_one_plain_sentence(
    name: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words) as error:
        prepared(name, tmp_path, **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "tiny").exists()


def test_real_dialogues_and_ready_made_pairs_alone_cannot_be_tuned_with(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n")
    with pytest.raises(UserError, match="the rule judge knows"):
        prepared("table1", tmp_path, tune=2, assignments=(f"data.hh_rlhf={file}",))
    with pytest.raises(UserError, match="cut from reviews"):
        prepared("figure2", tmp_path, tune=2, assignments=(f"data.pairs={file}",))


def test_of_all_experiments_those_with_tuned_rows_are_tuned(tmp_path: Path) -> None:
    request = RunRequest(tune=2, assignments=("tuning.trials=2", "po.epochs=1"))
    split = split_request(list(EXPERIMENTS.values()), request)
    for experiment, own in split:
        assert (own.tune == 2) is experiment.tunable
        assert ("tuning.trials=2" in own.assignments) is experiment.tunable


def test_a_plug_in_without_ranges_is_named_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from sparsepo.methods.dpo import DPO\n"
        "@dataclass(frozen=True)\n"
        "class Mine(DPO):\n"
        "    name = 'mine'\n"
        "    title = 'Mine'\n"
        "    search_space = {}\n"
    )
    command = ["run", "--table", "1", "--tune", "--plugin", str(plugin), "--out", str(tmp_path)]
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.err == (
        "Error: Method 'mine' declares no search_space and cannot be tuned; declare its ranges "
        "(docs/tuning.md), or leave it out with --methods.\n"
    )
    assert main(["run", "--table", "1", "--tune", "0", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "Error: --tune must be at least 1 trial, not 0.\n"
