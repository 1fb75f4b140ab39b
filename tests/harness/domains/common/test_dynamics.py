from __future__ import annotations

import io
import math
from typing import Any

import matplotlib.image
import pytest

from harness.domains.common.dynamics import common_steps, panels, quantities, series
from harness.render.dynamics import _draw, dynamics_files
from harness.render.style import ordered_colours


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
        "panels": panels(runs, common),
    }


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


@pytest.mark.parametrize(("common", "count"), [(False, 6), (True, 4)])
def test_every_quantity_has_a_panel_for_chosen_and_rejected(common: bool, count: int) -> None:
    made = result(common)["panels"]
    assert len(made) == count
    assert [panel["response"] for panel in made] == ["chosen", "rejected"] * (count // 2)
    assert [one["beta"] for one in made[0]["series"]] == [0.05, 0.8, 5.0]


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
