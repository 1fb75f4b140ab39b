"""Discovery finds the modules that masks read, or says in a sentence what it did not find.

The names below are written by hand, from reading each architecture.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

import sparsepo
from sparsepo.batches.attention import attention_mask_for
from sparsepo.batches.pack import pack_pairs
from sparsepo.cli.main import main
from sparsepo.errors import UserError
from sparsepo.models.capture import capture_activations, run_body
from sparsepo.models.layers import layers_of, norm_epsilon
from sparsepo.models.points import points_of, query_value_projections
from sparsepo.models.roles import BlockPoints
from sparsepo.training.policy import make_masks
from tests.architectures.models import small_causal_model
from tests.small_models import small_model, token_pairs

# attention norm, attention, its projection, attention delta, MLP norm, activations, MLP delta
FOUND: dict[str, tuple[str, ...]] = {
    "gpt2": ("ln_1", "attn", "attn.c_proj", "attn", "ln_2", "mlp.act", "mlp"),
    "gptj": ("ln_1", "attn", "attn.out_proj", "attn", "-", "mlp.act", "mlp"),
    "gpt_neo": (
        "ln_1", "attn.attention", "attn.attention.out_proj", "attn.attention", "ln_2",
        "mlp.act", "mlp",
    ),
    "bloom": (
        "input_layernorm", "self_attention", "self_attention.dense", "self_attention.dense",
        "post_attention_layernorm", "mlp.gelu_impl", "mlp.dense_4h_to_h",
    ),
    "falcon": (
        "input_layernorm", "self_attention", "self_attention.dense", "self_attention", "-",
        "mlp.act", "mlp",
    ),
    "mpt": (
        "norm_1", "attn", "attn.out_proj", "attn", "norm_2", "ffn.act", "ffn.down_proj",
    ),
    "opt": (
        "self_attn_layer_norm", "self_attn", "self_attn.out_proj", "self_attn",
        "final_layer_norm", "activation_fn", "fc2",
    ),
    "phi": ("input_layernorm", "self_attn", "self_attn.dense", "self_attn", "-",
            "mlp.activation_fn", "mlp"),
    "phi3": (
        "input_layernorm", "self_attn", "self_attn.o_proj", "self_attn",
        "post_attention_layernorm", "mlp.activation_fn", "mlp",
    ),
    "cohere": ("input_layernorm", "self_attn", "self_attn.o_proj", "self_attn", "-",
               "mlp.act_fn", "mlp"),
    "gemma2": (
        "input_layernorm", "self_attn", "self_attn.o_proj", "post_attention_layernorm",
        "pre_feedforward_layernorm", "mlp.act_fn", "post_feedforward_layernorm",
    ),
    "olmo2": (
        "-", "self_attn", "self_attn.o_proj", "post_attention_layernorm", "-", "mlp.act_fn",
        "post_feedforward_layernorm",
    ),
    "mixtral": (
        "input_layernorm", "self_attn", "self_attn.o_proj", "self_attn",
        "post_attention_layernorm", "mlp.experts.act_fn", "mlp",
    ),
    "qwen2_moe": (
        "input_layernorm", "self_attn", "self_attn.o_proj", "self_attn",
        "post_attention_layernorm", "mlp.shared_expert.act_fn+mlp.experts.act_fn", "mlp",
    ),
}  # fmt: skip


def in_block(points: BlockPoints, name: str | None) -> str:
    return "-" if name is None else name.removeprefix(f"{points.block}.")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("architecture", FOUND)
def test_roles_are_the_modules_that_a_reader_would_name(
    architecture: str, dtype: torch.dtype
) -> None:
    for block in points_of(small_causal_model(architecture).to(dtype)).blocks:
        assert block.attention_delta is not None and block.mlp_delta is not None
        names = (
            block.attention_norm, block.attention, block.projection, block.attention_delta.module,
            block.mlp_norm, None, block.mlp_delta.module,
        )  # fmt: skip
        found = [in_block(block, name) for name in names]
        found[5] = "+".join(in_block(block, activation.module) for activation in block.activations)
        assert tuple(found) == FOUND[architecture]
        assert (block.attention_delta.scale, block.mlp_delta.scale) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_factors_of_the_residual_stream_are_found(dtype: torch.dtype) -> None:
    model = small_causal_model("granite", residual_multiplier=0.25).to(dtype)
    for block in points_of(model).blocks:
        assert in_block(block, block.mlp_norm) == "post_attention_layernorm"
        assert block.attention_delta is not None and block.mlp_delta is not None
        for delta in (block.attention_delta, block.mlp_delta):
            assert delta.scale == pytest.approx(0.25, rel=torch.finfo(dtype).eps * 50)


@pytest.mark.parametrize(
    ("architecture", "module", "parts"),
    [
        # Two query heads share a key and a value head of 8 features.
        ("phi3", "self_attn.qkv_proj", [(1, 0, 32), (1, 32, 48), (1, 48, 64)]),
        # By head: its query, its key, its value.
        ("gpt_neox", "attention.query_key_value", [(4, 0, 8), (4, 8, 16), (4, 16, 24)]),
        ("bloom", "self_attention.query_key_value", [(4, 0, 8), (4, 8, 16), (4, 16, 24)]),
        # All queries, then one key and one value.
        ("falcon", "self_attention.query_key_value", [(1, 0, 32), (1, 32, 40), (1, 40, 48)]),
        ("gpt_bigcode", "attn.c_attn", [(1, 0, 32), (1, 32, 40), (1, 40, 48)]),
    ],
)
def test_fused_projections_are_taken_apart(
    architecture: str, module: str, parts: list[tuple[int, int, int]]
) -> None:
    (block, *_) = points_of(small_causal_model(architecture)).blocks
    projected = [block.query, block.key, block.value]
    for part, expected in zip(projected, parts, strict=True):
        assert part is not None
        assert in_block(block, part.module) == module
        assert (part.groups, part.start, part.stop) == expected


def test_layers_without_rotary_embedding_are_told_apart() -> None:
    """Every second layer of this model has none; its queries are captured once."""
    model = small_causal_model("smollm3", no_rope_layers=[1, 0])
    assert [block.query_key_change for block in points_of(model).blocks] == [True, False]
    for name, rotary in (("opt", False), ("gpt2", False), ("llama", True), ("falcon", True)):
        for dtype in (torch.float32, torch.bfloat16):
            model = small_causal_model(name).to(dtype)
            assert {block.query_key_change for block in points_of(model).blocks} == {rotary}


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [
        ("gpt2", ["c_attn"]),
        ("gpt_neox", ["query_key_value"]),
        ("phi3", ["qkv_proj"]),
        ("qwen3", ["q_proj", "v_proj"]),
        ("opt", ["q_proj", "v_proj"]),
        ("mamba", []),
    ],
)
def test_queries_and_values_are_the_default_targets_of_adapters(
    architecture: str, targets: list[str]
) -> None:
    assert query_value_projections(small_causal_model(architecture)) == targets


# Layers


@pytest.mark.parametrize(
    ("architecture", "changes", "last"),
    [
        ("opt", {}, "model.decoder.final_layer_norm"),
        ("opt", {"word_embed_proj_dim": 16}, "model.decoder.final_layer_norm"),
        ("opt", {"do_layer_norm_before": False}, "model.decoder.layers.1"),
        ("mamba", {}, "backbone.norm_f"),
        ("lfm2", {}, "model.embedding_norm"),
        ("mllama", {}, "model.norm"),
    ],
)
def test_the_last_state_is_found_with_a_final_norm_and_without(
    architecture: str, changes: dict[str, Any], last: str
) -> None:
    layers = layers_of(small_causal_model(architecture, **changes))
    assert layers.last == last
    assert (len(layers.blocks), layers.hidden_size) == (2, 32)


def test_a_list_as_long_that_holds_no_blocks_is_passed_over() -> None:
    model: Any = small_model("llama")
    model.model.adjustments = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
    # The one that comes first is looked at first.
    model.model._modules["layers"] = model.model._modules.pop("layers")
    assert layers_of(model).blocks[0] == "model.layers.0"


def test_blocks_that_do_not_make_the_last_state_are_refused() -> None:
    model: Any = small_model("llama")
    model.model.norm.register_forward_pre_hook(lambda _module, inputs: (inputs[0] * 2,))
    method = sparsepo.get_method("sparsepo-common")
    with pytest.raises(UserError, match=r"blocks of this llama model cannot be found.*such as dpo"):
        make_masks(method, model)


def test_a_model_that_does_not_run_on_tokens_alone_is_refused() -> None:
    model: Any = small_model("llama")

    def refuse(*_: Any) -> None:
        raise ValueError("an image is missing")

    model.model.register_forward_pre_hook(refuse)
    with pytest.raises(UserError, match=r"token ids alone \(an image is missing\); use a method"):
        layers_of(model)


def test_the_epsilon_of_a_model_without_a_final_norm_is_its_blocks() -> None:
    model = small_causal_model("opt", do_layer_norm_before=False)
    model.get_submodule("model.decoder.layers.1.self_attn_layer_norm").eps = 0.0123
    assert norm_epsilon(model) == 0.0123


# What is not found is never captured


def test_a_residual_stream_that_does_not_add_up_is_refused() -> None:
    model: Any = small_model("llama")
    model.model.layers[1].register_forward_hook(lambda _m, _i, output: output * output.sigmoid())
    method = sparsepo.get_method("mapo")
    with pytest.raises(UserError) as refused:
        make_masks(method, model)
    assert str(refused.value) == (
        "MaPO's mask family 'residual' cannot be read in this llama model: the attention's "
        "contribution to the residual stream of model.layers.1 was not found; set "
        "mask_families=mlp+attention+logits, or use dpo, tdpo1 or SparsePO, which do not read "
        "activations."
    )
    make_masks(sparsepo.get_method("mapo", mask_families="mlp+attention+logits"), model)
    make_masks(sparsepo.get_method("sparsepo-common"), model)


def test_a_second_activation_in_the_mlp_is_no_guess() -> None:
    model: Any = small_model("llama")
    for layer in model.model.layers:
        layer.mlp.up_proj = nn.Sequential(layer.mlp.up_proj, nn.Tanh())
    with pytest.raises(UserError, match=r"'mlp' cannot be read .* activation function"):
        points_of(model, ("mlp",))


def test_probing_leaves_the_model_as_it_was() -> None:
    model = small_causal_model("mixtral").train()
    model.get_submodule("model.layers.0").eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(7)
    before = torch.rand(1)
    torch.manual_seed(7)
    points_of(model)
    assert torch.rand(1) == before
    assert [module.training for module in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(weight.grad is None for weight in model.parameters())


# Experts


def test_the_activation_of_routed_experts_is_the_mean_over_a_tokens_experts() -> None:
    """Against one expert at a time, computed here from the experts' weights."""
    model = small_causal_model("mixtral")
    batch = pack_pairs(token_pairs(4, seed=3))
    given: list[tuple[Tensor, Tensor]] = []
    for name, module in model.named_modules():
        if name.endswith(".experts"):
            module.register_forward_pre_hook(
                lambda _m, args: given.append((args[0], args[1]))  # type: ignore[arg-type]
            )
    points_of(model)
    given.clear()
    with torch.no_grad(), capture_activations(model, batch, ("mlp",)) as found:
        run_body(model, batch, attention_mask_for(model, batch))
    for layer, (states, chosen) in enumerate(given):
        weights: Tensor = model.get_submodule(f"model.layers.{layer}.mlp.experts").gate_up_proj  # type: ignore[assignment]
        expected = []
        for state, experts in zip(states, chosen, strict=True):
            gates = [(weights[expert] @ state).chunk(2)[0] for expert in experts]
            expected.append(torch.stack([nn.functional.silu(gate) for gate in gates]).mean())
        wanted = torch.stack(expected)[batch.predictor_index]
        torch.testing.assert_close(found["mlp"][layer].mean, wanted, rtol=1e-4, atol=1e-5)
    assert len(found["mlp"]) == len(given) == 2


