"""Figures 3, 6, 7 and 8: sparsity of the masks and token KL against the training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.render.style import SERIES_MARKERS, new_figure, ordered_colours, save


def dynamics_files(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw a figure of training dynamics; return file name → PNG or PDF.

    Args:
        result: the figure's JSON: `id`, `profile`, `heading`, and the `panels` of
            `harness.domains.common.dynamics.panels`: side by side, one kind of responses to a row.
    """
    figure = _draw(result)
    return {f"{result['id']}.{form}": save(figure, form) for form in ("png", "pdf")}


def _draw(result: Mapping[str, Any]) -> Any:
    panels = result["panels"]
    quantities = list(dict.fromkeys(panel["quantity"] for panel in panels))
    # Results of older versions have both kinds of responses.
    responses = list(dict.fromkeys(panel["response"] for panel in panels))
    figure = new_figure(1.4 + 2.9 * len(quantities), 0.9 + 2.4 * len(responses))
    axes = figure.subplots(len(responses), len(quantities), squeeze=False, sharex=True)
    betas = [series["beta"] for series in panels[0]["series"]]
    colours = dict(zip(betas, ordered_colours(len(betas)), strict=True))
    for panel in panels:
        row, column = responses.index(panel["response"]), quantities.index(panel["quantity"])
        axis = axes[row][column]
        # The zeros of two masks are compared with each other, and one response with another.
        peer = axes[0][0] if panel["quantity"].startswith("sparsity") else axes[0][column]
        if peer is not axis:
            axis.sharey(peer)
        for index, series in enumerate(panel["series"]):
            colour = colours[series["beta"]]
            axis.plot(
                series["steps"],
                series["mean"],
                color=colour,
                marker=SERIES_MARKERS[index % len(SERIES_MARKERS)],
                # Markers at each of hundreds of steps would hide the lines.
                markevery=max(1, len(series["steps"]) // 8),
                markersize=4,
                linewidth=1.3,
                label=f"β = {series['beta']:g}",
            )
            if series["seeds"] > 1:
                axis.fill_between(
                    series["steps"], series["low"], series["high"], color=colour, alpha=0.15, lw=0
                )
        axis.grid(alpha=0.25)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if row == 0:
            axis.set_title(panel["label"], fontsize=10)
        if column == 0:
            axis.set_ylabel(f"{panel['response']} responses", fontsize=9)
        if row == len(responses) - 1:
            axis.set_xlabel("Training step", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="center right", frameon=False, fontsize=8, bbox_to_anchor=(0.995, 0.5)
    )
    figure.suptitle(result["heading"], fontsize=10)
    figure.tight_layout(rect=(0, 0, 1 - 1.05 / figure.get_figwidth(), 1))
    return figure
