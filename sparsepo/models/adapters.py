"""LoRA and quantized base models: policies that train only small adapters."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sparsepo.errors import UserError, first_line
from sparsepo.models.points import query_value_projections

REFERENCE_ADAPTER = "reference"
"""Name of the frozen copy of trained adapters, which serves as the reference."""

BITSANDBYTES = "python -m pip install 'bitsandbytes>=0.50,<0.51'"
"""As the extra `qlora` of pyproject.toml has it."""


def quantization(bits: int) -> BitsAndBytesConfig:
    """Return the configuration for 4 bits (NF4, arXiv 2305.14314) or 8 bits (arXiv 2208.07339).

    Args:
        bits: 4 or 8.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"load_in_{bits}bit=true needs bitsandbytes: run `{BITSANDBYTES}`.")
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    # No compute dtype is set, because the layers compute in the dtype of their input.
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )


def is_quantized(model: PreTrainedModel) -> bool:
    """Return whether a model's weights are in 4 or 8 bits."""
    return bool(
        getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
    )


def has_adapters(model: PreTrainedModel) -> bool:
    """Return whether a model is a PEFT model."""
    return hasattr(model, "peft_config")


def add_adapters(
    model: PreTrainedModel,
    rank: int,
    *,
    alpha: int | None = None,
    dropout: float | None = None,
    targets: Sequence[str] | str | None = None,
) -> PreTrainedModel:
    """Return a model with new LoRA adapters (arXiv 2106.09685), the only trained part.

    W x → W x + alpha/rank · B A x, with B = 0 at the start.

    Args:
        model: a language model, quantized or not; it is changed in place.
        rank: r, columns of B and rows of A.
        alpha: scale; None means 2·rank.
        dropout: dropout on the adapters' input; None means 0.
        targets: names of the modules that get adapters, or "all-linear"; None uses the projections
            of queries and values.

    Raises:
        UserError: the model already has adapters, or no module has such a name.
    """
    _refuse_adapters(model)
    if targets is None:
        # If none are found, peft's own list of architectures decides.
        targets = query_value_projections(model) or None
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout or 0.0,
        target_modules=targets if isinstance(targets, str | None) else list(targets),
        # GPT-2's projections are stored transposed, except quantized ones.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    return wrap(model, config)


def wrap(model: PreTrainedModel, config: PeftConfig) -> PreTrainedModel:
    """Return a model with new adapters of any kind, the only trained part.

    Args:
        model: a language model, quantized or not; it is changed in place.
        config: describes the adapters.

    Raises:
        UserError: the model already has adapters, no module has such a name, or training would
            ignore the adapters.
    """
    _refuse_adapters(model)
    if is_quantized(model):
        model = prepare_quantized(model)
    source = Path(str(model.config.name_or_path))
    if source.exists():
        # Saved adapters record their base model, and the path must be valid from any folder.
        model.__dict__["name_or_path"] = str(source.resolve())
    try:
        adapted: Any = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"No adapters can be added to this {model.config.model_type} model; name its "
            "projections in lora_target_modules (q_proj+v_proj) or in the peft_config's "
            f"target_modules ({first_line(error)})."
        ) from error
    check_adapters(adapted)
    result: PreTrainedModel = adapted
    return result


def _refuse_adapters(model: PreTrainedModel) -> None:
    if has_adapters(model):
        raise UserError(
            "The model already has adapters, and lora_r or peft_config would add more; leave it "
            "out to train these, or merge them first (merge_adapters=true)."
        )


def prepare_quantized(model: PreTrainedModel) -> PreTrainedModel:
    """Prepare a quantized model for adapters: freeze it, and cast its other weights to float32."""
    ready: PreTrainedModel = prepare_model_for_kbit_training(
        model, use_gradient_checkpointing=False
    )
    for module in ready.modules():
        # On CPUs with AVX512-BF16 a 4-bit layer repacks its weights when it first runs in
        # evaluation mode, as the reference does; it then has no gradient, and other values.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return ready


