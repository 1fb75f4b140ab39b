"""What hooks collect from a packed run is what separate, unpacked runs hold, on every model.

The expected values come from plain runs, one per response, without mask or position ids; whatever
no module shows by itself (rotary-embedded queries and keys, fused projections) is made here from
the projections' outputs with each architecture's own rotary function.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

import sparsepo
from sparsepo.batches.attention import attention_mask_for
from sparsepo.batches.pack import pack_pairs
from sparsepo.masks import FeatureMean, activation_to_mask
from sparsepo.models.capture import (
    capture_activations,
    capture_layers,
    mean_logits,
    output_head,
    run_body,
)
from sparsepo.models.layers import blocks_of, norm_epsilon
from sparsepo.reference.online import Reference
from tests.small_models import (
    ALL_ARCHITECTURES,
    ATTENTION_VARIANTS,
    small_model,
    token_pairs,
)

FAMILIES = ("mlp", "attention", "residual")


@dataclass(frozen=True)
class Names:
    """Where an architecture keeps its modules, written by hand: what discovery has to find."""

    blocks: str
    final_norm: str
    attention: str
    projection: str
    mlp: str
    activation: str
    first_norm: str
    second_norm: str | None


GPT2 = Names("h", "ln_f", "attn", "attn.c_proj", "mlp", "mlp.act", "ln_1", "ln_2")
LLAMA = Names(
    "layers", "norm", "self_attn", "self_attn.o_proj", "mlp", "mlp.act_fn",
    "input_layernorm", "post_attention_layernorm",
)  # fmt: skip
ARCHITECTURES = {
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gptj": replace(GPT2, projection="attn.out_proj", second_norm=None),
    "gpt_neox": Names(
        "layers", "final_layer_norm", "attention", "attention.dense", "mlp", "mlp.act",
        "input_layernorm", "post_attention_layernorm",
    ),
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
}  # fmt: skip
on_every_model = pytest.mark.parametrize(("architecture", "attention"), ATTENTION_VARIANTS)
PAIRS = token_pairs(6, seed=11)
LAYOUTS: dict[str, dict[str, Any]] = {
    "longest pair": {},
    "one row": {"tokens_per_row": 200},
    "a row each": {"share_prompt": False},
}
in_every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def responses() -> list[tuple[list[int], list[int]]]:
    """(prompt, response) in the batch's order: chosen responses first."""
    sides = [(p.prompt_ids, p.chosen_ids) for p in PAIRS]
    return sides + [(p.prompt_ids, p.rejected_ids) for p in PAIRS]


@contextlib.contextmanager
def recorded(model: PreTrainedModel) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Record every module's first input and output by name."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def hook(_module: Any, args: Any, kwargs: Any, output: Any) -> None:
            given = args[0] if args else kwargs.get("hidden_states", kwargs.get("input_ids"))
            if isinstance(given, Tensor):
                inputs[name] = given
            output = output[0] if isinstance(output, tuple) else output
            if isinstance(output, Tensor):
                outputs[name] = output

        return hook

    handles = [
        module.register_forward_hook(recorder(name), with_kwargs=True)
        for name, module in model.base_model.named_modules()
    ]
    try:
        yield inputs, outputs
    finally:
        for handle in handles:
            handle.remove()


