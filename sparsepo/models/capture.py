"""Reading a model from outside while it runs: hooks that keep only what masks need.

Shapes: rows × length of the packed batch, N response tokens. Everything is reduced inside the hook:
hidden states to the N predicting positions, activations to one number per position.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from sparsepo.batches.attention import CAPTURED, AttentionMask
from sparsepo.fused import BLOCK_ELEMENTS, IDENTITY, LogitTransform
from sparsepo.masks import FeatureMean, feature_mean
from sparsepo.models.architectures import architecture_of, blocks_of, final_norm_of, submodule
from sparsepo.types import PackedBatch

AttentionSink = Callable[[Tensor, Tensor, Tensor], None]
"""Receives queries, keys (rotary-embedded where the architecture has that) and values,
(rows, heads, length, features)."""


def _first(output: Any) -> Tensor:
    tensor = output[0] if isinstance(output, tuple) else output
    assert isinstance(tensor, Tensor)
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

    The last one is taken after the final norm, as transformers' `output_hidden_states` has it.

    Args:
        model: the model that will run.
        batch: the batch that it will run on.
        last_only: collect the last one alone, for masks that read no other.

    Yields:
        A list that the run fills, one (N, d) tensor per layer.
    """
    layers: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        layers.append(_first(output).flatten(0, 1)[batch.sources])

    with _hooks() as handles:
        watched = [] if last_only else blocks_of(model)[:-1]
        for module in (*watched, final_norm_of(model)):
            handles.append(module.register_forward_hook(keep))
        yield layers


