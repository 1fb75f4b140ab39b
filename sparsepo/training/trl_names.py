"""TRL's names: fields of trl.DPOConfig and arguments of trl.DPOTrainer.

A field with the same meaning is mapped to ours, a value without effect is accepted, and any other
is rejected with one sentence that says what to use instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sparsepo.errors import UserError, did_you_mean
from sparsepo.training.arguments import Refusal

LOSS_TYPES: Final = {"sigmoid": "dpo", "sft": "sft"}
"""TRL's loss_type → the method with the same loss and default values."""

OTHER_LOSS_TYPES: Final = {
    "hinge": "hinge",
    "ipo": "ipo",
    "exo_pair": "exo",
    "nca_pair": "nca",
    "robust": "robust-dpo",
    "bco_pair": "bco-pair",
    "sppo_hard": "sppo",
    "aot": "aot",
    "aot_unpaired": "aot",
    "apo_zero": "apo-zero",
    "apo_down": "apo-down",
    "discopop": "discopop",
    "sigmoid_norm": "ln-dpo",
}
"""TRL's loss_type → the method with the same loss, whose default values differ from TRL's; they are
not mapped, because the same script would silently train with another beta."""

REFUSED: Final[dict[str, Refusal]] = {
    "dataset_num_proc": Refusal(
        (None, 1), "is not used, because tokenizers already use several threads; leave it out"
    ),
    "router_aux_loss_coef": Refusal(
        (None, 0, 0.0), "is not supported, because no load-balancing loss is added; leave it out"
    ),
    "pad_to_multiple_of": Refusal(
        (None, "auto"), "is not used, because pairs are packed into rows; leave it out"
    ),
    "precompute_ref_batch_size": Refusal(
        (None,), "is called per_device_eval_batch_size here; rename it"
    ),
    "loss_weights": Refusal(
        (None, [1.0], [1]), "is not supported, because a method has one loss; leave it out"
    ),
    "ld_alpha": Refusal((None,), "is alpha of method=ld-dpo here; set these"),
    "f_divergence_type": Refusal(
        ("reverse_kl",), "is divergence of method=f-dpo here (forward-kl, js, alpha); set these"
    ),
    "f_alpha_divergence_coef": Refusal(
        (0.5,), "is 1 - alpha of method=f-dpo with divergence=alpha here; set these"
    ),
    "label_smoothing": Refusal(
        (0, 0.0), "is epsilon of methods cdpo, robust-dpo, exo and aot here; set one of these"
    ),
    "use_weighting": Refusal((False,), "is method=wpo here; set that"),
    "discopop_tau": Refusal((0.05,), "is tau of method=discopop here; set these"),
    "activation_offloading": Refusal(
        (False,),
        'is called activation_checkpointing_kwargs={"offload": true} here (with '
        "activation_checkpointing=true); rename it",
    ),
    "sync_ref_model": Refusal(
        (False,), "is not supported, because the reference is never changed; leave it out"
    ),
    "ref_model_mixup_alpha": Refusal((0.6,), "belongs to sync_ref_model; leave it out"),
    "ref_model_sync_steps": Refusal((512,), "belongs to sync_ref_model; leave it out"),
    "pad_token": Refusal((None,), "is not used, because padding is marked by a mask; leave it out"),
}
"""Field of DPOConfig → accepted values."""

UNSUPPORTED_ARGUMENTS: Final = {
    "tokenizer": "tokenizer is called processing_class here; rename it.",
    "eval_datasets": "eval_datasets is called eval_dataset here; rename it.",
    "model_init": "model_init is not supported; give the model itself.",
    "data_collator": "data_collator is not supported, because the trainer packs the pairs; leave "
    "it out.",
    "compute_loss_func": "compute_loss_func is not supported; write the loss as a method and "
    "register it (docs/methods.md).",
    "preprocess_logits_for_metrics": "preprocess_logits_for_metrics is not supported, "
    "because full-vocabulary logits are never computed; use compute_metrics, which gets implicit "
    "rewards.",
    "formatting_func": "formatting_func is not supported; map the rows to prompt, chosen and "
    "rejected first: dataset.map(formatting_func).",
    "ref_model_init_kwargs": "ref_model_init_kwargs is not supported; load the reference yourself "
    "and give it as ref_model.",
    "force_use_ref_model": "force_use_ref_model is not needed, because a given ref_model is always "
    "used; leave it out.",
    "model_adapter_name": "model_adapter_name is not supported; activate the adapters to train.",
    "ref_adapter_name": "ref_adapter_name is not supported, because a frozen copy of the trained "
    "adapters is the reference; leave it out.",
    "generate_during_eval": "generate_during_eval is not supported; generate from the saved model.",
    "is_encoder_decoder": "is_encoder_decoder is not supported; use a causal language model.",
    "label_pad_token_id": "label_pad_token_id is not used, because padding is marked by a mask; "
    "leave it out.",
    "padding_value": "padding_value is not used, because padding is marked by a mask; leave it "
    "out.",
    "tools": "tools belongs to the data; add a column tools to the rows.",
}
"""Arguments of other trainers that POTrainer does not have → what to do instead."""


