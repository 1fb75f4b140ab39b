"""The chooser against the softmax distribution, and its random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from sparsepo.errors import DivergedError
from sparsepo.generation.choice import drawn_tokens, greedy_tokens, levels, nucleus
from sparsepo.generation.seeds import content_id, sample_seed, sample_seeds, uniforms

DRAWS = 40_000


def draw(logits: torch.Tensor, temperature: float, top_p: float, seed: int = 1) -> np.ndarray:
    """Counts of the tokens that many samples choose at one position."""
    seeds = np.array([sample_seed(seed, "a prompt", n) for n in range(DRAWS)], dtype=np.uint64)
    numbers = torch.from_numpy(uniforms(seeds, 3, levels(len(logits))))
    tokens = drawn_tokens(logits.expand(DRAWS, -1), numbers, temperature, top_p)
    return np.bincount(tokens.numpy(), minlength=len(logits))


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    """Of the chi-square test, with cells of fewer than ten expected draws taken together."""
    large = expected >= 10
    observed = np.append(counts[large], counts[~large].sum())
    wanted = np.append(expected[large], expected[~large].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    return float(chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(wanted) - 1))


@pytest.mark.parametrize("vocabulary", [2, 3, 37, 64, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_have_the_softmax_distribution(vocabulary: int, temperature: float) -> None:
    torch.manual_seed(vocabulary)
    logits = 2 * torch.randn(vocabulary)
    expected = DRAWS * (logits.double() / temperature).softmax(-1).numpy()
    assert p_value(draw(logits, temperature, 1.0), expected) > 0.001
    # The test can fail: the distribution of another temperature is told apart.
    other = DRAWS * (logits.double() / (1.3 * temperature)).softmax(-1).numpy()
    assert p_value(draw(logits, temperature, 1.0), other) < 1e-6


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9])
def test_draws_of_a_nucleus_are_those_of_its_tokens(top_p: float) -> None:
    torch.manual_seed(3)
    logits = 1.5 * torch.randn(500)
    shares = logits.double().softmax(-1).numpy()
    order = np.argsort(-shares)
    kept = order[: np.searchsorted(np.cumsum(shares[order]), top_p) + 1]
    inside = np.zeros(500)
    inside[kept] = shares[kept] / shares[kept].sum()
    counts = draw(logits, 1.0, top_p)
    assert counts[inside == 0].sum() == 0
    assert p_value(counts, DRAWS * inside) > 0.001


def test_a_nucleus_larger_than_what_is_sorted_at_first() -> None:
    logits = torch.zeros(2, 3000)
    logits[1, 0] = 20.0
    kept = (nucleus(logits.softmax(-1), 0.5) > 0).sum(-1)
    # Equal tokens stay together.
    assert kept.tolist() == [3000, 1]
    torch.manual_seed(0)
    wide = (0.01 * torch.randn(1, 3000)).softmax(-1)
    share = float(nucleus(wide, 0.5).sum())
    assert 0.5 <= share < 0.5 + float(wide.max())


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_a_nucleus_is_the_same_however_much_is_sorted(top_p: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(40, 5000) * torch.logspace(-3, 1.5, 40)[:, None]
    logits[::7, ::3] = logits[::7, 1:2]  # many equal tokens
    both = torch.cat([logits, torch.zeros(1, 5000)]).softmax(-1)
    ordered = -np.sort(-both.numpy(), axis=-1)
    sums = np.cumsum(ordered.astype(np.float64), axis=-1)
    size = (sums - ordered < top_p).sum(-1)
    # Rows of every kind are in one batch.
    assert (size < 20).any() and (size > 128).any()
    edge = np.take_along_axis(ordered, size[:, None] - 1, axis=-1)
    kept = nucleus(both, top_p)
    assert np.array_equal(kept.numpy(), np.where(both.numpy() < edge, 0.0, both.numpy()))
    for row in range(len(both)):
        assert torch.equal(nucleus(both[row : row + 1], top_p)[0], kept[row])


def test_tokens_without_probability_are_never_chosen() -> None:
    logits = torch.full((99,), -torch.inf)
    logits[[7, 55, 98]] = torch.tensor([0.0, 1.0, 2.0])
    counts = draw(logits, 1.0, 1.0)
    assert set(np.flatnonzero(counts)) == {7, 55, 98}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_probabilities_that_are_not_finite_are_an_error(bad: float) -> None:
    logits = torch.zeros(3, 10)
    logits[1, 4] = bad
    numbers = torch.full((3, levels(10)), 0.5, dtype=torch.float64)
    for top_p in (1.0, 0.5):
        with pytest.raises(DivergedError, match="not finite"):
            drawn_tokens(logits, numbers, 1.0, top_p)
    with pytest.raises(DivergedError, match="not finite"):
        greedy_tokens(logits)


def test_greedy_takes_the_first_of_equal_tokens() -> None:
    assert greedy_tokens(torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 3.0]])).tolist() == [1, 0]


def test_random_numbers_are_uniform_and_unrelated() -> None:
    seeds = np.array(sample_seeds(7, [f"p{i}" for i in range(500)], 4), dtype=np.uint64)
    found = np.stack([uniforms(seeds, position, 10) for position in range(5)])
    assert found.min() >= 0.0 and found.max() < 1.0
    assert kstest(found.ravel(), "uniform").pvalue > 0.001
    # Neighbours in counter, position and sample are uncorrelated: |r| < 4/√n.
    for axis in range(3):
        first = np.delete(found, -1, axis).ravel()
        second = np.delete(found, 0, axis).ravel()
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(first.size)


def test_random_numbers_are_pure_functions() -> None:
    seeds = np.array([5, 6, 2**64 - 1], dtype=np.uint64)
    both = uniforms(seeds, 2, 8)
    assert np.array_equal(uniforms(seeds[1:], 2, 8), both[1:])
    assert np.array_equal(uniforms(seeds, 2, 3), both[:, :3])
    # The generator's published first outputs for the seed 1234567.
    first = uniforms(np.array([1234567], dtype=np.uint64), 0, 2)[0] * 2.0**53
    assert first.tolist() == [6457827717110365317 >> 11, 3203168211198807973 >> 11]
    with pytest.raises(ValueError, match="at most 64"):
        uniforms(seeds, 0, 65)


def test_seeds_of_samples() -> None:
    both = sample_seeds(1, ["a", "b"], 2)
    assert both == [sample_seed(1, name, number) for name in "ab" for number in (0, 1)]
    assert len(set(both)) == 4
    assert sample_seeds(1, ["b", "a"], 2) == both[2:] + both[:2]
    assert sample_seeds(2, ["a", "b"], 2)[0] != both[0]
    # A repeated id continues its numbers; more samples keep the first ones.
    assert sample_seeds(1, ["a", "a"], 2) == sample_seeds(1, ["a"], 4)
    assert content_id("x") != content_id("y")
    assert content_id([{"role": "user", "content": "\ud800"}]) != content_id("\ud800")
