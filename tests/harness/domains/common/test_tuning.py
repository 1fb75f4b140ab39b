"""Tuned rows: which there are, what their stages record, and which trial is chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.profiles import StatisticsSettings, TrainingSettings
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.cells import Statistic
from harness.domains.common.rows import method_rows
from harness.domains.common.spec import ColumnSpec, RowSpec
from harness.domains.common.table import block_json
from harness.domains.common.tuning import with_tuned_rows
from harness.domains.common.work.choose import best, choose_trial
from harness.domains.common.work.files import MODEL, write_pairs
from harness.domains.common.work.keep import keep_trial
from harness.domains.common.work.outcome import FAILED, Outcome, read_outcome, write_outcome
from harness.domains.common.work.train import train_policy
from harness.domains.common.work.trial import train_trial
from harness.domains.dialogue.experiments import TABLE1
from harness.graph.stages import StageContext
from sparsepo.errors import DivergedError, UserError
from tasks.metrics.chains import ChainValues
from tests.small_models import small_model, small_tokenizer, text_pairs


def done(value: float, kl: float | None = None, second: float | None = None) -> Outcome:
    return Outcome("complete", value=value, kl=kl, second=second)


FAILURE = Outcome("failed", reason="The loss is not finite.")


def context(work: Path, inputs: Mapping[str, Path], **config: Any) -> StageContext:
    work.mkdir(parents=True, exist_ok=True)
    return StageContext("test", config, inputs, {}, work, lambda *_: None, 1)


def test_every_method_has_a_tuned_row_after_the_published_ones() -> None:
    rows = with_tuned_rows(TABLE1, TABLE1.rows)
    assert rows[: len(TABLE1.rows)] == TABLE1.rows
    tuned = rows[len(TABLE1.rows) :]
    assert [row.id for row in tuned] == [f"{row.id}-tuned" for row in TABLE1.rows[1:]]
    assert tuned[0] == RowSpec("dpo-tuned", "dpo", "DPO, tuned", tuned=True)


def test_a_row_without_ranges_is_one_plain_sentence() -> None:
    with pytest.raises(UserError, match="Method 'sft' declares no search_space"):
        with_tuned_rows(EXPERIMENTS["table2"], method_rows("sft"))


def test_three_experiments_have_tuned_rows_and_none_of_them_tunes_its_start() -> None:
    tunable = {name: spec for name, spec in EXPERIMENTS.items() if spec.tunable}
    assert list(tunable) == ["table1", "table2", "figure2"]
    for spec in tunable.values():
        assert set(spec.untuned) <= {row.id for row in (*spec.optional, *spec.rows)}


def test_the_best_trial_has_the_highest_value() -> None:
    assert best({0: done(1.0), 1: done(3.0), 2: done(2.0)}, None) == 1


def test_ties_are_broken_by_the_second_value_and_then_by_the_earlier_trial() -> None:
    assert best({0: done(1.0, second=2.0), 1: done(1.0, second=3.0)}, None) == 1
    assert best({0: done(1.0), 1: done(1.0)}, None) == 0
    assert best({1: done(1.0), 0: done(1.0)}, None) == 0


def test_a_trial_above_the_budget_is_not_chosen() -> None:
    assert best({0: done(1.0, kl=2.0), 1: done(9.0, kl=5.1), 2: done(3.0, kl=5.0)}, 5.0) == 2


def test_without_a_trial_within_the_budget_the_smallest_kl_wins() -> None:
    assert best({0: done(9.0, kl=8.0), 1: done(1.0, kl=6.0), 2: FAILURE}, 5.0) == 1


def test_failed_trials_are_never_chosen() -> None:
    assert best({0: FAILURE, 1: done(-1.0, kl=1.0)}, 5.0) == 1
    assert best({0: FAILURE, 1: FAILURE}, 5.0) is None
    assert best({0: FAILURE}, None) is None


OUTCOMES = st.lists(
    st.one_of(
        st.just(FAILURE),
        st.builds(done, st.floats(0, 100), st.floats(0, 50)),
    ),
    min_size=1,
    max_size=8,
)


@given(outcomes=OUTCOMES, budget=st.floats(0.1, 50))
def test_nothing_within_the_budget_is_better_than_what_is_chosen(
    outcomes: list[Outcome], budget: float
) -> None:
    chosen = best(dict(enumerate(outcomes)), budget)
    complete = [one for one in outcomes if one.state == "complete"]
    if chosen is None:
        assert not complete
        return
    kept = outcomes[chosen]
    assert kept.kl is not None
    assert kept.value is not None
    for one in complete:
        assert one.kl is not None
        assert one.value is not None
        if kept.kl > budget:
            assert one.kl >= kept.kl
        elif one.kl <= budget:
            assert one.value <= kept.value


def measured(folder: Path, outcome: Outcome) -> Path:
    run = folder / "run"
    run.mkdir(parents=True)
    write_outcome(context(folder, {"run": run}), lambda: outcome)
    return folder


def test_the_choice_names_the_trial_and_what_it_changes(tmp_path: Path) -> None:
    inputs = {
        "0": measured(tmp_path / "0", done(50.0, kl=1.0)),
        "1": measured(tmp_path / "1", done(60.0, kl=2.0)),
    }
    stage = context(
        tmp_path / "choice", inputs, row="DPO", kl_budget=5.0, settings=[{}, {"beta": 0.3}]
    )
    choose_trial(stage)
    choice = json.loads((stage.work / "choice.json").read_text())
    assert choice == {"chosen": 1, "settings": {"beta": 0.3}}
    runs = {}
    for name in "01":
        runs[name] = tmp_path / f"run{name}"
        (runs[name] / MODEL).mkdir(parents=True)
        (runs[name] / MODEL / "weights").write_text(name)
        (runs[name] / "stage.json").write_text("{}")
        (runs[name] / "training.json").write_text(name)
    kept = context(tmp_path / "kept", {"choice": stage.work, **runs})
    keep_trial(kept)
    assert (kept.work / MODEL / "weights").samefile(runs["1"] / MODEL / "weights")
    assert {path.name for path in kept.work.iterdir()} == {MODEL, "training.json"}


def test_a_row_whose_trials_all_fail_is_one_plain_sentence(tmp_path: Path) -> None:
    inputs = {name: measured(tmp_path / name, FAILURE) for name in "01"}
    stage = context(tmp_path / "choice", inputs, row="DPO", kl_budget=None, settings=[{}, {}])
    with pytest.raises(
        UserError, match=r"^All 2 trials of DPO failed, the first because: The loss .* finite\.$"
    ):
        choose_trial(stage)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_measurement_that_is_not_finite_is_a_failure(tmp_path: Path, number: float) -> None:
    outcome = read_outcome(measured(tmp_path, done(1.0, kl=number)))
    assert outcome.state == "failed"
    assert outcome.value is None


def test_a_model_that_cannot_be_sampled_is_a_failure(tmp_path: Path) -> None:
    def measure() -> Outcome:
        raise DivergedError("The model gives probabilities that are not finite.")

    (tmp_path / "run").mkdir()
    stage = context(tmp_path / "trial", {"run": tmp_path / "run"})
    write_outcome(stage, measure)
    assert read_outcome(stage.work) == Outcome(
        "failed", reason="The model gives probabilities that are not finite."
    )


def test_other_mistakes_still_stop_the_run(tmp_path: Path) -> None:
    def measure() -> Outcome:
        raise UserError("The reward model is missing.")

    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="missing"):
        write_outcome(context(tmp_path / "trial", {"run": tmp_path / "run"}), measure)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], dict[str, Any]]:
    """Inputs and configuration of a training run that takes a second."""
    folder = tmp_path_factory.mktemp("training")
    small_model("gpt2").save_pretrained(folder / "start" / MODEL)
    small_tokenizer().save_pretrained(folder / "start" / MODEL)
    (folder / "pairs").mkdir()
    write_pairs(text_pairs(8), folder / "pairs" / "train.jsonl")
    settings = TrainingSettings(
        learning_rate=1e-3,
        epochs=2,
        batch_size=4,
        device_batch_size=4,
        max_length=48,
        max_prompt_length=32,
        warmup=0.0,
        max_grad_norm=0.0,
        logging_steps=1,
    )
    config = {
        "method": "dpo",
        "hyper_parameters": {"beta": 0.1},
        "training": asdict(settings),
        "seed": 1,
        "device": "cpu",
        "model": None,
    }
    return {"pairs": folder / "pairs", "model": folder / "start"}, config


def test_a_trial_that_diverges_is_recorded_and_leaves_no_model(
    training: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path
) -> None:
    inputs, config = training
    absurd = {**config, "training": {**config["training"], "learning_rate": 1e30}}
    stage = context(tmp_path / "run", inputs, **absurd)
    train_trial(stage)
    assert [path.name for path in stage.work.iterdir()] == [FAILED]
    assert "not finite" in json.loads((stage.work / FAILED).read_text())["reason"]

    def measure() -> Outcome:
        raise AssertionError("there is no model to measure")

    after = context(tmp_path / "trial", {"run": stage.work})
    write_outcome(after, measure)
    assert read_outcome(after.work).state == "failed"
    # As published, the same run is an error of its own.
    with pytest.raises(DivergedError, match="not finite"):
        train_policy(context(tmp_path / "published", inputs, **absurd))


def test_a_trial_that_learns_writes_what_the_published_run_would(
    training: tuple[dict[str, Path], dict[str, Any]], tmp_path: Path
) -> None:
    inputs, config = training
    trial, run = (context(tmp_path / name, inputs, **config) for name in ("trial", "run"))
    train_trial(trial)
    train_policy(run)
    assert (trial.work / "training.json").read_bytes() == (run.work / "training.json").read_bytes()


def cells(rows: tuple[RowSpec, ...]) -> dict[str, dict[str, Statistic]]:
    rng = np.random.default_rng(0)
    return {
        row.id: {"avg": Statistic(ChainValues(rng.normal(size=4), rng.normal(size=(4, 5)), 9))}
        for row in rows
    }


def test_tuned_rows_are_compared_with_each_other_and_leave_the_published_ones_alone() -> None:
    own = method_rows("sft", "dpo", "simpo")
    rows = with_tuned_rows(TABLE1, own)
    columns = (ColumnSpec("avg", "Avg"),)
    values = cells(rows)
    settings = StatisticsSettings()
    without = block_json(
        own, columns, {row.id: values[row.id] for row in own}, settings, baselines=("dpo",)
    )
    both = block_json(rows, columns, values, settings, baselines=("dpo",))
    assert both["rows"][:3] == without["rows"]
    assert both["detectable"] == without["detectable"]
    compared = {(entry["row"], entry["baseline"]) for entry in both["significance"]}
    assert compared == {("sft", "dpo"), ("simpo", "dpo"), ("simpo-tuned", "dpo-tuned")}
    assert both["significance"][:2] == without["significance"]
    assert both["rows"][3]["baseline"] == "dpo-tuned"


def test_tuned_rows_are_compared_with_a_baseline_that_is_never_tuned() -> None:
    rows = with_tuned_rows(
        EXPERIMENTS["table2"], (RowSpec("base", "base", "Base"), *method_rows("dpo", "mapo"))
    )
    found = block_json(
        rows,
        (ColumnSpec("avg", "Avg"),),
        cells(rows),
        StatisticsSettings(),
        baselines=("base", "dpo"),
    )
    compared = {(entry["row"], entry["baseline"]) for entry in found["significance"]}
    assert compared == {
        ("dpo", "base"),
        ("mapo", "base"),
        ("base", "dpo"),
        ("mapo", "dpo"),
        ("dpo-tuned", "base"),
        ("mapo-tuned", "base"),
        ("mapo-tuned", "dpo-tuned"),
    }
    assert [row.get("baseline") for row in found["rows"]] == [None] * 3 + ["base"] * 2
