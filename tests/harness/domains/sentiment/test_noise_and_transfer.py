"""The checks beyond the paper, from the command to their files: label noise, transferred masks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.config.assign import apply_assignments
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.spec import RowSpec
from harness.domains.sentiment import DOMAIN
from harness.domains.sentiment.experiments import NOISE, TRANSFER, TransferRow
from harness.domains.sentiment.pipeline import Graph, Run, build_graph
from harness.domains.sentiment.render.noise import _draw, noise_files
from harness.domains.sentiment.work.mask_controls import shuffle
from harness.graph.stages import topological
from sparsepo.data.token_masks import TokenMask
from sparsepo.errors import UserError
from tests.small_sentiment import SMALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that the tests of this file share."""
    return tmp_path_factory.mktemp("checks")


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a table by its command, and return its JSON and the names of all stages."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})

    def run(table: str, methods: str, *more: str) -> tuple[dict[str, Any], dict[str, Any]]:
        where = ["--store", str(folder / "store"), "--out", str(folder / "out")]
        options = ["--methods", methods, "--seeds", "1", "--workers", "1", "--quiet"]
        assert main(["run", "--table", table, *options, *where, "--set", *SMALL, *more]) == 0
        made = folder / "out" / "tiny" / table
        timings = json.loads((made / "timings.json").read_text())
        return json.loads((made / f"{table}.json").read_text()), timings["seconds"]

    return run


def test_noise_from_the_command_to_its_files(run: Any, folder: Path) -> None:
    result, stages = run("noise", "sft,dpo,sparsepo-independent", "noise.shares=0.25,0")
    assert result["columns"] == ["reward_0", "reward_25", "decline", "kl_0", "kl_25"]
    rows = {row["id"]: row["values"] for row in result["rows"]}
    assert rows["sft"]["reward_0"] == rows["sft"]["reward_25"]
    assert rows["sft"]["decline"] is None
    for row in ("dpo", "sparsepo-independent"):
        first, last = (rows[row][column]["mean"] for column in ("reward_0", "reward_25"))
        assert rows[row]["decline"]["mean"] == pytest.approx(first - last, abs=1e-5)
        # Training with other pairs is another training.
        assert rows[row]["kl_0"]["mean"] != rows[row]["kl_25"]["mean"]
    supplement = result["supplement"]
    assert [row["id"] for row in supplement["rows"]] == ["dpo", "sparsepo-independent"]
    assert all(row["values"]["auroc_25"]["n"] == 12 for row in supplement["rows"])
    (flipped,) = result["flipped"]
    assert flipped["pairs"] == int(0.25 * flipped["of"] + 0.5)
    assert sum(name.endswith("25 % flipped") for name in stages) == 8
    assert {file.suffix for file in (folder / "out/tiny/noise").glob("noise.*")} == {
        *(f".{kind}" for kind in ("json", "md", "csv", "tex", "png", "pdf", "gz"))
    }
    text = (folder / "out/tiny/noise/noise.md").read_text()
    assert text.startswith("**Noise (tiny profile). Label noise")
    assert f"first chain: {flipped['pairs']} of {flipped['of']}" in text


def test_transfer_from_the_command_to_its_files(run: Any, folder: Path) -> None:
    methods = "tdpo1,same-independent,other-common,shuffled-independent,oracle"
    result, stages = run("transfer", methods, "evaluation.kl_budgets=1")
    assert result["columns"] == ["reward", "kl", "reward_1", "auroc"]
    rows = {row["id"]: row["values"] for row in result["rows"]}
    assert rows["oracle"]["auroc"]["mean"] == 100
    assert rows["tdpo1"]["auroc"] is None
    baselines = {entry["baseline"] for entry in result["significance"]}
    assert baselines == {"tdpo1", "shuffled-independent"}
    with_shuffled = {
        entry["row"] for entry in result["significance"] if entry["baseline"] != "tdpo1"
    }
    assert with_shuffled == {"same-independent"}
    # Each source is a model of its own, and none of them is evaluated.
    assert sum(name.startswith("base model") for name in stages) == 3
    assert not any("of the same architecture" in name and "reward" in name for name in stages)
    # Shuffled values are the same values, on other tokens.
    store = folder / "store"
    found = {
        name: store / json.loads(file.read_text())["address"]
        for file in store.glob("*/stage.json")
        for name in [json.loads(file.read_text())["name"]]
    }
    kept, shuffled = (
        read(found[f"masks of sparsepo-independent{end} seed 42"])
        for end in (" of the same architecture", ", shuffled,")
    )
    assert kept.keys() == shuffled.keys()
    for pair_id, row in kept.items():
        other = shuffled[pair_id]
        for name in ("reward_mask", "kl_mask"):
            for side in ("chosen", "rejected"):
                assert sorted(row[name][side]) == sorted(other[name][side])
    assert kept != shuffled
    assert "No difference" in " ".join(result["notes"]) or "One chain" in " ".join(result["notes"])


