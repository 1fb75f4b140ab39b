"""How well masks find the decisive tokens, against the training step, for Figures 3 and 7."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.render.style import SERIES_MARKERS, new_figure, ordered_colours, save

_PANELS = {
    "reward_mask": "Mask on the rewards",
    "kl_mask": "Mask on the KL",
    "log_ratios": "DPO's token reward, its size",
}
_LINES = {"random": ("random mask", ":"), "expected": ("reference's expectation", "--")}


def ranking_files(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw AUROC and average precision against the training step; return file name → PNG or PDF.

    Args:
        result: the JSON of Figure 3 or 7.
    """
    figure = _draw(result)
    return {f"{result['id']}_ranking.{form}": save(figure, form) for form in ("png", "pdf")}


def _draw(result: Mapping[str, Any]) -> Any:
    entries = result["ranking"]
    # A common mask has one panel.
    scores = [score for score in _PANELS if any(entry["score"] == score for entry in entries)]
    columns = {"auroc": "AUROC (%)", "average_precision": "Average precision (%)"}
    figure = new_figure(2.2 + 2.9 * len(scores), 5.6)
    axes = figure.subplots(2, len(scores), squeeze=False, sharex=True, sharey="row")
    betas = sorted({entry["beta"] for entry in entries if entry["beta"] is not None})
    colours = dict(zip(betas, ordered_colours(len(betas)), strict=True))
    for row, (column, label) in enumerate(columns.items()):
        for place, score in enumerate(scores):
            axis = axes[row][place]
            for index, beta in enumerate(betas):
                _draw_series(axis, entries, score, column, beta, colours[beta], index)
            for name, (text, line) in _LINES.items():
                level = next(entry[column]["mean"] for entry in entries if entry["score"] == name)
                axis.axhline(level, color="#555555", linestyle=line, linewidth=1.1, label=text)
            axis.grid(alpha=0.25)
            if row == 0:
                axis.set_title(_title(score, len(scores)), fontsize=9.5)
            else:
                axis.set_xlabel("Training step", fontsize=9)
            if place == 0:
                axis.set_ylabel(label, fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", frameon=False, fontsize=8)
    number = result["id"].removeprefix("figure")
    figure.suptitle(
        f"Beside Figure {number}, {result['profile']} profile: which tokens decide the preference",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1 - 1.75 / figure.get_figwidth(), 1))
    return figure


def _title(score: str, panels: int) -> str:
    return "Common mask" if score == "reward_mask" and panels == 2 else _PANELS[score]


def _draw_series(
    axis: Any,
    entries: Any,
    score: str,
    column: str,
    beta: float,
    colour: str,
    index: int,
) -> None:
    own = sorted(
        (entry for entry in entries if entry["score"] == score and entry["beta"] == beta),
        key=lambda entry: entry["step"],
    )
    steps = [entry["step"] for entry in own]
    axis.plot(
        steps,
        [entry[column]["mean"] for entry in own],
        color=colour,
        marker=SERIES_MARKERS[index % len(SERIES_MARKERS)],
        markersize=4,
        linewidth=1.3,
        label=f"β = {beta:g}",
    )
    low, high = ([entry[column]["ci95"][bound] for entry in own] for bound in (0, 1))
    axis.fill_between(steps, low, high, color=colour, alpha=0.12, lw=0)