def refuse_arguments(given: dict[str, Any], fields: set[str], known: set[str]) -> None:
    """Reject arguments that POTrainer does not have.

    Args:
        given: name → value; None counts as not given.
        fields: the fields of POConfig.
        known: the arguments of POTrainer.

    Raises:
        UserError: there is one; the message says what to use instead.
    """
    for name, value in given.items():
        if value is None:
            continue
        if name in UNSUPPORTED_ARGUMENTS:
            raise UserError(UNSUPPORTED_ARGUMENTS[name])
        if name in fields:
            raise UserError(f"{name} belongs to the configuration; give args=POConfig({name}=…).")
        raise UserError(f"POTrainer has no argument '{name}'.{did_you_mean(name, known)}")


@dataclass
class TRLNames:
    """The fields of trl.DPOConfig that POConfig does not have under the same name."""

    loss_type: str | list[str] | None = field(
        default=None, metadata={"help": "TRL's name for the loss; replaces method."}
    )
    truncation_mode: str | None = field(
        default=None, metadata={"help": "TRL's name: keep_start means on_long_response=truncate."}
    )
    precompute_ref_log_probs: bool = field(
        default=False,
        metadata={"help": "TRL's name: a reference_cache in the output folder."},
    )
    padding_free: bool = field(
        default=False, metadata={"help": "TRL's name: pairs are always packed into rows."}
    )
    dataset_num_proc: int | None = field(default=None, metadata={"help": "TRL's; not used."})
    router_aux_loss_coef: float | None = field(default=None, metadata={"help": "TRL's; not used."})
    pad_to_multiple_of: int | str | None = field(
        default="auto", metadata={"help": "TRL's; not used."}
    )
    precompute_ref_batch_size: int | None = field(
        default=None, metadata={"help": "TRL's; not used."}
    )
    loss_weights: list[float] | None = field(default=None, metadata={"help": "TRL's; not used."})
    ld_alpha: float | None = field(default=None, metadata={"help": "TRL's; not used."})
    f_divergence_type: str = field(default="reverse_kl", metadata={"help": "TRL's; not used."})
    f_alpha_divergence_coef: float = field(default=0.5, metadata={"help": "TRL's; not used."})
    label_smoothing: float = field(default=0.0, metadata={"help": "TRL's; not used."})
    use_weighting: bool = field(default=False, metadata={"help": "TRL's; not used."})
    discopop_tau: float = field(default=0.05, metadata={"help": "TRL's; not used."})
    activation_offloading: bool = field(default=False, metadata={"help": "TRL's; not used."})
    sync_ref_model: bool = field(default=False, metadata={"help": "TRL's; not used."})
    ref_model_mixup_alpha: float = field(default=0.6, metadata={"help": "TRL's; not used."})
    ref_model_sync_steps: int = field(default=512, metadata={"help": "TRL's; not used."})
    pad_token: str | None = field(default=None, metadata={"help": "TRL's; not used."})

    def map_trl_names(self, config: Any) -> None:
        """Set the fields of POConfig that correspond to TRL's names.

        Args:
            config: the POConfig, which is this same object.

        Raises:
            UserError: a value is not supported, or contradicts another field.
        """
        for name, refusal in REFUSED.items():
            refusal.check(name, getattr(self, name))
        self._map_loss(config)
        if self.truncation_mode is not None:
            if self.truncation_mode != "keep_start":
                raise UserError(
                    f"truncation_mode={self.truncation_mode} is not supported; use keep_start for "
                    "responses (on_long_response=truncate) and max_prompt_length for prompts, "
                    "which are truncated from the left."
                )
            if config.on_long_response == "skip":
                raise UserError(
                    "truncation_mode=keep_start and on_long_response=skip contradict each other; "
                    "choose one."
                )
            config.on_long_response = "truncate"
        if self.precompute_ref_log_probs and config.reference_cache is None:
            config.reference_cache = str(Path(config.output_dir or ".") / "reference_cache")
        if self.padding_free and config.computation == "plain":
            raise UserError("computation=plain pads every row; leave padding_free out.")

    def _map_loss(self, config: Any) -> None:
        if self.loss_type is None:
            return
        names = [self.loss_type] if isinstance(self.loss_type, str) else list(self.loss_type)
        if len(names) != 1:
            raise UserError("loss_type has several losses, but a method has one; choose one.")
        if names[0] in OTHER_LOSS_TYPES:
            raise UserError(
                f"loss_type={names[0]} is method={OTHER_LOSS_TYPES[names[0]]} here, with other "
                "default values than TRL's; set method, and the values that you want."
            )
        if names[0] not in LOSS_TYPES:
            raise UserError(
                f"loss_type={names[0]} is not supported; set method instead, to one of those that "
                "`sparsepo.available_methods()` lists."
            )
        method = LOSS_TYPES[names[0]]
        if config.method not in ("", method):
            raise UserError(
                f"loss_type={names[0]} is method={method}, which contradicts "
                f"method={config.method}; leave one of them out."
            )
        config.method = method