def read(folder: Path) -> dict[str, Any]:
    rows = map(json.loads, (folder / "masks.jsonl").read_text().splitlines())
    return {row["pair_id"]: row for row in rows}


def graph(experiment: str, *assignments: str, rows: tuple[str, ...] | None = None) -> Graph:
    profile = apply_assignments(DOMAIN.get_profile("tiny"), ("seeds=1", *assignments))
    spec = EXPERIMENTS[experiment]
    shown = tuple(row for row in spec.rows if rows is None or row.id in rows)
    return build_graph(spec, profile, shown, {})


def trained(runs: list[Run]) -> set[str]:
    return {run.trained.address for run in runs}


def test_without_flipped_pairs_the_runs_are_those_of_figures_2_and_3() -> None:
    clean = [run for run in graph("noise").runs if not run.flipped]
    assert len(clean) == 9
    figure2 = {stage.address for stage in topological(graph("figure2").targets)}
    assert trained(clean) <= figure2
    assert {run.points.address for run in clean if run.points} <= figure2
    figure3 = {stage.address for stage in topological(graph("figure3").targets)}
    ranked = [r.rankings for r in clean if r.row.id in ("dpo", "sparsepo-independent")]
    assert {stage.address for stage in ranked if stage} <= figure3


def test_stages_of_a_check_have_names_of_their_own() -> None:
    for experiment in ("noise", "transfer"):
        names = [stage.name for stage in topological(graph(experiment).targets)]
        assert len(set(names)) == len(names)


def test_a_flipped_share_changes_the_training_and_neither_prompts_nor_held_out_pairs() -> None:
    built = graph("noise", rows=("dpo",))
    clean, *noisy = built.of("dpo")
    assert [run.flipped for run in noisy] == [0.1, 0.2, 0.3]
    for run in noisy:
        assert run.trained.inputs["pairs"].inputs["pairs"] is built.pairs[0]
        assert run.points is not None and clean.points is not None
        assert run.points.inputs["pairs"] is clean.points.inputs["pairs"]
        assert run.trained.inputs["reference"].address != clean.trained.inputs["reference"].address
    assert len(trained([clean, *noisy])) == 4


def test_learned_masks_and_tdpo_of_transfer_are_figure_2s_runs() -> None:
    figure2 = {stage.address for stage in topological(graph("figure2").targets)}
    built = graph("transfer")
    for row in ("sft", "dpo", "tdpo1", "own-independent", "own-common"):
        assert trained(built.of(row)) <= figure2
    given = [row for row in TRANSFER.rows if isinstance(row, TransferRow) and row.given]
    assert len(given) == 9
    masks = {built.of(row.id)[0].trained.inputs["masks"].address for row in given}
    assert len(masks) == 9


def test_a_frozen_mask_is_read_off_the_run_that_learned_it() -> None:
    built = graph("transfer")
    (own,), (frozen,) = built.of("own-common"), built.of("frozen-common")
    assert frozen.trained.inputs["masks"].inputs["run"].address == own.trained.address
    same, other = (built.of(f"{source}-common")[0].trained for source in ("same", "other"))
    models = [stage.inputs["masks"].inputs["model"].config for stage in (same, other)]
    target = built.of("dpo")[0].trained.inputs["model"].config
    assert models[0] == target | {"seed": 1_000_042}
    assert models[1] == target | {"architecture": "gpt_neox"}


