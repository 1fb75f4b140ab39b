"""Checks that stop a faulty training run with a one-sentence error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sparsepo.distributed.processes import collected, maximum
from sparsepo.errors import DivergedError, UserError
from sparsepo.methods.base import Needs
from sparsepo.types import TokenStats

STEP_ZERO_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest |log-ratio| of a token at step 0, in nats; half precisions get HALF_TOLERANCE."""

HALF_TOLERANCE = 0.5
"""For float16 and bfloat16: two runs of the same weights may use different kernels."""


def check_sizes(
    policy: PreTrainedModel, reference: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Check that a policy, its reference and a tokenizer have matching vocabularies.

    Raises:
        UserError: they do not match.
    """
    vocabulary = policy.get_output_embeddings().weight.shape[0]
    if len(tokenizer) > vocabulary:
        raise UserError(
            f"The tokenizer has {len(tokenizer)} tokens and the model {vocabulary}; use the "
            "model's own tokenizer or resize its embeddings."
        )
    if reference is None:
        return
    ref_vocabulary = reference.get_output_embeddings().weight.shape[0]
    if ref_vocabulary != vocabulary:
        raise UserError(
            f"Policy and reference have different vocabularies ({vocabulary} and "
            f"{ref_vocabulary} tokens); they must come from the same model family."
        )


def check_optimizer(
    optimizers: tuple[torch.optim.Optimizer | None, object], policy: PreTrainedModel, needs: Needs
) -> None:
    """Check that a user's optimizer contains all trained weights.

    Args:
        optimizers: an optimizer and a learning rate schedule, either of which may be None.
        policy: the policy, with its adapters.
        needs: the method's needs.

    Raises:
        UserError: weights are missing, or a schedule lacks those of masks or critic.
    """
    optimizer, schedule = optimizers
    masks = needs.mask in ("learned-common", "learned-independent")
    if schedule is not None and (masks or needs.values):
        whose = "masks'" if masks else "critic's"
        raise UserError(
            f"The given learning rate schedule does not cover the {whose} weights, which are added "
            "to the optimizer; give only the optimizer and set lr_scheduler_type."
        )
    if optimizer is None:
        return
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    trained = [name for name, weight in policy.named_parameters() if weight.requires_grad]
    missing = [name for name in trained if id(policy.get_parameter(name)) not in held]
    if missing:
        raise UserError(
            f"The optimizer lacks {len(missing)} of {len(trained)} trained weights ({missing[0]} "
            "…); create it from the parameters of the model that you pass, with its adapters, or "
            "leave optimizers out."
        )


def check_start(
    accelerator: Accelerator,
    sides: Iterable[TokenStats | None],
    dtype: torch.dtype,
    *,
    within_policy: bool,
    again: Callable[[], Iterable[TokenStats | None]],
    in_evaluation: Callable[[], Iterable[TokenStats | None]],
) -> None:
    """Check at step 0 that the reference is the policy's start: log-ratio 0 on every token.

    Args:
        accelerator: connects the run's processes; its mixed precision counts as a half type.
        sides: statistics of the step's responses.
        dtype: of the policy's weights.
        within_policy: the reference is the policy with other adapters, or with none.
        again: computes the same statistics once more, in training mode.
        in_evaluation: computes them in evaluation mode, as the reference does.

    Raises:
        UserError: a token's |log-ratio| is above the dtype's tolerance; the message says whether
            the weights differ or the policy's training mode does.
    """
    sides = list(sides)
    half = accelerator.mixed_precision in ("fp16", "bf16")
    tolerance = HALF_TOLERANCE if half else STEP_ZERO_TOLERANCE.get(dtype, HALF_TOLERANCE)
    ratio = _largest_ratio(accelerator, sides)
    if not ratio > tolerance:
        # NaN is reported by the check of the losses.
        return
    with torch.no_grad():
        random = _largest_change(accelerator, sides, list(again())) > tolerance
        by_mode = _largest_ratio(accelerator, list(in_evaluation())) <= tolerance
    cause, remedy = "The reference is not the initial policy", "leave ref_model out"
    if within_policy and (random or not by_mode):
        remedy = "disable the adapters' dropout or merge previously trained adapters"
    elif random:
        cause = "The policy is random in training mode, as with dropout or a router's noise"
        remedy = "set disable_dropout=true and the model's own noise options to 0"
    elif by_mode:
        cause = "The policy gives different results in training mode than in evaluation mode"
        remedy = "use another model"
    raise UserError(
        f"{cause}: at step 0 a token's log-ratio to the reference is {ratio:.2g} nats, above "
        f"{tolerance:g}; {remedy}, or set check_reference=false if that is intended."
    )


def _largest_ratio(accelerator: Accelerator, sides: Sequence[TokenStats | None]) -> float:
    """Return the largest |log-ratio| of a token, over all processes."""
    ratios = [
        (stats.policy_logps - stats.ref_logps).abs().max()
        for stats in sides
        if stats is not None and stats.ref_logps is not None
    ]
    return maximum(accelerator, torch.stack(ratios)) if ratios else 0.0


def _largest_change(
    accelerator: Accelerator,
    first: Sequence[TokenStats | None],
    second: Sequence[TokenStats | None],
) -> float:
    """Return the largest change of a token's log-probability, over all processes."""
    changes = [
        (one.policy_logps - other.policy_logps).abs().max()
        for one, other in zip(first, second, strict=True)
        if one is not None and other is not None
    ]
    return maximum(accelerator, torch.stack(changes))


def check_finite(
    accelerator: Accelerator,
    losses: Sequence[tuple[list[str], Float[Tensor, " pairs"]]],
    step: int,
) -> None:
    """Check that the losses of a step's pairs are finite in all processes.

    Args:
        accelerator: connects the run's processes.
        losses: (ids, losses) of the pairs of each micro-batch.
        step: steps taken before.

    Raises:
        DivergedError: one is not; the message names the pairs.
    """
    finite = torch.cat([values for _, values in losses]).isfinite()
    if maximum(accelerator, ~finite) == 0:
        return
    pair_ids = [pair for names, _ in losses for pair in names]
    own = [pair for pair, ok in zip(pair_ids, finite.tolist(), strict=True) if not ok]
    bad = collected(accelerator, own)
    raise DivergedError(
        f"The loss is not finite at step {step} for {'pair' if len(bad) == 1 else 'pairs'} "
        f"{', '.join(bad)}; training stopped and the last checkpoint is kept: lower the learning "
        "rate or check these rows."
    )
