"""Find the points of a model that activation masks (MaPO) read, from the data between modules.

The roles are those of docs/methods.md. The points found satisfy their defining equations on the
probe: the post-attention sum is the block's input plus the attention's delta, the block's output is
that sum plus the MLP's delta, and the output projection's output is the attention's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeGuard
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from sparsepo.errors import UserError
from sparsepo.models.layers import Layers, find_layers
from sparsepo.models.probe import (
    AttentionCall,
    Call,
    Probe,
    hidden_states,
    is_norm,
    is_projection,
    probe,
)

_ROUNDINGS = 8
"""Tolerance of a sum, in rounding errors of its terms."""

_SMALLEST_SCALE = 1e-3
"""Smallest factor of a term; with a factor near 0 any module could be one."""


@dataclass(frozen=True)
class Projected:
    """The part of a projection's output with the queries, keys or values, the same in each group.

    There is one group if they are contiguous; fused projections may interleave them by head.
    """

    module: str
    groups: int
    start: int
    """First feature of the part within a group."""
    stop: int
    shared: bool
    """Whether the output has other parts too."""

    def part(self, output: Float[Tensor, "... features"]) -> Float[Tensor, "... groups part"]:
        """Return that part of a projection's output."""
        groups: Tensor = output.unflatten(-1, (self.groups, -1))
        return groups[..., self.start : self.stop]


@dataclass(frozen=True)
class Delta:
    """The output of a module that is added to the residual stream."""

    module: str
    scale: float
    """Factor applied before the addition; 1 in most architectures."""


@dataclass(frozen=True)
class Activation:
    """An MLP's activation function."""

    module: str
    experts: str | None = None
    """The module that calls it for each expert in turn, with the tokens routed to that expert."""


@dataclass(frozen=True)
class BlockPoints:
    """Module names by role in one block; None if a role was not found."""

    block: str
    attention: str | None = None
    """The module that calls the attention kernel."""
    through_interface: bool = True
    query: Projected | None = None
    key: Projected | None = None
    value: Projected | None = None
    query_key_change: bool = False
    """Whether rotary embedding or a norm of the heads follows the projections."""
    projection: str | None = None
    attention_norm: str | None = None
    attention_delta: Delta | None = None
    mlp_norm: str | None = None
    activations: tuple[Activation, ...] = ()
    """The MLP's activation functions; in a mixture of experts those of the routed experts and of
    the shared expert, if there is one."""
    mlp_delta: Delta | None = None

    def projections_before_rotation(self) -> list[list[Projected]]:
        """Return the positions of queries and keys before rotary embedding, by projection.

        Empty if the attention kernel receives the projections unchanged.
        """
        if not self.query_key_change:
            return []
        assert self.query is not None and self.key is not None
        if self.query.module == self.key.module:
            return [[self.query, self.key]]
        return [[self.query], [self.key]]


@dataclass(frozen=True)
class Points:
    """The points of all blocks, and the modules that occur once in a model."""

    layers: Layers
    embedding: str
    blocks: tuple[BlockPoints, ...]
    shapes: dict[str, tuple[int, ...]]
    """Module name → shape of its output for one token."""


_ROLES: dict[str, dict[str, str]] = {
    "mlp": {"activations": "the MLP's activation function"},
    "attention": {
        "attention": "queries, keys and values",
        "query": "the projection of the queries",
        "key": "the projection of the keys",
        "projection": "the attention's output projection",
    },
    "residual": {
        "attention_delta": "the attention's contribution to the residual stream",
        "mlp_delta": "the MLP's contribution to the residual stream",
    },
}
"""Family → the roles that it requires, with their descriptions."""

FAMILIES = tuple(_ROLES)
"""MaPO's families whose points are modules; the family logits needs none."""

_FOUND: WeakKeyDictionary[PreTrainedModel, Points] = WeakKeyDictionary()


