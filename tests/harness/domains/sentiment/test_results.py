from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from harness.config.assign import apply_assignments
from harness.config.profiles import StatisticsSettings
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.sentiment import DOMAIN
from harness.domains.sentiment.frontier import (
    _above_start,
    frontier_cells,
    frontier_of,
)
from harness.domains.sentiment.notes import frontier_notes
from harness.domains.sentiment.pipeline import Graph, build_graph
from harness.domains.sentiment.points import Point, Scored, scored_prompts
from harness.domains.sentiment.profile import SentimentProfile
from harness.domains.sentiment.render.frontier import _draw, frontier_files
from harness.graph.stages import topological
from harness.render.table import table_files
from sparsepo.errors import UserError
from tasks.metrics.chains import ChainValues

REPLICATES = 200


def tiny(*assignments: str) -> SentimentProfile:
    return apply_assignments(DOMAIN.get_profile("tiny"), assignments)


def graph(*assignments: str, figure: str = "figure2") -> Graph:
    experiment = EXPERIMENTS[figure]
    return build_graph(experiment, tiny(*assignments), experiment.rows, {})


def names(of: Graph) -> list[str]:
    return [stage.name for stage in topological(of.targets)]


def changed(*assignments: str) -> set[str]:
    before = {stage.name: stage.address for stage in topological(graph().targets)}
    after = {stage.name: stage.address for stage in topological(graph(*assignments).targets)}
    return {name for name in after if before.get(name) != after[name]}


def test_every_method_runs_over_five_betas_and_all_share_data_model_and_cache() -> None:
    found = names(graph())
    assert len(set(found)) == len(found)
    profile = tiny()
    assert len(profile.sweep.beta) >= 5
    assert len(profile.sweep.simpo_beta) >= 5
    runs = (7 * 5 + 5 * 2 + 1) * profile.seeds
    # Of each chain: reviews, base model, samples, pairs, cache; each run is trained, then scored.
    assert len(found) == 5 * profile.seeds + 2 * runs
    assert sum("reference cache" in name for name in found) == profile.seeds


@pytest.mark.parametrize("figure", ["figure2", "figure3", "figure4"])
def test_chains_share_nothing_that_chance_decides(figure: str) -> None:
    first, second = (
        {
            stage.address
            for stage in topological(graph(f"seed={seed}", "seeds=1", figure=figure).targets)
        }
        for seed in (1, 2)
    )
    assert not first & second


def test_the_figures_have_their_runs_in_common() -> None:
    shared = set(names(graph()))
    for figure in ("figure3", "figure7", "figure4", "figure9"):
        own = set(names(graph(figure=figure))) - shared
        assert all(name.startswith(("ranking", "token maps", "tokens that")) for name in own)


@pytest.mark.parametrize(
    "figure", ["figure1", "figure2", "figure3", "figure4", "figure7", "figure9"]
)
@pytest.mark.parametrize("profile", ["tiny", "small", "paper"])
def test_every_profile_describes_every_figure(figure: str, profile: str) -> None:
    experiment: Experiment = EXPERIMENTS[figure]
    from harness.config.request import RunRequest

    request = RunRequest(profile=profile)
    resolved = DOMAIN.resolve_profile(request)
    built = DOMAIN.build(experiment, resolved, experiment.rows, {}, request)
    assert built.targets


def test_scoring_again_samples_nothing_and_a_methods_value_is_its_own() -> None:
    assert changed("evaluation.kl_limit=5") == set()
    rescored = changed("reward.batch_size=8")
    assert "preference pairs seed 42" in rescored
    assert not any(name.startswith(("reviews", "base model", "samples")) for name in rescored)
    found = changed("methods.dpop.lam=5")
    assert found
    assert all("dpop" in name for name in found)
    assert not any("base model" in name for name in changed("sampling.new_tokens=30"))
    with pytest.raises(UserError, match=r"sampling\.seed is decided by each chain's seed"):
        graph("sampling.seed=7")


def test_a_hub_model_needs_neither_base_model_nor_world() -> None:
    built = graph(
        "model.sentiment=some/gpt2", "data.reviews=some/imdb", "model.reward=some/classifier"
    )
    assert not any("base model" in name for name in names(built))
    trained = built.of("dpo")[0].trained
    assert trained.config["model"] == "some/gpt2"
    assert trained.inputs["reference"].config["model"] == "some/gpt2"
    with pytest.raises(UserError, match="not a model folder"):
        graph("model.sentiment=tests")


