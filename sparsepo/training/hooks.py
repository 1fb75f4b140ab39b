"""Every place where POTrainer uses the internals of transformers.Trainer, and why.

Documented methods (`compute_loss`, `create_optimizer`, `log`, `evaluation_loop` …) are overridden
where they belong. Everything that is private, or public but not a documented interface, is
overridden or read only in this file; the rest of the library implements the methods below that
start with `hook_`. OVERRIDDEN and READ list all of them, and tests/sparsepo/training/test_hooks.py
compares both with the installed transformers, so after an upgrade that test says what changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import Trainer

from sparsepo.errors import first_line

OVERRIDDEN: Final = {
    # Documented for subclasses: "subclass and override to inject custom behavior".
    "compute_loss": "(self, model, inputs, return_outputs, num_items_in_batch)",
    "create_optimizer": "(self, model)",
    "create_scheduler": "(self, num_training_steps, optimizer)",
    "evaluation_loop": "(self, dataloader, description, prediction_loss_only, ignore_keys, "
    "metric_key_prefix)",
    "get_eval_dataloader": "(self, eval_dataset)",
    "get_test_dataloader": "(self, test_dataset)",
    "log": "(self, logs, start_time)",
    "training_step": "(self, model, inputs, num_items_in_batch)",
    "train": "(self, resume_from_checkpoint, trial, ignore_keys_for_eval)",
    # Documented: the saved and pushed model includes the masks and our model card.
    "create_model_card": "(self, language, license, tags, model_name, finetuned_from, tasks, "
    "dataset_tags, dataset, dataset_args)",
    "init_hf_repo": "(self, token, private)",
    "push_to_hub": "(self, commit_message, blocking, token, revision, private, kwargs)",
    # Not documented as an interface; overridden in this file.
    "get_batch_samples": "(self, epoch_iterator, num_batches, device)",
    "_get_train_sampler": "(self, train_dataset)",
    "_save": "(self, output_dir, state_dict)",
    "_save_checkpoint": "(self, model, trial)",
    "_load_from_checkpoint": "(self, resume_from_checkpoint, model)",
    "_load_best_model": "(self)",
    "_push_from_checkpoint": "(self, checkpoint_folder)",
}
"""Method → parameters of transformers' own method."""

READ: Final = {
    "_finish_current_push": "waits for an upload that is still running",
    "accelerator": "connects the processes; unwraps the model",
    "args": "the POConfig",
    "callback_handler": "calls callbacks for the reference cache and evaluation batches",
    "compute_metrics": "called on implicit rewards",
    "control": "what callbacks return",
    "eval_dataset": "held-out pairs",
    "hub_model_id": "the repository to push to",
    "is_world_process_zero": "one process writes the card and uploads",
    "is_deepspeed_enabled": "the policy is complete only once training begins",
    "is_fsdp_enabled": "sharded weights are saved and restored differently",
    "loss_is_scaled_for_ga": "set: compute_loss divides by the pairs of the whole step itself",
    "model": "the PolicyWithMasks; wrapped by FSDP during training",
    "model_wrapped": "the model as wrapped by DDP or FSDP",
    "neftune_noise_alpha": "set to None: the library adds the noise itself",
    "push_in_progress": "the upload of a checkpoint that is still running",
    "save_model": "called before the model is pushed",
    "optimizer": "its groups are rebuilt after FSDP has sharded the weights",
    "state": "the step, for checks and log windows",
    "train_dataset": "tokenized pairs",
}
"""Attribute → why it is read (or set)."""

