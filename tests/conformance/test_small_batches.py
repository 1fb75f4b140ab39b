"""The shortest responses and the smallest batch: every method gives finite numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import sparsepo
from sparsepo.conformance.drawn import (
    TOKEN_FIELDS,
    masked,
    random_pair,
    results,
    select,
    with_gradients,
)
from sparsepo.methods import BUILT_IN
from sparsepo.types import TokenStats

every_method = pytest.mark.parametrize("name", BUILT_IN)


def cut(stats: TokenStats, length: int) -> TokenStats:
    """Return statistics of the first tokens of each response."""
    inside = stats.response_mask.bool() & (torch.arange(stats.response_mask.shape[1]) < length)
    values: dict[str, Any] = {
        name: masked(value, inside)
        for name in TOKEN_FIELDS
        if (value := getattr(stats, name)) is not None
    }
    return replace(stats, response_mask=inside, **values)


def assert_finite(name: str, pair: list[TokenStats]) -> None:
    method: Any = BUILT_IN[name]()
    leaves = []
    for side in range(2 if method.needs.rejected else 1):
        pair[side], own = with_gradients(pair[side])
        leaves.append(own["policy_logps"])
    output = method(*pair)
    output.loss.backward()
    for what, value in {**results(output), **output.state}.items():
        assert value.isfinite().all(), what
    for leaf in leaves:
        assert leaf.grad is None or leaf.grad.isfinite().all()


@every_method
@pytest.mark.parametrize("lengths", [(1, 1), (1, 7), (7, 1), (3, 2)])
def test_short_responses(name: str, lengths: tuple[int, int]) -> None:
    pair = random_pair(BUILT_IN[name])
    assert_finite(name, [cut(stats, length) for stats, length in zip(pair, lengths, strict=True)])


@every_method
def test_a_batch_of_one(name: str) -> None:
    """The last step of an epoch may have a single pair, whatever the batch size."""
    one = torch.tensor([0])
    assert_finite(name, [select(stats, one) for stats in random_pair(BUILT_IN[name])])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_sepo_selects_a_token_of_responses_that_are_too_short_for_its_share(length: int) -> None:
    """int(0.3 · 3) is 0, at which the authors' code is 0/0."""
    chosen, rejected = (cut(stats, length) for stats in random_pair(BUILT_IN["sepo"]))
    assert chosen.oracle_logps is not None and chosen.ref_logps is not None
    output = sparsepo.get_method("sepo")(chosen, rejected)
    guide = torch.where(
        chosen.response_mask.bool(), chosen.oracle_logps - chosen.ref_logps, -torch.inf
    )
    best = guide.argmax(-1, keepdim=True)
    torch.testing.assert_close(output.chosen_rewards, chosen.policy_logps.gather(-1, best)[:, 0])


def test_confpo_counts_pairs_that_keep_no_token_as_0_and_says_so() -> None:
    """The only token of a response is as likely as its average."""
    chosen, rejected = random_pair(BUILT_IN["confpo"])
    output = sparsepo.get_method("confpo")(cut(chosen, 1), rejected)
    assert not output.per_pair.any()
    assert not output.metrics["confpo/selected/chosen"].any()
    assert output.metrics["confpo/selected/rejected"].all()
