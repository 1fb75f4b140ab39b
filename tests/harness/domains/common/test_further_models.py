"""Stages of further models, and what `--methods all` and `list --method` show."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.commands import run
from harness.commands.plan.command import PlanOptions, make_plan_of
from harness.commands.plan.show import plan_lines
from harness.commands.run import left_out, select_rows
from harness.config.request import RunRequest
from harness.domains.common.spec import Experiment
from harness.domains.common.stages import not_provided
from harness.domains.common.work.files import read_pairs_file, write_pairs
from harness.domains.common.work.reverse import reverse_pairs
from harness.domains.dialogue import DOMAIN as DIALOGUE
from harness.domains.dialogue.experiments import TABLE1
from harness.domains.dialogue.pipeline import build_graph
from harness.domains.sentiment.experiments import FIGURE2
from harness.domains.sentiment.experiments import ON_POLICY as ON_POLICY_TABLE
from harness.graph.progress import Display
from harness.graph.stages import StageContext, topological
from sparsepo import UserError
from sparsepo.methods import BUILT_IN
from sparsepo.registry import load_plugin
from tests.small_models import text_pairs

ON_POLICY = {"inpo", "grpo", "f-dpg", "ppo", "rto"}
NOT_HERE = {"odpo", "sppo-soft", "weighted-dpo", *ON_POLICY}


def test_all_adds_every_method_that_can_be_trained() -> None:
    shown = [row.method for row in select_rows(TABLE1, ("all",), {})]
    assert shown[: len(TABLE1.rows)] == [row.method for row in TABLE1.rows]
    assert set(shown) == set(BUILT_IN) - NOT_HERE
    assert {name for name, cls in BUILT_IN.items() if not_provided(cls)} == NOT_HERE
    swept = {row.method for row in select_rows(FIGURE2, ("all",), {})}
    assert "ipo" in swept and "orpo" not in swept and "simper" not in swept


def test_methods_that_all_does_not_add_are_named_with_the_reason() -> None:
    for methods in (None, ("dpo",)):
        assert run.describe(FIGURE2, RunRequest(methods=methods)).left_out == ""
    for_pairs, without_beta = sentence(FIGURE2).split("; ")
    assert for_pairs.startswith("Methods left out of figure2: needing what it does not provide")
    assert set(for_pairs.rpartition(": ")[2].split(", ")) == NOT_HERE
    assert without_beta == "without beta, which it varies: orpo, simper, repo, sepo."
    assert "beta" not in sentence(TABLE1)
    # Rows that an experiment has of its own are not left out.
    assert "grpo" not in sentence(ON_POLICY_TABLE)


def test_a_plug_in_has_a_row_and_is_not_called_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from sparsepo.methods.simper import SimPER\n"
        "@dataclass(frozen=True)\n"
        "class Mine(SimPER):\n"
        "    name = 'mine-without-beta'\n"
        "    title = 'Mine'\n"
    )
    for name in load_plugin(tmp_path / "mine.py"):
        rows = select_rows(FIGURE2, ("all",), {name: tmp_path / "mine.py"})
        assert name in {row.method for row in rows}
        assert name not in left_out(FIGURE2, rows)


def sentence(experiment: Experiment) -> str:
    return left_out(experiment, select_rows(experiment, ("all",), {}))


def test_run_and_plan_say_what_all_leaves_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise UserError("before the first stage")

    notes: list[str] = []
    display = Display()
    monkeypatch.setattr(display, "note", notes.append)
    monkeypatch.setattr(run, "make_all", stop)
    request = RunRequest(store=tmp_path / "store", out=tmp_path, methods=("all",))
    with pytest.raises(UserError, match="before the first"):
        run.run_experiment(FIGURE2, request, display)
    assert notes == [sentence(FIGURE2)]
    assert notes[0] in plan_lines(make_plan_of([FIGURE2], request, PlanOptions()))


def graph_of(*methods: str) -> list[str]:
    profile = DIALOGUE.profiles["tiny"]()
    graph = build_graph(profile, select_rows(TABLE1, methods, {}), {})
    targets = [system.model for systems in graph.systems.values() for system in systems]
    return [stage.name for stage in topological(targets)]


def test_an_oracle_is_the_run_of_dpo_in_the_same_chain() -> None:
    names = graph_of("dpo", "tgdpo")
    assert names.count("dpo seed 42") == 1 and "tgdpo seed 42" in names
    assert not any("reversed" in name for name in names)
    names = graph_of("tis-dpo")
    assert {"dpo seed 42", "reversed pairs seed 42", "dpo on reversed pairs seed 42"} <= set(names)


@pytest.mark.parametrize("method", sorted(NOT_HERE))
def test_what_no_experiment_provides_is_said(method: str) -> None:
    where = "only --table on-policy" if method in ON_POLICY else "no experiment"
    with pytest.raises(UserError, match=f"'{method}' needs .* which {where} provides; leave"):
        graph_of(method)


def test_reversed_pairs(tmp_path: Path) -> None:
    pairs = text_pairs(3)
    (tmp_path / "in").mkdir()
    (tmp_path / "work").mkdir()
    write_pairs(pairs, tmp_path / "in" / "train.jsonl")
    work = tmp_path / "work"
    reverse_pairs(StageContext("r", {}, {"pairs": tmp_path / "in"}, {}, work, lambda *_: None, 1))
    made = read_pairs_file(tmp_path / "work" / "train.jsonl")
    assert [(p.chosen, p.rejected) for p in made] == [(p.rejected, p.chosen) for p in pairs]
    assert not (tmp_path / "work" / "validation.jsonl").exists()


def test_list_shows_a_methods_hyper_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--method", "exo"]) == 0
    shown = capsys.readouterr().out
    for text in ("EXO", "L = p log", "epsilon", "0.001", "less than 0.5", "via TRL"):
        assert text in shown
    assert main(["list", "--method", "odpo"]) == 0
    assert "needs the scores of both responses" in capsys.readouterr().out
    assert main(["list", "--method", "exos"]) == 2
    assert "Did you mean 'exo'?" in capsys.readouterr().err
