"""PPO: advantages by hand, the exact expected gradient over all responses, the critic's loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsepo.methods.ppo import PPO, generalised_advantages
from sparsepo.methods.sampled import Samples
from sparsepo.types import TokenStats

KAPPA = 0.3
WORDS = 3
END = 0
RESPONSES = [[END], *([first, second] for first in (1, 2) for second in range(WORDS))]
"""All responses of at most two words, of which the first one ends a response."""


def drawn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# Advantages


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    values = torch.tensor([[0.5, 1.0, -1.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    # δ = 1 + 0.9·1 − 0.5, 0 + 0.9·(−1) − 1, 2 − (−1); each has 0.72 of the next one's sum added.
    expected = [[1.4 + 0.72 * (-1.9 + 0.72 * 3.0), -1.9 + 0.72 * 3.0, 3.0], [1.0, 0.0, 0.0]]
    found = generalised_advantages(rewards, values, gamma=0.9, lam=0.8)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_advantages_are_the_sums_of_the_article(
    lengths: list[int], gamma: float, lam: float, seed: int
) -> None:
    """The double sum of arXiv 1506.02438, equation 16, response by response, without padding."""
    inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    rewards, values = (drawn(*inside.shape, seed=seed + n) * inside for n in (0, 1))
    found = generalised_advantages(rewards, values, gamma, lam)
    assert not found[~inside].any()
    for row, length in enumerate(lengths):
        after = [*values[row, 1:length].tolist(), 0.0]
        deltas = [
            float(rewards[row, s]) + gamma * after[s] - float(values[row, s]) for s in range(length)
        ]
        for t in range(length):
            expected = sum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, length))
            assert float(found[row, t]) == pytest.approx(expected, abs=1e-9)


def samples_of(lengths: list[int], seed: int = 0) -> Samples:
    inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    logps, ref, values = (drawn(*inside.shape, seed=seed + n) * inside for n in range(3))
    scores = drawn(len(lengths), seed=seed + 3)
    return Samples(scores, 2, -logps.abs(), inside, -ref.abs(), values=values)


def test_rewards_are_the_kl_of_each_token_and_the_score_at_the_last_one() -> None:
    samples = samples_of([2, 4, 1, 3])
    assert samples.ref_logps is not None
    rewards = PPO(kl_weight=KAPPA).token_rewards(samples)
    for row, length in enumerate([2, 4, 1, 3]):
        expected = -KAPPA * (samples.logps[row] - samples.ref_logps[row])
        expected[length - 1] += samples.scores[row]
        torch.testing.assert_close(rewards[row], expected)


def test_credits_are_whitened_over_the_tokens_of_the_rollout_and_returns_are_not() -> None:
    samples = samples_of([2, 4, 1, 3])
    assert samples.values is not None
    inside = samples.response_mask
    plain = PPO(scale="none").from_rollout(samples)
    found = PPO().from_rollout(samples)
    torch.testing.assert_close(plain["returns"], plain["credit"] + samples.values)
    torch.testing.assert_close(found["returns"], plain["returns"])
    tokens = found["credit"][inside]
    assert float(tokens.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(tokens.var(correction=0)) == pytest.approx(1.0, abs=1e-6)
    assert not found["credit"][~inside].any() and not found["returns"][~inside].any()
    # The order of advantages stays.
    assert tokens.argsort().tolist() == plain["credit"][inside].argsort().tolist()
    assert found["mean_length"].tolist() == [2.5] * 4


def test_equal_advantages_give_no_credit() -> None:
    inside = torch.ones(2, 1, dtype=torch.bool)
    nothing = torch.zeros(2, 1, dtype=torch.float64)
    same = Samples(torch.ones(2), 2, nothing, inside, nothing, values=nothing)
    assert not PPO().from_rollout(same)["credit"].any()


# The policy's gradient


def table(values: Tensor, follow: Tensor) -> Tensor:
    """What stands at each word of every response: (word) and (first word, second word) tables."""
    rows = [
        torch.stack([values[r[0]], follow[r[0] - 1, r[1]] if len(r) > 1 else values.new_tensor(0)])
        for r in RESPONSES
    ]
    return torch.stack(rows)


INSIDE = torch.tensor([[True, len(r) > 1] for r in RESPONSES])


def log_probabilities(first: Tensor, second: Tensor) -> Tensor:
    return table(first.log_softmax(-1), second.log_softmax(-1))


def exact_values(logps: Tensor, rewards: Tensor) -> Tensor:
    """The expected sum of rewards from each word on, by enumeration."""
    found = torch.zeros_like(logps)
    of_second = torch.zeros(2, dtype=logps.dtype)
    for first in (1, 2):
        rows = [row for row, r in enumerate(RESPONSES) if r[0] == first]
        of_second[first - 1] = (logps[rows, 1].exp() * rewards[rows, 1]).sum()
        found[rows, 1] = of_second[first - 1]
    firsts = [0, 1, 4]
    ahead = rewards[firsts, 0] + torch.cat([torch.zeros(1, dtype=logps.dtype), of_second])
    found[:, 0] = (logps[firsts, 0].exp() * ahead).sum()
    return found


@pytest.mark.parametrize(
    ("lam", "critic"), [(1.0, "any"), (1.0, "exact"), (0.5, "exact"), (0.0, "exact")]
)
def test_the_expected_gradient_is_that_of_reward_and_kl(lam: float, critic: str) -> None:
    """Over all responses, weighted by their probabilities: that of E[R − κ Σ (log π − log π_ref)].

    With λ = 1 for any critic, and for every λ with the exact one.
    """
    first, second = drawn(WORDS, seed=1), drawn(2, WORDS, seed=2)
    leaves = [first.requires_grad_(), second.requires_grad_()]
    ref = log_probabilities(drawn(WORDS, seed=3), drawn(2, WORDS, seed=4))
    scores = drawn(len(RESPONSES), seed=5)

    logps = log_probabilities(first, second)
    probability = logps.sum(-1).exp()
    worth = scores - KAPPA * (logps - ref).sum(-1)
    gain = torch.autograd.grad((probability * worth).sum(), leaves)

    method = PPO(kl_weight=KAPPA, lam=lam, scale="none")
    before = logps.detach()
    values = torch.zeros_like(before)
    samples = Samples(scores, 1, before, INSIDE, ref, values=values)
    if critic == "exact":
        values = exact_values(before, method.token_rewards(samples))
    else:
        # One value for the prompt, and one for each first word.
        values = table(drawn(1, seed=6).expand(WORDS), drawn(2, 1, seed=7).expand(2, WORDS))
    samples = Samples(scores, 1, before, INSIDE, ref, values=values)
    known = method.from_rollout(samples)
    logps = log_probabilities(first, second)
    losses, _ = method.sample_loss(
        TokenStats(
            policy_logps=logps, ref_logps=ref, kl=None, response_mask=INSIDE,
            sampling_logps=before, credit=known["credit"], values=values,
            sampling_values=known["sampling_values"], returns=known["returns"],
            mean_length=torch.ones(len(RESPONSES), dtype=torch.float64),
        )
    )  # fmt: skip
    found = torch.autograd.grad((probability.detach() * losses).sum(), leaves)
    for ours, expected in zip(found, gain, strict=True):
        torch.testing.assert_close(ours, -expected)


# The critic's loss


def critics_loss(values: Tensor, before: Tensor, returns: Tensor, **settings: float) -> Tensor:
    nothing = torch.zeros_like(before)
    losses, _ = PPO(**settings).sample_loss(
        TokenStats(
            policy_logps=nothing, ref_logps=None, kl=None,
            response_mask=torch.ones_like(before, dtype=torch.bool),
            sampling_logps=nothing, credit=nothing, values=values, sampling_values=before,
            returns=returns, mean_length=torch.full((len(before),), before.shape[1]),
        )
    )  # fmt: skip
    return losses


def test_a_value_gains_nothing_beyond_its_limit() -> None:
    """Towards the return up to ε_v, away from it without limit."""
    before = torch.tensor([[0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    returns = torch.tensor([[1.0, 1.0, 1.0, 0.1]], dtype=torch.float64)
    values = torch.tensor([[0.0, 0.5, -0.5, 0.15]], dtype=torch.float64).requires_grad_()
    loss = critics_loss(values, before, returns, value_epsilon=0.2, value_weight=0.6)
    errors = [1.0, 0.8**2, 1.5**2, 0.05**2]
    torch.testing.assert_close(loss, torch.tensor([0.3 * sum(errors) / 4], dtype=torch.float64))
    loss.sum().backward()
    expected = [[0.15 * (0.0 - 1.0), 0.0, 0.15 * (-0.5 - 1.0), 0.15 * (0.15 - 0.1)]]
    torch.testing.assert_close(values.grad, torch.tensor(expected, dtype=torch.float64))


def test_metrics_of_the_critic() -> None:
    nothing = torch.zeros(1, 2, dtype=torch.float64)
    values = torch.tensor([[0.5, 0.1]], dtype=torch.float64)
    _, metrics = PPO(value_epsilon=0.2).sample_loss(
        TokenStats(
            policy_logps=nothing, ref_logps=None, kl=None,
            response_mask=torch.ones(1, 2, dtype=torch.bool), sampling_logps=nothing,
            credit=nothing, values=values, sampling_values=nothing, returns=nothing + 1.0,
            mean_length=torch.tensor([2.0]),
        )
    )  # fmt: skip
    assert float(metrics["ppo/value_error"]) == pytest.approx((0.5**2 + 0.9**2) / 2)
    assert float(metrics["ppo/value_clipped"]) == 0.5
    assert float(metrics["ppo/clipped"]) == 0.0
