"""The picture of Table 1: gain in preferences against remaining skills."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.render.columns import higher_is_better, row_id
from harness.render.style import arms, new_figure, save, styles

_LOWER = " (lower is better)"
_NAMES = 22
"""Names in a column of the legend, which is as high as the figure."""
_LEGEND = 1.9
"""Width of such a column, in inches."""


def trade_off_png(table: Mapping[str, Any]) -> bytes:
    """Draw Avg against each column of the supplement that has values, such as win rate.

    Axes of columns in which lower is better are inverted: better is always up or to the right.

    Args:
        table: a table's JSON.

    Returns:
        A PNG; equal tables give equal bytes.
    """
    gained = {row_id(row): row["values"] for row in table["supplement"]["rows"]}
    average = table.get("average") or "avg"
    panels = [
        column
        for column in table["supplement"]["columns"]
        if any(values.get(column) for values in gained.values())
    ]
    # One column of names stands beside the panels; more of them widen the figure.
    legend_columns = max(1, math.ceil(len(table["rows"]) / _NAMES))
    legend_width = _LEGEND * legend_columns
    width = 1.5 + 4.0 * max(1, len(panels)) + _LEGEND * (legend_columns - 1)
    figure = new_figure(width, 4.2)
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False, sharey=True)
    row_styles = styles([row_id(row) for row in table["rows"]])
    for axis, column in zip(axes[0], panels, strict=False):
        for row in table["rows"]:
            across = gained.get(row_id(row), {}).get(column)
            up = row["values"].get(average)
            if across is None or up is None:
                continue
            style = row_styles[row_id(row)]
            axis.errorbar(
                across["mean"],
                up["mean"],
                xerr=arms([across]),
                yerr=arms([up]),
                color=style.colour,
                marker=style.marker,
                markerfacecolor=style.face,
                markeredgecolor="black",
                markeredgewidth=0.6,
                markersize=8,
                elinewidth=1.0,
                capsize=2,
                linestyle="none",
                label=row["label"],
            )
        lower = higher_is_better(table, column) is False
        axis.set_xlabel(
            f"{table['column_labels'][column]}, held-out prompts" + _LOWER * lower,
        )
        if lower:
            axis.invert_xaxis()
        axis.grid(alpha=0.25)
    lower = higher_is_better(table, average) is False
    axes[0][0].set_ylabel("Leaderboard average (100 = perfect)" + _LOWER * lower)
    if lower:
        axes[0][0].invert_yaxis()
    handles, labels = axes[0][0].get_legend_handles_labels()
    if handles:
        left = 1 - legend_width / width
        figure.legend(
            handles,
            labels,
            ncols=legend_columns,
            loc="center left",
            bbox_to_anchor=(left, 0.5),
            frameon=False,
            fontsize=8,
        )
    number = table["id"].removeprefix("table")
    figure.suptitle(
        f"Alignment against skills, Table {number}, {table['profile']} profile "
        "(mean and 95 % interval)",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1 - legend_width / width, 1))
    return save(figure, "png")