def chains(mean: float, spread: float, generator: np.random.Generator) -> ChainValues:
    values = mean + spread * np.array([-1.0, 1.0, 0.0])
    return ChainValues(values, values[:, None] + generator.normal(0, spread, (3, REPLICATES)), 64)


def point(step: int, kl: float, reward: float, beta: float | None = 1.0) -> Point:
    generator = np.random.default_rng(int(100 * abs(kl) + reward))
    gain, cost = chains(reward, 0.5 + step / 16, generator), chains(kl, 1e-9, generator)
    return Point(beta, None, step, gain, cost, 30.0, 0.9)


def points() -> dict[str, list[Point]]:
    return {
        "sft": [point(0, 0.0, 50.0, None)],
        "dpo": [point(0, 1e-7, 50.0), point(8, 1.0, 60.0), point(16, 4.0, 80.0)],
        "tdpo1": [point(0, -1e-7, 50.0), point(8, 2.0, 55.0), point(16, 3.0, 45.0)],
    }


def test_cells_are_the_frontiers_gain_and_volume() -> None:
    found = points()
    dpo = frontier_cells(found["dpo"], tiny(), "sft", found)
    assert dpo["reward_1"].mean == pytest.approx(60.0)
    assert dpo["reward_2"].mean == pytest.approx(60 + 20 / 3)
    assert dpo["reward_5"].mean == dpo["reward_10"].mean == pytest.approx(80.0)
    # From 1 to 4 nats 10 points above the start, from 4 to 10 nats 30.
    assert dpo["hypervolume"].mean == pytest.approx((3 * 10 + 6 * 30) / 10)
    sft = frontier_cells(found["sft"], tiny(), "sft", found)
    assert sft["reward_5"].mean == 50.0
    assert sft["hypervolume"].mean == 0.0
    low, high = dpo["hypervolume"].as_json()["ci95"]
    assert low < dpo["hypervolume"].mean < high


def test_the_last_points_are_compared_with_the_start() -> None:
    found = points()
    settings = StatisticsSettings(replicates=REPLICATES)
    (above,) = _above_start(found["dpo"], settings)
    assert above["significant"]
    assert above["difference"] == pytest.approx(30.0)
    (below,) = _above_start(found["tdpo1"], settings)
    assert not below["significant"]
    assert _above_start(found["sft"], settings) == []


def test_chains_that_end_after_different_steps_share_their_ends() -> None:
    """Pairs are made from samples, so that chains have a few more or fewer of them."""

    def chain(seed: int, *steps: int) -> tuple[Any, dict[str, Any]]:
        measured = [
            {
                "step": step,
                "rewards": [0.5, 0.5 + step / 100],
                "logps": [-1.0 * step, -2.0],
                "ref_logps": [-1.0, -1.0],
                "tokens": 3.0,
                "ended": 1.0,
            }
            for step in steps
        ]
        return SimpleNamespace(beta=0.1, gamma=None, seed=seed), {"points": measured}

    chains = [chain(1, 0, 8, 15), chain(2, 0, 8, 16, 17), chain(3, 0, 8, 16)]
    runs = [run for run, _ in chains]
    scored = Scored(
        {id(run): read for run, read in chains}, {seed: [0, 1] for seed in (1, 2, 3)}, False, 0
    )
    settings = StatisticsSettings(replicates=REPLICATES)
    found = scored.points(runs, settings)
    assert [(point.step, point.reward.chains) for point in found] == [(0, 3), (8, 3), (17, 3)]
    ends = [100 * (0.5 + step / 200) for step in (15, 17, 16)]
    np.testing.assert_allclose(found[-1].reward.values, ends)
    last = scored.last_point(runs, settings)
    assert last.step == 17
    np.testing.assert_allclose(last.kl.values, found[-1].kl.values)


def test_prompts_without_a_score_are_left_out_in_their_chain_and_counted() -> None:
    runs = [
        (1, {"points": [{"rewards": [0.1, None, 0.3]}, {"rewards": [0.1, 0.2, 0.3]}]}),
        (1, {"points": [{"rewards": [0.1, 0.2, None]}]}),
        (2, {"points": [{"rewards": [0.1, 0.2, None]}]}),
    ]
    assert scored_prompts(runs, crossed=False) == ({1: [0], 2: [0, 1]}, 3)
    assert scored_prompts(runs, crossed=True) == ({1: [0], 2: [0]}, 3)
    with pytest.raises(UserError, match="without a finite reward"):
        scored_prompts([(1, {"points": [{"rewards": [None]}]})], crossed=False)
    apart = [(seed, {"points": [{"rewards": r}]}) for seed, r in ((1, [0.1, None]), (2, [None, 1]))]
    with pytest.raises(UserError, match="without a finite reward"):
        scored_prompts(apart, crossed=True)