_PARTS: Final = "parts"
_COUNTED: Final = ("input_ids", "attention_mask")
"""What transformers counts the tokens of."""


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a micro-batch of parts, which are computed one after the other.

    Args:
        parts: inputs of compute_loss.
    """
    counted = {
        name: torch.cat([part[name].flatten() for part in parts])
        for name in _COUNTED
        if name in parts[0]
    }
    return {_PARTS: list(parts), **counted}


class TrainerHooks(Trainer):
    """A transformers.Trainer whose internals call the methods below that start with `hook_`."""

    # compute_loss divides by the number of pairs in the accumulated batch of all processes; without
    # this, Trainer.training_step would also divide by gradient_accumulation_steps.
    loss_is_scaled_for_ga = True

    def hook_step(
        self, drawn: list[Any], device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int]:
        """Return a step's micro-batches as inputs of compute_loss, and the number of pairs.

        A micro-batch may be of parts (`joined`).

        Args:
            drawn: the data loader's items for the step, one per micro-batch.
            device: the device of the returned number.
        """
        raise NotImplementedError

    def hook_sampler(self, dataset: Any) -> Any:
        """Return a sampler of the training pairs, or None to use transformers' own."""
        raise NotImplementedError

    def hook_save(self, directory: Path, gathered: dict[str, Tensor] | None) -> None:
        """Write the trained model into an existing folder; called in processes that save.

        Args:
            directory: the folder.
            gathered: the module's weights, if each process holds only a part of them.
        """
        raise NotImplementedError

    def hook_before_checkpoint(self) -> None:
        """Prepare what `hook_save` adds to a checkpoint; called in every process."""
        raise NotImplementedError

    def hook_after_checkpoint(self) -> None:
        """Discard what `hook_before_checkpoint` prepared."""
        raise NotImplementedError

    def hook_load(self, checkpoint: Path, model: nn.Module) -> None:
        """Read a checkpoint's weights into the model.

        Args:
            checkpoint: the folder.
            model: the PolicyWithMasks, possibly wrapped by accelerate.
        """
        raise NotImplementedError

    def hook_push(self, checkpoint: Path) -> None:
        """Upload a saved checkpoint if `push_to_hub` is set."""
        raise NotImplementedError

    def finish_push(self) -> None:
        """Wait for an upload that is still running."""
        self._finish_current_push()

    def load_as_trainer(self, checkpoint: Path, model: nn.Module) -> None:
        """Read a checkpoint as transformers does: a sharded model or a PEFT model's adapters."""
        super()._load_from_checkpoint(str(checkpoint), model)

    # Steps

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Collect and pack the micro-batches of one step; count their pairs, over all processes.

        This is the only place that sees all micro-batches of a step before the first one is
        computed. Its second result is passed to compute_loss as num_items_in_batch.
        """
        drawn, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return self.hook_step(drawn, device)

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Run a micro-batch, or its parts one after the other, forward and backward.

        compute_loss divides by the pairs of the whole step, so the parts' losses add up.
        """
        losses: list[Tensor] = [
            super(TrainerHooks, self).training_step(model, part, num_items_in_batch)
            for part in inputs.get(_PARTS, [inputs])
        ]
        return torch.stack(losses).sum()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # Called by get_train_dataloader. transformers' LengthGroupedSampler reads lengths from
        # columns or input_ids, which tokenized pairs do not have, and it cannot resume.
        own = self.hook_sampler(train_dataset if train_dataset is not None else self.train_dataset)
        return own if own is not None else super()._get_train_sampler(train_dataset)

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Called by save_model, with the gathered weights under FSDP and DeepSpeed. transformers
        # would save a module that is not a PreTrainedModel as a bare state dict.
        if self.args.should_save:
            directory = Path(output_dir if output_dir is not None else str(self.args.output_dir))
            directory.mkdir(parents=True, exist_ok=True)
            self.hook_save(directory, state_dict)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        # Called at every saving step in every process. It writes model, optimizer, scheduler and
        # random state, and last trainer_state.json, which marks a checkpoint as complete.
        self.hook_before_checkpoint()
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (RuntimeError, SafetensorError) as error:
            # torch and safetensors report a full disk in this way.
            raise OSError(f"the checkpoint is incomplete: {first_line(error)}") from error
        finally:
            self.hook_after_checkpoint()

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        # Called when training resumes, before accelerate wraps the model; under FSDP after that,
        # with the wrapped model, between creating the optimizer and loading its state.
        own: Any = self.model
        self.hook_load(Path(resume_from_checkpoint), model if model is not None else own)

    def _load_best_model(self) -> None:
        # Called at the end of training for load_best_model_at_end. transformers would look for the
        # weight names of the whole module in a folder that contains the policy.
        own: Any = self.model_wrapped
        self.hook_load(Path(str(self.state.best_model_checkpoint)), own)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Called after a checkpoint is saved. transformers would copy the model's files, without the
        # masks, to the output folder, where an interrupted run would look like a finished one.
        self.hook_push(Path(checkpoint_folder))
