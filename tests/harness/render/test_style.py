"""Every row of a picture has a style of its own, and keeps it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.domains.common.rows import PAPER_METHODS
from harness.render.style import OTHER_STYLES, styles

names = st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=20)


def test_the_papers_methods_differ_in_colour_and_in_marker() -> None:
    found = styles(PAPER_METHODS).values()
    assert len({style.colour for style in found}) == len(PAPER_METHODS)
    assert len({style.marker for style in found}) == len(PAPER_METHODS)


def test_forty_plug_ins_are_told_apart_from_each_other_and_from_the_paper() -> None:
    plug_ins = [f"plug-in-{number}" for number in range(40)]
    found = styles([*PAPER_METHODS, *plug_ins])
    assert len(OTHER_STYLES) >= 40
    assert len(set(found.values())) == len(PAPER_METHODS) + 40


def test_the_first_plug_ins_differ_in_colour_and_in_marker() -> None:
    found = styles([f"plug-in-{number}" for number in range(6)]).values()
    assert len({style.colour for style in found}) == 6
    assert len({style.marker for style in found}) == 6


@given(names, names)
def test_rows_that_are_added_change_no_style(first: list[str], more: list[str]) -> None:
    before = styles(first)
    after = styles([*first, *(name for name in more if name not in first)])
    assert {name: after[name] for name in first} == before


@given(names)
def test_a_method_of_the_paper_has_one_style_in_every_picture(others: list[str]) -> None:
    alone = styles(PAPER_METHODS)
    together = styles([*others, *PAPER_METHODS])
    assert {name: together[name] for name in PAPER_METHODS} == alone


def test_a_row_has_the_same_style_in_pictures_of_different_rows() -> None:
    assert styles(["dpo", "ipo"])["ipo"] == styles(["sft", "ipo", "kto"])["ipo"]


def test_a_tuned_row_looks_like_its_method_in_outline() -> None:
    found = styles(["dpo", "simpo", "dpo-tuned", "simpo-tuned", "mine", "mine-tuned"])
    for method in ("dpo", "simpo"):
        own, tuned = found[method], found[f"{method}-tuned"]
        assert (own.colour, own.marker, own.face) == (tuned.colour, tuned.marker, own.colour)
        assert tuned.face == "white"
    assert len(set(found.values())) == 6
