"""Methods of single samples: exact gradients over all responses, credits by hand, properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsepo.methods.f_dpg import FDPG
from sparsepo.methods.grpo import GRPO
from sparsepo.methods.rto import RTO
from sparsepo.methods.sampled import SampledMethod, Samples
from sparsepo.types import TokenStats

WORDS = 6


def stats_of_all_words(
    log_probs: Tensor, sampling: Tensor, ref: Tensor, credit: Tensor | None = None, **more: Tensor
) -> TokenStats:
    """Every word is a response of one token."""
    return TokenStats(
        policy_logps=log_probs[:, None],
        ref_logps=ref[:, None],
        kl=None,
        response_mask=torch.ones(len(log_probs), 1, dtype=torch.bool),
        reward_mask=None,
        kl_mask=None,
        sampling_logps=sampling[:, None],
        credit=None if credit is None else credit[:, None],
        **more,
    )


def draw(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(WORDS, generator=generator, dtype=torch.float64)


def divergence(name: str, policy: Tensor, target: Tensor) -> Tensor:
    """D_f(π ‖ p) = Σ p f(π/p)."""
    ratio = policy / target
    terms = {
        "kl": -ratio.log(),
        "reverse-kl": ratio * ratio.log(),
        "js": ratio * ratio.log() - (1 + ratio) * ((1 + ratio) / 2).log(),
        "tv": (ratio - 1).abs() / 2,
    }
    return (target * terms[name]).sum()


@pytest.mark.parametrize("name", ["kl", "reverse-kl", "js", "tv"])
@pytest.mark.parametrize("sampled_by", ["policy", "another"])
def test_the_expected_gradient_of_f_dpg_is_that_of_the_divergence(
    name: str, sampled_by: str
) -> None:
    """Summed over all responses with their sampling probabilities, for any baseline."""
    logits = draw(1).requires_grad_()
    ref, rewards = draw(2).log_softmax(0), draw(3)
    method = FDPG(beta=0.7, divergence=name)
    unnormalised = ref + rewards / method.beta
    log_z = unnormalised.logsumexp(0)
    divergence(name, logits.softmax(0), (unnormalised - log_z).exp()).backward()
    expected, logits.grad = logits.grad, None

    log_probs = logits.log_softmax(0)
    sampling = (log_probs if sampled_by == "policy" else draw(4).log_softmax(0)).detach()
    stats = stats_of_all_words(
        log_probs,
        sampling,
        ref,
        scores=rewards,
        log_z=log_z.expand(WORDS),
        baseline=torch.full((WORDS,), 0.3, dtype=torch.float64),
    )
    losses, _ = method.sample_loss(stats)
    (sampling.exp() * losses).sum().backward()
    torch.testing.assert_close(logits.grad, expected)


def test_z_is_estimated_without_bias() -> None:
    """The mean over groups of its estimate is Z, whatever policy draws the samples."""
    ref, sampling, rewards = draw(2).log_softmax(0), draw(5).log_softmax(0), draw(3)
    method = FDPG(beta=1.5)
    total = torch.tensor(0.0, dtype=torch.float64)
    for first in range(WORDS):
        for second in range(WORDS):
            pair = torch.tensor([first, second])
            samples = Samples(
                rewards[pair],
                2,
                sampling[pair][:, None],
                torch.ones(2, 1, dtype=torch.bool),
                ref[pair][:, None],
            )
            log_z = method.from_rollout(samples)["log_z"]
            assert log_z[0] == log_z[1]
            total += sampling[pair].sum().exp() * log_z[0].exp()
    torch.testing.assert_close(total, (ref + rewards / method.beta).exp().sum())


def samples_of(scores: list[float], lengths: list[int], group: int) -> Samples:
    generator = torch.Generator().manual_seed(len(scores))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

    def values() -> Tensor:
        drawn = -torch.rand(mask.shape, generator=generator, dtype=torch.float64)
        return torch.where(mask, drawn, 0.0)

    return Samples(
        torch.tensor(scores, dtype=torch.float64), group, values(), mask, values(), values()
    )


def test_credits_of_grpo_by_hand() -> None:
    samples = samples_of([1.0, 3.0, 5.0, 5.0], [2, 1, 3, 2], 2)
    values = GRPO().from_rollout(samples)
    deviation = math.sqrt(2.0)
    expected = torch.tensor([-1.0, 1.0, 0.0, 0.0], dtype=torch.float64) / (deviation + 1e-4)
    expected[2:] = 0.0
    torch.testing.assert_close(values["credit"], expected[:, None] * samples.response_mask)
    assert values["mean_length"].tolist() == [2.0] * 4
    plain = GRPO(scale="none").from_rollout(samples)["credit"]
    assert plain[:2, 0].tolist() == [-1.0, 1.0]


def test_credits_of_rto_by_hand() -> None:
    """Without token rewards only the last token has one: credit is the lead over the others."""
    samples = samples_of([2.0, -20.0, 1.0, 1.0], [1, 3, 2, 2], 2)
    method = RTO(beta=0.0, kl_weight=0.0)
    credit = method.from_rollout(samples)["credit"]
    # Scores are clipped to ±10; a sample that has ended has nothing left at later tokens.
    expected = [[12.0, 0.0, 0.0], [-12.0, -10.0, -10.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert credit.tolist() == expected


@given(
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    st.lists(st.integers(1, 6), min_size=4, max_size=4),
    st.floats(-100, 100),
)
def test_a_constant_reward_changes_no_credit(
    scores: list[float], lengths: list[int], shift: float
) -> None:
    """Credits compare the samples of a prompt; RTO clips rewards, so it is left at their size."""
    one = GRPO(scale="none").from_rollout(samples_of(scores, lengths, 4))["credit"]
    other = samples_of([score + shift for score in scores], lengths, 4)
    torch.testing.assert_close(GRPO(scale="none").from_rollout(other)["credit"], one)
    # Sums of credits over a group vanish where all samples have a token.
    rto = RTO().from_rollout(samples_of(scores, lengths, 4))["credit"]
    assert abs(float(rto[:, 0].sum())) < 1e-9


@pytest.mark.parametrize("method", [GRPO(beta=0.0), RTO(), FDPG()], ids=lambda m: m.name)
def test_at_the_sampling_policy_the_gradient_is_the_policy_gradient(method: SampledMethod) -> None:
    """Clipping and importance weights are 1 where the policy has not moved."""
    log_probs = draw(1).log_softmax(0).requires_grad_()
    credit = draw(6)
    stats = stats_of_all_words(
        log_probs,
        log_probs.detach(),
        draw(2).log_softmax(0),
        scores=draw(3),
        credit=credit,
        mean_length=torch.ones(WORDS, dtype=torch.float64),
        log_z=torch.zeros(WORDS, dtype=torch.float64),
        baseline=torch.zeros(WORDS, dtype=torch.float64),
    )
    losses, _ = method.sample_loss(stats)
    losses.sum().backward()
    worth = -credit
    if isinstance(method, FDPG):
        assert stats.scores is not None and stats.ref_logps is not None
        distance = log_probs.detach() - stats.ref_logps[:, 0] - stats.scores / method.beta
        worth = method.derivative(distance)
    torch.testing.assert_close(log_probs.grad, worth)


def test_a_ratio_beyond_the_limit_has_no_gradient_in_that_direction() -> None:
    sampling = torch.full((WORDS,), -2.0, dtype=torch.float64)
    log_probs = (sampling + torch.tensor([0.5, 0.5, -0.5, -0.5, 0.0, 0.0])).requires_grad_()
    credit = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    stats = stats_of_all_words(
        log_probs,
        sampling,
        sampling,
        credit=credit,
        mean_length=torch.ones(WORDS, dtype=torch.float64),
    )
    losses, metrics = GRPO(beta=0.0, epsilon=0.2).sample_loss(stats)
    losses.sum().backward()
    assert log_probs.grad is not None
    assert (log_probs.grad != 0).tolist() == [False, True, True, False, True, True]
    assert metrics["grpo/clipped"].tolist() == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
