"""Fields of transformers.TrainingArguments that are not supported, and why.

A field either has the effect that transformers documents, or its value is rejected with one
sentence; none is accepted and ignored. tests/sparsepo/training/test_arguments.py covers every field
of the installed transformers.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sparsepo.distributed.sharding import check_deepspeed, check_joined
from sparsepo.errors import UserError, require_choice

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(frozen=True)
class Refusal:
    """A field that is only accepted with certain values."""

    accepted: tuple[Any, ...]
    """Values with which the field has no effect."""
    why: str
    """Completes the sentence "<field>=<value> …"."""

    def check(self, name: str, value: object) -> None:
        """Raise a UserError unless a value is accepted.

        Args:
            name: the field.
            value: its value.
        """
        if value not in self.accepted:
            raise UserError(f"{name}={value} {self.why}.")


REFUSED: Final[dict[str, Refusal]] = {
    "label_smoothing_factor": Refusal(
        (0, 0.0),
        "smooths a cross-entropy over labels, which a preference loss is not; leave it out",
    ),
    "label_names": Refusal(
        (None, []), "names label columns, which preference pairs do not have; leave it out"
    ),
    "torch_compile": Refusal(
        (False,),
        "would recompile the model at nearly every step, because packed batches differ in shape; "
        "leave it out (the attention kernel is compiled automatically where that helps)",
    ),
    "torch_compile_backend": Refusal((None,), "belongs to torch_compile; leave it out"),
    "torch_compile_mode": Refusal((None,), "belongs to torch_compile; leave it out"),
    "use_liger_kernel": Refusal(
        (False,),
        "would replace parts of the model with kernels that have not been verified here; leave it "
        "out (the loss is already fused)",
    ),
    "liger_kernel_config": Refusal((None, {}), "belongs to use_liger_kernel; leave it out"),
    "bf16_full_eval": Refusal(
        (False,), "is not supported; pairs are scored in the precision of training (bf16=true)"
    ),
    "fp16_full_eval": Refusal(
        (False,), "is not supported; pairs are scored in the precision of training (fp16=true)"
    ),
    "batch_eval_metrics": Refusal(
        (False,),
        "is not supported; compute_metrics gets two numbers per pair, for all pairs at once",
    ),
    "eval_do_concat_batches": Refusal(
        (True,), "is not supported; predictions are one array with a row for each pair"
    ),
    "average_tokens_across_devices": Refusal(
        (True,), "is not supported; a step's loss is the mean over the pairs of all processes"
    ),
    "logging_nan_inf_filter": Refusal(
        (False,), "would hide a non-finite loss, which must stop training; leave it out"
    ),
    "length_column_name": Refusal(
        ("length",),
        "is not read; train_sampling_strategy=group_by_length counts the tokens itself",
    ),
    "parallelism_config": Refusal(
        (None,),
        "splits sequences or layers over processes, which packed pairs do not allow; use "
        "configs/accelerate/fsdp.yaml",
    ),
    "train_sampling_strategy": Refusal(
        ("random", "sequential", "group_by_length"),
        "may train on a pair twice in an epoch; use group_by_length and length_bucketed=true",
    ),
    "jit_mode_eval": Refusal((False,), "is not supported; leave it out"),
}
"""Field → accepted values; fields that the installed transformers lacks are skipped."""

LAYERWISE_OPTIMIZERS: Final = ("lomo", "adalomo")
"""Optimizers that update weights in the backward pass, besides those named …_layerwise."""

REPORTING: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "azure_ml": (("azureml.core",), "azureml-sdk"),
    "clearml": (("clearml",), "clearml"),
    "codecarbon": (("codecarbon",), "codecarbon"),
    "comet_ml": (("comet_ml",), "comet-ml"),
    "dagshub": (("dagshub", "mlflow"), "dagshub mlflow"),
    "dvclive": (("dvclive",), "dvclive"),
    "flyte": (("flytekit",), "flytekit"),
    "mlflow": (("mlflow",), "mlflow"),
    "neptune": (("neptune",), "neptune"),
    "swanlab": (("swanlab",), "swanlab"),
    "tensorboard": (("tensorboard|tensorboardX",), "tensorboard"),
    "trackio": (("trackio",), "trackio"),
    "wandb": (("wandb",), "wandb"),
    "kubeflow": ((), ""),
}
"""`report_to` → required modules (alternatives separated by |) and the packages to install."""


def check_fields(args: TrainingArguments) -> None:
    """Check the fields of a configuration as the user gave them.

    Raises:
        UserError: a value is not supported.
    """
    for name, refusal in REFUSED.items():
        if hasattr(args, name):
            refusal.check(name, getattr(args, name))
    optimizer = str(getattr(args.optim, "value", args.optim))
    if optimizer in LAYERWISE_OPTIMIZERS or optimizer.endswith("_layerwise"):
        raise UserError(
            f"optim={optimizer} updates weights during the backward pass, before the loss of a "
            "whole step is known; use adamw_torch, or adamw_8bit to save memory."
        )
    if "inputs" in args.include_for_metrics:
        raise UserError(
            "include_for_metrics=inputs is not supported; leave it out and use the evaluation "
            "pairs, which are in the same order as the predictions."
        )
    check_reporting(args.report_to)
    check_deepspeed(args)


def check_resolved(args: TrainingArguments) -> None:
    """Check a configuration after transformers has resolved it.

    Raises:
        UserError: the distribution of batches over processes, or the device, is not supported.
    """
    check_joined(args)
    sharing: Any = args.accelerator_config
    for name, accepted in (("split_batches", False), ("even_batches", True)):
        if getattr(sharing, name) is not accepted:
            raise UserError(
                f"accelerator_config with {name}={getattr(sharing, name)} is not supported, "
                "because each process has its own batches of per_device_train_batch_size pairs; "
                "leave it out."
            )
    if sharing.dispatch_batches:
        raise UserError(
            "accelerator_config with dispatch_batches=True is not supported, because each "
            "process reads its own pairs; leave it out."
        )
    # With None, accelerate would dispatch the batches of a stream.
    sharing.dispatch_batches = False
    if args.fp16 and args.device.type == "cpu":
        raise UserError("fp16=true needs a GPU; use bf16=true on a CPU.")
    if args.n_gpu > 1:
        raise UserError(
            f"This process sees {args.n_gpu} GPUs; start one process per GPU with `accelerate "
            "launch`, or select one with CUDA_VISIBLE_DEVICES."
        )


def check_reporting(report_to: str | list[str] | None) -> None:
    """Check that the packages for reporting are installed, before anything is loaded.

    Args:
        report_to: transformers' names, or "all" or "none".

    Raises:
        UserError: an unknown name, or a missing package.
    """
    names = [report_to] if isinstance(report_to, str) else report_to or []
    for name in names:
        if name in ("all", "none"):
            continue
        require_choice("report_to", name, (*REPORTING, "all", "none"))
        modules, package = REPORTING[name]
        if name == "kubeflow" and "KUBEFLOW_TRAINER_SERVER_URL" not in os.environ:
            raise UserError(
                "report_to=kubeflow works inside a Kubeflow TrainJob, which sets "
                "KUBEFLOW_TRAINER_SERVER_URL; leave it out elsewhere."
            )
        if not all(any(map(_is_installed, each.split("|"))) for each in modules):
            raise UserError(
                f"report_to={name} needs a package that is not installed; run "
                f"`python -m pip install {package}`, or leave report_to out."
            )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        # The parent of a dotted name is missing.
        return False
