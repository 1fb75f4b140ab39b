"""The common style of pictures: a colour and a marker per row, and how they are saved."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.render.columns import TUNED

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Style:
    """Colour and marker of a row."""

    colour: str
    marker: str
    hollow: bool = False
    """Whether the marker is drawn in outline, for a tuned row beside the published one."""

    @property
    def face(self) -> str:
        """The colour inside the marker."""
        return "white" if self.hollow else self.colour


# Okabe and Ito's palette, distinguishable with every common colour blindness; the markers
# distinguish methods without colour.
_PAPER = {
    "sft": Style("#000000", "o"),
    "dpo": Style("#0072B2", "s"),
    "tdpo1": Style("#56B4E9", "^"),
    "tdpo2": Style("#009E73", "v"),
    "simpo": Style("#F0E442", "D"),
    "dpop": Style("#999999", "P"),
    "mapo": Style("#CC79A7", "X"),
    "sparsepo-common": Style("#E69F00", "*"),
    "sparsepo-independent": Style("#D55E00", "h"),
}
# Paul Tol's "muted" colours. The numbers of colours and markers have no common divisor, so both
# change from one style to the next, and every combination occurs.
_COLOURS = ("#332288", "#882255", "#44AA99", "#DDCC77", "#AA4499", "#117733")
_MARKERS = ("<", ">", "p", "d", "8", "H", "D")
OTHER_STYLES = tuple(
    Style(_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)])
    for i in range(len(_COLOURS) * len(_MARKERS))
)
"""Styles of rows other than the paper's methods: plug-ins and variants of a method."""
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h", "<")

Format = Literal["png", "pdf"]


def arms(cells: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return how far each interval reaches below and above its mean, as matplotlib draws it.

    Args:
        cells: values with `mean` and `ci95`.
    """
    below, above = [], []
    for cell in cells:
        low, high = cell["ci95"]
        # Rounding may put an interval's end on the other side of the mean.
        below.append(max(0.0, cell["mean"] - low))
        above.append(max(0.0, high - cell["mean"]))
    return below, above


def styles(rows: Sequence[str]) -> dict[str, Style]:
    """Return each row's colour and marker.

    A method of the paper always has the same style, and its tuned row that style with hollow
    markers. The style of another row is derived from its id, unless an earlier row of the picture
    already has it; later rows never change it.

    Args:
        rows: ids of a picture's rows, in order.

    Returns:
        Row id → style; distinct for up to 42 rows other than the paper's methods.
    """
    chosen: dict[str, Style] = {}
    others: list[Style] = []
    for row in rows:
        published = row.removesuffix(TUNED)
        if published in _PAPER:
            chosen[row] = replace(_PAPER[published], hollow=row != published)
        elif row not in chosen:
            chosen[row] = _next_style(row, others)
            others.append(chosen[row])
    return chosen


def _next_style(row: str, used: Sequence[Style]) -> Style:
    first = int.from_bytes(hashlib.sha256(row.encode()).digest()[:4]) % len(OTHER_STYLES)
    candidates = OTHER_STYLES[first:] + OTHER_STYLES[:first]
    free = [style for style in candidates if style not in used] or list(candidates)
    colours, markers = {style.colour for style in used}, {style.marker for style in used}
    fresh = (s for s in free if s.colour not in colours and s.marker not in markers)
    return next(fresh, free[0])


def ordered_colours(count: int) -> list[str]:
    """Return colours for increasing values, from dark to light; they also differ in greyscale."""
    import matplotlib
    from matplotlib.colors import to_hex

    # The lightest colours are hard to see on white.
    places = [0.85 * i / max(1, count - 1) for i in range(count)]
    return [to_hex(matplotlib.colormaps["viridis"](place)) for place in places]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (size in inches) without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Figure, axis: Any, columns: int, title: str) -> None:
    """Write a figure's title above it, and the legend of one of its panels below it.

    Args:
        figure: the figure, drawn.
        axis: the panel whose lines are named.
        columns: most entries of the legend side by side.
        title: of the figure.
    """
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower center",
        ncols=min(columns, len(labels)),
        frameon=False,
        fontsize=8.5,
    )
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0.1, 1, 1))


def save(figure: Figure, form: Format) -> bytes:
    """Return the file content of a figure; equal figures give equal bytes.

    Args:
        figure: the figure.
        form: "png" or "pdf".
    """
    # Software name and date are left out to keep the bytes equal from run to run.
    metadata = {"png": {"Software": None}, "pdf": {"Creator": None, "CreationDate": None}}[form]
    stream = io.BytesIO()
    figure.savefig(stream, format=form, dpi=150, metadata=metadata)
    return stream.getvalue()