def figure() -> dict[str, Any]:
    found, profile = points(), tiny()
    labels = {"sft": "SFT", "dpo": "DPO", "tdpo1": "TDPO v1"}
    cells = {name: frontier_cells(own, profile, "sft", found) for name, own in found.items()}
    columns = ["reward_1", "hypervolume"]
    result = {
        "id": "figure2",
        "title": "A frontier",
        "profile": "tiny",
        "columns": columns,
        "column_labels": {"reward_1": "Reward at 1 nats", "hypervolume": "Hypervolume"},
        "rows": [
            {
                "method": name,
                "label": label,
                "values": {column: cells[name][column].as_json() for column in columns},
                "paper": None,
            }
            for name, label in labels.items()
        ],
        "baseline": "dpo",
        "significance": [],
        "kl_limit": 10.0,
        "methods": [
            frontier_of(RowSpec(name, name, label), found[name]) for name, label in labels.items()
        ],
        "above_start": {name: _above_start(own, profile.statistics) for name, own in found.items()},
        "reward_model": "vader",
        "missing_rewards": 3,
        "sampled": {"prompts": {"responses": 1200, "unfinished": 7, "truncated_prompts": 2}},
        "provenance": {
            "git_commit": None,
            "git_dirty": False,
            "model": "tiny-gpt2",
            "hardware": "a machine",
            "versions": {"torch": "2"},
            "statistics": {"alpha": 0.05},
            "data": {"train": {"used": 9, "skipped": {"tie": 2}}, "test": {"used": 4}},
        },
    }
    return {**result, "notes": frontier_notes(result)}


def test_the_picture_shows_every_method_and_its_bytes_repeat() -> None:
    result = figure()
    files = frontier_files(result)
    assert set(files) == {"figure2.png", "figure2.pdf"}
    assert files == frontier_files(result)
    image = matplotlib.image.imread(io.BytesIO(files["figure2.png"]), format="png")
    assert image.shape[0] > 500
    drawn = _draw(result)
    main, *others = drawn.axes
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["SFT", "DPO", "TDPO v1"]
    assert [axis.get_title() for axis in others] == ["DPO", "TDPO v1"]
    # The frontier of TDPO is its start and its one better point.
    lines = {line.get_label(): line for line in main.containers}
    assert list(lines["TDPO v1"][0].get_xdata()) == [0.0, 2.0]
    low, high = main.get_ylim()
    assert low < 45.0
    assert high > 80.0


def test_a_wide_interval_does_not_widen_the_picture() -> None:
    result = figure()
    before = [(axis.get_xlim(), axis.get_ylim()) for axis in _draw(result).axes]
    for method in result["methods"]:
        for point in method["points"]:
            point["kl"]["ci95"] = [-500.0, 500.0]
            point["reward"]["ci95"] = [-900.0, 900.0]
    assert [(axis.get_xlim(), axis.get_ylim()) for axis in _draw(result).axes] == before


def test_the_notes_say_what_was_found() -> None:
    notes = " ".join(figure()["notes"])
    assert "(Holm over a method's settings): 1 of 2 methods (DPO at every setting)." in notes
    assert "do not reach 10 nats (largest KL): DPO 4.0, TDPO v1 3.0" in notes
    assert "without a finite reward, left out: 3" in notes
    assert "7 reached the longest length without an end, 2 prompts lost their beginning" in notes
    assert "train: 2 tie" in notes
    text = table_files(figure())["figure2.md"]
    assert text.startswith("**Figure 2 (tiny profile). A frontier**")
    assert "| DPO | **60.00**" in text


def test_forty_methods_have_room_for_their_names() -> None:
    result = figure()
    one = result["methods"][-1]
    further = [{**one, "id": f"m{i}", "label": f"Method {i}"} for i in range(40)]
    drawn = _draw({**result, "methods": [*result["methods"], *further]})
    drawn.canvas.draw()
    _, *others = drawn.axes
    texts = [axis.title.get_window_extent() for axis in others]
    panels = [axis.get_window_extent() for axis in others]
    assert not any(text.overlaps(panel) for text in texts for panel in panels)
    labels = [axis.xaxis.get_tightbbox() for axis in drawn.axes]
    legend = drawn.legends[0].get_window_extent()
    assert not any(legend.overlaps(label) for label in labels if label is not None)
