"""The pictures of the ablations: trade-off by variant; sparsity and pruning by L1 strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.domains.dialogue.render.trade_off import trade_off_png
from harness.render.columns import row_id
from harness.render.style import arms, new_figure, save, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOST = "lost_"
_BESIDE = 0.08
"""Distance between the rows' points at one share."""
_BY_ROW = ("sparsity", "auroc", "preference_accuracy", "win_rate")


def ablation_png(table: Mapping[str, Any]) -> bytes:
    """Draw a table of variants.

    Args:
        table: its JSON; with columns `lost_<share>` it is drawn by row and by share, otherwise as
            Table 1.

    Returns:
        A PNG; equal tables give equal bytes.
    """
    supplement = table["supplement"]
    lost = [column for column in supplement["columns"] if column.startswith(_LOST)]
    if not lost:
        return trade_off_png(table)
    figure = new_figure(11.5, 4.4)
    left, right = figure.subplots(1, 2)
    _by_row(left, table)
    _by_share(right, supplement["rows"], lost)
    figure.suptitle(
        f"{table['title']}, {table['profile']} profile (mean and 95 % interval)", fontsize=10
    )
    figure.tight_layout()
    return save(figure, "png")


def _by_row(axis: Axes, table: Mapping[str, Any]) -> None:
    """Draw what the mask has become, and what was gained, for each row."""
    rows = table["supplement"]["rows"]
    found = [column for column in _BY_ROW if any(row["values"].get(column) for row in rows)]
    looks = styles(found)
    for column in found:
        cells = [(place, row["values"][column]) for place, row in enumerate(rows)]
        _line(axis, cells, looks[column], table["column_labels"][column])
    axis.set_xticks(range(len(rows)), [row["label"] for row in rows], fontsize=8)
    axis.set_ylabel("%")
    axis.grid(alpha=0.25)
    if found:
        axis.legend(fontsize=8)


def _by_share(axis: Axes, rows: Sequence[Mapping[str, Any]], lost: Sequence[str]) -> None:
    """Draw what pruning loses, one line per row."""
    looks = styles([row_id(row) for row in rows])
    for number, row in enumerate(rows):
        # Beside each other, because intervals in one place would hide each other.
        beside = _BESIDE * (number - (len(rows) - 1) / 2)
        cells = [(place + beside, row["values"][column]) for place, column in enumerate(lost)]
        _line(axis, cells, looks[row_id(row)], row["label"])
    axis.axhline(0.0, color="black", linewidth=0.6)
    axis.set_xticks(range(len(lost)), [column.removeprefix(_LOST) for column in lost])
    axis.set_xlabel("Smallest values of the mask that are set to 0 after training (%)")
    axis.set_ylabel("Preference accuracy lost (points)")
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def _line(
    axis: Axes, cells: Sequence[tuple[float, Mapping[str, Any] | None]], look: Any, label: str
) -> None:
    """Draw the cells that there are, with their intervals."""
    known = [(place, cell) for place, cell in cells if cell is not None]
    if known:
        axis.errorbar(
            [place for place, _ in known],
            [cell["mean"] for _, cell in known],
            yerr=arms([cell for _, cell in known]),
            color=look.colour,
            marker=look.marker,
            capsize=2,
            linewidth=1.2,
            label=label,
        )