def points_of(model: PreTrainedModel, families: Sequence[str] = ()) -> Points:
    """Return the points of a model; found once per model by running it on a few tokens.

    Args:
        model: a transformers model, without a PEFT wrapper; it may contain adapters.
        families: families whose points are required: any of mlp, attention, residual; other
            families require none.

    Raises:
        UserError: a block lacks a point of these families; the message names it.
    """
    points = _FOUND.get(model)
    if points is None:
        seen = probe(model)
        points = _FOUND[model] = _find_points(model, seen, find_layers(model, seen))
    lacking = {family: missing(points, family) for family in families if family in _ROLES}
    bad = {family: what for family, what in lacking.items() if what is not None}
    if bad:
        family, what = next(iter(bad.items()))
        fine = "+".join(
            name for name in (*_ROLES, "logits") if name == "logits" or not missing(points, name)
        )
        raise UserError(
            f"MaPO's mask family '{family}' cannot be read in this {model.config.model_type} "
            f"model: {what} not found; set mask_families={fine}, or use dpo, tdpo1 or SparsePO, "
            "which do not read activations."
        )
    return points


def query_value_projections(model: PreTrainedModel) -> list[str]:
    """Return the last names of the projections of queries and values, e.g. q_proj, v_proj.

    Args:
        model: a transformers model.

    Returns:
        In alphabetical order; empty if they are not found in every block with attention.
    """
    try:
        blocks = points_of(model).blocks
    except UserError:
        return []
    attentions = [block for block in blocks if block.attention is not None]
    names: set[str] = set()
    for block in attentions:
        if block.query is None or block.value is None:
            return []
        names |= {part.module.rpartition(".")[2] for part in (block.query, block.value)}
    return sorted(names)


def missing(points: Points, family: str) -> str | None:
    """Return the missing point of a family and its block ("… of model.layers.0 was"), or None."""
    for block in points.blocks:
        for role, what in _ROLES.get(family, {}).items():
            if role in ("query", "key") and not block.query_key_change:
                continue
            if not getattr(block, role):
                return f"{what} of {block.block} was"
    return None


def _find_points(model: PreTrainedModel, seen: Probe, layers: Layers) -> Points:
    modules = dict(model.named_modules())
    blocks = tuple(_points_of_block(seen, seen.of(modules[name])[0]) for name in layers.blocks)
    names = {module: name for name, module in modules.items()}
    shapes = {
        call.name: tuple(call.output.shape[2:]) for call in seen.calls if call.output is not None
    }
    return Points(layers, names[model.get_input_embeddings()], blocks, shapes)


def _points_of_block(seen: Probe, block: Call) -> BlockPoints:
    inside = seen.within(block)
    found = BlockPoints(block.name)
    kernels = [a for a in seen.attentions if block.contains(a.module)]
    if len(kernels) != 1 or len(seen.of(kernels[0].module.module)) != 1:
        return found
    (kernel,) = kernels
    attention = kernel.module
    # A module that is called more than once would be captured more than once.
    inside = [call for call in inside if len(seen.of(call.module)) == 1]
    within = [call for call in inside if attention.contains(call)]
    outside = [call for call in inside if call is not attention and not attention.contains(call)]
    query, key, value = (
        _projected(tensor, kernel, within) for tensor in (kernel.query, kernel.key, kernel.value)
    )
    projection = _output_projection(block, attention, within)
    made = [attention] if projection is None else [attention, projection]
    sum_of_streams = _deltas(block, made, outside)
    attention_norm, mlp_norm, attention_delta, mlp_delta = None, None, None, None
    if sum_of_streams is not None:
        attention_delta, mlp_delta, total = sum_of_streams
        norms = [
            call for call in outside if is_norm(call.module) and hidden_states(call) is not None
        ]
        own = [n for n in norms if _near(n.given, block.given)]
        first = [n for n in own if _near(n.output, attention.given)][:1]
        second = [n for n in norms if n not in first and _near(n.given, total)]
        second = second or [n for n in own if n not in first]
        attention_norm = first[0].name if first else None
        mlp_norm = second[0].name if second else None
        if not first and not _near(attention.given, block.given):
            attention_delta = None
    return BlockPoints(
        block.name,
        attention=attention.name,
        through_interface=kernel.through_interface,
        query=query,
        key=key,
        value=value,
        query_key_change=_changed(query, kernel.query, within) or _changed(key, kernel.key, within),
        projection=projection.name if projection is not None else None,
        attention_norm=attention_norm,
        attention_delta=attention_delta,
        mlp_norm=mlp_norm,
        activations=_activations(seen, outside),
        mlp_delta=mlp_delta,
    )


