"""Figure 5: metrics against the temperature, and the trade-off, from the figure's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.render.columns import parts_of, row_id
from harness.render.style import Style, new_figure, save, styles


def temperature_files(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw the panels; return file name → PNG or PDF.

    Four panels have a metric against the temperature, with one line per method and its 95 %
    interval as a band; the fifth has one metric against another, a point per temperature.

    Args:
        result: Figure 5's JSON.
    """
    figure = _draw(result)
    return {f"{result['id']}.{form}": save(figure, form) for form in ("png", "pdf")}


def _draw(result: Mapping[str, Any]) -> Any:
    parts = {part.get("metric"): part for part in parts_of(result)}
    panels = [parts[name] for name in result["panels"] if name in parts]
    row_styles = styles([row_id(row) for row in result["rows"]])
    trade = all(name in parts for name in result["trade_off"])
    count = len(panels) + trade
    across = min(3, count)
    down = -(-count // across)
    figure = new_figure(4.2 * across, 3.5 * down + (0.3 if down * across > count else 1.0))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, part in zip(axes, panels, strict=False):
        _panel(axis, part, result, row_styles)
    if trade:
        _trade_off(axes[len(panels)], parts, result, row_styles)
    for axis in axes[count:]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    if count < len(axes):
        axes[count].legend(handles, labels, loc="center", frameon=False, fontsize=10)
    else:
        columns = min(5, len(labels))
        figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
        )
    figure.suptitle(
        f"Summarization, Figure 5, {result['profile']} profile: mean and 95 % interval",
        fontsize=10,
    )
    return figure


def _panel(
    axis: Any, part: Mapping[str, Any], result: Mapping[str, Any], row_styles: Mapping[str, Style]
) -> None:
    """Draw one metric against the temperature."""
    for row in part["rows"]:
        style = row_styles[row_id(row)]
        points = [
            (float(temperature), cell)
            for temperature in result["temperatures"]
            if (cell := row["values"].get(f"{part['metric']}_{temperature}")) is not None
        ]
        x = [temperature for temperature, _ in points]
        axis.fill_between(
            x,
            [cell["ci95"][0] for _, cell in points],
            [cell["ci95"][1] for _, cell in points],
            color=style.colour,
            alpha=0.1,
            linewidth=0,
        )
        axis.plot(
            x,
            [cell["mean"] for _, cell in points],
            **_marked(style),
            linewidth=1.3,
            label=row["label"],
        )
    axis.set_title(part.get("first_title") or part["title"], fontsize=10)
    axis.set_xlabel("Temperature", fontsize=9)
    axis.grid(alpha=0.25)


def _marked(style: Style) -> dict[str, Any]:
    """Return what a method's line looks like in every panel, but for its width."""
    return {
        "color": style.colour,
        "marker": style.marker,
        "markerfacecolor": style.face,
        "markeredgecolor": "black",
        "markeredgewidth": 0.4,
        "markersize": 6,
    }


def _trade_off(
    axis: Any,
    parts: Mapping[Any, Mapping[str, Any]],
    result: Mapping[str, Any],
    row_styles: Mapping[str, Style],
) -> None:
    """Draw one metric against another, the temperatures of a method joined by a line."""
    first, second = result["trade_off"]
    upward = {row_id(row): row["values"] for row in parts[second]["rows"]}
    for row in parts[first]["rows"]:
        style = row_styles[row_id(row)]
        cells = [
            (row["values"].get(f"{first}_{t}"), upward[row_id(row)].get(f"{second}_{t}"))
            for t in result["temperatures"]
        ]
        points = [(x["mean"], y["mean"]) for x, y in cells if x is not None and y is not None]
        axis.plot(
            [x for x, _ in points],
            [y for _, y in points],
            **_marked(style),
            linewidth=1.0,
        )
    labels = {m["id"]: m["label"] for m in result["metrics"]}
    axis.set_title("Trade-off over the temperatures", fontsize=10)
    axis.set_xlabel(labels[first], fontsize=9)
    axis.set_ylabel(labels[second], fontsize=9)
    axis.grid(alpha=0.25)