def queries_keys_values(
    model: PreTrainedModel, block: str, outputs: dict[str, Tensor], length: int
) -> list[Tensor]:
    """q, k, v (and rotary q, k) of one block, each (1, length, features)."""
    config: Any = model.config
    kind = config.model_type
    module = sys.modules[type(model).__module__]
    positions = torch.arange(length)[None]
    if kind == "gpt2":
        return list(outputs[f"{block}.attn.c_attn"].chunk(3, dim=-1))
    if kind == "gpt_bigcode":
        head = config.hidden_size // config.num_attention_heads
        return list(outputs[f"{block}.attn.c_attn"].split([config.hidden_size, head, head], dim=-1))
    if kind == "gptj":
        q, k, v = (outputs[f"{block}.attn.{name}_proj"] for name in "qkv")
        table = module.create_sinusoidal_positions(length, config.rotary_dim)[None]
        sin, cos = table.chunk(2, dim=-1)
        rotated = []
        for values in (q, k):
            heads = values.unflatten(-1, (config.n_head, -1))
            turned = module.apply_rotary_pos_emb(heads[..., : config.rotary_dim], sin, cos)
            rotated.append(torch.cat([turned, heads[..., config.rotary_dim :]], -1).flatten(2))
        return [q, k, v, *rotated]
    rotary = model.base_model.rotary_emb
    cos, sin = rotary(outputs[block], positions)
    if kind == "gpt_neox":
        fused = outputs[f"{block}.attention.query_key_value"]
        heads = fused.unflatten(-1, (config.num_attention_heads, 3, -1))
        q, k, v = (heads[..., i, :].transpose(1, 2) for i in range(3))
    else:
        head = config.hidden_size // config.num_attention_heads
        q, k, v = (
            outputs[f"{block}.self_attn.{name}_proj"].unflatten(-1, (-1, head)).transpose(1, 2)
            for name in "qkv"
        )
    rotated = module.apply_rotary_pos_emb(q, k, cos, sin)
    return [t.transpose(1, 2).flatten(2) for t in (q, k, v, *rotated)]


def expected_captures(model: PreTrainedModel) -> dict[str, list[FeatureMean]]:
    """family → feature means, (N,), of each captured tensor, from separate runs."""
    names = ARCHITECTURES[model.config.model_type]
    found: dict[str, list[list[FeatureMean]]] = {family: [] for family in FAMILIES}
    for prompt, response in responses():
        with recorded(model) as (inputs, outputs), torch.no_grad():
            model(input_ids=torch.tensor([prompt + response]))
        per_run: dict[str, list[Tensor]] = {family: [] for family in FAMILIES}
        for index in range(len(blocks_of(model))):
            block = f"{names.blocks}.{index}"
            norm, attention = f"{block}.{names.first_norm}", f"{block}.{names.attention}"
            per_run["mlp"].append(outputs[f"{block}.{names.activation}"])
            per_run["attention"] += [
                *queries_keys_values(model, block, outputs, len(prompt + response)),
                inputs[f"{block}.{names.projection}"],
            ]
            stream = inputs[norm] + outputs[attention]
            per_run["residual"] += [inputs[norm], outputs[norm], outputs[attention], stream]
            if names.second_norm is not None:
                second = f"{block}.{names.second_norm}"
                per_run["residual"].append(outputs[second])
                if model.config.model_type != "gpt_neox":
                    # Attention and MLP one after the other: the sum is the second norm's input.
                    torch.testing.assert_close(stream, inputs[second])
            per_run["residual"] += [outputs[f"{block}.{names.mlp}"], outputs[block]]
        embedding = model.get_input_embeddings()
        ids = torch.tensor([prompt + response])
        per_run["residual"] += [embedding(ids).detach(), outputs[names.final_norm]]
        part = slice(len(prompt) - 1, -1)
        for family in FAMILIES:
            tensors = [t.flatten(2)[0, part] for t in per_run[family]]
            found[family].append([FeatureMean(t.mean(-1), t.abs().mean(-1)) for t in tensors])
    return {
        family: [
            FeatureMean(*(torch.cat(values) for values in zip(*tensor, strict=True)))
            for tensor in zip(*runs, strict=True)
        ]
        for family, runs in found.items()
    }


def captured(model: PreTrainedModel, **layout: Any) -> dict[str, list[Tensor]]:
    batch = pack_pairs(PAIRS, **layout)
    with torch.no_grad(), capture_activations(model, batch, FAMILIES) as found:
        run_body(model, batch, attention_mask_for(model, batch))
    return {family: [tensor.mean for tensor in tensors] for family, tensors in found.items()}


# Layers


def test_the_layouts_are_different_ones() -> None:
    rows = [pack_pairs(PAIRS, **layout).input_ids.shape[0] for layout in LAYOUTS.values()]
    assert rows[2] == 12 > 6 > rows[0] > rows[1] == 1


