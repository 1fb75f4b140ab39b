"""Hooks that read a model's states while it runs and keep only what masks need.

Shapes: rows × length of the packed batch, N response tokens. Values are reduced inside the hook:
hidden states to the N predicting positions, activations to one number per position.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparsepo.batches.attention import AttentionMask, kernel_options_for
from sparsepo.fused import IDENTITY, LogitTransform, block_elements_on
from sparsepo.masks import FeatureMean, feature_mean
from sparsepo.models.attention_inputs import (
    AttentionSink,
    first_states,
    interface_calls,
    product_calls,
)
from sparsepo.models.implementations import use_implementation
from sparsepo.models.layers import Layers, layers_of
from sparsepo.models.points import Points, points_of
from sparsepo.models.probe import is_probing, routing
from sparsepo.models.roles import BlockPoints, Projected
from sparsepo.types import PackedBatch

Hook = Callable[[nn.Module, Any, Any], None]
"""A forward hook."""


def _first(output: Any) -> Tensor:
    tensor = output[0] if isinstance(output, tuple | list) else output
    assert isinstance(tensor, Tensor)
    return tensor


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    tensor = first_states(args, kwargs)
    assert tensor is not None
    return tensor


@contextlib.contextmanager
def _hooks() -> Iterator[list[Any]]:
    handles: list[Any] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def capture_layers(
    model: PreTrainedModel, batch: PackedBatch, last_only: bool = False
) -> Iterator[list[Float[Tensor, "N d"]]]:
    """Collect each block's output at the predicting positions while the model runs inside.

    The last one is taken after the final norm, as in transformers' `output_hidden_states`.

    Args:
        model: the model that will run.
        batch: the batch that it will run on.
        last_only: collect only the last one, for masks that read no other.

    Yields:
        A list that the run fills with one (N, d) tensor per layer.
    """
    layers: list[Tensor] = []
    found = layers_of(model)

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if not is_probing():
            layers.append(_first(output).flatten(0, 1)[batch.predictor_index])

    with _hooks() as handles:
        for name in () if last_only else found.blocks[:-1]:
            handles.append(model.get_submodule(name).register_forward_hook(keep))
        _after_blocks(model, found, keep, handles)
        yield layers


def _after_blocks(model: PreTrainedModel, layers: Layers, hook: Hook, handles: list[Any]) -> None:
    """Hook the last state: of a norm that is used repeatedly, the call after the last block."""
    done = False

    def after_last_block(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        nonlocal done
        done = True

    def at_end(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal done
        if done:
            done = False
            hook(module, inputs, output)

    handles.append(model.get_submodule(layers.blocks[-1]).register_forward_hook(after_last_block))
    handles.append(model.get_submodule(layers.last).register_forward_hook(at_end))


@contextlib.contextmanager
def capture_activations(
    model: PreTrainedModel, batch: PackedBatch, families: tuple[str, ...]
) -> Iterator[dict[str, list[FeatureMean]]]:
    """Collect the activations of a MaPO mask while the model (without its head) runs inside.

    The points of docs/methods.md: MLP activation; queries, keys, values, rotary-embedded queries
    and keys, attention output before its projection; input and output of the attention norm,
    attention delta, post-attention sum, output of the MLP norm, MLP delta, post-MLP sum, token
    embedding, final norm. If attention and MLP run in parallel, the post-attention sum does not
    occur in the model and is computed from its two terms; if they share one norm, its output is
    counted once [ours]. The logits' mean over the vocabulary needs no logits; see `mean_logits`.

    Args:
        model: the model that will run.
        batch: the batch that it will run on.
        families: any of mlp, attention, residual; logits are not captured here.

    Yields:
        family → feature means at the predicting positions, (N,) each, filled by the run.
    """
    points = points_of(model, families)
    found: dict[str, list[FeatureMean]] = {family: [] for family in families}

    def reduce(values: Tensor, features: tuple[int, ...] = (-1,), scale: float = 1) -> FeatureMean:
        reduced = feature_mean(values, features)
        means = FeatureMean(*(v.flatten()[batch.predictor_index] for v in reduced))
        if scale == 1:
            return means
        return FeatureMean(scale * means.mean, abs(scale) * means.magnitude)

    def on_output(family: str) -> Hook:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[family].append(reduce(_first(output)))

        return hook

    def on_input(_module: nn.Module, args: Any, kwargs: Any) -> None:
        found["attention"].append(reduce(_given(args, kwargs)))

    def on_attention(_module: nn.Module, *inputs: Tensor) -> None:
        for tensor in inputs:
            found["attention"].append(reduce(tensor, (1, 3)))

    def on_projections(parts: list[Projected]) -> Hook:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            for part in parts:
                if part.shared:
                    found["attention"].append(reduce(part.part(output), (-2, -1)))
                else:
                    found["attention"].append(reduce(output))

        return hook

    def sum_of_streams(points: BlockPoints) -> None:
        """Hook the block's input, the attention's delta and their sum, and the MLP's delta.

        A mean is linear, so the means of the terms add up to the mean of the sum.
        """
        attention, mlp = points.attention_delta, points.mlp_delta
        assert attention is not None and mlp is not None
        held: dict[str, FeatureMean] = {}

        def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
            held["input"] = reduce(_given(args, kwargs))
            found["residual"].append(held["input"])

        def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            delta = reduce(_first(output), scale=attention.scale)
            stream = held.pop("input")
            total = FeatureMean(stream.mean + delta.mean, stream.magnitude + delta.magnitude)
            found["residual"] += [delta, total]

        def after_mlp(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found["residual"].append(reduce(_first(output), scale=mlp.scale))

        block = model.get_submodule(points.block)
        handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(model.get_submodule(attention.module).register_forward_hook(after))
        handles.append(model.get_submodule(mlp.module).register_forward_hook(after_mlp))

    def by_expert(activation: str, experts: str) -> None:
        """Hook the activations of routed experts and average them over each token's experts.

        The experts run in order of index, each first on the tokens that rank it first, then on
        those that rank it second, and so on.
        """
        tokens: list[Tensor] = []
        totals: list[FeatureMean] = []

        def before(_module: nn.Module, args: Any, kwargs: Any) -> None:
            chosen = routing(args, kwargs)
            assert chosen is not None
            tokens[:] = [(e == chosen.T).nonzero()[:, 1] for e in chosen.unique()]
            zeros = torch.zeros(len(chosen), device=chosen.device)
            totals[:] = [FeatureMean(zeros, zeros.clone())]
            held["experts"] = chosen.shape[1]

        def one(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            own = tokens.pop(0)
            for total, values in zip(totals[0], feature_mean(output), strict=True):
                total.index_add_(0, own, values.to(total.dtype) / held["experts"])

        def after(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            found["mlp"].append(FeatureMean(*(v[batch.predictor_index] for v in totals.pop())))

        held: dict[str, int] = {}
        module = model.get_submodule(experts)
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        watch(activation, one)
        handles.append(module.register_forward_hook(after))

    def watch(name: str, hook: Hook) -> None:
        handles.append(model.get_submodule(name).register_forward_hook(hook))

    with contextlib.ExitStack() as stack:
        handles = stack.enter_context(_hooks())
        if "mlp" in families:
            stack.enter_context(use_implementation(model, "experts", lambda _: "eager"))
        if "attention" in families:
            stack.enter_context(_attention_inputs(model, points, on_attention))
        for block in points.blocks:
            for activation in block.activations if "mlp" in families else ():
                if activation.experts is None:
                    watch(activation.module, on_output("mlp"))
                else:
                    by_expert(activation.module, activation.experts)
            if "attention" in families:
                for parts in block.projections_before_rotation():
                    watch(parts[0].module, on_projections(parts))
                assert block.projection is not None
                projection = model.get_submodule(block.projection)
                handles.append(projection.register_forward_pre_hook(on_input, with_kwargs=True))
            if "residual" in families:
                sum_of_streams(block)
                for name in (block.attention_norm, block.mlp_norm, block.block):
                    if name is not None:
                        watch(name, on_output("residual"))
        if "residual" in families:
            watch(points.embedding, on_output("residual"))
            if points.layers.final_norm is not None:
                _after_blocks(model, points.layers, on_output("residual"), handles)
        yield found


def mean_logits(
    hidden: Float[Tensor, "N d"],
    head: Float[Tensor, "V d"],
    bias: Float[Tensor, " V"] | None,
    transform: LogitTransform = IDENTITY,
) -> FeatureMean:
    """Return the mean over the vocabulary of each token's logits, (N,), without the logits.

    mean_v (W_v·h + b_v) = (mean_v W_v)·h + mean_v b_v. The magnitude is that of the sum's terms.
    A soft cap is not linear, so logits are then computed for a few tokens at a time.
    """
    if transform.cap is not None:
        return _mean_of_capped(hidden, head, bias, transform)
    weight = head.float().mean(0)
    offset = 0.0 if bias is None else bias.float().mean()
    states = hidden.float()
    # The terms nearly cancel, so autocast's half precision would leave only rounding error.
    with torch.autocast(hidden.device.type, enabled=False):
        mean = (states @ weight + offset) * transform.scale
        return FeatureMean(mean, states.abs() @ weight.abs() * transform.scale)


def _mean_of_capped(
    hidden: Tensor, head: Tensor, bias: Tensor | None, transform: LogitTransform
) -> FeatureMean:
    size = max(1, block_elements_on(hidden.device) // len(head))
    parts = []
    with torch.autocast(hidden.device.type, enabled=False):
        for states in hidden.split(size):
            logits = nn.functional.linear(states.to(head.dtype), head, bias)
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            parts.append(feature_mean(transform.apply_(wide)))
    means, magnitudes = zip(*parts, strict=True)
    return FeatureMean(torch.cat(means), torch.cat(magnitudes))


@contextlib.contextmanager
def _attention_inputs(
    model: PreTrainedModel, points: Points, sink: AttentionSink
) -> Iterator[None]:
    """Pass queries, keys and values of every attention to `sink` while the model runs inside."""
    own = [
        model.get_submodule(block.attention)
        for block in points.blocks
        if block.attention is not None and not block.through_interface
    ]
    with interface_calls(sink), product_calls(own, sink) if own else contextlib.nullcontext():
        yield


def run_body(
    model: PreTrainedModel, batch: PackedBatch, mask: AttentionMask
) -> Float[Tensor, "N d"]:
    """Run a model without its head; return its final states at the predicting positions, (N, d)."""
    output = model.base_model(
        input_ids=batch.input_ids,
        attention_mask=mask,
        position_ids=batch.position_ids,
        use_cache=False,
        **kernel_options_for(model, mask),
    )
    hidden: Tensor = output.last_hidden_state
    return hidden.flatten(0, 1)[batch.predictor_index]


def output_head(model: PreTrainedModel) -> tuple[Float[Tensor, "V d"], Float[Tensor, " V"] | None]:
    """Return the output projection's weight and bias (None if it has none)."""
    head = model.get_output_embeddings()
    weight: torch.Tensor = head.weight
    return weight, getattr(head, "bias", None)