def test_real_pairs_have_no_oracle(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}\n")
    built = graph("transfer", f"data.pairs={file}")
    assert built.of("oracle") == []
    assert all(run.rankings is None for run in built.runs)
    assert graph("noise", f"data.pairs={file}").of("dpo")


@pytest.mark.parametrize(
    ("experiment", "rows", "change", "message"),
    [
        ("noise", None, "noise.shares=0,0.5", "from 0 to below 0.5"),
        ("noise", None, "noise.shares=-0.1", "from 0 to below 0.5"),
        ("noise", None, "noise.shares=0.1,0.1", "one or more different shares"),
        ("noise", None, "sweep.map_beta=3", "not among sweep.beta"),
        ("transfer", ("dpo", "tdpo1"), "seed=1", "name at least one of its masked rows"),
        ("transfer", None, "transfer.other_architecture=gpt2", "choose another one"),
        ("transfer", None, "model.sentiment=a/b", "transfer.same_model: name a model"),
        ("transfer", None, "transfer.same_model=absent.txt", "transfer.same_model: absent.txt"),
    ],
)
def test_mistakes_are_found_before_anything_is_run(
    experiment: str, rows: tuple[str, ...] | None, change: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        graph(experiment, change, rows=rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--table noises", "Unknown table noises. Did you mean 'noise'?"),
        ("--figure noise", "noise is a table; give --table noise."),
        ("--table transfer --methods same-comon", "Did you mean 'same-common'?"),
    ],
)
def test_names_are_explained(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


@given(
    st.lists(st.floats(0, 9), min_size=1, max_size=12),
    st.lists(st.floats(0, 9), min_size=1, max_size=12),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_shuffling_keeps_a_responses_values_and_reward_and_kl_together(
    chosen: list[float], rejected: list[float], seed: int
) -> None:
    doubled = ([2 * value for value in chosen], [2 * value for value in rejected])
    mask = TokenMask("p", (chosen, rejected), doubled)
    found = shuffle(mask, np.random.default_rng(seed))
    assert found.kl_mask is not None
    for place, values in enumerate((chosen, rejected)):
        assert sorted(found.reward_mask[place]) == sorted(values)
        assert found.kl_mask[place] == [2 * value for value in found.reward_mask[place]]
    without = shuffle(replace(mask, kl_mask=None), np.random.default_rng(seed))
    assert without == replace(found, kl_mask=None)


def noise_result(shares: tuple[float, ...]) -> dict[str, Any]:
    def cell(mean: float) -> dict[str, Any]:
        return {"mean": mean, "ci95": [mean - 3, mean + 3], "n": 9, "seeds": 2}

    def rows(quantity: str) -> list[dict[str, Any]]:
        return [
            {
                "id": id,
                "label": label,
                "values": {f"{quantity}_{s:g}": cell(50 + place - s) for s in shares},
            }
            for place, (id, label) in enumerate({"dpo": "DPO", "mapo": "MaPO"}.items())
        ]

    return {
        "id": "noise",
        "profile": "tiny",
        "beta": 0.8,
        "reward_model": "vader",
        "shares": [
            {"share": s, "reward": f"reward_{s:g}", "auroc": f"auroc_{s:g}"} for s in shares
        ],
        "rows": rows("reward"),
        "supplement": {"rows": rows("auroc")},
    }


@pytest.mark.parametrize("shares", [(0.0, 10.0, 30.0), (20.0,)])
def test_the_picture_has_a_line_per_method_over_the_shares(shares: tuple[float, ...]) -> None:
    result = noise_result(shares)
    drawn = _draw(result)
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["DPO", "MaPO"]
    for axis in drawn.axes:
        assert len(axis.containers) == 2
        for place, container in enumerate(axis.containers):
            assert list(container[0].get_ydata()) == [50 + place - s for s in shares]
            assert np.allclose(container[0].get_xdata(), shares, atol=2)
    assert set(noise_files(result)) == {"noise.png", "noise.pdf"}
    assert noise_files(result) == noise_files(result)


def test_the_checks_rows_are_the_papers_methods_and_sources_of_masks() -> None:
    assert all(type(row) is RowSpec for row in NOISE.rows)
    sources = [row.mask for row in TRANSFER.rows if isinstance(row, TransferRow)]
    assert sources.count("shuffled") == 2 and sources.count("oracle") == 1
