"""The picture of token maps: what it shows, where, and that nothing is clipped or overlaps."""

from __future__ import annotations

import io
import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harness.render.heatmap import LINE_BREAK, NO_GLYPH, NO_TEXT, SETTINGS, draw, lay_out, pictures
from sparsepo.analysis.maps import document, token_maps
from sparsepo.analysis.quantities import COLOURS
from sparsepo.analysis.trained import TrainedModel
from sparsepo.methods import PAPER
from sparsepo.reference.online import Reference
from sparsepo.training.policy import PolicyWithMasks
from tests.small_models import living_masks, small_model, small_tokenizer, text_pairs

QUANTITIES = ("rewards", "masked_rewards", "masked_kl")
LABELS = ["DPO", "TDPO v1", "SparsePO (common)", "SparsePO (independent)"]


@pytest.fixture(scope="module")
def maps() -> dict[str, Any]:
    pairs = [pair for pair in text_pairs(12) if len(pair.chosen) > 20][:2]
    found = []
    for name in ("dpo", "tdpo1", "sparsepo-common", "sparsepo-independent"):
        method = PAPER[name]()
        policy, reference = small_model("gpt2", seed=1), small_model("gpt2")
        masks = living_masks(method, reference)
        module = PolicyWithMasks(policy, masks).eval()
        trained = TrainedModel(
            module, method, small_tokenizer(), Reference(reference), method.title
        )
        found.append(token_maps(trained, pairs).maps)
    return document(found)


def first(maps: dict[str, Any]) -> str:
    return str(maps["models"][0]["pairs"][0]["pair_id"])


def with_tokens(maps: dict[str, Any], tokens: list[str], prompt: str = "") -> dict[str, Any]:
    """Return one model's maps in which responses consist of these tokens."""
    model, pair = maps["models"][2], maps["models"][2]["pairs"][0]
    values = [(i % 5 - 2) / 10 for i in range(len(tokens))]
    masks = [float(i % 3) for i in range(len(tokens))]
    side = {
        **pair["chosen"],
        "tokens": tokens,
        "text": "".join(tokens),
        "masked_rewards": values,
        "rewards": values,
        "masked_kl": [abs(value) for value in values],
        "reward_mask": masks,
        "kl_mask": masks,
    }
    changed = {**pair, "prompt": prompt, "chosen": side, "rejected": side}
    return {**maps, "models": [{**model, "pairs": [changed]}]}


