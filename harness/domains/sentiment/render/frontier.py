"""Figure 2: reward against KL, one frontier per method, from the figure's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.render.columns import row_id
from harness.render.style import Style, arms, new_figure, save, styles

_NAMES_BESIDE = 9
"""Names in one line of the legend."""


def frontier_files(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw the frontiers; return file name → PNG or PDF.

    The frontiers of all methods are on the left; on the right are each method's own points, with
    the frontiers of the others in grey.

    Args:
        result: Figure 2's JSON.
    """
    figure = _draw(result)
    return {f"{result['id']}.{form}": save(figure, form) for form in ("png", "pdf")}


def _draw(result: Mapping[str, Any]) -> Any:
    methods = result["methods"]
    row_styles = styles([row_id(method) for method in methods])
    swept = [method for method in methods if method["method"] != "sft"]
    columns = 2 if len(swept) <= 4 else 4
    rows = max(1, -(-len(swept) // columns))
    # Inches: two rows of panels and one of the legend fit into the usual height.
    legend = -(-len(methods) // _NAMES_BESIDE)
    names = 0.22 * (legend - 1)
    height = 5.6 + 1.5 * max(0, rows - 2) + names
    figure = new_figure(13.5, height)
    grid = figure.add_gridspec(
        rows,
        columns + 2,
        width_ratios=[2.0, 0.18, *([1.0] * columns)],
        wspace=0.12,
        hspace=0.3,
        left=0.05,
        right=0.995,
        top=round(1 - 0.84 / height, 6),
        bottom=round((1.12 + names) / height, 6),
    )
    main = figure.add_subplot(grid[: min(rows, 4), 0])
    for method in methods:
        style = row_styles[row_id(method)]
        points = [method["points"][index] for index in method["frontier"]]
        across = [_cost(point) for point in points]
        up = [point["reward"]["mean"] for point in points]
        main.errorbar(
            across,
            up,
            yerr=arms(point["reward"] for point in points),
            color=style.colour,
            marker=style.marker,
            markerfacecolor=style.face,
            markeredgecolor="black",
            markeredgewidth=0.5,
            markersize=7 if method["method"] != "sft" else 9,
            linewidth=1.4,
            elinewidth=0.7,
            capsize=0,
            zorder=3 if method["method"] != "sft" else 4,
            label=method["label"],
        )
    main.set_title("Pareto frontiers", fontsize=10)
    main.set_xlabel("KL(π‖π_ref) per response (nats)", fontsize=9)
    main.set_ylabel(f"Ground-truth reward (%), {result['reward_model']}", fontsize=9)
    costs, rewards = _ranges(methods)
    main.set_xlim(*costs)
    main.set_ylim(*rewards)
    main.grid(alpha=0.25)
    for place, method in enumerate(swept):
        axis = figure.add_subplot(
            grid[place // columns, 2 + place % columns], sharex=main, sharey=main
        )
        _draw_points(axis, method, methods, row_styles[row_id(method)])
        axis.tick_params(labelsize=7, labelleft=place % columns == 0)
        if place + columns >= len(swept):
            axis.set_xlabel("KL (nats)", fontsize=8)
        else:
            axis.tick_params(labelbottom=False)
    handles, labels = main.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower center",
        ncols=min(_NAMES_BESIDE, len(labels)),
        frameon=False,
        fontsize=8.5,
        columnspacing=1.2,
        bbox_to_anchor=(0.5, round(0.056 / height, 6)),
    )
    figure.suptitle(
        f"Sentiment control, Figure 2, {result['profile']} profile: reward against KL over β"
        " (and γ) and training steps, mean and 95 % interval (cut at the edge)",
        fontsize=10,
        y=round(1 - 0.112 / height, 6),
    )
    return figure


def _draw_points(axis: Any, method: Mapping[str, Any], methods: Any, style: Style) -> None:
    """Draw one method's points over the others' frontiers."""
    for other in methods:
        if row_id(other) != row_id(method):
            points = [other["points"][index] for index in other["frontier"]]
            axis.plot(
                [_cost(point) for point in points],
                [point["reward"]["mean"] for point in points],
                color="#cccccc",
                linewidth=0.8,
                zorder=1,
            )
    points = method["points"]
    axis.errorbar(
        [_cost(point) for point in points],
        [point["reward"]["mean"] for point in points],
        xerr=arms(point["kl"] for point in points),
        yerr=arms(point["reward"] for point in points),
        linestyle="none",
        color=style.colour,
        marker=style.marker,
        markerfacecolor=style.face,
        markersize=4,
        markeredgecolor="black",
        markeredgewidth=0.3,
        elinewidth=0.5,
        alpha=0.85,
        zorder=2,
    )
    axis.set_title(method["label"], fontsize=8.5)
    axis.grid(alpha=0.25)


def _ranges(methods: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges of KL and reward of all points, with a margin for their intervals.

    The intervals of a few chains can be many times as wide as everything else in the picture; they
    are cut at its edge.
    """
    points = [point for method in methods for point in method["points"]]
    highest = max(0.1, *(_cost(point) for point in points))
    rewards = [point["reward"]["mean"] for point in points]
    margin = 0.15 * max(1.0, max(rewards) - min(rewards))
    return (-0.05 * highest, 1.1 * highest), (min(rewards) - margin, max(rewards) + margin)


def _cost(point: Mapping[str, Any]) -> float:
    return 0.0 if point["step"] == 0 else float(point["kl"]["mean"])
