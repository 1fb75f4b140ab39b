"""Token maps as a picture: text in coloured cells, with a row per method and quantity.

The input is the JSON of `sparsepo.analysis.document`; nothing is computed here. Lengths are in
points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.render.style import new_figure, save
from sparsepo.analysis.quantities import COLOURS, INK, QUANTITIES, Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.text import Text

WIDTH = 7.2 * 72
"""Width of the picture: two columns of a paper."""

MARGIN, GAP = 8.0, 14.0
TOKEN_SIZE, HEADING_SIZE, TITLE_SIZE = 7.0, 7.5, 9.0
LINE, LEADING = 12.0, 1.35
BAR_WIDTH, BAR_HEIGHT = 80.0, 7.0
SIDES = ("chosen", "rejected")
TEXT_FONT, TOKEN_FONT = "DejaVu Sans", "DejaVu Sans Mono"
"""Both are part of matplotlib; every machine draws the same picture."""

DOTTED = (0, (1, 1))
"""Line style below a token whose mask is exactly 0."""

SETTINGS: dict[Any, Any] = {"pdf.fonttype": 42, "text.hinting": "none"}
"""Fonts are embedded unchanged; without hinting, letters have the same width at every
resolution."""

LINE_BREAK, NO_TEXT, NO_GLYPH = "↵", "▯", "□"


@dataclass(frozen=True)
class Cell:
    """A token, or a piece of one, and its position in a panel."""

    token: int
    text: str
    column: int
    """In characters."""
    line: int


def pictures(
    maps: Mapping[str, Any],
    pair_id: str,
    quantities: Sequence[str] = ("masked_rewards", "masked_kl"),
    *,
    labels: Sequence[str] | None = None,
    sides: Sequence[str] = SIDES,
    same_scale: bool = False,
    title: str | None = None,
    panels: bool = False,
) -> dict[str, bytes]:
    """Return the heat map of one pair as {"png": …, "pdf": …}; equal maps give equal bytes.

    Args:
        maps: a document of token maps.
        pair_id: id of the pair.
        quantities: fields of a ResponseMap among `sparsepo.analysis.QUANTITIES`; each model has one
            row per quantity.
        labels: labels of the models to draw, in order; None draws all models.
        sides: columns, "chosen" and "rejected" or one of them.
        same_scale: use one scale per quantity for all models, instead of one for each row.
        title: title above the picture; it should name the profile.
        panels: order by quantities, as panels (a), (b) … of all models, instead of by models.

    Raises:
        KeyError: the model, pair or quantity does not exist.
    """
    import matplotlib

    figure = draw(
        maps,
        pair_id,
        quantities,
        labels=labels,
        sides=sides,
        same_scale=same_scale,
        title=title,
        panels=panels,
    )
    with matplotlib.rc_context(SETTINGS):
        return {"png": save(figure, "png"), "pdf": save(figure, "pdf")}


def draw(
    maps: Mapping[str, Any],
    pair_id: str,
    quantities: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    sides: Sequence[str] = SIDES,
    same_scale: bool = False,
    title: str | None = None,
    panels: bool = False,
) -> Figure:
    """Return the heat map as a figure; the arguments are those of `pictures`."""
    import matplotlib

    found = _pairs(maps, pair_id, labels)
    known = {quantity.field: quantity for quantity in QUANTITIES}
    rows = [(model, pair, known[field]) for model, pair in found for field in quantities]
    if panels:
        rows.sort(key=lambda row: quantities.index(row[2].field))
    largest = {
        field: max((_largest(pair, field, sides) for _, pair in found), default=0.0)
        for field in quantities
    }

    # The height is known only after drawing, so the page starts with an arbitrary height.
    with matplotlib.rc_context(SETTINGS):
        figure = new_figure(WIDTH / 72, 1)
        page = _Page(figure)
        top = MARGIN
        if title is not None:
            top = page.paragraph(title, top, TITLE_SIZE, weight="bold")
        top = page.paragraph(f"Prompt: {found[0][1]['prompt']}", top, HEADING_SIZE) + GAP / 2
        for place, (model, pair, quantity) in enumerate(rows):
            scale = largest[quantity.field] if same_scale else _largest(pair, quantity.field, sides)
            heading = f"{model['label']}: {quantity.label}"
            if panels:
                heading = model["label"]
                if place % len(found) == 0:
                    letter = "abcdefghi"[place // len(found)]
                    name = f"({letter}) {quantity.label[:1].upper()}{quantity.label[1:]}"
                    top = page.paragraph(name, top, TITLE_SIZE, weight="bold") + GAP / 4
            top = page.row(heading, pair, quantity, sides, scale, top)
        page.finish(top + MARGIN - GAP / 2)
    return figure


def _pairs(
    maps: Mapping[str, Any], pair_id: str, labels: Sequence[str] | None
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    models = {model["label"]: model for model in maps["models"]}
    chosen = maps["models"] if labels is None else [models[label] for label in labels]
    return [
        (model, {pair["pair_id"]: pair for pair in model["pairs"]}[pair_id]) for model in chosen
    ]


def _largest(pair: Mapping[str, Any], field: str, sides: Sequence[str]) -> float:
    return max((abs(v) for side in sides for v in pair[side][field] or ()), default=0.0)


def lay_out(tokens: Sequence[str], columns: int, drawable: set[int]) -> list[Cell]:
    """Lay out tokens as text with `columns` characters per line.

    Args:
        tokens: the tokens' texts; a line break ends a line.
        columns: characters that fit on a line.
        drawable: code points that the font has.

    Returns:
        Cells in reading order; a token that does not fit on a line has several.
    """
    cells: list[Cell] = []
    column = line = 0
    for token, text in enumerate(tokens):
        for number, piece in enumerate(text.replace("\r\n", "\n").split("\n")):
            shown = "".join(c if ord(c) in drawable else NO_GLYPH for c in piece)
            if number:
                column, line = 0, line + 1
            if number < text.count("\n"):
                shown += LINE_BREAK
            if text == "":
                shown = NO_TEXT
            # A space may be lost at the beginning of a line, but a word must not be split.
            if column and column + len(shown) > columns:
                column, line = 0, line + 1
            for start in range(0, len(shown), columns):
                if start:
                    column, line = 0, line + 1
                part = shown[start : start + columns]
                cells.append(Cell(token, part, column, line))
                column += len(part)
    return cells


class _Page:
    """A figure on which rows are drawn from top to bottom, in points."""

    def __init__(self, figure: Figure) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.font_manager import FontProperties, findfont, get_font

        self.figure = figure
        self.axes: Axes = figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, WIDTH)
        # Until the height is known, a point of the page equals a point of the figure.
        self.axes.set_ylim(72, 0)
        canvas = figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        self._renderer = canvas.get_renderer()
        font = get_font(findfont(FontProperties(family=TOKEN_FONT)))
        self._drawable = set(font.get_charmap())
        font.set_size(TOKEN_SIZE, 72)
        # In a monospaced font all letters have the same width, here in 65536ths of a point.
        self._advance = font.load_char(ord("0")).linearHoriAdvance / 65536

    def _text(self, x: float, y: float, text: str, size: float, **style: Any) -> Text:
        style = {"family": TEXT_FONT, "color": INK, "va": "center", **style}
        # A dollar sign in a response does not start a formula.
        return self.axes.text(x, y, text, fontsize=size, parse_math=False, **style)

    def _width(self, text: str, size: float, **style: Any) -> float:
        made = self._text(0, 0, text, size, **style)
        width = made.get_window_extent(self._renderer).width / self.figure.dpi * 72
        made.remove()
        return float(width)

    def _wrapped(self, text: str, width: float, size: float, **style: Any) -> list[str]:
        lines = [""]
        for word in text.replace("\n", f"{LINE_BREAK} ").split(" "):
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if lines[-1] and self._width(longer, size, **style) > width:
                lines.append(word)
            else:
                lines[-1] = longer
            # A word that is too long for a line, such as a URL, is split.
            while self._width(lines[-1], size, **style) > width:
                line = lines.pop()
                end = next(
                    n
                    for n in range(len(line) - 1, 0, -1)
                    if n == 1 or self._width(line[:n], size, **style) <= width
                )
                lines += [line[:end], line[end:]]
        return lines

    def paragraph(self, text: str, top: float, size: float, **style: Any) -> float:
        """Write text over the whole width; return the position of its end."""
        step = size * LEADING
        for line in self._wrapped(text, WIDTH - 2 * MARGIN, size, **style):
            self._text(MARGIN, top + step / 2, line, size, **style)
            top += step
        return top

    def row(
        self,
        heading: str,
        pair: Mapping[str, Any],
        quantity: Quantity,
        sides: Sequence[str],
        largest: float,
        top: float,
    ) -> float:
        """Draw one model's tokens with one quantity; return the position of the next row."""
        from matplotlib.colors import LinearSegmentedColormap

        ends = ("negative", "zero", "positive") if quantity.signed else ("zero", "high")
        colours = LinearSegmentedColormap.from_list("tokens", [COLOURS[name] for name in ends])
        low = -largest if quantity.signed else 0.0
        measured = any(pair[side][quantity.field] for side in sides)
        taken = self._bar(colours, low, largest, top) if measured else 0.0
        heading += "" if measured else " (no such term)"
        style = {"weight": "bold"}
        step = HEADING_SIZE * LEADING
        wide = WIDTH - 2 * MARGIN - taken - GAP
        for line in self._wrapped(heading, wide, HEADING_SIZE, **style):
            self._text(MARGIN, top + step / 2, line, HEADING_SIZE, **style)
            top += step
        width = (WIDTH - 2 * MARGIN - GAP * (len(sides) - 1)) / len(sides)
        bottoms = []
        for number, side in enumerate(sides):
            left = MARGIN + number * (width + GAP)
            name = f"{side}, implicit reward {pair[side]['reward']:.3g}".replace("-", "−")
            self._text(left, top + step / 2, name, TOKEN_SIZE, style="italic")
            bottoms.append(
                self._tokens(pair[side], quantity, colours, largest, left, width, top + step)
            )
        return max(bottoms) + GAP / 2

    def _bar(self, colours: Colormap, low: float, high: float, top: float) -> float:
        """Draw the colour bar at the right end of a heading; return the width it takes."""
        middle = top + HEADING_SIZE * LEADING / 2
        labels = [f"{value:.2g}".replace("-", "−") for value in (low, high)]
        sizes = [self._width(label, TOKEN_SIZE) for label in labels]
        right = WIDTH - MARGIN - sizes[1] - 3
        left = right - BAR_WIDTH
        self._text(right + 3, middle, labels[1], TOKEN_SIZE, ha="left")
        self._text(left - 3, middle, labels[0], TOKEN_SIZE, ha="right")
        box = (left, right, middle + BAR_HEIGHT / 2, middle - BAR_HEIGHT / 2)
        self.axes.imshow([list(range(256))], cmap=colours, aspect="auto", extent=box, zorder=0)
        self._box(left, middle - BAR_HEIGHT / 2, BAR_WIDTH, BAR_HEIGHT, fill=False)
        return BAR_WIDTH + sum(sizes) + 6

    def _box(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        from matplotlib.patches import Rectangle

        style = {"edgecolor": "#888888", "linewidth": 0.4, **style}
        self.axes.add_patch(Rectangle((x, y), width, height, **style))

    def _tokens(
        self,
        response: Mapping[str, Any],
        quantity: Quantity,
        colours: Colormap,
        largest: float,
        left: float,
        width: float,
        top: float,
    ) -> float:
        values = response[quantity.field]
        masks = response["kl_mask" if "kl" in quantity.field else "reward_mask"]
        columns = int(width / self._advance)
        cells = lay_out(response["tokens"], columns, self._drawable)
        for cell in cells:
            x, y = left + cell.column * self._advance, top + cell.line * LINE
            size = len(cell.text) * self._advance
            if values:
                share = values[cell.token] / largest if largest > 0 else 0.0
                place = (share + 1) / 2 if quantity.signed else share
                # The white edge separates tokens of the same colour.
                fill = {"facecolor": colours(place), "edgecolor": "white", "linewidth": 0.5}
                self._box(x, y + 1, size, LINE - 2, **fill)
            if masks and masks[cell.token] == 0:
                across, down = [x + 0.5, x + size - 0.5], [y + LINE - 1.5] * 2
                self.axes.plot(across, down, color="#444444", linestyle=DOTTED, linewidth=0.7)
            text = cell.text.strip(" ")
            if text:
                start = x + (len(cell.text) - len(cell.text.lstrip(" "))) * self._advance
                style = {"family": TOKEN_FONT, "va": "center_baseline", "ha": "left"}
                self._text(start, y + LINE / 2, text, TOKEN_SIZE, **style)
        return top + (max((cell.line for cell in cells), default=0) + 1) * LINE

    def finish(self, height: float) -> None:
        """Set the height of the page to that of its content."""
        self.figure.set_size_inches(WIDTH / 72, height / 72)
        self.axes.set_xlim(0, WIDTH)
        self.axes.set_ylim(height, 0)
        self.axes.set_aspect("auto")