def evaluate_as(model: PreTrainedModel, training: bool) -> None:
    """Put a model into evaluation mode, but its quantized layers into the given mode.

    On the CPU an 8-bit layer gives different results in evaluation than in training mode, and a
    reference must compute in the same way as its policy.
    """
    model.eval()
    if is_quantized(model):
        for module in model.modules():
            if type(module).__module__.startswith("bitsandbytes"):
                module.training = training


def check_adapters(model: PreTrainedModel) -> None:
    """Reject adapters that training would ignore.

    Raises:
        UserError: there are adapters on the output projection, prompt learning, or adapters that
            do not belong to a PEFT model.
    """
    if not has_adapters(model):
        return
    if not isinstance(model, PeftModel):
        raise UserError(
            "These adapters were added by transformers itself; load the base model and wrap it "
            "with peft.PeftModel.from_pretrained(model, adapters, is_trainable=True)."
        )
    if any(config.is_prompt_learning for config in model.peft_config.values()):
        raise UserError(
            "Prompt learning (prefix or prompt tuning) is not supported; use adapters inside the "
            "layers, such as LoRA."
        )
    if hasattr(model.get_base_model().get_output_embeddings(), "base_layer"):
        # The fused operation reads the projection's own weight.
        raise UserError(
            "Adapters on the output projection (lm_head) are not supported; leave it out of "
            "lora_target_modules."
        )


def keep_start(policy: PreTrainedModel) -> str | None:
    """Keep the initial state of trained adapters as a second, frozen adapter.

    Args:
        policy: a PEFT model with one active adapter.

    Returns:
        The frozen adapter's name; None if the active adapter has no effect yet (B = 0), because the
        reference is then the model with adapters disabled.
    """
    model: Any = policy
    trained = any(
        bool(parameter.any()) for name, parameter in model.named_parameters() if "lora_B" in name
    )
    if not trained:
        return None
    active = model.active_adapter
    config: Any = copy.deepcopy(model.peft_config[active])
    config.inference_mode = True
    # The weights are copied; an initialisation such as PiSSA would change the base model again.
    config.init_lora_weights = False
    model.add_adapter(REFERENCE_ADAPTER, config)
    state = get_peft_model_state_dict(model, adapter_name=active)
    set_peft_model_state_dict(model, state, adapter_name=REFERENCE_ADAPTER)
    model.set_adapter(active)
    return REFERENCE_ADAPTER


def check_merging(*, adapters: bool, quantized: bool) -> None:
    """Check that merge_adapters is possible.

    Args:
        adapters: whether the model has adapters.
        quantized: whether its weights are in 4 or 8 bits.

    Raises:
        UserError: merging is not possible.
    """
    if not adapters:
        raise UserError("merge_adapters=true needs adapters; set lora_r too.")
    if quantized:
        raise UserError(
            "Adapters cannot be merged into 4-bit or 8-bit weights without loss; leave "
            "merge_adapters out and merge them into the unquantized base model afterwards."
        )


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return the base model with its adapters merged into its weights; changes it in place.

    Raises:
        UserError: the model has no adapters, or its weights are quantized.
    """
    check_merging(adapters=has_adapters(model), quantized=is_quantized(model))
    outer: Any = model
    plain: PreTrainedModel = outer.merge_and_unload(adapter_names=[outer.active_adapter])
    return plain


def add_input_gradients(model: PreTrainedModel) -> None:
    """Enable gradients of a frozen embedding's output, which reentrant recomputation requires."""
    if has_adapters(model):
        model.enable_input_require_grads()


__all__ = [
    "REFERENCE_ADAPTER",
    "add_adapters",
    "add_input_gradients",
    "check_adapters",
    "check_merging",
    "evaluate_as",
    "has_adapters",
    "is_quantized",
    "keep_start",
    "merged",
    "prepare_quantized",
    "quantization",
    "wrap",
]
