"""What a step of each method computes, counted in passes, and how far that explains its time.

A step's time has three parts: matrix products, element-wise work on tokens × vocabulary, and the
rest of the layers. A method's ratio to DPO is a mean of the three parts' ratios, so that it is at
most the largest of them, however much each part takes on a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.shapes import Shape
from sparsepo.methods import BUILT_IN, Method
from sparsepo.methods.base import Needs

PEER = "dpo"

NOISE = 0.05
"""A ratio that is above its explanation by this part of it is not told from one that is not."""

_NORMALISE = 4
"""Of a model's logits: their maximum, its subtraction, the exponential, the sum."""

_DOT = 2
"""A product and a sum."""


@dataclass(frozen=True)
class Passes:
    """What a step does; every pass is over all prompts and responses of its pairs, or responses."""

    policy: int
    """Forward passes of the policy's layers."""
    backward: int
    """Backward passes through the policy's layers."""
    reference: int
    """Forward passes of the reference's layers."""
    products: float
    """Matrix products of response tokens × vocabulary × width."""
    sweeps: float
    """Element-wise operations on response tokens × vocabulary."""


def passes_of(needs: Needs, recomputed: float = 0.0) -> Passes:
    """Return what a step of a method does.

    Args:
        needs: what the method reads.
        recomputed: share of the logits that the backward pass computes again, for want of memory.
    """
    models = 1 + needs.reference
    both = needs.kl or needs.reverse_kl
    # The backward pass multiplies probabilities by a factor per token, and has two products: onto
    # the hidden states, and onto the head.
    products, sweeps = models + 2.0, _NORMALISE * models + 1.0
    if needs.kl:
        # The difference of the logits, its mean, and the reference's part of the gradient.
        sweeps += 1 + _DOT + 1
    if needs.reverse_kl:
        # The same, but the gradient has the difference in it.
        sweeps += 1 + _DOT + 2
    if needs.log_sum_sq_probs:
        sweeps += _DOT
    # Logits again, and probabilities from them.
    products += recomputed * (1 + both)
    sweeps += recomputed * (2 + 2 * needs.kl + needs.reverse_kl)
    if needs.mismatched:
        products += 2
        sweeps += 2 * _NORMALISE
    return Passes(
        policy=1 + needs.mismatched + needs.importance,
        backward=1 + needs.importance,
        reference=needs.reference + needs.mismatched,
        products=products,
        sweeps=sweeps,
    )


def recomputed_share(needs: Needs, shape: Shape, keep_bytes: int) -> float:
    """Return the share of the logits that do not fit the memory for blocks.

    Args:
        needs: what the method reads.
        shape: the model and its pairs.
        keep_bytes: memory for blocks kept between the forward and the backward pass.
    """
    copies = 1 + needs.kl + needs.reverse_kl
    wanted = 4 * copies * _responses(needs, shape) * shape.vocabulary
    return max(0.0, 1 - keep_bytes / wanted)


def explained(cls: type[Method], shape: Shape, keep_bytes: int) -> float:
    """Return the largest ratio to DPO's step that a method's passes explain.

    Args:
        cls: the method.
        shape: the model and its pairs.
        keep_bytes: memory for blocks kept between the forward and the backward pass.
    """
    own, peer = (work(m.needs, shape, keep_bytes) for m in (cls, BUILT_IN[PEER]))
    return max(mine / theirs for mine, theirs in zip(own, peer, strict=True))


def work(needs: Needs, shape: Shape, keep_bytes: int) -> tuple[float, float, float]:
    """Return a step's multiplications, element-wise operations on logits, and tokens × layers.

    Attention's products, which are 1 to 3 % of a step at the shapes' lengths, are left out.

    Args:
        needs: what the method reads.
        shape: the model and its pairs.
        keep_bytes: memory for blocks kept between the forward and the backward pass.
    """
    passes = passes_of(needs, recomputed_share(needs, shape, keep_bytes))
    responses = _responses(needs, shape)
    tokens = shape.pairs * shape.prompt + responses
    layers = shape.layers * shape.block_weights()
    head = shape.vocabulary * shape.width
    through = passes.policy + passes.backward + passes.reference
    # Beside the gradients of states, the loss's backward pass has those of weights, which are as
    # many products. The influence of tokens needs no others than those of states.
    multiplications = layers * tokens * (through + 1) + head * responses * passes.products
    if needs.importance:
        multiplications += 2 * head * shape.pairs * (1 + needs.rejected)
    return (
        multiplications,
        responses * shape.vocabulary * passes.sweeps,
        shape.layers * tokens * through,
    )


def facts_of_passes(cls: type[Method], shape: Shape, keep_bytes: int) -> dict[str, Any]:
    """Return a method's passes and what they explain, as JSON data.

    Args:
        cls: the method.
        shape: the model and its pairs.
        keep_bytes: memory for blocks kept between the forward and the backward pass.
    """
    passes = passes_of(cls.needs, recomputed_share(cls.needs, shape, keep_bytes))
    return {
        "policy": passes.policy,
        "backward": passes.backward,
        "reference": passes.reference,
        "products": round(passes.products, 2),
        "sweeps": round(passes.sweeps, 2),
        "explained": round(explained(cls, shape, keep_bytes), 3),
    }


def explanation(cls: type[Method]) -> str:
    """Return what a method computes beyond DPO's step, or does not need to."""
    needs = cls.needs
    parts = [
        ("no reference", not needs.reference),
        ("no rejected responses", not needs.rejected),
        ("token KL, which reads the reference's distribution", needs.kl),
        ("reverse KL, which reads the reference's distribution", needs.reverse_kl),
        (f"masks ({needs.mask})", needs.mask != "none"),
        ("forward passes with other prompts", needs.mismatched),
        ("transport plans", needs.hidden),
        ("a forward and backward pass for the tokens' influence", needs.importance),
        ("log Σ π²", needs.log_sum_sq_probs),
    ]
    return "; ".join(text for text, holds in parts if holds)


def _responses(needs: Needs, shape: Shape) -> int:
    return shape.pairs * (1 + needs.rejected) * shape.response
