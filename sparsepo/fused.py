"""The fused operation: hidden states and output projections → per-token statistics.

Shapes: N tokens, d and e hidden sizes of policy and reference, V vocabulary size; a block of logits
is n of the tokens × v of the vocabulary.

Logits exist one block at a time, small enough for a CPU's cache, where the dozen element-wise steps
between projection and result are cheap. Beyond its inputs and outputs the operation holds only a
few blocks, regardless of the number of tokens and the size of the vocabulary. The forward pass
combines the blocks' sums as an online softmax does. The backward pass recomputes the blocks, except
those kept within a given memory budget, and skips tokens that receive no gradient: tokens that a
sparse mask removes from the loss need no backward computation.

If the projection is frozen and only log π(y) is differentiated, there are no blocks in the backward
pass at all: d log π(y) / dh = W_y − Σ_v π(v) W_v, and the forward pass sums up this expectation as
attention does with its values.
Everything between the projection and the results is computed in float32 or wider.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparsepo.machine import cache_bytes, device_bytes, memory_bytes

BLOCK_ELEMENTS = {"cpu": 2**20, "cuda": 2**27}
"""Logits per block, by device type. On a CPU up to as many are one block on every machine, so that
results of small models do not depend on it; a GPU needs 512 MB to be fully occupied, and may have
less. `block_elements_on` decides."""

CHUNK_SIZE = {"cpu": 512, "cuda": 2048}
"""Tokens per block, by device type."""

KEEP_BYTES = {"cpu": 2**28, "cuda": 2**30}
"""Memory for blocks kept between the forward and the backward pass, the least on a CPU and the most
on a GPU: with a vocabulary of 50,000, the blocks of 670 and 2,700 tokens. `keep_bytes_on`
decides."""

_CACHE_SHARE = 8
"""A block takes this part of a CPU's cache: policy, reference, their difference and the weights are
needed together."""

_LARGEST_BLOCK = 2**22
"""Logits per block on a CPU with a very large cache, which many cores share."""

_KEEP_SHARE = 64
"""Kept blocks take this part of the memory."""

_GPU_BLOCK_SHARE = 64
"""A block takes at most this part of a GPU's memory."""

_FALLBACK = "cuda"
"""Other accelerators use the values of a GPU."""