@contextlib.contextmanager
def capture_activations(
    model: PreTrainedModel, batch: PackedBatch, families: tuple[str, ...]
) -> Iterator[dict[str, list[FeatureMean]]]:
    """Collect the activations of a MaPO mask while the model (without its head) runs inside.

    The points of docs/methods.md: MLP activation; queries, keys, values, rotary-embedded queries
    and keys, attention output before its projection; both ends of the attention norm, attention
    delta, post-attention sum, output of the MLP norm, MLP delta, post-MLP sum, token embedding,
    final norm. Where attention and MLP run in parallel the post-attention sum does not occur in the
    model and is made from its two terms, and where both share one norm the MLP norm's output is not
    counted a second time [ours]. The logits' mean over the vocabulary needs no logits; see
    `mean_logits`.

    Args:
        model: the model that will run.
        batch: the batch that it will run on.
        families: any of mlp, attention, residual; logits is not captured here.

    Yields:
        family → feature means at the predicting positions, (N,) each, filled by the run.
    """
    names = architecture_of(model)
    found: dict[str, list[FeatureMean]] = {family: [] for family in families}

    def reduce(values: Tensor, features: tuple[int, ...] = (-1,)) -> FeatureMean:
        return FeatureMean(*(v.flatten()[batch.sources] for v in feature_mean(values, features)))

    def on_output(family: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[family].append(reduce(_first(output)))

        return hook

    def on_input(family: str) -> Callable[[nn.Module, Any], None]:
        def hook(_module: nn.Module, inputs: Any) -> None:
            found[family].append(reduce(inputs[0]))

        return hook

    def on_attention(queries: Tensor, keys: Tensor, values: Tensor) -> None:
        for tensor in (queries, keys, values):
            found["attention"].append(reduce(tensor, (1, 3)))

    def split_fused(attention: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        heads = attention.config.num_attention_heads  # type: ignore[union-attr]

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            queries, keys, _ = output.unflatten(-1, (heads, -1)).chunk(3, dim=-1)
            found["attention"] += [reduce(queries, (-2, -1)), reduce(keys, (-2, -1))]

        return hook

    def sum_of_streams(block: nn.Module) -> None:
        """Hook the post-attention sum: a mean is linear, so the terms' means add up to it."""
        held: dict[str, FeatureMean] = {}

        def before(_module: nn.Module, inputs: Any) -> None:
            held["input"] = reduce(inputs[0])
            found["residual"].append(held["input"])

        def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            delta = reduce(_first(output))
            stream = held.pop("input")
            total = FeatureMean(stream.mean + delta.mean, stream.magnitude + delta.magnitude)
            found["residual"] += [delta, total]

        handles.append(submodule(block, names.first_norm).register_forward_pre_hook(before))
        handles.append(submodule(block, names.attention).register_forward_hook(after))

    attention_sink = on_attention if "attention" in families else None
    with _hooks() as handles, _attention_inputs(model, attention_sink):
        for block in blocks_of(model):
            if "mlp" in families:
                activation = submodule(block, names.activation)
                handles.append(activation.register_forward_hook(on_output("mlp")))
            if "attention" in families:
                for name in names.query_key:
                    fused = len(names.query_key) == 1
                    attention = submodule(block, names.attention)
                    hook = split_fused(attention) if fused else on_output("attention")
                    handles.append(submodule(block, name).register_forward_hook(hook))
                projection = submodule(block, names.projection)
                handles.append(projection.register_forward_pre_hook(on_input("attention")))
            if "residual" in families:
                sum_of_streams(block)
                roles = [names.first_norm, names.second_norm, names.mlp, ""]
                for role in roles:
                    if role is not None:
                        module = submodule(block, role)
                        handles.append(module.register_forward_hook(on_output("residual")))
        if "residual" in families:
            for module in (model.get_input_embeddings(), final_norm_of(model)):
                handles.append(module.register_forward_hook(on_output("residual")))
        yield found


def mean_logits(
    hidden: Float[Tensor, "N d"],
    head: Float[Tensor, "V d"],
    bias: Float[Tensor, " V"] | None,
    transform: LogitTransform = IDENTITY,
) -> FeatureMean:
    """Return the mean over the vocabulary of each token's logits, (N,), without the logits.

    mean_v (W_v·h + b_v) = (mean_v W_v)·h + mean_v b_v. The magnitude is that of the sum's terms.
    Under a soft cap nothing is linear, and the logits are made for a few tokens at a time.
    """
    if transform.cap is not None:
        return _mean_of_capped(hidden, head, bias, transform)
    weight = head.float().mean(0)
    offset = 0.0 if bias is None else bias.float().mean()
    states = hidden.float()
    # The terms nearly cancel: in autocast's half precision nothing but rounding would be left.
    with torch.autocast(hidden.device.type, enabled=False):
        mean = (states @ weight + offset) * transform.scale
        return FeatureMean(mean, states.abs() @ weight.abs() * transform.scale)


def _mean_of_capped(
    hidden: Tensor, head: Tensor, bias: Tensor | None, transform: LogitTransform
) -> FeatureMean:
    size = max(1, BLOCK_ELEMENTS.get(hidden.device.type, BLOCK_ELEMENTS["cuda"]) // len(head))
    parts = []
    with torch.autocast(hidden.device.type, enabled=False):
        for states in hidden.split(size):
            logits = nn.functional.linear(states.to(head.dtype), head, bias)
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            parts.append(feature_mean(transform.apply_(wide)))
    means, magnitudes = zip(*parts, strict=True)
    return FeatureMean(torch.cat(means), torch.cat(magnitudes))


@contextlib.contextmanager
def _attention_inputs(model: PreTrainedModel, sink: AttentionSink | None) -> Iterator[None]:
    """Show every attention's queries, keys and values to `sink` while the model runs inside."""
    if sink is None:
        yield
    elif model.config.model_type == "gptj":
        with _wrapped_gptj_attention(model, sink):
            yield
    else:
        with _registered_attention(model, sink):
            yield


@contextlib.contextmanager
def _registered_attention(model: PreTrainedModel, sink: AttentionSink) -> Iterator[None]:
    # Rotary embedding happens inside the attention's forward, where no module hook reaches; the
    # attention interface of transformers is the documented place that sees its result.
    chosen = model.config._attn_implementation

    def capture(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        sink(query, key, value)
        # Eager attention is a function of each architecture's own module.
        eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        attend = AttentionInterface().get_interface(chosen, eager)
        return attend(module, query, key, value, *args, **kwargs)

    listening = f"{CAPTURED}{chosen}"
    AttentionInterface.register(listening, capture)
    configs: dict[int, Any] = {
        id(module.config): module.config for module in model.modules() if hasattr(module, "config")
    }
    before = {key: config._attn_implementation for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation_internal = listening
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


@contextlib.contextmanager
def _wrapped_gptj_attention(model: PreTrainedModel, sink: AttentionSink) -> Iterator[None]:
    # GPT-J's attention does not go through the attention interface but through its own `_attn`.
    attentions = [submodule(block, "attn") for block in blocks_of(model)]

    def wrap(attend: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
            sink(query, key, value)
            return attend(query, key, value, *args, **kwargs)

        return wrapped

    try:
        for attention in attentions:
            attention._attn = wrap(attention._attn)
        yield
    finally:
        for attention in attentions:
            attention.__dict__.pop("_attn", None)


def run_body(
    model: PreTrainedModel, batch: PackedBatch, mask: AttentionMask
) -> Float[Tensor, "N d"]:
    """Run a model without its head; return its final states at the predicting positions, (N, d)."""
    output = model.base_model(
        input_ids=batch.input_ids,
        attention_mask=mask,
        position_ids=batch.position_ids,
        use_cache=False,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden.flatten(0, 1)[batch.sources]


def output_head(model: PreTrainedModel) -> tuple[Float[Tensor, "V d"], Float[Tensor, " V"] | None]:
    """Return the output projection's weight and bias (None where it has none)."""
    head = model.get_output_embeddings()
    weight: torch.Tensor = head.weight
    return weight, getattr(head, "bias", None)
