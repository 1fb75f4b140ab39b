"""Every place where POTrainer reaches into transformers.Trainer, and why.

Trainer's documented methods (`compute_loss`, `create_optimizer`, `log`, `evaluation_loop` …) are
overridden where they belong. What is private, or public without being documented as an interface,
is overridden or read in this file alone: the rest of the library implements the methods below that
start with `hook_`. OVERRIDDEN and READ name all of it, and tests/sparsepo/training/test_hooks.py
compares both with the transformers that is installed: after an upgrade that test says what moved.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    # Documented: what is saved and pushed has the masks and our model card.
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
"""Method → parameters, as transformers' own method names them."""

READ: Final = {
    "_finish_current_push": "waits for an upload that is still running",
    "accelerator": "connects the processes; unwraps the model",
    "args": "the POConfig",
    "callback_handler": "tells callbacks about the reference cache and evaluation batches",
    "compute_metrics": "called on implicit rewards",
    "control": "what a callback answered",
    "eval_dataset": "held-out pairs",
    "hub_model_id": "the repository that is pushed to",
    "is_world_process_zero": "one process writes the card and uploads",
    "is_deepspeed_enabled": "the policy is whole only once training begins",
    "is_fsdp_enabled": "sharded weights are saved and restored in other ways",
    "loss_is_scaled_for_ga": "set: compute_loss divides by the pairs of the whole step itself",
    "model": "the PolicyWithMasks; wrapped by FSDP during training",
    "model_wrapped": "the same as DDP or FSDP wrapped it",
    "neftune_noise_alpha": "set to None: the library adds the noise itself",
    "push_in_progress": "the upload of a checkpoint that is still running",
    "save_model": "called before the model is pushed",
    "optimizer": "its groups are rebuilt after FSDP has sharded the weights",
    "state": "the step, for checks and log windows",
    "train_dataset": "tokenized pairs",
}
"""Attribute → what it is read (or set) for."""


class TrainerHooks(Trainer):
    """A transformers.Trainer whose internals call the methods below that start with `hook_`."""

    # compute_loss divides by the pairs of the whole accumulated batch, on all processes; without
    # this, Trainer.training_step would divide by gradient_accumulation_steps once more.
    loss_is_scaled_for_ga = True

    def hook_step(
        self, drawn: list[Any], device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int]:
        """Return a step's micro-batches as inputs of compute_loss, and how many pairs count.

        Args:
            drawn: what the data loader gave for the step, one item per micro-batch.
            device: where the count is needed.
        """
        raise NotImplementedError

    def hook_sampler(self, dataset: Any) -> Any:
        """Return a sampler of the training pairs, or None for transformers' own."""
        raise NotImplementedError

    def hook_save(self, directory: Path, gathered: dict[str, Tensor] | None) -> None:
        """Write the trained model into an existing folder; called on processes that save.

        Args:
            directory: the folder.
            gathered: the module's weights where each process holds a part of them.
        """
        raise NotImplementedError

    def hook_before_checkpoint(self) -> None:
        """Prepare what `hook_save` adds to a checkpoint; called on every process."""
        raise NotImplementedError

    def hook_after_checkpoint(self) -> None:
        """Forget what `hook_before_checkpoint` prepared."""
        raise NotImplementedError

    def hook_load(self, checkpoint: Path, model: nn.Module) -> None:
        """Read a checkpoint's weights into the model.

        Args:
            checkpoint: the folder.
            model: the PolicyWithMasks, as accelerate may have wrapped it.
        """
        raise NotImplementedError

    def hook_push(self, checkpoint: Path) -> None:
        """Upload a checkpoint, after it was saved, when `push_to_hub` is set."""
        raise NotImplementedError

    def finish_push(self) -> None:
        """Wait for an upload that is still running."""
        self._finish_current_push()

    def load_as_trainer(self, checkpoint: Path, model: nn.Module) -> None:
        """Read a checkpoint as transformers does: a sharded model, or a PEFT model's adapters."""
        super()._load_from_checkpoint(str(checkpoint), model)

    # Steps

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Collect and pack the micro-batches of one step; count their pairs, over all processes.

        The one place that sees all micro-batches of a step before the first is computed. Its second
        result reaches compute_loss as num_items_in_batch.
        """
        drawn, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return self.hook_step(drawn, device)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        # Called by get_train_dataloader. transformers' LengthGroupedSampler reads lengths from
        # columns or input_ids, which tokenized pairs do not have, and does not resume.
        own = self.hook_sampler(train_dataset if train_dataset is not None else self.train_dataset)
        return own if own is not None else super()._get_train_sampler(train_dataset)

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Called by save_model, with the gathered weights under FSDP and DeepSpeed. transformers
        # would save a module that is not a PreTrainedModel as one bare state dict.
        if self.args.should_save:
            directory = Path(output_dir if output_dir is not None else str(self.args.output_dir))
            directory.mkdir(parents=True, exist_ok=True)
            self.hook_save(directory, state_dict)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        # Called at every saving step on every process: save_model, optimizer, scheduler and random
        # state, and trainer_state.json last, by which `last_checkpoint` knows a complete one.
        self.hook_before_checkpoint()
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (RuntimeError, SafetensorError) as error:
            # This is how torch and safetensors say that a disk is full.
            raise OSError(f"the checkpoint is not complete: {first_line(error)}") from error
        finally:
            self.hook_after_checkpoint()

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        # Called when training resumes: before accelerate wraps the model, and under FSDP (with the
        # wrapped model) after it, between the optimizer's creation and the loading of its state.
        own: Any = self.model
        self.hook_load(Path(resume_from_checkpoint), model if model is not None else own)

    def _load_best_model(self) -> None:
        # Called at the end of training by load_best_model_at_end. transformers would look for the
        # names of the whole module in a folder that holds the policy.
        own: Any = self.model_wrapped
        self.hook_load(Path(str(self.state.best_model_checkpoint)), own)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # Called after a checkpoint was saved. transformers would copy the model's files, without
        # masks, to the output folder, where an interrupted run would look like a finished one.
        self.hook_push(Path(checkpoint_folder))