def _near(left: Tensor | None, right: Tensor | None) -> bool:
    """Return whether two tensors are the same up to rounding."""
    if left is None or right is None or left.shape != right.shape:
        return False
    epsilon = max(torch.finfo(tensor.dtype).eps for tensor in (left, right))
    left, right = left.double(), right.double()
    scale = torch.maximum(left.abs(), right.abs())
    return bool(((left - right).abs() <= _ROUNDINGS * epsilon * scale + 1e-30).all())


# Residual stream


def _deltas(
    block: Call, made: list[Call], outside: list[Call]
) -> tuple[Delta, Delta, Float[Tensor, "rows length d"]] | None:
    """Return the deltas that attention and MLP add to the block's input, and the sum in between.

    Args:
        block: the block.
        made: the attention and its output projection.
        outside: the calls in the block that are not within the attention.
    """
    start, end = block.given, hidden_states(block)
    if start is None or end is None or start.shape != end.shape:
        return None
    fits = [(call, call.output) for call in outside if _has_shape(call.output, start)]
    first = [(call, call.output) for call in made if _has_shape(call.output, start)]
    first += _after_attention(made[0], fits)
    # The outermost module of a role comes first: an MLP before the projection inside it.
    second = sorted(fits, key=lambda pair: pair[0].depth)
    for scaled in (False, True):
        for (attention, added), (mlp, added_after) in product(first, second):
            if attention is mlp:
                continue
            scales = _scales(start, end, added, added_after) if scaled else (1.0, 1.0)
            terms = (start, scales[0] * added, scales[1] * added_after)
            if min(map(abs, scales)) > _SMALLEST_SCALE and _adds_up(end, terms):
                deltas = Delta(attention.name, scales[0]), Delta(mlp.name, scales[1])
                return *deltas, start + terms[1]
    return None


def _has_shape(output: Tensor | None, wanted: Tensor) -> TypeGuard[Tensor]:
    return output is not None and output.shape == wanted.shape


def _after_attention(
    attention: Call, fits: list[tuple[Call, Tensor]]
) -> Iterator[tuple[Call, Tensor]]:
    """Yield the modules that the attention's output passes through before it is added."""
    made = attention.output
    for call, output in fits:
        if call.start > attention.end and _near(call.given, made):
            made = output
            yield call, output


def _scales(start: Tensor, end: Tensor, first: Tensor, second: Tensor) -> tuple[float, float]:
    """Return the factors of the two terms that best explain the difference of end and start."""
    terms = torch.stack([first.double().flatten(), second.double().flatten()], -1).cpu()
    wanted = (end.double() - start.double()).flatten()[:, None].cpu()
    one, other = torch.linalg.lstsq(terms, wanted).solution.flatten().tolist()
    return one, other


def _adds_up(end: Tensor, terms: tuple[Tensor, ...]) -> bool:
    exact = torch.stack([term.double() for term in terms])
    allowed = _ROUNDINGS * torch.finfo(end.dtype).eps * exact.abs().sum(0)
    return bool(((end.double() - exact.sum(0)).abs() <= allowed).all())


# Attention


@torch.enable_grad()
def _projected(
    tensor: Float[Tensor, "rows heads length features"], kernel: AttentionCall, within: list[Call]
) -> Projected | None:
    """Return the part of a projection's output that queries, keys or values were computed from.

    Their gradient reaches exactly this part, because a rotation mixes features only within a head.
    """
    before = [call for call in within if call.made is not None and call.end < kernel.time]
    if not before or tensor.grad_fn is None:
        return None
    leaves = [call.made for call in before if call.made is not None]
    # Any weights whose sums do not cancel would do.
    weights = torch.linspace(1, 2, tensor.numel(), dtype=tensor.dtype, device=tensor.device)
    gradients = torch.autograd.grad(
        (tensor * weights.view(tensor.shape)).sum(), leaves, allow_unused=True, retain_graph=True
    )
    reached = [
        (call, (gradient != 0).flatten(0, -2).any(0))
        for call, gradient in zip(before, gradients, strict=True)
        if gradient is not None and bool(gradient.any())
    ]
    if len(reached) != 1:
        return None
    ((call, features),) = reached
    if int(features.sum()) != tensor.shape[1] * tensor.shape[3]:
        return None
    return _pattern(call.name, features)