# The command


def saved(model: PreTrainedModel, folder: Any) -> str:
    model.save_pretrained(folder)
    return str(folder)


def test_the_command_prints_what_was_found(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(small_causal_model("cohere2", layer_types=None), tmp_path / "model")
    assert main(["inspect", "--points", model]) == 0
    printed = capsys.readouterr().out.splitlines()
    table = {" ".join(line.split()) for line in printed}
    for line in (
        "learned masks block model.layers.N 32 0-1",
        "learned masks final norm model.norm 32",
        "mlp activation model.layers.N.mlp.act_fn 48 0-1",
        "residual attention norm model.layers.N.input_layernorm 32 0-1",
        "residual token embedding model.embed_tokens 32",
    ):
        assert line in table
    assert printed[-1] == "Learned masks and every family of mapo can be read."


def test_the_command_names_what_is_missing(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(small_causal_model("mamba"), tmp_path / "model")
    assert main(["inspect", "--points", model]) == 0
    printed = capsys.readouterr().out
    assert "mapo cannot read the family attention: queries, keys and values of backbone" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--points", "m", "--out", "page.html"],
            "Error: --points cannot be combined with other options; leave out --out.",
        ),
        (["--points", "m", "--set", "max_length=3"], "leave out --set."),
        (["--out", "page.html"], "are required: --model; see"),
        (["--points", "no-such-folder"], "There is no folder 'no-such-folder', and no model"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *words]) == 2
    assert said in capsys.readouterr().err
