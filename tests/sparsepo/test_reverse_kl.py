"""The values besides log-probabilities and forward KL: the other KL, and the sum of squares."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsepo.fused import FusedStats, LogitTransform, token_stats
from tests.sparsepo.test_fused import KEEPS, Products, allocated, example

TRANSFORMS = [LogitTransform(), LogitTransform(0.5), LogitTransform(1.0, 3.0)]


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def transformed(logits: Tensor, transform: LogitTransform) -> Tensor:
    if transform.cap is None:
        return logits * transform.scale
    return transform.cap * torch.tanh(logits * transform.scale / transform.cap)


def with_reverse_kl(**options: Any) -> tuple[FusedStats, Tensor]:
    found: list[Tensor] = []
    stats = token_stats(**options, reverse_kl=found)
    (values,) = found
    return stats, values


@KEEPS
@pytest.mark.parametrize("kl", [True, False], ids=["with the forward KL", "alone"])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("chunk", "elements"), [(1, 8), (4, 8), (100, 10_000)])
def test_reverse_kl_and_its_gradient_are_those_of_plain_autograd(
    transform: LogitTransform, chunk: int, elements: int, kl: bool, keep_bytes: int
) -> None:
    x: dict[str, Any] = example()
    names = ("policy_hidden", "policy_head", "policy_bias")
    weights = [torch.linspace(-1, 2, 7, dtype=torch.float64) + n for n in range(3)]
    weights[0][2] = 0  # a token that receives no gradient from the reverse KL
    gradients = []
    for fused in (True, False):
        leaves = {name: x[name].clone().requires_grad_() for name in names}
        if fused:
            stats, values = with_reverse_kl(
                **{**x, **leaves},
                need_kl=kl,
                policy_transform=transform,
                ref_transform=transform,
                chunk_size=chunk,
                block_elements=elements,
                keep_bytes=keep_bytes,
            )
            logps, forward = stats.policy_logps, stats.kl
        else:
            logits = leaves["policy_hidden"] @ leaves["policy_head"].T + leaves["policy_bias"]
            ours = transformed(logits, transform).log_softmax(-1)
            ref_logits = x["ref_hidden"] @ x["ref_head"].T + x["ref_bias"]
            theirs = transformed(ref_logits, transform).log_softmax(-1)
            values = (ours.exp() * (ours - theirs)).sum(-1)
            forward = (theirs.exp() * (theirs - ours)).sum(-1)
            logps = ours.gather(-1, x["targets"][:, None])[:, 0]
        loss = (values * weights[0]).sum() + (logps * weights[1]).sum()
        if kl:
            assert forward is not None
            loss = loss + (forward * weights[2]).sum()
        gradients.append([values, *torch.autograd.grad(loss, list(leaves.values()))])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)


@KEEPS
def test_a_token_that_receives_a_gradient_from_the_reverse_kl_alone(keep_bytes: int) -> None:
    x: dict[str, Any] = example()
    hidden = x["policy_hidden"].requires_grad_()
    _, values = with_reverse_kl(**x, chunk_size=3, keep_bytes=keep_bytes)
    (gradient,) = torch.autograd.grad(values[4], hidden)
    ours = (hidden @ x["policy_head"].T + x["policy_bias"]).log_softmax(-1)
    theirs = (x["ref_hidden"] @ x["ref_head"].T + x["ref_bias"]).log_softmax(-1)
    (expected,) = torch.autograd.grad((ours.exp() * (ours - theirs)).sum(-1)[4], hidden)
    torch.testing.assert_close(gradient, expected)
    assert gradient[4].any() and not gradient[:4].any() and not gradient[5:].any()


@KEEPS
@pytest.mark.parametrize("both", [True, False], ids=["by both", "by the policy"])
def test_words_that_are_ruled_out_add_nothing(both: bool, keep_bytes: int) -> None:
    """A -inf logit of the policy: 0 · log 0 = 0, and no NaN in the gradient."""
    x: dict[str, Any] = example()
    x["policy_bias"][2] = -torch.inf
    if both:
        x["ref_bias"][2] = -torch.inf
    x["targets"] = torch.where(x["targets"] == 2, 3, x["targets"])
    hidden = x["policy_hidden"].requires_grad_()
    _, values = with_reverse_kl(**x, chunk_size=3, block_elements=12, keep_bytes=keep_bytes)
    rest = torch.arange(11) != 2
    ours = (hidden @ x["policy_head"].T + x["policy_bias"])[:, rest].log_softmax(-1)
    theirs = (x["ref_hidden"] @ x["ref_head"].T + x["ref_bias"]).log_softmax(-1)[:, rest]
    expected = (ours.exp() * (ours - theirs)).sum(-1)
    torch.testing.assert_close(values, expected)
    gradients = [torch.autograd.grad(value.sum(), hidden)[0] for value in (values, expected)]
    torch.testing.assert_close(*gradients)


def test_it_is_not_negative_where_both_agree() -> None:
    x: dict[str, Any] = example(tokens=200, width=5, ref_width=5, dtype=torch.float32)
    for name in ("hidden", "head", "bias"):
        x[f"ref_{name}"] = x[f"policy_{name}"].clone()
    _, values = with_reverse_kl(**x)
    assert (values >= 0).all() and values.max() < 1e-5


def test_without_a_reference_there_is_none() -> None:
    x: dict[str, Any] = example()
    found: list[Tensor] = []
    ref = {"ref_hidden": None, "ref_head": None, "ref_bias": None}
    token_stats(**{**x, **ref}, reverse_kl=found)
    assert not found


@KEEPS
def test_it_takes_no_further_matrix_product_in_the_forward_pass(keep_bytes: int) -> None:
    x: dict[str, Any] = example(tokens=64, vocabulary=300, width=16, ref_width=8)
    # With a frozen head, log π(y) alone needs no blocks in the backward pass.
    x["policy_head"].requires_grad_()
    counts = []
    for reverse in (None, []):
        x["policy_hidden"] = x["policy_hidden"].detach().requires_grad_()
        with Products() as products:
            stats = token_stats(**x, need_kl=False, reverse_kl=reverse, keep_bytes=keep_bytes)
            loss = stats.policy_logps.sum() + (reverse[0].sum() if reverse else 0)
            loss.backward()
        counts.append(products.elements)
    # If blocks are recomputed, the reference's are too: its logits are part of the gradient.
    assert counts[1] - counts[0] == (64 * 300 * 8 if keep_bytes == 0 else 0)


def test_its_memory_does_not_grow_with_tokens_times_vocabulary() -> None:
    vocabulary, chunk = 1000, 32
    few, many = (
        allocated(tokens, vocabulary, chunk, keep_bytes=0, reverse=True) for tokens in (128, 1024)
    )
    assert few.largest == many.largest == chunk * vocabulary * 4
    assert many.peak - few.peak < 1024 * 4 * 4 * 8
    whole = 256 * vocabulary * 4 * 2
    kept = allocated(256, vocabulary, chunk, keep_bytes=whole, reverse=True)
    recomputed = allocated(256, vocabulary, chunk, keep_bytes=0, reverse=True)
    assert whole <= kept.peak < recomputed.peak + whole


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("elements", [1, 8, 10_000])
def test_the_sum_of_squares_comes_from_the_same_pass(
    transform: LogitTransform, elements: int
) -> None:
    hidden, head = drawn(7, 5).requires_grad_(), 4 * drawn(11, 5)
    targets = torch.arange(7)
    plain = token_stats(hidden, head, None, None, targets, 3, policy_transform=transform)
    found: list[Tensor] = []
    fused = token_stats(
        hidden,
        head,
        None,
        None,
        targets,
        3,
        block_elements=elements,
        policy_transform=transform,
        log_sum_sq_probs=found,
    )
    expected = transformed(hidden.detach() @ head.T, transform).log_softmax(-1)
    torch.testing.assert_close(found[0], (2 * expected).logsumexp(-1))
    assert not found[0].requires_grad
    torch.testing.assert_close(fused.policy_logps, plain.policy_logps)
    gradients = [torch.autograd.grad(s.policy_logps.sum(), hidden)[0] for s in (plain, fused)]
    torch.testing.assert_close(*gradients)
