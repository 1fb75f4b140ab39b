from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from harness.commands.run import prepare, split_request
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.dynamics import (
    common_steps,
    dynamics_facts,
    panels,
    quantities,
    series,
)
from harness.domains.common.spec import DynamicsSpec, Experiment
from harness.domains.sentiment.experiments import TokenMapFigure
from harness.render.dynamics import _draw, dynamics_files
from harness.render.style import ordered_colours
from sparsepo.errors import UserError


def history(shift: float, common: bool = False) -> list[dict[str, Any]]:
    names = [f"{name}/{side}" for name in quantities(common) for side in ("chosen", "rejected")]
    entries: list[dict[str, Any]] = [
        {"step": step, "loss": 0.6, **{name: shift + math.sqrt(step) for name in names}}
        for step in range(1, 41)
    ]
    return [*entries, {"step": 40, "train_loss": 0.5}]


def result(common: bool = False) -> dict[str, Any]:
    runs = {beta: [history(beta, common), history(beta + 1, common)] for beta in (0.8, 0.05, 5.0)}
    return {
        "id": "figure6",
        "profile": "tiny",
        "heading": "Figure 6 (tiny profile). Masks and token KL during training",
        "panels": panels(runs, common, "chosen"),
    }


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in (axis.title, axis.yaxis.label)]


def test_a_series_is_the_mean_over_the_seeds_that_have_the_entry() -> None:
    found = series(
        [
            [{"step": 1, "kl": 1.0}, {"step": 2, "kl": 5.0}, {"step": 4, "kl": 6.0}],
            [{"step": 1, "kl": 3.0}, {"step": 4, "kl": 8.0}],
        ],
        "kl",
    )
    assert found == {
        "steps": [1, 2, 4],
        "mean": [2.0, 5.0, 7.0],
        "low": [1.0, 5.0, 6.0],
        "high": [3.0, 5.0, 8.0],
        "seeds": 2,
        "per_chain": [[1.0, 5.0, 6.0], [3.0, None, 8.0]],
    }
    assert series([[{"step": 1, "loss": 1.0}]], "kl")["steps"] == []


def test_chains_that_end_at_different_steps_are_compared_at_their_ends() -> None:
    assert common_steps([[0, 8, 16, 24, 31], {24, 16, 8, 0, 32}, [0, 33, 32]]) == [
        {0: 0, 8: 8, 16: 16, 24: 24, 31: 33},
        {0: 0, 8: 8, 16: 16, 24: 24, 32: 33},
        {0: 0, 32: 32, 33: 33},
    ]
    assert common_steps([[], [5]]) == [{}, {5: 5}]
    assert common_steps([]) == []
    history = [[{"step": 30, "kl": 1.0}, {"step": 31, "kl": 2.0}], [{"step": 32, "kl": 4.0}]]
    assert series(history, "kl")["steps"] == [30, 32]
    assert series(history, "kl")["mean"] == [1.0, 3.0]


@pytest.mark.parametrize("response", ["chosen", "rejected"])
@pytest.mark.parametrize("common", [False, True])
def test_every_quantity_has_a_panel_of_its_own_response(common: bool, response: str) -> None:
    other = "rejected" if response == "chosen" else "chosen"
    entries = [
        {"step": 1, f"{name}/{response}": 1.0, f"{name}/{other}": 2.0}
        for name in quantities(common)
    ]
    made = panels({5.0: [entries], 0.8: [entries]}, common, response)
    assert [panel["quantity"] for panel in made] == list(quantities(common))
    assert len(made) == (2 if common else 3)
    for panel in made:
        assert panel["response"] == response
        assert [one["beta"] for one in panel["series"]] == [0.8, 5.0]
        assert all(one["mean"] == [1.0] for one in panel["series"])


def test_figures_of_one_pair_have_the_same_masks_over_chosen_and_rejected_responses() -> None:
    for chosen, rejected in (("figure3", "figure7"), ("figure6", "figure8")):
        specs = [EXPERIMENTS[chosen], EXPERIMENTS[rejected]]
        assert all(isinstance(spec, DynamicsSpec) for spec in specs)
        assert [spec.response for spec in specs] == ["chosen", "rejected"]  # type: ignore[attr-defined]
        assert {spec.rows[0].method for spec in specs} == {"sparsepo-independent"}
        assert all("independent masks" in spec.title for spec in specs)
    maps = [EXPERIMENTS["figure4"], EXPERIMENTS["figure9"]]
    assert all(isinstance(spec, TokenMapFigure) for spec in maps)
    assert [spec.responses for spec in maps] == [("chosen",), ("rejected",)]  # type: ignore[attr-defined]
    for spec in maps:
        assert isinstance(spec, TokenMapFigure)
        assert (spec.pair, spec.quantities) == (0, ("masked_rewards", "masked_kl"))
        assert [row.method for row in spec.rows] == [
            "tdpo1",
            "sparsepo-common",
            "sparsepo-independent",
        ]