@on_every_model
@in_every_layout
@pytest.mark.parametrize("last_only", [False, True])
def test_layers_are_the_output_hidden_states(
    architecture: str, attention: str, last_only: bool, layout: dict[str, Any]
) -> None:
    model = small_model(architecture, attn_implementation=attention)
    batch = pack_pairs(PAIRS, **layout)
    with torch.no_grad(), capture_layers(model, batch, last_only) as layers:
        hidden = run_body(model, batch, attention_mask_for(model, batch))
    runs = []
    for prompt, response in responses():
        with torch.no_grad():
            ids = torch.tensor([prompt + response])
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        # Without the embeddings; the position before a token predicts it.
        runs.append([state[0, len(prompt) - 1 : -1] for state in states[1:]])
    expected = [torch.cat(list(layer)) for layer in zip(*runs, strict=True)]
    assert len(expected) == len(blocks_of(model))
    if last_only:
        expected = expected[-1:]
    assert len(layers) == len(expected)
    for ours, wanted in zip(layers, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(layers[-1], hidden)


# Activations


@on_every_model
def test_counts_per_family(architecture: str, attention: str) -> None:
    """MLP 1, attention 4 (6 with rotary embedding), residual 7 (6 with one norm) per block."""
    found = captured(small_model(architecture, attn_implementation=attention))
    blocks = len(blocks_of(small_model(architecture)))
    rotary = architecture not in ("gpt2", "gpt_bigcode")
    assert len(found["mlp"]) == blocks
    assert len(found["attention"]) == blocks * (6 if rotary else 4)
    # Token embedding and final norm once.
    assert len(found["residual"]) == blocks * (6 if architecture == "gptj" else 7) + 2


@on_every_model
@in_every_layout
def test_values_are_those_of_separate_runs(
    architecture: str, attention: str, layout: dict[str, Any]
) -> None:
    """Every captured tensor has its counterpart; their order within a family is free."""
    model = small_model(architecture, attn_implementation=attention)
    found, expected = captured(model, **layout), expected_captures(model)
    for family in FAMILIES:
        left = list(found[family])
        assert len(left) == len(expected[family])
        for wanted, _ in expected[family]:
            distances = [float((tensor - wanted).abs().max()) for tensor in left]
            best = min(range(len(left)), key=distances.__getitem__)
            torch.testing.assert_close(left.pop(best), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gptj", "gpt_neox", "llama"])
def test_rotary_queries_differ_from_plain_ones(architecture: str) -> None:
    """Else the comparison above could not tell the two apart."""
    model = small_model(architecture)
    with recorded(model) as (_, outputs), torch.no_grad():
        model(input_ids=torch.arange(1, 9)[None])
    block = f"{ARCHITECTURES[architecture].blocks}.0"
    q, k, _, rotated_q, rotated_k = queries_keys_values(model, block, outputs, 8)
    assert (q.mean(-1) - rotated_q.mean(-1))[0, 1:].abs().min() > 1e-4
    assert (k.mean(-1) - rotated_k.mean(-1))[0, 1:].abs().min() > 1e-4


@on_every_model
def test_capturing_does_not_change_the_run(architecture: str, attention: str) -> None:
    model = small_model(architecture, attn_implementation=attention)
    batch = pack_pairs(PAIRS)
    mask = attention_mask_for(model, batch)
    with torch.no_grad():
        plain = run_body(model, batch, mask)
        with capture_activations(model, batch, FAMILIES):
            during = run_body(model, batch, mask)
        after = run_body(model, batch, mask)
    assert torch.equal(plain, during)
    assert torch.equal(plain, after)


@on_every_model
def test_a_failed_run_leaves_no_trace(architecture: str, attention: str) -> None:
    """Attention implementation and hooks are as before, also after an exception."""
    model = small_model(architecture, attn_implementation=attention)
    batch = pack_pairs(PAIRS)

    def traces() -> tuple[Any, ...]:
        modules = list(model.modules())
        return (
            {m.config._attn_implementation for m in modules if hasattr(m, "config")},
            sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules),
            AttentionInterface.get_interface,
        )

    before = traces()
    assert before[0] == {attention}

    def fail_inside() -> None:
        with capture_layers(model, batch), capture_activations(model, batch, FAMILIES):
            assert traces() != before
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail_inside()
    assert traces() == before
    assert len(captured(model)["mlp"]) == len(blocks_of(model))


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
def test_mean_logits_is_the_mean_of_the_logits(architecture: str) -> None:
    model = small_model(architecture)
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True)
        head, bias = output_head(model)
        ours = mean_logits(output.hidden_states[-1][0], head, bias)
    expected = output.logits[0].mean(-1)
    torch.testing.assert_close(ours.mean, expected, rtol=1e-4, atol=1e-5)
    assert (ours.magnitude >= ours.mean.abs() - 1e-5 - (0 if bias is None else 1)).all()


