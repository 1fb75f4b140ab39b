"""The points of a model that activation masks (MaPO) read, and which of them are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

from sparsepo.errors import UserError
from sparsepo.models.layers import Layers, find_layers
from sparsepo.models.probe import Probe, probe
from sparsepo.models.roles import BlockPoints, points_of_block


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
    blocks = tuple(points_of_block(seen, seen.of(modules[name])[0]) for name in layers.blocks)
    names = {module: name for name, module in modules.items()}
    shapes = {
        call.name: tuple(call.output.shape[2:]) for call in seen.calls if call.output is not None
    }
    return Points(layers, names[model.get_input_embeddings()], blocks, shapes)
