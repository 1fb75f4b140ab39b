"""Label noise: reward and AUROC against the share of flipped pairs, one line per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from harness.render.columns import row_id
from harness.render.style import Style, arms, legend_below, new_figure, save, styles

_SPREAD = 0.16
"""Width over which the methods' points of one share are spread, in distances between shares."""


def noise_files(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw reward and AUROC against the flipped share; return file name → PNG or PDF.

    Args:
        result: the JSON of label noise.
    """
    figure = _draw(result)
    return {f"{result['id']}.{form}": save(figure, form) for form in ("png", "pdf")}


def _draw(result: Mapping[str, Any]) -> Any:
    panels = [("reward", f"Reward after training (%), {result['reward_model']}", result["rows"])]
    if "supplement" in result:
        panels.append(("auroc", "AUROC for decisive tokens (%)", result["supplement"]["rows"]))
    row_styles = styles([row_id(row) for row in result["rows"]])
    figure = new_figure(6.6 * len(panels), 5.4)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (quantity, label, rows) in zip(axes, panels, strict=True):
        _draw_panel(axis, result["shares"], quantity, rows, row_styles)
        axis.set_xlabel("Flipped training pairs (%)", fontsize=9)
        axis.set_ylabel(label, fontsize=9)
        axis.grid(alpha=0.25)
    title = (
        f"Label noise, {result['profile']} profile: mean and 95 % interval, β = {result['beta']:g}"
    )
    legend_below(figure, axes[0], 5, title)
    return figure


def _draw_panel(
    axis: Any,
    shares: Sequence[Mapping[str, Any]],
    quantity: str,
    rows: Sequence[Mapping[str, Any]],
    row_styles: Mapping[str, Style],
) -> None:
    """Draw one line per row, with the points of a share side by side."""
    places = [one["share"] for one in shares]
    step = min((b - a for a, b in pairwise(places)), default=1.0)
    for number, row in enumerate(rows):
        shift = _SPREAD * step * (2 * number / max(1, len(rows) - 1) - 1)
        cells = [row["values"][one[quantity]] for one in shares]
        means = [cell["mean"] for cell in cells]
        style = row_styles[row_id(row)]
        axis.errorbar(
            [place + shift for place in places],
            means,
            yerr=arms(cells),
            color=style.colour,
            marker=style.marker,
            markeredgecolor="black",
            markeredgewidth=0.4,
            markersize=6,
            linewidth=1.2,
            elinewidth=0.7,
            label=row["label"],
        )
    axis.set_xticks(places)
