"""How every picture looks: one colour and marker per method, one saving, everywhere the same."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, distinguishable with every common colour blindness; the marker shapes
# tell methods apart without any colour.
_METHODS = {
    "sft": ("#000000", "o"),
    "dpo": ("#0072B2", "s"),
    "tdpo1": ("#56B4E9", "^"),
    "tdpo2": ("#009E73", "v"),
    "simpo": ("#F0E442", "D"),
    "dpop": ("#999999", "P"),
    "mapo": ("#CC79A7", "X"),
    "sparsepo-common": ("#E69F00", "*"),
    "sparsepo-independent": ("#D55E00", "h"),
}
# For plugged-in methods, in the order in which they are shown: Paul Tol's "muted" colours.
_OTHERS = ("#332288", "#882255", "#44AA99", "#DDCC77", "#AA4499", "#117733")
_OTHER_MARKERS = ("<", ">", "p", "d", "8", "H")
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h", "<")

Format = Literal["png", "pdf"]


@dataclass(frozen=True)
class Style:
    """Colour and marker of a method."""

    colour: str
    marker: str


def method_style(method: str, others: Sequence[str] = ()) -> Style:
    """Return a method's colour and marker.

    Args:
        method: its name.
        others: the methods of the picture that are not built in, in their order.
    """
    if method in _METHODS:
        return Style(*_METHODS[method])
    place = list(others).index(method) if method in others else 0
    return Style(_OTHERS[place % len(_OTHERS)], _OTHER_MARKERS[place % len(_OTHER_MARKERS)])


def not_built_in(methods: Sequence[str]) -> list[str]:
    """Return those methods that have no colour of their own, in their order."""
    return [method for method in methods if method not in _METHODS]


def ordered_colours(count: int) -> list[str]:
    """Return colours for a quantity that rises, dark to light; they stay apart in grey."""
    import matplotlib
    from matplotlib.colors import to_hex

    # The lightest end of the map does not show on white.
    places = [0.85 * i / max(1, count - 1) for i in range(count)]
    return [to_hex(matplotlib.colormaps["viridis"](place)) for place in places]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that no window manager knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, form: Format) -> bytes:
    """Return a figure as a file; equal figures give equal bytes.

    Args:
        figure: what is drawn.
        form: "png" or "pdf".
    """
    # Without the software's name and the date the bytes do not change from run to run.
    metadata = {"png": {"Software": None}, "pdf": {"Creator": None, "CreationDate": None}}[form]
    stream = io.BytesIO()
    figure.savefig(stream, format=form, dpi=150, metadata=metadata)
    return stream.getvalue()
