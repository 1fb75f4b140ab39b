"""The values besides log-probabilities and forward KL: the other KL, and the sum of squares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsepo.fused import LogitTransform, token_stats
from sparsepo.reverse_kl import reverse_kl

TRANSFORMS = [LogitTransform(), LogitTransform(0.5), LogitTransform(1.0, 3.0)]


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def transformed(logits: Tensor, transform: LogitTransform) -> Tensor:
    if transform.cap is None:
        return logits * transform.scale
    return transform.cap * torch.tanh(logits * transform.scale / transform.cap)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_reverse_kl_and_its_gradient_are_those_of_plain_autograd(
    transform: LogitTransform, chunk: int
) -> None:
    hidden, head, bias = drawn(7, 5), drawn(11, 5), drawn(11)
    ref_hidden, ref_head = drawn(7, 6), drawn(11, 6)
    gradients = []
    for fused in (True, False):
        leaves = [value.clone().requires_grad_() for value in (hidden, head, bias)]
        if fused:
            values = reverse_kl(
                leaves[0],
                leaves[1],
                ref_hidden,
                ref_head,
                policy_bias=leaves[2],
                policy_transform=transform,
                ref_transform=transform,
                chunk_size=chunk,
            )
        else:
            ours = transformed(leaves[0] @ leaves[1].T + leaves[2], transform).log_softmax(-1)
            theirs = transformed(ref_hidden @ ref_head.T, transform).log_softmax(-1)
            values = (ours.exp() * (ours - theirs)).sum(-1)
        weight = torch.linspace(-1, 2, 7, dtype=torch.float64)
        gradients.append([values, *torch.autograd.grad((values * weight).sum(), leaves)])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)


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
