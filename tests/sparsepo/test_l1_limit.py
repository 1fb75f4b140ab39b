"""`l1_limit="preference"`: the L1 norm never takes back more than half of the preference's pull."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsepo import TokenStats, get_method
from sparsepo.conformance.checks import random_pair
from sparsepo.methods import BUILT_IN

METHODS = ("sparsepo-common", "sparsepo-independent")


def grown(stats: TokenStats, factors: Tensor) -> TokenStats:
    """Return statistics whose reward and KL masks are larger by factors, (B, 2)."""
    assert stats.reward_mask is not None
    kl_mask = None if stats.kl_mask is None else factors[:, 1:] * stats.kl_mask
    return replace(stats, reward_mask=factors[:, :1] * stats.reward_mask, kl_mask=kl_mask)


def slopes(name: str, seed: int, distance: float, **settings: float | str) -> Tensor:
    """Return how much each pair's loss rises per relative growth of each of its masks, (B, 2)."""
    pair = random_pair(BUILT_IN[name], distance=distance, extra=False)
    torch.manual_seed(seed)
    chosen, rejected = (
        replace(
            stats,
            policy_logps=stats.policy_logps + distance * torch.randn_like(stats.policy_logps),
        )
        for stats in pair
    )
    factors = torch.ones(len(chosen.policy_logps), 2, dtype=torch.float64, requires_grad=True)
    method = get_method(name, **settings)
    output = method(grown(chosen, factors), grown(rejected, factors))
    (slope,) = torch.autograd.grad(output.per_pair.sum(), factors)
    return slope


@pytest.mark.parametrize("name", METHODS)
@given(
    seed=st.integers(0, 100),
    distance=st.sampled_from([0.0, 1e-4, 0.1, 2.0]),
    weight=st.sampled_from([1e-6, 1e-3, 1.0, 1e6]),
)
def test_the_norm_takes_back_at_most_half_of_the_preferences_pull(
    name: str, seed: int, distance: float, weight: float
) -> None:
    without = slopes(name, seed, distance)
    limited = slopes(name, seed, distance, l1_reward=weight, l1_kl=weight, l1_limit="preference")
    added = limited - without
    assert bool((added >= -1e-12).all())
    assert bool((added <= 0.5 * (-without).clamp(min=0) + 1e-12).all())


@pytest.mark.parametrize("name", METHODS)
def test_where_the_preference_does_not_pull_there_is_no_norm(name: str) -> None:
    settings = {"l1_reward": 1.0, "l1_kl": 1.0, "l1_limit": "preference"}
    chosen, rejected = random_pair(BUILT_IN[name], distance=0.0)
    output = get_method(name, **settings)(chosen, rejected)
    expected = get_method(name)(chosen, rejected)
    torch.testing.assert_close(output.per_pair, expected.per_pair)


@pytest.mark.parametrize("name", METHODS)
def test_a_weight_below_the_limit_is_the_papers(name: str) -> None:
    small = {"l1_reward": 1e-9, "l1_kl": 1e-9}
    chosen, rejected = random_pair(BUILT_IN[name], distance=0.5)
    limited = get_method(name, l1_limit="preference", **small)(chosen, rejected).per_pair
    plain = get_method(name, **small)(chosen, rejected).per_pair
    bare = get_method(name)(chosen, rejected).per_pair
    ordered = bare < torch.log(torch.tensor(2.0, dtype=bare.dtype))
    assert 0 < int(ordered.sum()) < len(ordered)
    assert bool((bare <= limited).all() and (limited <= plain).all())
    if name == "sparsepo-common":  # of independent masks one may be pulled down in an ordered pair
        assert torch.equal(limited[ordered], plain[ordered])
        assert torch.equal(limited[~ordered], bare[~ordered])
