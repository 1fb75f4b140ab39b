"""Fields of transformers.TrainingArguments that cannot have their effect here, and why.

A field has the effect that transformers documents, or a value of it is refused with one sentence;
none is accepted and ignored. tests/sparsepo/training/test_arguments.py goes through every field of
the transformers that is installed.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sparsepo.errors import UserError, require_choice

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(frozen=True)
class Refusal:
    """Values of a field that are refused."""

    accepted: tuple[Any, ...]
    """Values under which the field has nothing to do."""
    why: str
    """Completes the sentence "<field>=<value> …"."""

    def check(self, name: str, value: object) -> None:
        """Raise a UserError unless a value is accepted.

        Args:
            name: the field.
            value: what it was set to.
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
        "would compile the model anew for nearly every step, because packed batches differ in "
        "shape; leave it out (the attention kernel is compiled by itself where that helps)",
    ),
    "torch_compile_backend": Refusal((None,), "belongs to torch_compile; leave it out"),
    "torch_compile_mode": Refusal((None,), "belongs to torch_compile; leave it out"),
    "use_liger_kernel": Refusal(
        (False,),
        "would replace parts of the model by kernels that have not been checked here; leave it "
        "out (the loss is fused already)",
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
        (False,), "would hide a loss that is not finite, which stops training; leave it out"
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
"""Field → the values that are accepted; fields that transformers no longer has are passed over."""

LAYERWISE_OPTIMIZERS: Final = ("lomo", "adalomo")
"""Optimizers that update weights in the backward pass, beside those named …_layerwise."""

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
"""`report_to` → the modules that it needs (alternatives joined by |) and what pip installs."""


def check_fields(args: TrainingArguments) -> None:
    """Check the fields of a configuration as they were given.

    Raises:
        UserError: a value that could not have its effect.
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
            "include_for_metrics=inputs is not supported; the rows of predictions are in the "
            "order of the evaluation pairs."
        )
    check_reporting(args.report_to)


def check_resolved(args: TrainingArguments) -> None:
    """Check what transformers made of a configuration.

    Raises:
        UserError: a way to share batches among processes, or a device, that cannot be used.
    """
    sharing: Any = args.accelerator_config
    for name, accepted in (("split_batches", False), ("even_batches", True)):
        if getattr(sharing, name) is not accepted:
            raise UserError(
                f"accelerator_config with {name}={getattr(sharing, name)} is not supported; each "
                "process has batches of per_device_train_batch_size pairs of its own."
            )
    if sharing.dispatch_batches:
        raise UserError(
            "accelerator_config with dispatch_batches=True is not supported; each process reads "
            "its own pairs."
        )
    # None would dispatch the batches of a stream.
    sharing.dispatch_batches = False
    if args.fp16 and args.device.type == "cpu":
        raise UserError("fp16=true needs a GPU; use bf16=true on a CPU.")
    if args.n_gpu > 1:
        raise UserError(
            f"This process sees {args.n_gpu} GPUs; start one process for each with "
            "`accelerate launch`, or name one in CUDA_VISIBLE_DEVICES."
        )


def check_reporting(report_to: str | list[str] | None) -> None:
    """Check that what a run reports to is installed, before anything is loaded.

    Args:
        report_to: names as transformers has them, or "all" or "none".

    Raises:
        UserError: an unknown name, or a package that is missing.
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