def extents(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Return what is written and where, in pixels at the resolution of the PNG."""
    with pyplot.rc_context(SETTINGS):
        figure.set_dpi(150)
        figure.canvas.draw()
        found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
        shown = [text for text in found if text.get_visible() and text.get_text().strip()]
        return [(text, text.get_window_extent()) for text in shown]


def assert_readable(figure: Figure) -> None:
    written = extents(figure)
    page = figure.bbox
    for text, box in written:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"clipped: {text.get_text()!r} {box} in {page}"
    for index, (one, left) in enumerate(written):
        for other, right in written[index + 1 :]:
            # Letters stand in boxes with some air above and below them.
            across = min(left.x1, right.x1) - max(left.x0, right.x0)
            down = min(left.y1, right.y1) - max(left.y0, right.y0)
            assert across <= 1 or down <= 2, f"{one.get_text()!r} on {other.get_text()!r}"


def cells(figure: Figure) -> list[Rectangle]:
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [patch for patch in found if patch.get_fill()]


def test_both_forms_and_equal_bytes(maps: dict[str, Any]) -> None:
    one = pictures(maps, first(maps), title="Figure 4, tiny profile")
    assert one == pictures(maps, first(maps), title="Figure 4, tiny profile")
    assert set(one) == {"png", "pdf"}
    assert one["png"].startswith(b"\x89PNG") and one["pdf"].startswith(b"%PDF")
    assert b"CreationDate" not in one["pdf"]
    width, height = struct.unpack(">II", one["png"][16:24])
    assert width == 1080 and height > 400
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("sides", [("chosen", "rejected"), ("rejected",)])
@pytest.mark.parametrize("same_scale", [False, True])
def test_nothing_is_clipped_and_nothing_overlaps(
    maps: dict[str, Any], sides: tuple[str, ...], same_scale: bool
) -> None:
    figure = draw(
        maps,
        first(maps),
        QUANTITIES,
        sides=sides,
        same_scale=same_scale,
        title="Figure 4, tiny profile: " + "a title that does not fit on one line " * 4,
    )
    assert_readable(figure)


def test_panels_put_each_quantity_of_all_models_together(maps: dict[str, Any]) -> None:
    several = {
        **maps,
        "models": [{**maps["models"][0], "label": f"Method {number}"} for number in (1, 2, 3)],
    }
    figure = draw(several, first(maps), QUANTITIES[:2], sides=("rejected",), panels=True)
    assert_readable(figure)
    written = sorted((-box.y1, text.get_text()) for text, box in extents(figure))
    headings = [text for _, text in written if text.startswith(("(", "Method"))]
    methods = ["Method 1", "Method 2", "Method 3"]
    assert [heading[:8] for heading in headings] == ["(a) Toke", *methods, "(b) Toke", *methods]
    assert not any(text.startswith("chosen") for _, text in written)


LONG = ["word ", " a" * 3, "x" * 150, "\n", "", " end", "\r\n two\nlines", "  ", " $x_1$ \\frac"]


@pytest.mark.parametrize("prompt", ["", "p" * 300, "a prompt\nof lines " * 20])
def test_long_words_and_long_prompts_are_broken(maps: dict[str, Any], prompt: str) -> None:
    figure = draw(with_tokens(maps, LONG * 4, prompt), first(maps), QUANTITIES)
    assert_readable(figure)
    texts = [text.get_text() for text, _ in extents(figure)]
    assert sum(text.count("x") for text in texts if set(text) == {"x"}) == 2 * 3 * 4 * 150
    # A dollar sign begins no formula.
    assert any("$x_1$" in text for text in texts)


def test_a_letter_without_a_glyph_gets_a_sign(
    maps: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    figure = draw(with_tokens(maps, ["漢字", " é", "😀"]), first(maps), ("masked_rewards",))
    texts = [text.get_text() for text, _ in extents(figure)]
    assert NO_GLYPH * 2 in texts and "é" in texts
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_every_token_stands_in_its_cell_in_its_colour(maps: dict[str, Any]) -> None:
    figure = draw(maps, first(maps), ("masked_rewards",), labels=["SparsePO (common)"])
    pair = maps["models"][2]["pairs"][0]
    values = [*pair["chosen"]["masked_rewards"], *pair["rejected"]["masked_rewards"]]
    tokens = [*pair["chosen"]["tokens"], *pair["rejected"]["tokens"]]
    drawn = cells(figure)
    assert len(drawn) == len(values)
    largest = max(map(abs, values))
    zero, negative, positive = (
        [int(COLOURS[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        for name in ("zero", "negative", "positive")
    )
    written = [(text, box) for text, box in extents(figure) if text.get_family() != ["DejaVu Sans"]]
    assert "".join(text.get_text() for text, _ in written) == "".join(tokens).replace(" ", "")
    places = iter(written)
    for value, token, cell in zip(values, tokens, drawn, strict=True):
        end, share = (positive if value > 0 else negative), abs(value) / largest
        for found, low, high in zip(cell.get_facecolor()[:3], zero, end, strict=True):
            assert found == pytest.approx(low + share * (high - low), abs=0.01)
        if token.strip():
            text, box = next(places)
            assert text.get_text() == token.strip()
            around = cell.get_window_extent()
            assert around.x0 - 1 <= box.x0 and box.x1 <= around.x1 + 1
            assert around.y0 - 1 <= box.y0 and box.y1 <= around.y1 + 1


def test_tokens_whose_mask_is_zero_are_underlined(maps: dict[str, Any]) -> None:
    figure = draw(maps, first(maps), ("masked_rewards",), labels=["SparsePO (common)"])
    pair = maps["models"][2]["pairs"][0]
    masks = [*pair["chosen"]["reward_mask"], *pair["rejected"]["reward_mask"]]
    assert len(figure.axes[0].lines) == sum(value == 0 for value in masks)
    figure = draw(with_tokens(maps, ["a", "b", "c", "d"]), first(maps), ("masked_rewards",))
    assert len(figure.axes[0].lines) == 4  # masks 0, 1, 2, 0 on both sides


def headings(figure: Figure) -> list[str]:
    return [text.get_text() for text, _ in extents(figure) if text.get_weight() == "bold"]


def test_rows_are_models_by_quantities_in_the_order_asked_for(maps: dict[str, Any]) -> None:
    labels = ["TDPO v1", "DPO"]
    figure = draw(maps, first(maps), ("masked_kl", "rewards"), labels=labels)
    assert headings(figure) == [
        "TDPO v1: token KL β·m_d·k, after the mask",
        "TDPO v1: token reward β·r, before the mask",
        "DPO: token KL β·m_d·k, after the mask (no such term)",
        "DPO: token reward β·r, before the mask",
    ]


def ends(figure: Figure) -> list[str]:
    """Return the labels at the right ends of the colour bars."""
    return [
        text.get_text()
        for text, _ in extents(figure)
        if text.get_ha() == "left" and text.get_text().replace(".", "").isdigit()
        if text.get_style() == "normal" and text.get_family() == ["DejaVu Sans"]
    ]


def test_scales_are_ones_own_or_shared(maps: dict[str, Any]) -> None:
    def largest(model: dict[str, Any]) -> float:
        pair = model["pairs"][0]
        return max(abs(v) for s in ("chosen", "rejected") for v in pair[s]["masked_rewards"])

    sizes = [largest(model) for model in maps["models"]]
    own = ends(draw(maps, first(maps), ("masked_rewards",)))
    assert own == [f"{size:.2g}" for size in sizes]
    shared = ends(draw(maps, first(maps), ("masked_rewards",), same_scale=True))
    assert shared == [f"{max(sizes):.2g}"] * len(sizes)


def test_values_of_nothing_but_zero(maps: dict[str, Any]) -> None:
    changed = with_tokens(maps, ["a", "b"])
    for side in ("chosen", "rejected"):
        changed["models"][0]["pairs"][0][side]["masked_rewards"] = [0.0, 0.0]
    figure = draw(changed, first(maps), ("masked_rewards",))
    assert_readable(figure)
    # Zero is white on a scale that has a sign.
    assert [cell.get_facecolor()[:3] for cell in cells(figure)] == [
        pytest.approx((1, 1, 1), abs=0.005)
    ] * 4


@pytest.mark.parametrize(
    ("pair_id", "quantities", "labels"),
    [("none", ("rewards",), None), (None, ("colour",), None), (None, ("rewards",), ["GRPO"])],
)
def test_what_is_not_there_is_named(
    maps: dict[str, Any], pair_id: str | None, quantities: tuple[str], labels: list[str] | None
) -> None:
    with pytest.raises(KeyError, match=r"none|colour|GRPO"):
        draw(maps, pair_id or first(maps), quantities, labels=labels)


TEXTS = st.lists(st.text(st.sampled_from("ab \n"), max_size=12), max_size=12)


@given(TEXTS, st.integers(3, 20))
def test_running_text_keeps_every_letter_and_fits(tokens: list[str], columns: int) -> None:
    found = lay_out(tokens, columns, set(map(ord, "ab ")))
    for number, token in enumerate(tokens):
        text = "".join(cell.text for cell in found if cell.token == number)
        assert text == (token.replace("\n", LINE_BREAK) or NO_TEXT)
    places = [(cell.line, cell.column) for cell in found]
    assert places == sorted(places)
    for one, other in itertools.pairwise(found):
        if one.line == other.line:
            assert other.column == one.column + len(one.text)
            assert LINE_BREAK not in one.text
        else:
            assert other.column == 0
    assert all(cell.column + len(cell.text) <= columns for cell in found)


def test_the_picture_is_what_was_measured(maps: dict[str, Any]) -> None:
    """The PNG has the size of the figure whose extents the tests above look at."""
    figure = draw(maps, first(maps), ("masked_rewards", "masked_kl"))
    stream = io.BytesIO(pictures(maps, first(maps))["png"])
    pixels = pyplot.imread(stream)
    width, height = figure.get_size_inches() * 150
    assert pixels.shape[:2] == (pytest.approx(height, abs=1), pytest.approx(width, abs=1))
    # White margins on all sides: nothing runs over the edge.
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert edge.min() == 1.0
