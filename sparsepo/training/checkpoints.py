"""Checkpoints of a policy with its masks: what a resumed run finds, and what a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback

from sparsepo.distributed.sharding import shard_masks
from sparsepo.errors import UserError, first_line
from sparsepo.methods.base import Method
from sparsepo.models.adapters import has_adapters, merged
from sparsepo.training.metrics import RunningMeans
from sparsepo.training.policy import PolicyWithMasks, describe, read_description, separate_masks

WINDOW_FILE = "log_window.json"
"""What was summed since the last log entry, in a checkpoint between two of them."""


class CheckpointedTrainer(Trainer):
    """A transformers.Trainer of a PolicyWithMasks that saves, resumes and logs it as a whole."""

    method: Method
    reference_origin: str | None = None
    """Folder or hub id of the model that log-ratios are measured against; None where it has none,
    as a model that was made in memory."""
    _tokenizer: PreTrainedTokenizerBase
    _tr_loss: Tensor
    _globalstep_last_logged: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._means = RunningMeans()
        self._resumed_from: str | None = None
        super().__init__(*args, **kwargs)
        self.add_callback(_ReopenWindow(self))

    @property
    def policy(self) -> PreTrainedModel:
        """The language model that is trained."""
        return self._module.policy

    @property
    def _module(self) -> PolicyWithMasks:
        """The trained module without what accelerate wraps around it."""
        module: PolicyWithMasks = self.accelerator.unwrap_model(self.model)
        return module

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer; the masks' weights get a group of their own.

        Their decay is `mask_weight_decay` on weights and none on biases and norms; their peak
        learning rate is `mask_learning_rate`, or the policy's.
        """
        optimizer = super().create_optimizer(model)
        wrapped = model if model is not None else self._module
        decay = getattr(self.method, "mask_weight_decay", None)
        if decay is not None:
            rate = getattr(self.method, "mask_learning_rate", None)
            separate_masks(optimizer, wrapped, decay, rate)
        names = {id(weight): name for name, weight in wrapped.named_parameters()}
        self._groups_by_name = [
            [names[id(weight)] for weight in group["params"]] for group in optimizer.param_groups
        ]
        return optimizer

    def merge_adapters(self) -> None:
        """Turn a policy with adapters into the plain model that it is, for saving; ends training.

        Raises:
            UserError: there are no adapters, or the weights are quantized.
        """
        module = self._module
        module.policy = merged(module.policy)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_fsdp_enabled:
            shard_masks(self._module.masks)
        self._resumed_from = None
        prepared = super()._prepare_for_training(*args, **kwargs)
        self._restore_groups()
        return prepared

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        self._resumed_from = checkpoint
        self._restore_groups()
        super()._load_optimizer_and_scheduler(checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        steps = self.state.global_step - self._globalstep_last_logged
        if steps == 0:
            return
        names, table = self._means.table()
        table = self._sum_over_processes(table)
        loss = self.accelerator.gather(self._tr_loss).mean().item()
        if self.args.should_save:
            window = {"steps": steps, "loss": loss, "names": names, "sums": table.tolist()}
            (Path(output_dir) / WINDOW_FILE).write_text(json.dumps(window) + "\n")

    def reopen_window(self) -> None:
        """Go on summing for the next log entry where the run that is resumed was interrupted."""
        self._means = RunningMeans()
        file = Path(self._resumed_from or "") / WINDOW_FILE
        if self._resumed_from is None or not file.is_file():
            return
        window = json.loads(file.read_text())
        self._globalstep_last_logged = self.state.global_step - window["steps"]
        # The mean of the processes' losses is what is logged, and the sum of their metrics' sums.
        self._tr_loss.fill_(window["loss"])
        if self.args.process_index == 0:
            table = torch.tensor(window["sums"], dtype=torch.float64, device=self.args.device)
            self._means.restore(window["names"], table)

    def _restore_groups(self) -> None:
        # accelerate finds the sharded weights of an optimizer by address, and those of which a
        # process holds nothing all have the same one.
        if self.is_fsdp_enabled and self.optimizer is not None:
            weights = dict(self._module.named_parameters())
            for group, names in zip(self.optimizer.param_groups, self._groups_by_name, strict=True):
                group["params"] = [weights[name] for name in names]

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (RuntimeError, SafetensorError) as error:
            # This is how torch and safetensors say that a disk is full.
            raise OSError(f"the checkpoint is not complete: {first_line(error)}") from error

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        directory = Path(output_dir if output_dir is not None else str(self.args.output_dir))
        if not self.args.should_save:
            return
        directory.mkdir(parents=True, exist_ok=True)
        module = self._module
        policy_state = None
        if state_dict is not None:
            policy_state = {
                name.removeprefix("policy."): value
                for name, value in state_dict.items()
                if name.startswith("policy.")
            }
        saved: Any = module.policy
        # The frozen start of trained adapters serves in training alone.
        which = {"selected_adapters": [saved.active_adapter]} if has_adapters(saved) else {}
        saved.save_pretrained(directory, state_dict=policy_state, **which)
        module.save_masks(directory, self.method, state_dict, self.reference_origin)
        self._tokenizer.save_pretrained(directory)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        module: PolicyWithMasks = self.accelerator.unwrap_model(
            model if model is not None else self.model
        )
        self._check_same_run(Path(resume_from_checkpoint))
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        if has_adapters(module.policy):
            super()._load_from_checkpoint(resume_from_checkpoint, module.policy)
        else:
            # A saved model may name weights otherwise than the model in memory does (GPT-NeoX's
            # head); only from_pretrained knows both names, the parent would skip such weights.
            saved = type(module.policy).from_pretrained(
                resume_from_checkpoint, dtype=module.policy.dtype
            )
            module.policy.load_state_dict(saved.state_dict())
        module.load_masks(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        # The parent would look for the names of the whole module in what holds the policy alone.
        self._load_from_checkpoint(str(self.state.best_model_checkpoint), self.model_wrapped)

    def _check_same_run(self, checkpoint: Path) -> None:
        written = read_description(checkpoint)
        own = describe(self.method)
        # Where the reference lies may change between the two; what the masks were trained for not.
        if written is not None and {name: written.get(name) for name in own} != own:
            raise UserError(
                f"{checkpoint} was written by a run with another method or other hyper-parameters "
                f"({written['method']}); take those again, or another output folder."
            )

    def _sum_over_processes(self, table: Tensor) -> Tensor:
        if self.args.world_size == 1:
            return table
        total: Tensor = self.accelerator.reduce(table, "sum")
        return total


class _ReopenWindow(TrainerCallback):
    """Called where transformers has set its own sums to zero and has not taken a step."""

    def __init__(self, trainer: CheckpointedTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._trainer.reopen_window()