def test_gptj_has_an_output_bias() -> None:
    """So that the bias of the head is tested somewhere."""
    assert output_head(small_model("gptj"))[1] is not None
    assert output_head(small_model("llama"))[1] is None


# The mask that the reference makes of them


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
@pytest.mark.parametrize(
    ("families", "mapping"),
    [
        ("mlp+attention+residual+logits", "none"),
        ("residual", "rescale"),
        ("mlp+logits", "sigmoid"),
        ("logits", "none"),
    ],
)
def test_the_activation_mask_is_made_of_these_values(
    architecture: str, families: str, mapping: str
) -> None:
    """Mean over a family's captures, then over the families, then the mapping."""
    model = small_model(architecture)
    batch = pack_pairs(PAIRS)
    method = sparsepo.get_method("mapo", mask_families=families, mask_mapping=mapping)
    ours = Reference.of_policy(model).read(batch, method, method.needs).activation_mask
    assert ours is not None
    expected = expected_captures(model)
    logits = []
    for prompt, response in responses():
        with torch.no_grad():
            run = model(input_ids=torch.tensor([prompt + response])).logits
        logits.append(run[0, len(prompt) - 1 : -1].mean(-1))
    means = torch.cat(logits)
    expected["logits"] = [FeatureMean(means, means.abs())]
    lengths = [len(response) for _, response in responses()]
    inside = batch.response_mask.flatten(0, 1)

    assert lengths == inside.sum(-1).tolist()

    def rows(reduced: FeatureMean) -> FeatureMean:
        tables = [torch.zeros(inside.shape).masked_scatter(inside, values) for values in reduced]
        return FeatureMean(*tables)

    per_family = [
        torch.stack([activation_to_mask(rows(t), inside) for t in expected[family]]).mean(0)
        for family in families.split("+")
    ]
    mask = torch.stack(per_family).mean(0)
    if mapping == "sigmoid":
        mask = torch.sigmoid(mask) * inside
    if mapping == "rescale":
        mask = activation_to_mask(mask, inside)
    assert ours.shape == batch.response_mask.shape
    torch.testing.assert_close(ours.flatten(0, 1), mask, rtol=0, atol=2e-3)
    assert ours[batch.response_mask].std() > 0.01


@on_every_model
def test_the_reference_implementation_reads_the_same_mask(
    architecture: str, attention: str
) -> None:
    """There the model makes its causal mask itself, for whatever kernel it has."""
    model = small_model(architecture, attn_implementation=attention)
    method = sparsepo.get_method("mapo")
    masks = []
    for form, share in (("packed", True), ("plain", False)):
        reference = Reference(model, computation=form)  # type: ignore[arg-type]
        batch = pack_pairs(PAIRS, share_prompt=share)
        mask = reference.read(batch, method, method.needs).activation_mask
        assert mask is not None
        masks.append(mask)
    torch.testing.assert_close(masks[0], masks[1], rtol=0, atol=2e-3)


def test_the_reference_is_frozen_and_in_evaluation_mode_while_it_reads() -> None:
    model = small_model("gpt2").train()
    reference = Reference.of_policy(model)
    method = sparsepo.get_method("dpo")
    batch = pack_pairs(PAIRS)
    states = reference.read(batch, method, method.needs)
    assert torch.equal(states.hidden, reference.read(batch, method, method.needs).hidden)
    assert not states.hidden.requires_grad
    assert reference.model is not model
    assert not any(p.requires_grad for p in reference.model.parameters())
    assert all(p.requires_grad for p in model.parameters())


# Architectures


@pytest.mark.parametrize("architecture", ALL_ARCHITECTURES)
def test_the_norms_epsilon_is_the_models_own(architecture: str) -> None:
    names = {"llama": "rms_norm_eps", "mistral": "rms_norm_eps", "qwen2": "rms_norm_eps",
             "gpt_neox": "layer_norm_eps"}  # fmt: skip
    name = names.get(architecture, "layer_norm_epsilon")
    assert norm_epsilon(small_model(architecture, **{name: 0.0123})) == 0.0123