def ask(figure: str, *assignments: str, **options: Any) -> Experiment:
    request = RunRequest(assignments=assignments, **options)
    experiment = EXPERIMENTS[figure]
    domain = get_domain(experiment.domain)
    return domain.variant(experiment, domain.resolve_profile(request), request)


@pytest.mark.parametrize("figure", ["figure3", "figure6", "figure7", "figure8"])
def test_the_common_mask_is_a_variant_in_a_folder_of_its_own(figure: str) -> None:
    assert ask(figure) == EXPERIMENTS[figure]
    assert ask(figure, "dynamics.masks=independent") == EXPERIMENTS[figure]
    found = ask(figure, "dynamics.masks=common")
    assert isinstance(found, DynamicsSpec)
    assert found.rows[0].method == "sparsepo-common"
    assert found.rows[1:] == EXPERIMENTS[figure].rows[1:]
    assert "SparsePO's common mask and token KL" in found.title
    prepared = prepare(EXPERIMENTS[figure], RunRequest(assignments=("dynamics.masks=common",)))
    assert prepared.folder == Path("results/tiny") / f"{figure}-common"
    assert {row.method for row in prepared.rows} <= {"sparsepo-common", "dpo"}


def test_a_choice_of_masks_without_effect_is_refused() -> None:
    with pytest.raises(UserError, match=r"dynamics\.masks has no effect on figure2; leave it out"):
        ask("figure2", "dynamics.masks=common")
    with pytest.raises(UserError, match="has no effect on table2"):
        ask("table2", "dynamics.masks=common")
    with pytest.raises(UserError, match="no effect beside --methods"):
        ask("figure3", "dynamics.masks=common", methods=("mapo",))
    with pytest.raises(UserError, match="independent, common"):
        ask("figure3", "dynamics.masks=both")
    # Among several experiments, those without the choice do not get it.
    several = [EXPERIMENTS[name] for name in ("figure2", "figure7")]
    split = split_request(several, RunRequest(assignments=("dynamics.masks=common",)))
    assert [own.assignments for _, own in split] == [(), ("dynamics.masks=common",)]


def test_the_facts_of_a_figure_name_its_masks_and_responses() -> None:
    spec = ask("figure8", "dynamics.masks=common")
    assert isinstance(spec, DynamicsSpec)
    facts = dynamics_facts(spec, spec.rows[0], "tiny", {0.8: [history(0.0, common=True)]})
    assert (facts["masks"], facts["response"]) == ("common", "rejected")
    assert facts["heading"] == (
        "Figure 8 (tiny profile). SparsePO (common), rejected responses: masks and token KL "
        "during training"
    )
    assert [panel["quantity"] for panel in facts["panels"]] == ["sparsity/reward", "kl"]


def test_panels_are_side_by_side_and_both_masks_share_a_scale() -> None:
    figure = _draw(result())
    assert texts(figure) == [
        "Zeros in the reward mask (%)",
        "chosen responses",
        "Zeros in the KL mask (%)",
        "",
        "Token KL (nats)",
        "",
    ]
    reward, kl_mask, kl = figure.axes
    assert reward.get_ylim() == kl_mask.get_ylim()
    assert kl not in reward.get_shared_y_axes().get_siblings(reward)
    # Results of older versions, with both responses, are drawn in two rows.
    both = result()
    both["panels"] = [
        {**panel, "response": response}
        for panel in both["panels"]
        for response in ("chosen", "rejected")
    ]
    assert len(_draw(both).axes) == 6
    assert "rejected responses" in texts(_draw(both))


def test_nothing_of_the_picture_is_clipped_or_covered() -> None:
    figure = _draw(result())
    figure.canvas.draw()
    whole = figure.bbox
    texts = [figure._suptitle, *figure.legends[0].get_texts()]
    for axis in figure.axes:
        texts += [axis.title, axis.xaxis.label, axis.yaxis.label]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for box in boxes:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(axis.get_window_extent()) for axis in figure.axes)


def test_equal_results_give_equal_files() -> None:
    files = dynamics_files(result())
    assert files == dynamics_files(result())
    assert set(files) == {"figure6.png", "figure6.pdf"}
    assert files["figure6.pdf"].startswith(b"%PDF")
    assert matplotlib.image.imread(io.BytesIO(files["figure6.png"])).shape[1] > 1000


def test_betas_have_colours_of_their_own() -> None:
    assert len(set(ordered_colours(8))) == 8