def _pattern(name: str, features: Bool[Tensor, " features"]) -> Projected | None:
    """Return a set of features as one part that repeats in groups of equal size."""
    edges = torch.diff(features.int(), prepend=torch.zeros(1, device=features.device).int())
    starts = (edges == 1).nonzero().flatten().tolist()
    groups, size = len(starts), len(features)
    if size % groups:
        return None
    table = features.view(groups, -1)
    if not bool((table == table[0]).all()):
        return None
    start, count = starts[0], int(table[0].sum())
    return Projected(name, groups, start, start + count, shared=not bool(features.all()))


def _changed(
    projected: Projected | None,
    tensor: Float[Tensor, "rows heads length features"],
    within: list[Call],
) -> bool:
    """Return whether a projection and the kernel's input differ by more than a factor."""
    if projected is None:
        return True
    call = next(call for call in within if call.name == projected.module and call.made is not None)
    assert call.output is not None
    made = projected.part(call.output).flatten(2).double().sort(-1).values
    seen = tensor.detach().transpose(1, 2).flatten(2).double().sort(-1).values
    factor = (made * seen).sum() / made.square().sum()
    error = (seen - factor * made).abs().max()
    return bool(error > _ROUNDINGS * torch.finfo(tensor.dtype).eps * seen.abs().max())


def _output_projection(block: Call, attention: Call, within: list[Call]) -> Call | None:
    """Return the last projection in an attention if its output is the attention's result.

    The result is the attention's output, or its delta if it adds the block's input itself.
    """
    projections = [call for call in within if is_projection(call.module)]
    if not projections or attention.output is None:
        return None
    last = max(projections, key=lambda call: (call.end, -call.depth))
    outer = [call for call in projections if call.contains(last)]
    last = outer[0] if outer else last
    if _near(last.output, attention.output):
        return last
    if block.given is None or last.output is None or last.output.shape != block.given.shape:
        return None
    return last if _near(block.given + last.output, attention.output) else None


# MLP


def _activations(seen: Probe, outside: list[Call]) -> tuple[Activation, ...]:
    """Return a block's activation functions; empty if not all of them are found."""
    experts = [
        call
        for call in outside
        if call.routing is not None and "expert" in type(call.module).__name__.lower()
    ]
    routed: list[Activation] = []
    for call in experts:
        own = [inner for inner in seen.within(call) if _is_activation(inner)]
        assert call.routing is not None
        sizes = call.routing.unique(return_counts=True)[1].tolist()
        if len({inner.name for inner in own}) != 1 or sizes != [_tokens(inner) for inner in own]:
            return ()
        routed.append(Activation(own[0].name, call.name))
    rest = [call for call in outside if not any(outer.contains(call) for outer in experts)]
    if any("experts" in type(call.module).__name__.lower() for call in rest if call not in experts):
        return ()  # the tokens were sorted by expert, in an unknown order
    dense = [call for call in rest if _is_activation(call)]
    if len(dense) > 1 or any(hidden_states(call) is None for call in dense):
        return ()
    return (*(Activation(call.name) for call in dense), *routed)


def _tokens(call: Call) -> int:
    assert call.output is not None
    return call.output.flatten(0, -2).shape[0]


def _is_activation(call: Call) -> bool:
    """Return whether a module applies one function to each feature of each token."""
    given, output = call.given, call.output
    if given is None or output is None or given.shape != output.shape or call.arguments != 1:
        return False
    if any(call.module.children()) or is_norm(call.module) or is_projection(call.module):
        return False
    if torch.equal(given, output):  # inactive dropout
        return False
    with torch.no_grad():
        flipped = call.module(given.flip(-1))
    return isinstance(flipped, Tensor) and _near(flipped.flip(-1), output)
