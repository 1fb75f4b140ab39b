"""What methods declare for tuning: ranges, lists, and the same ones for all."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepo.methods import BUILT_IN, PAPER, search_space
from sparsepo.methods.search_space import Choice, Range
from sparsepo.registry import get_method

SHARES = st.floats(0, 1, exclude_max=True)
ENDS = st.tuples(st.floats(1e-6, 1e3), st.floats(1.01, 1e3)).map(
    lambda ends: (ends[0], math.prod(ends))
)
TUNED = [name for name in BUILT_IN if name != "sft"]


@given(ends=ENDS, share=SHARES, scale=st.sampled_from(("log", "linear")))
def test_a_value_lies_in_its_range(ends: tuple[float, float], share: float, scale: str) -> None:
    low, high = ends
    values = Range(low, high, scale)  # type: ignore[arg-type]
    assert values.problem() is None
    assert low * (1 - 1e-9) <= values.at(share) <= high * (1 + 1e-9)
    assert values.at(0.0) == pytest.approx(low)


@given(ends=ENDS, share=st.floats(0, 0.5))
def test_equal_steps_of_a_log_range_are_equal_ratios(
    ends: tuple[float, float], share: float
) -> None:
    values = Range(*ends)
    assert values.at(share) ** 2 == pytest.approx(values.at(0.0) * values.at(2 * share))


@given(share=SHARES, count=st.integers(2, 9))
def test_a_choice_gives_each_value_an_equal_share(share: float, count: int) -> None:
    values = Choice(tuple(range(count)))
    assert values.at(share) == min(int(share * count), count - 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (Range(2.0, 1.0), "not below its end"),
        (Range(1.0, 1.0), "not below its end"),
        (Range(0.0, 1.0), "must begin above 0"),
        (Range(-1.0, 1.0), "must begin above 0"),
        (Range(1.0, math.inf), "not a finite number"),
        (Range(math.nan, 1.0), "not a finite number"),
        (Range("1", 2.0), "not a finite number"),  # type: ignore[arg-type]
        (Range(1.0, 2.0, "cubic"), "neither 'log' nor 'linear'"),  # type: ignore[arg-type]
        (Choice((1.0,)), "fewer than two values"),
        (Choice([1.0, 2.0]), "fewer than two values"),  # type: ignore[arg-type]
        (Choice((1.0, 1.0)), "names a value twice"),
    ],
)
def test_an_impossible_range_is_known(values: Range | Choice, words: str) -> None:
    assert words in (values.problem() or "")


def test_a_linear_range_may_begin_at_0() -> None:
    assert Range(0.0, 1.0, "linear").problem() is None


@pytest.mark.parametrize("name", TUNED)
def test_every_method_declares_its_rate_and_hyper_parameters_of_its_own(name: str) -> None:
    cls = BUILT_IN[name]
    assert next(iter(cls.search_space)) == "learning_rate"
    own = {item.name for item in dataclasses.fields(cls)}
    assert set(cls.search_space) - {"learning_rate"} <= own
    # Without hyper-parameters (SimPER), only the rate can be tuned.
    assert len(cls.search_space) > 1 or name in ("simper", "sepo", "inpo")
    for values in cls.search_space.values():
        assert values.problem() is None
    assert not BUILT_IN["sft"].search_space


def test_what_methods_share_has_one_range() -> None:
    for name in TUNED:
        space = BUILT_IN[name].search_space
        assert space["learning_rate"] is search_space.LEARNING_RATE
        # A β of sums over tokens, of means, or of a squared loss whose target it sets.
        if "beta" in space:
            shared = (
                search_space.BETA,
                search_space.MEAN_BETA,
                search_space.NORMALISED_BETA,
                search_space.TARGET_BETA,
            )
            assert any(space["beta"] is one for one in shared)
    for name in set(TUNED) & set(PAPER):
        # SimPO's rewards are means over tokens and not sums.
        expected = search_space.MEAN_BETA if name == "simpo" else search_space.BETA
        assert BUILT_IN[name].search_space["beta"] is expected


@pytest.mark.parametrize("name", TUNED)
def test_default_hyper_parameters_lie_in_the_ranges(name: str) -> None:
    method = get_method(name)
    for parameter, values in BUILT_IN[name].search_space.items():
        if parameter == "learning_rate":
            continue
        default = getattr(method, parameter)
        if isinstance(values, Choice):
            assert default in values.values
        else:
            assert values.low <= default <= values.high