def block_elements_on(device: torch.device, whole: int | None = None) -> int:
    """Return the number of logits per block: as many as a cache holds, or as occupy a GPU.

    Args:
        device: where they are computed.
        whole: tokens × vocabulary, if known; few enough are one block on every machine.
    """
    kind = _kind(device)
    if device.type == "cpu":
        if whole is not None and whole <= BLOCK_ELEMENTS[kind]:
            return BLOCK_ELEMENTS[kind]
        return min(_LARGEST_BLOCK, cache_bytes() // (4 * _CACHE_SHARE))
    if device.type == "cuda":
        fitting = device_bytes(device) // (4 * _GPU_BLOCK_SHARE)
        return min(BLOCK_ELEMENTS[kind], fitting)
    return BLOCK_ELEMENTS[kind]


def keep_bytes_on(device: torch.device) -> int:
    """Return the memory for blocks kept between the forward and the backward pass."""
    kind = _kind(device)
    if device.type == "cpu":
        return max(KEEP_BYTES[kind], memory_bytes() // _KEEP_SHARE)
    if device.type == "cuda":
        return min(KEEP_BYTES[kind], device_bytes(device) // _KEEP_SHARE)
    return KEEP_BYTES[kind]


def _kind(device: torch.device) -> str:
    return device.type if device.type in CHUNK_SIZE else _FALLBACK


class FusedStats(NamedTuple):
    """Per-token results in nats, float32 or wider; None for what was not computed."""

    policy_logps: Float[Tensor, " N"]
    ref_logps: Float[Tensor, " N"] | None
    kl: Float[Tensor, " N"] | None


class LogitTransform(NamedTuple):
    """A model's transform f of the projection's output l: scale·l, or cap·tanh(scale·l / cap)."""

    scale: float = 1.0
    cap: float | None = None

    def apply_(self, logits: Float[Tensor, "n v"]) -> Float[Tensor, "n v"]:
        """Transform logits in place."""
        if self.cap is not None:
            return logits.mul_(self.scale / self.cap).tanh_().mul_(self.cap)
        return logits if self.scale == 1 else logits.mul_(self.scale)

    def slope(self, logits: Float[Tensor, "..."]) -> Float[Tensor, "..."] | None:
        """Return f′ = scale·(1 − (f / cap)²) from transformed logits f; None if it is constant."""
        if self.cap is None:
            return None
        return (logits / self.cap).square_().neg_().add_(1).mul_(self.scale)


IDENTITY = LogitTransform()


class _Head(NamedTuple):
    """The inputs of one model."""

    hidden: Float[Tensor, "N d"]
    weight: Float[Tensor, "V d"]
    bias: Float[Tensor, " V"] | None
    transform: LogitTransform

    def rows(self, index: slice | Tensor) -> _Head:
        return self._replace(hidden=self.hidden[index])

    def logits(self, columns: slice) -> Float[Tensor, "n v"]:
        bias = None if self.bias is None else self.bias[columns]
        logits = torch.nn.functional.linear(self.hidden, self.weight[columns], bias)
        return self.transform.apply_(logits.to(torch.promote_types(logits.dtype, torch.float32)))


class _Normaliser:
    """Computes log Σ_v exp(l_v) of n tokens from blocks of their logits.

    Args:
        blocks: number of blocks of the vocabulary.
        tokens: number of tokens n.
        like: a tensor with the dtype and device of the sums.
    """

    def __init__(self, blocks: int, tokens: int, like: Tensor) -> None:
        self.maxima = like.new_empty(blocks, tokens)
        self.sums = torch.empty_like(self.maxima)

    def add(self, block: int, logits: Float[Tensor, "n v"]) -> Float[Tensor, "n v"]:
        """Replace a block's logits l by exp(l − max l), in place; record maximum and sum."""
        # Clamped because a block of only -inf would give exp(-inf + inf) = NaN.
        maximum = logits.amax(1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)
        weights = logits.sub_(maximum).exp_()
        self.maxima[block] = maximum[:, 0]
        self.sums[block] = weights.sum(1)
        return weights

    def join(self) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return the largest logit and Σ_v exp(l_v − largest)."""
        largest = self.maxima.amax(0)
        return largest, ((self.maxima - largest).exp() * self.sums).sum(0)


class _MeanWeight:
    """Computes Σ_v π(v) f′_v W_v of n tokens from blocks of exp(l − max l).

    Args:
        tokens: number of tokens n.
        head: the projection W.
        like: a tensor with the dtype and device of the sums.
    """

    def __init__(self, tokens: int, head: Tensor, like: Tensor) -> None:
        self._head = head
        self._maximum = like.new_full((tokens, 1), torch.finfo(like.dtype).min)
        self._total = like.new_zeros(tokens, head.shape[1])

    def add(
        self,
        weights: Float[Tensor, "n v"],
        maximum: Float[Tensor, " n"],
        slope: Float[Tensor, "n v"] | None,
        columns: slice,
    ) -> None:
        """Add a block, given relative to its own maximum."""
        larger = torch.maximum(self._maximum, maximum[:, None])
        self._total *= (self._maximum - larger).exp_()
        self._maximum = larger
        factors = weights if slope is None else slope.mul_(weights)
        product = factors.to(self._head.dtype) @ self._head[columns]
        self._total.addcmul_(product.to(self._total.dtype), (maximum[:, None] - larger).exp_())

    def over(self, summed: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Return the mean, given Σ_v exp(l_v − largest)."""
        return self._total.div_(summed[:, None])


class _Kept(NamedTuple):
    """A block kept by the forward pass: π and π_ref, each up to a scale per token."""

    policy: Float[Tensor, "n v"]
    ref: Float[Tensor, "n v"] | None
    slope: Float[Tensor, "n v"] | None
    """Derivative of the policy's soft cap, which cannot be computed from its probabilities."""
    gap: Float[Tensor, "n v"] | None
    """Policy logits − reference logits, which the reverse KL differentiates."""


class _TokenStats(torch.autograd.Function):
    """Forward and backward pass of `token_stats`, which documents the arguments."""

    @staticmethod
    def forward(
        ctx: Any,
        policy_hidden: Tensor,
        policy_head: Tensor,
        policy_bias: Tensor | None,
        ref_hidden: Tensor | None,
        ref_head: Tensor | None,
        ref_bias: Tensor | None,
        targets: Tensor,
        chunk_size: int,
        block_elements: int,
        need_kl: bool,
        keep_bytes: int,
        policy_transform: LogitTransform,
        ref_transform: LogitTransform,
        need_squares: bool,
        need_reverse_kl: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        policy = _Head(policy_hidden, policy_head, policy_bias, policy_transform)
        ref = None
        if ref_hidden is not None and ref_head is not None:
            ref = _Head(ref_hidden, ref_head, ref_bias, ref_transform)
        dtype = torch.promote_types(policy_hidden.dtype, torch.float32)
        logps = policy_hidden.new_empty(len(targets), dtype=dtype)
        total = torch.empty_like(logps)
        ref_logps = torch.empty_like(logps) if ref is not None else None
        ref_total = torch.empty_like(logps) if ref is not None else None
        kl = torch.empty_like(logps) if ref is not None and need_kl else None
        log_squares = torch.empty_like(logps) if need_squares else None
        reverse_kl = torch.empty_like(logps) if ref is not None and need_reverse_kl else None
        mean_gap = None if reverse_kl is None else torch.empty_like(logps)
        target_slope = torch.empty_like(logps) if policy_transform.cap is not None else None
        needs_hidden, needs_head, needs_bias = ctx.needs_input_grad[:3]
        # The gradient of a KL needs the blocks of both models, which a sparse mask can skip.
        ahead = needs_hidden and not (needs_head or needs_bias)
        ahead = ahead and kl is None and reverse_kl is None
        mean_weight = None
        if ahead:
            mean_weight = torch.empty_like(policy_hidden, dtype=dtype)
        budget = keep_bytes if any(ctx.needs_input_grad) and not ahead else 0
        # A block of π, plus one of π_ref for the KL, one of gaps for the reverse KL, and one of
        # slopes for a soft cap.
        copies = 1 + (kl is not None) + (reverse_kl is not None)
        copies += policy_transform.cap is not None
        kept: dict[tuple[int, int], _Kept] = {}
        scales: dict[int, tuple[Tensor, Tensor | None]] = {}
        vocabulary = policy_head.shape[0]
        for start in range(0, len(targets), chunk_size):
            part = slice(start, start + chunk_size)
            target = targets[part]
            blocks = _vocabulary_blocks(vocabulary, len(target), block_elements)
            policy_rows = policy.rows(part)
            ref_rows = ref.rows(part) if ref is not None else None
            sums = _Normaliser(len(blocks), len(target), logps)
            means = _MeanWeight(len(target), policy_head, logps) if ahead else None
            ref_sums = None if ref_rows is None else _Normaliser(len(blocks), len(target), logps)
            differences = torch.zeros_like(sums.sums)
            squares = torch.zeros_like(sums.sums) if need_squares else None
            gaps = None if reverse_kl is None else torch.zeros_like(sums.sums)
            at_target, ref_at_target = torch.zeros_like(logps[part]), torch.zeros_like(logps[part])
            for block, columns in enumerate(blocks):
                logits = policy_rows.logits(columns)
                _pick(at_target, logits, target, columns)
                size = copies * logits.nbytes
                keep = size <= budget
                slope = policy_transform.slope(logits) if keep or means is not None else None
                ref_weights, gap = None, None
                if ref_rows is not None and ref_sums is not None:
                    ref_logits = ref_rows.logits(columns)
                    _pick(ref_at_target, ref_logits, target, columns)
                    difference = None
                    if kl is not None:
                        difference = ref_logits - logits
                        if policy_rows.bias is not None or ref_rows.bias is not None:
                            # A bias of -inf excludes a token; a token that the reference
                            # excludes contributes nothing to the sum.
                            difference.nan_to_num_(nan=0.0, posinf=torch.inf, neginf=0.0)
                    if gaps is not None:
                        gap = _gap(policy_rows, ref_rows, logits, ref_logits)
                    weights = ref_sums.add(block, ref_logits)
                    if difference is not None:
                        differences[block] = torch.linalg.vecdot(weights, difference)
                        ref_weights = weights
                policy_weights = sums.add(block, logits)
                if means is not None:
                    means.add(policy_weights, sums.maxima[block], slope, columns)
                if squares is not None:
                    squares[block] = torch.linalg.vecdot(policy_weights, policy_weights)
                if gaps is not None and gap is not None:
                    gaps[block] = torch.linalg.vecdot(policy_weights, gap)
                if keep:
                    budget -= size
                    kept[start, block] = _Kept(policy_weights, ref_weights, slope, gap)
            largest, summed = sums.join()
            total[part] = largest + summed.log()
            if means is not None and mean_weight is not None:
                mean_weight[part] = means.over(summed)
            logps[part] = at_target - total[part]
            if squares is not None and log_squares is not None:
                # Σ_v π² from the blocks' sums, each relative to its own largest logit.
                joined = ((2 * (sums.maxima - largest)).exp() * squares).sum(0)
                log_squares[part] = joined.log() - 2 * summed.log()
            if target_slope is not None:
                slope = policy_transform.slope(at_target)
                assert slope is not None
                target_slope[part] = slope
            ref_scale = None
            if ref_sums is not None and ref_logps is not None and ref_total is not None:
                ref_largest, ref_summed = ref_sums.join()
                ref_total[part] = ref_largest + ref_summed.log()
                ref_logps[part] = ref_at_target - ref_total[part]
                ref_scale = (ref_sums.maxima - ref_total[part]).exp_()
                if kl is not None:
                    # KL = E_ref[l_ref − l] − log(Z_ref/Z). The ratio of the sums keeps digits that
                    # the difference of two logarithms near log V would lose. If both distributions
                    # agree, rounding can still give -1e-8.
                    expected = (ref_scale * differences).sum(0)
                    ratio = (ref_largest - largest) + (ref_summed / summed).log()
                    kl[part] = (expected - ratio).clamp_(min=0)
                if reverse_kl is not None and mean_gap is not None and gaps is not None:
                    # KL(π ‖ π_ref) = E_π[l − l_ref] − log(Z/Z_ref).
                    mean_gap[part] = ((sums.maxima - total[part]).exp_() * gaps).sum(0)
                    ratio = (largest - ref_largest) + (summed / ref_summed).log()
                    reverse_kl[part] = (mean_gap[part] - ratio).clamp_(min=0)
            if any((start, block) in kept for block in range(len(blocks))):
                scales[start] = ((sums.maxima - total[part]).exp_(), ref_scale)
        ctx.save_for_backward(
            *policy[:3],
            *(ref[:3] if ref is not None else (None, None, None)),
            targets,
            total,
            ref_total,
            target_slope,
            mean_gap,
            mean_weight,
        )
        ctx.transforms = policy_transform, ref_transform
        ctx.kept, ctx.scales = kept, scales
        ctx.chunk_size, ctx.block_elements = chunk_size, block_elements
        ctx.has_kl, ctx.has_reverse_kl = kl is not None, reverse_kl is not None
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(v for v in (ref_logps, log_squares) if v is not None))
        return logps, ref_logps, kl, log_squares, reverse_kl

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,
        grad_logps: Tensor | None,
        _grad_ref: Tensor | None,
        grad_kl: Tensor | None,
        _grad_squares: Tensor | None,
        grad_reverse_kl: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        transform, ref_transform = ctx.transforms
        policy = _Head(saved[0], saved[1], saved[2], transform)
        ref = _Head(saved[3], saved[4], saved[5], ref_transform)
        targets, total, ref_total, target_slope, mean_gap, mean_weight = saved[6:]
        # d log π(y)/d logits = onehot(y) − π;  d KL(π_ref ‖ π)/d logits = π − π_ref;
        # d KL(π ‖ π_ref)/d logits = π (gap − E_π[gap]), gap = l − l_ref. All are multiplied by the
        # transform's derivative: a soft cap's in each block, a scale as part of the factors per
        # token.
        scale = transform.scale if transform.cap is None else 1.0
        onto_target = torch.zeros_like(total) if grad_logps is None else grad_logps
        onto_ref = grad_kl if ctx.has_kl else None
        onto_policy = -onto_target if onto_ref is None else onto_ref - onto_target
        onto_gap = grad_reverse_kl if ctx.has_reverse_kl else None
        if onto_gap is not None:
            onto_policy = onto_policy - onto_gap * mean_gap
        needs_hidden, needs_head, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(policy.hidden, dtype=total.dtype) if needs_hidden else None
        # The first chunk overwrites it, because zeroing a tensor as large as the head is expensive.
        grad_head = torch.empty_like(policy.weight, dtype=total.dtype) if needs_head else None
        written = False
        grad_bias = None
        if needs_bias and policy.bias is not None:
            grad_bias = torch.zeros_like(policy.bias, dtype=total.dtype)
        chunks = range(0, len(targets), ctx.chunk_size)
        if mean_weight is not None and grad_hidden is not None:
            torch.mul(mean_weight, (onto_policy * scale)[:, None], out=grad_hidden)
            chunks = range(0)
        for start in chunks:
            part = torch.arange(start, min(start + ctx.chunk_size, len(targets)))
            part = part.to(targets.device)
            reached = onto_policy[part] != 0
            if onto_ref is not None:
                reached |= onto_ref[part] != 0
            if onto_gap is not None:
                reached |= onto_gap[part] != 0
            rows = reached.nonzero()[:, 0]
            all_rows = len(rows) == len(part)
            part = part[rows]
            if not len(part):
                continue
            policy_rows = policy.rows(part)
            reads_ref = onto_ref is not None or onto_gap is not None
            ref_rows = ref.rows(part) if reads_ref else None
            factor = onto_policy[part, None] * scale
            norm = total[part, None]
            ref_factor = None if onto_ref is None else onto_ref[part, None] * scale
            ref_norm: Any = None if onto_ref is None else ref_total[part, None]
            gap_factor = None if onto_gap is None else onto_gap[part, None] * scale
            blocks = _vocabulary_blocks(len(policy.weight), len(reached), ctx.block_elements)
            part_hidden = None if grad_hidden is None else torch.empty_like(grad_hidden[part])
            for block, columns in enumerate(blocks):
                kept = ctx.kept.pop((start, block), None)
                if kept is None:
                    logits = policy_rows.logits(columns)
                    slope = transform.slope(logits)
                    ref_logits = None if ref_rows is None else ref_rows.logits(columns)
                    gap = None
                    if gap_factor is not None:
                        gap = _gap(policy_rows, ref_rows, logits, ref_logits)
                    grad = logits.sub_(norm).exp_()
                    grad *= _policy_factor(factor, gap, gap_factor)
                    if ref_logits is not None and ref_factor is not None:
                        ref_probs = ref_logits.sub_(ref_norm).exp_()
                        grad.addcmul_(ref_probs, ref_factor, value=-1)
                else:
                    own_scale, ref_scale = ctx.scales[start]
                    slope, gap = kept.slope, kept.gap
                    if slope is not None and not all_rows:
                        slope = slope[rows]
                    if gap is not None and not all_rows:
                        gap = gap[rows]
                    grad = kept.policy if all_rows else kept.policy[rows]
                    own_scale = own_scale[block, rows, None]
                    here = None if gap_factor is None else gap_factor * own_scale
                    grad *= _policy_factor(factor * own_scale, gap, here)
                    if ref_factor is not None:
                        weights = kept.ref if all_rows else kept.ref[rows]
                        ref_factor_here = ref_factor * ref_scale[block, rows, None]
                        grad.addcmul_(weights, ref_factor_here, value=-1)
                if slope is not None:
                    grad *= slope
                if grad_bias is not None:
                    grad_bias[columns] += grad.sum(0)
                grad = grad.to(policy.weight.dtype)
                if part_hidden is not None:
                    _add_product(part_hidden, grad, policy.weight[columns], written=block > 0)
                if grad_head is not None:
                    _add_product(grad_head[columns], grad.T, policy_rows.hidden, written=written)
            written = True
            if grad_hidden is not None and part_hidden is not None:
                grad_hidden[part] = part_hidden
        onto_target = onto_target * (scale if target_slope is None else target_slope)
        target_factor = onto_target[:, None]
        if grad_hidden is not None:
            grad_hidden.addcmul_(target_factor, policy.weight[targets].to(total.dtype))
        if grad_head is not None:
            if not written:
                grad_head.zero_()
            grad_head.index_add_(0, targets, target_factor * policy.hidden)
        if grad_bias is not None:
            grad_bias.index_add_(0, targets, onto_target)
        return (
            None if grad_hidden is None else grad_hidden.to(policy.hidden.dtype),
            None if grad_head is None else grad_head.to(policy.weight.dtype),
            None if grad_bias is None else grad_bias.to(policy.weight.dtype),
            *[None] * 12,
        )


def _vocabulary_blocks(vocabulary: int, tokens: int, block_elements: int) -> list[slice]:
    width = max(1, block_elements // max(1, tokens))
    return [slice(first, first + width) for first in range(0, vocabulary, width)]


def _gap(policy: _Head, ref: Any, logits: Tensor, ref_logits: Any) -> Float[Tensor, "n v"]:
    """Return l − l_ref of a block."""
    gap: Tensor = logits - ref_logits
    if policy.bias is not None or ref.bias is not None:
        # A token that a bias of −inf excludes from the policy adds nothing to E_π[gap].
        gap.nan_to_num_(nan=0.0, neginf=0.0)
    return gap


def _policy_factor(
    factor: Float[Tensor, "n 1"],
    gap: Float[Tensor, "n v"] | None,
    gap_factor: Float[Tensor, "n 1"] | None,
) -> Float[Tensor, "n _"]:
    """Return what π is multiplied by in the gradient of a block's logits; `gap` is overwritten."""
    if gap is None or gap_factor is None:
        return factor
    return gap.mul_(gap_factor).add_(factor)


def _pick(
    picked: Float[Tensor, " n"], logits: Float[Tensor, "n v"], targets: Tensor, columns: slice
) -> None:
    """Copy the logits of those targets that are in this block into `picked`."""
    index = targets - columns.start
    inside = (index >= 0) & (index < logits.shape[1])
    values = logits.gather(1, index.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
    torch.where(inside, values, picked, out=picked)


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, written: bool) -> None:
    """Add left @ right to `total`, which may be wider; overwrite `total` if it is not `written`."""
    if left.dtype != total.dtype:
        product = left @ right
        total.add_(product) if written else total.copy_(product)
    elif written:
        total.addmm_(left, right)
    else:
        torch.mm(left, right, out=total)


def token_stats(
    policy_hidden: Float[Tensor, "N d"],
    policy_head: Float[Tensor, "V d"],
    ref_hidden: Float[Tensor, "N e"] | None,
    ref_head: Float[Tensor, "V e"] | None,
    targets: Int[Tensor, " N"],
    chunk_size: int | None = None,
    *,
    policy_bias: Float[Tensor, " V"] | None = None,
    ref_bias: Float[Tensor, " V"] | None = None,
    need_kl: bool = True,
    log_sum_sq_probs: list[Tensor] | None = None,
    reverse_kl: list[Tensor] | None = None,
    block_elements: int | None = None,
    keep_bytes: int | None = None,
    policy_transform: LogitTransform = IDENTITY,
    ref_transform: LogitTransform = IDENTITY,
) -> FusedStats:
    """Return log π(y), log π_ref(y) and KL(π_ref ‖ π) of N tokens without N × V logits.

    log π = log_softmax(f(W h + b));  KL = Σ_v π_ref(v) [log π_ref(v) − log π(v)] ≥ 0;
    f(l) = l, scale·l or cap·tanh(scale·l / cap).
    Differentiable once (not twice) in policy_hidden, policy_head and policy_bias.

    Args:
        policy_hidden: the policy's final hidden states at the positions that predict the targets.
        policy_head: the policy's output projection W.
        ref_hidden: the reference's hidden states at the same positions; None if there is no
            reference.
        ref_head: the reference's output projection, None if there is no reference; its width may
            differ from the policy's.
        targets: the tokens y.
        chunk_size: tokens per block; None uses CHUNK_SIZE of the device. It bounds memory and
            changes the results only by rounding.
        policy_bias: the policy's output bias b, if the model has one.
        ref_bias: the reference's output bias.
        need_kl: whether to compute the KL; without a reference there is none.
        log_sum_sq_probs: receives log Σ_v π(v)², (N,), without gradient, which takes no further
            pass over the vocabulary; None if it is not needed.
        reverse_kl: receives KL(π ‖ π_ref) = Σ_v π(v) [log π(v) − log π_ref(v)] ≥ 0, (N,), the
            direction in which the policy is first; None if it is not needed. Without a reference
            nothing is received.
        block_elements: logits per block; None uses `block_elements_on` the device.
        keep_bytes: memory for blocks kept for the backward pass, which recomputes the others; None
            uses `keep_bytes_on` the device.
        policy_transform: the policy's f, for models that scale or cap their logits.
        ref_transform: the reference's f.

    Returns:
        policy_logps, ref_logps and kl, (N,) each, in nats, float32 or wider; None for what was not
        computed.

    Raises:
        ValueError: the shapes do not match, only one of ref_hidden and ref_head is given, or
            chunk_size is below 1.

    Source: arXiv 2410.05102; TDPO (arXiv 2404.11999) for the direction of the KL.
    """
    if (ref_hidden is None) != (ref_head is None):
        raise ValueError("ref_hidden and ref_head must be given together; pass both or neither.")
    if ref_head is not None and ref_head.shape[0] != policy_head.shape[0]:
        raise ValueError(
            f"Policy and reference have different vocabularies: {policy_head.shape[0]} and "
            f"{ref_head.shape[0]}; use models with the same one."
        )
    if len(policy_hidden) != len(targets):
        raise ValueError(
            f"There are {len(policy_hidden)} hidden states for {len(targets)} targets; pass one "
            "for each."
        )
    device = policy_hidden.device
    if chunk_size is None:
        chunk_size = CHUNK_SIZE[_kind(device)]
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}.")
    if block_elements is None:
        whole = min(chunk_size, len(targets)) * len(policy_head)
        block_elements = block_elements_on(device, whole)
    if keep_bytes is None:
        keep_bytes = keep_bytes_on(device)
    logps, ref_logps, kl, squares, reverse = _TokenStats.apply(
        policy_hidden,
        policy_head,
        policy_bias,
        ref_hidden,
        ref_head,
        ref_bias,
        targets,
        chunk_size,
        block_elements,
        need_kl,
        keep_bytes,
        policy_transform,
        ref_transform,
        log_sum_sq_probs is not None,
        reverse_kl is not None,
    )
    if log_sum_sq_probs is not None:
        log_sum_sq_probs.append(squares)
    if reverse_kl is not None and reverse is not None:
        reverse_kl.append(reverse)
    return FusedStats(logps, ref_logps, kl)
