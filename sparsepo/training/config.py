"""POConfig: transformers' training arguments plus what preference optimization adds."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from transformers import TrainingArguments

from sparsepo.batches.attention import Attention
from sparsepo.batches.tokenize import LongResponse
from sparsepo.errors import UserError, first_line, require_choice
from sparsepo.methods.base import Method
from sparsepo.methods.masked import uses_given_masks
from sparsepo.models.adapters import check_merging
from sparsepo.registry import available_methods, get_method
from sparsepo.training.arguments import check_fields, check_resolved
from sparsepo.training.trl_names import TRLNames

DEFAULT_METHOD = "sparsepo-common"

_PLAIN_TYPES: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}
AT_LEAST_1 = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "chunk_size",
    "max_length",
    "lora_r",
    "lora_alpha",
    "tokens_per_row",
)


@dataclass
class POConfig(TRLNames, TrainingArguments):
    """Arguments of a POTrainer: every field of transformers.TrainingArguments, and these.

    The fields of trl.DPOConfig are accepted too (see TRLNames). A field either has its effect or is
    rejected with a UserError. A hyper-parameter left at None uses the method's default; one that
    the method does not use is a UserError. Defaults that differ from those of transformers follow
    arXiv 2410.05102: AdamW, cosine schedule, 10 % warm-up, seed 42.
    """

    at_least_1: ClassVar[tuple[str, ...]] = AT_LEAST_1
    """Fields that are counts."""

    method: str = field(
        default="",
        metadata={"help": f"Name of the method; {DEFAULT_METHOD} unless loss_type names one."},
    )
    method_args: dict[str, Any] | None = field(
        default=None, metadata={"help": "Further hyper-parameters, for plug-in methods."}
    )
    beta: float | None = field(default=None, metadata={"help": "Strength of the reference."})
    gamma: float | None = field(default=None, metadata={"help": "SimPO's target margin."})
    lam: float | None = field(default=None, metadata={"help": "DPOP's penalty weight λ."})
    alpha: float | None = field(default=None, metadata={"help": "TDPO v2's KL weight α."})
    l1_reward: float | None = field(default=None, metadata={"help": "λ_u, L1 on the reward mask."})
    l1_kl: float | None = field(default=None, metadata={"help": "λ_d, L1 on the KL mask."})
    l1_limit: Literal["none", "preference"] | None = field(
        default=None,
        metadata={
            "help": "none (the paper's loss), or preference: L1 takes back at most half of what "
            "the preference adds to a mask."
        },
    )
    mask_weight_decay: float | None = field(
        default=None, metadata={"help": "Weight decay of the masks' optimizer group."}
    )
    mask_learning_rate: float | Literal["auto", "policy"] | None = field(
        default=None,
        metadata={
            "help": "Peak learning rate of the masks: a number, policy (the policy's) or auto (by "
            "the masks' size and the number of steps)."
        },
    )
    mask_dropout: float | None = field(default=None, metadata={"help": "Dropout on the masks."})
    mask_layers: Literal["all", "last"] | None = field(
        default=None, metadata={"help": "Layers that a learned mask reads: all or last."}
    )
    mask_feed_forward: int | None = field(
        default=None, metadata={"help": "Feed-forward layers of a learned mask: 1 or 2."}
    )
    mask_kind: Literal["learned", "binary", "random", "given"] | None = field(
        default=None, metadata={"help": "learned, binary, random, or given by token_masks."}
    )
    mask_init: Literal["scaled", "paper"] | None = field(
        default=None,
        metadata={"help": "Initialisation of learned masks: scaled or paper (PyTorch's)."},
    )
    mask_initial_sparsity: float | None = field(
        default=None,
        metadata={
            "help": "Initial sparsity (%) of a scaled mask; with mask_init=paper the largest one, "
            "above which a mask is re-initialised."
        },
    )
    mask_gradient: Literal["straight-through", "exact"] | None = field(
        default=None,
        metadata={"help": "Gradient of a learned mask's rectifiers: straight-through or exact."},
    )
    mask_families: str | None = field(
        default=None, metadata={"help": "MaPO's activation families, joined by +."}
    )
    mask_mapping: Literal["none", "sigmoid", "rescale"] | None = field(
        default=None, metadata={"help": "MaPO's mapping: none, sigmoid or rescale."}
    )
    max_length: int | None = field(
        default=1024,
        metadata={
            "help": "Maximum tokens of prompt and response together, within the model's context; "
            "null uses the whole context."
        },
    )
    max_prompt_length: int | None = field(
        default=None,
        metadata={"help": "Maximum tokens of the prompt, which is truncated on the left."},
    )
    on_long_response: LongResponse = field(
        default="error",
        metadata={"help": "How to treat a response that does not fit: error, truncate or skip."},
    )
    model_dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto",
        metadata={"help": "Dtype for loading models; auto uses the checkpoint's dtype."},
    )
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Further arguments of from_pretrained, such as revision, for models and "
            "tokenizers that are given by folder or hub id."
        },
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Allow a model to run its own Python code from the hub."}
    )
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Quantize the base model to NF4 (QLoRA)."}
    )
    load_in_8bit: bool = field(
        default=False, metadata={"help": "Quantize the base model to 8-bit integers."}
    )
    lora_r: int | None = field(
        default=None, metadata={"help": "Rank of LoRA adapters; None trains the whole model."}
    )
    lora_alpha: int | None = field(
        default=None, metadata={"help": "Scale of the adapters; default 2·lora_r."}
    )
    lora_dropout: float | None = field(
        default=None, metadata={"help": "Dropout on the adapters' input; default 0."}
    )
    lora_target_modules: str | None = field(
        default=None,
        metadata={"help": "Names of the modules that get adapters, joined by +, or all-linear."},
    )
    merge_adapters: bool = field(
        default=False,
        metadata={"help": "Merge the trained adapters into the weights and save the full model."},
    )
    disable_dropout: bool = field(
        default=True,
        metadata={"help": "Disable the policy's own dropout (adapters keep theirs)."},
    )
    tokens_per_row: int | None = field(
        default=None,
        metadata={
            "help": "Maximum tokens of a packed row; default, and minimum, is the longest pair of "
            "a batch."
        },
    )
    length_bucketed: bool = field(
        default=True,
        metadata={
            "help": "Distribute a step's pairs over its micro-batches by length, for less padding; "
            "the training is unchanged."
        },
    )
    attention: Attention = field(
        default="auto",
        metadata={
            "help": "Attention of policy and reference; auto is flex_attention on CUDA if the "
            "architecture supports it, otherwise the model's default."
        },
    )
    check_reference: bool = field(
        default=True,
        metadata={"help": "Stop if the reference differs from the initial policy (log-ratio 0)."},
    )
    reference_cache: str | None = field(
        default=None,
        metadata={"help": "Folder that caches the reference's log-probabilities between runs."},
    )
    token_masks: str | None = field(
        default=None,
        metadata={
            "help": "File with the masks of all pairs, JSONL or Parquet, for mask_kind=given."
        },
    )
    computation: Literal["auto", "packed", "plain"] = field(
        default="auto",
        metadata={
            "help": "packed; plain, the reference implementation with the model's own forward "
            "pass, which needs more time and memory; or auto: packed if the start check passes, "
            "otherwise plain."
        },
    )
    chunk_size: int | None = field(
        default=None,
        metadata={"help": "Tokens per block of the fused operation; default by device."},
    )
    learning_rate: float = field(default=1e-6, metadata={"help": "Peak learning rate."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Warm-up steps; a value below 1 is a share of all steps."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between two log entries."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available,
        metadata={"help": "Pin batches in memory; useful only with a GPU."},
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False,
        metadata={"help": "Always off: every trained weight contributes to every loss."},
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Always off: a loss that is not finite stops training anyway."},
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "No effect on pairs, which have no unused columns."}
    )

    def __post_init__(self) -> None:
        """Check types and ranges, because transformers would fail on many only during training.

        Raises:
            UserError: a value of the wrong type, none of the choices, or a size below 1.
        """
        hints = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):
            hint = hints[item.name]
            union = typing.get_origin(hint) in (typing.Union, types.UnionType)
            kinds = set(typing.get_args(hint)) if union else {hint}
            value = getattr(self, item.name, None)
            if typing.get_origin(hint) is Literal:
                require_choice(item.name, value, typing.get_args(hint))
            if kinds <= set(_PLAIN_TYPES) and value != item.default:
                accepted = kinds | {int} if float in kinds else kinds
                fits = type(value) in accepted or (str in kinds and isinstance(value, Path))
                if not fits:
                    names = [_PLAIN_TYPES[kind] for kind in _PLAIN_TYPES if kind in kinds]
                    raise UserError(f"{item.name} must be {' or '.join(names)}, not {value!r}.")
        for name in self.at_least_1:
            size = getattr(self, name)
            if size is not None and size < 1:
                raise UserError(f"{name} must be at least 1, not {size}.")
        self.map_trl_names(self)
        self.method = self.method or DEFAULT_METHOD
        check_fields(self)
        self._check_computation()
        self._check_adapters()
        try:
            if isinstance(self.model_init_kwargs, str):
                self.model_init_kwargs = json.loads(self.model_init_kwargs)
            super().__post_init__()
        except (ValueError, ImportError, NotImplementedError) as error:
            raise UserError(f"Invalid options: {first_line(error).rstrip('.')}.") from error
        check_resolved(self)

    def _check_computation(self) -> None:
        if self.computation == "plain":
            for name in ("chunk_size", "reference_cache", "tokens_per_row"):
                if getattr(self, name) is not None:
                    raise UserError(
                        f"computation=plain uses no {name}; leave it out, or use packed."
                    )

    def _check_adapters(self) -> None:
        if self.load_in_4bit and self.load_in_8bit:
            raise UserError("load_in_4bit and load_in_8bit exclude each other; choose one.")
        if self.merge_adapters:
            # Adapters in the model itself are only known after it is loaded.
            check_merging(adapters=True, quantized=self.bits is not None)
        if self.lora_r is None:
            for name in ("lora_alpha", "lora_dropout", "lora_target_modules"):
                if getattr(self, name) is not None:
                    raise UserError(f"{name} describes LoRA adapters; set lora_r too.")
        if self.lora_dropout is not None and not 0 <= self.lora_dropout < 1:
            raise UserError(
                f"lora_dropout must be at least 0 and below 1, not {self.lora_dropout}."
            )

    @property
    def adapter_targets(self) -> list[str] | str | None:
        """Names of the modules that get adapters, "all-linear", or None for the default ones."""
        names = self.lora_target_modules
        return names if names is None or names == "all-linear" else names.split("+")

    @property
    def bits(self) -> int | None:
        """4 or 8 if the base model is quantized."""
        return 4 if self.load_in_4bit else 8 if self.load_in_8bit else None

    def make_method(self) -> Method:
        """Return the method with the hyper-parameters that are set.

        Raises:
            UserError: the method is unknown, does not use one of them, or cannot use the reference
                cache or the token masks that are set.
        """
        given = {
            name: getattr(self, name)
            for name in own_hyper_parameters(type(self))
            if getattr(self, name) is not None
        }
        method = get_method(self.method, **given, **(self.method_args or {}))
        if self.reference_cache is not None and not method.needs.cacheable:
            why = "needs the reference model itself at every step"
            raise UserError(
                f"Method '{self.method}' {why if method.needs.reference else 'uses no reference'}, "
                "so a cache would save nothing; leave reference_cache out."
            )
        if uses_given_masks(method) and self.token_masks is None:
            raise UserError(
                "mask_kind=given needs token_masks, the file with the masks of all pairs; set it."
            )
        if method.needs.token_weights and self.token_masks is None:
            raise UserError(
                f"Method '{self.method}' needs token_masks, the file with a weight for each token "
                "of all pairs (as reward_mask); set it."
            )
        reads_masks = uses_given_masks(method) or method.needs.token_weights
        if self.token_masks is not None and not reads_masks:
            remedy = "leave token_masks out"
            if hasattr(method, "mask_kind"):
                remedy = f"set mask_kind=given, or {remedy}"
            raise UserError(f"Method '{self.method}' does not read token_masks here; {remedy}.")
        return method

    def to_dict(self) -> dict[str, Any]:
        """Return transformers' fields and the hyper-parameters that the method uses.

        Trackers record them, with the method's defaults in place of None.
        """
        return {**super().to_dict(), **dataclasses.asdict(self.make_method())}

    @classmethod
    def field_types(cls) -> dict[str, Any]:
        """Return the fields that may be set, with their declared types."""
        return {item.name: item.type for item in dataclasses.fields(cls) if item.init}


def own_hyper_parameters(config: type[POConfig]) -> tuple[str, ...]:
    """Return the fields of a configuration that are hyper-parameters of some method.

    They may be given as `POConfig(beta=0.5)`; so may those of any other method, which become
    `method_args`.
    """
    declared = _hyper_parameters_of_all()
    inherited = {item.name for item in dataclasses.fields(TrainingArguments)}
    return tuple(
        item.name
        for item in dataclasses.fields(config)
        if item.name in declared and item.name not in inherited
    )


def _hyper_parameters_of_all() -> set[str]:
    classes = available_methods().values()
    return {item.name for cls in classes for item in dataclasses.fields(cls)}


def take_hyper_parameters(initialise: Callable[..., None]) -> Callable[..., None]:
    """Let a configuration's constructor take the hyper-parameters of every method by name.

    Those that are no fields become `method_args`; a name of neither remains a TypeError.
    """

    @functools.wraps(initialise)
    def wrapped(self: POConfig, *values: Any, **named: Any) -> None:
        known = set(type(self).field_types())
        foreign = [name for name in named if name not in known]
        if foreign:
            declared = _hyper_parameters_of_all()
            extra = {name: named.pop(name) for name in foreign if name in declared}
            if extra:
                named["method_args"] = {**(named.get("method_args") or {}), **extra}
        initialise(self, *values, **named)

    return wrapped


POConfig.__init__ = take_hyper_parameters(POConfig.__init__)  # type: ignore[method-assign]
