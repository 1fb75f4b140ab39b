"""On-policy training: reward and self-BLEU against KL, beside the frontier of given pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.render.style import Style, arms, legend_below, new_figure, save, styles


def on_policy_files(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw the policies after training; return file name → PNG or PDF.

    On the left is reward against KL, with the frontier of each method that is trained on given
    pairs as a line; on the right self-BLEU against KL, with these methods' β joined by a line.

    Args:
        result: the JSON of on-policy training.
    """
    figure = _draw(result)
    return {f"{result['id']}.{form}": save(figure, form) for form in ("png", "pdf")}


def _draw(result: Mapping[str, Any]) -> Any:
    frontiers, ends = result["frontiers"], result["end"]
    alone = [one for one in ends if one["on_policy"] or one["method"] == "sft"]
    row_styles = styles([one["id"] for one in (*frontiers, *alone)])
    figure = new_figure(12.6, 5.6)
    left, right = figure.subplots(1, 2)
    for frontier in frontiers:
        style = row_styles[frontier["id"]]
        points = [frontier["points"][index] for index in frontier["frontier"]]
        _series(left, points, "reward", style, f"{frontier['label']} on given pairs")
        given = [
            one for one in ends if one["method"] == frontier["method"] and not one["on_policy"]
        ]
        _series(right, sorted(given, key=_cost), "self_bleu", style, None)
    for one in alone:
        for axis, quantity in ((left, "reward"), (right, "self_bleu")):
            _point(axis, one, quantity, row_styles[one["id"]])
    labels = f"Ground-truth reward (%), {result['reward_model']}", "self-BLEU"
    titles = (
        "Reward, and the Pareto frontier of given pairs",
        "Diversity: a lower self-BLEU is more diverse",
    )
    for axis, label, title in zip((left, right), labels, titles, strict=True):
        axis.set_xlabel("KL(π‖π_ref) per response (nats)", fontsize=9)
        axis.set_ylabel(label, fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.25)
    title = (
        f"On-policy training, {result['profile']} profile: after training, mean and 95 % interval"
    )
    legend_below(figure, left, 6, title)
    return figure


def _series(
    axis: Any, points: Sequence[Mapping[str, Any]], quantity: str, style: Style, label: str | None
) -> None:
    """Draw the points of a method as a line."""
    axis.errorbar(
        [_cost(point) for point in points],
        [point[quantity]["mean"] for point in points],
        yerr=arms(point[quantity] for point in points),
        color=style.colour,
        marker=style.marker,
        markersize=4,
        linewidth=1.2,
        elinewidth=0.6,
        zorder=2,
        label=label,
    )


def _point(axis: Any, one: Mapping[str, Any], quantity: str, style: Style) -> None:
    """Draw one policy with the intervals of both of its values."""
    axis.errorbar(
        [_cost(one)],
        [one[quantity]["mean"]],
        xerr=None if one["step"] == 0 else arms([one["kl"]]),
        yerr=arms([one[quantity]]),
        linestyle="none",
        color=style.colour,
        marker=style.marker,
        markerfacecolor=style.face,
        markeredgecolor="black",
        markeredgewidth=0.5,
        markersize=8,
        elinewidth=0.9,
        capsize=2,
        zorder=3,
        label=one["label"],
    )


def _cost(point: Mapping[str, Any]) -> float:
    return 0.0 if point["step"] == 0 else float(point["kl"]["mean"])
