"""Checkpoints of a policy with its masks: what a resumed run finds, and what a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from sparsepo.distributed.processes import seed_apart
from sparsepo.distributed.sharding import shard_masks
from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.models.adapters import has_adapters, merged
from sparsepo.training.hooks import TrainerHooks
from sparsepo.training.loading import last_checkpoint
from sparsepo.training.metrics import RunningMeans
from sparsepo.training.neftune import NoiseSwitch, noisy_embeddings
from sparsepo.training.policy import (
    MASK_GROUP,
    PolicyWithMasks,
    describe,
    read_description,
    separate_masks,
)

WINDOW_FILE = "log_window.json"
"""What was summed since the last log entry, in a checkpoint between two of them."""

MASK_MOVEMENT = 64.0
"""With mask_learning_rate=auto, the change of a mask in units of its own size if every step of the
run had the peak rate and the same sign [ours]; docs/masks.md has what is left of it."""

MASK_FEWEST_STEPS = 32
"""Runs of fewer steps have the rate of this many: a single step must not replace a mask [ours]."""


class CheckpointedTrainer(TrainerHooks):
    """A transformers.Trainer of a PolicyWithMasks that saves, resumes and logs it as a whole."""

    method: Method
    reference_origin: str | None = None
    """Folder or hub id of the model that log-ratios are measured against; None where it has none,
    as a model that was made in memory."""
    _tokenizer: PreTrainedTokenizerBase

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.noise = NoiseSwitch()
        self._means = RunningMeans()
        self._resumed_from: str | None = None
        self._window: dict[str, Any] | None = None
        self._mask_step: float | None = None
        self._mask_rate: float | None = None
        self.mask_learning_rate: float | None = None
        """Peak learning rate of the masks; None without learned masks, or before training."""
        super().__init__(*args, **kwargs)
        # noisy_embeddings adds the noise.
        self.neftune_noise_alpha = None
        self._loss_sum = torch.tensor(0.0, device=self.args.device)
        self._logged_step = 0
        self.add_callback(_Lifecycle(self))

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
        if self.is_fsdp_enabled:
            # The last call before accelerate shards the policy.
            shard_masks(self._module.masks)
        optimizer = super().create_optimizer(model)
        wrapped = model if model is not None else self._module
        decay = getattr(self.method, "mask_weight_decay", None)
        if decay is not None:
            rate = getattr(self.method, "mask_learning_rate", None)
            separate_masks(optimizer, wrapped, decay, None if isinstance(rate, str) else rate)
        names = {id(weight): name for name, weight in wrapped.named_parameters()}
        self._groups_by_name = [
            [names[id(weight)] for weight in group["params"]] for group in optimizer.param_groups
        ]
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the schedule; with mask_learning_rate=auto, set the masks' peak rate first.

        Args:
            num_training_steps: optimizer steps of the run.
            optimizer: as transformers passes it under DeepSpeed.
        """
        made = self.optimizer if optimizer is None else optimizer
        groups = made.param_groups if made is not None else []
        masks = [group for group in groups if group.get(MASK_GROUP)]
        if getattr(self.method, "mask_learning_rate", None) == "auto" and self._mask_step:
            for group in masks:
                # The rule needs steps that do not depend on the gradient's size, as Adam's and
                # Lion's; masks keep the policy's rate with other optimizers.
                if "betas" in group:
                    steps = max(num_training_steps, MASK_FEWEST_STEPS)
                    group["lr"] = MASK_MOVEMENT * self._mask_step / steps
        self.mask_learning_rate = next((float(group["lr"]) for group in masks), None)
        return super().create_scheduler(num_training_steps, optimizer)

    def merge_adapters(self) -> None:
        """Turn a policy with adapters into the plain model that it is, for saving; ends training.

        Raises:
            UserError: there are no adapters, or the weights are quantized.
        """
        module = self._module
        module.policy = merged(module.policy)

    # Resuming

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train, or go on where an interrupted run stopped.

        Args:
            resume_from_checkpoint: a checkpoint's folder, or True for the newest complete one in
                the output folder; `args.resume_from_checkpoint` where it is not given.
            args: as transformers.Trainer takes them.
            kwargs: the same.

        Raises:
            UserError: there is nothing to train on or to resume from, or training must stop.
        """
        if self.train_dataset is None:
            raise UserError("There is nothing to train on; give the trainer a train_dataset.")
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.args.resume_from_checkpoint
        self._resumed_from = self._find_checkpoint(resume_from_checkpoint)
        with noisy_embeddings(self._module, self.args.neftune_noise_alpha, self.noise):
            return super().train(self._resumed_from, *args, **kwargs)

    def _find_checkpoint(self, wanted: str | bool | None) -> str | None:
        output = Path(str(self.args.output_dir))
        if wanted is True:
            newest = last_checkpoint(output)
            if newest is None:
                raise UserError(
                    f"{output} holds no complete checkpoint to resume from; leave "
                    "resume_from_checkpoint out to start at the beginning."
                )
            return newest
        if not wanted:
            return None
        if not (Path(wanted) / "trainer_state.json").is_file():
            raise UserError(
                f"{wanted} is not a complete checkpoint; give a checkpoint-<step> folder, or True "
                f"for the newest one in {output}."
            )
        return str(wanted)

    def begin(self) -> None:
        """Get ready for the first step: transformers has set its sums to zero and taken none."""
        self._restore_groups()
        seed_apart(self.accelerator, self.args.seed)
        self._means = RunningMeans()
        self._loss_sum.zero_()
        self._logged_step = self.state.global_step
        file = Path(self._resumed_from or "") / WINDOW_FILE
        if self._resumed_from is None or not file.is_file():
            return
        window = json.loads(file.read_text())
        self._logged_step -= window["steps"]
        # The mean of the processes' losses is what is logged, and the sum of their metrics' sums.
        self._loss_sum.fill_(window["loss"])
        if self.args.process_index == 0:
            table = torch.tensor(window["sums"], dtype=torch.float64, device=self.args.device)
            self._means.restore(window["names"], table)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Do a micro-batch's forward and backward pass; its loss counts for the next log entry."""
        # The schedule has moved on by the time that a step is logged.
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        self._mask_rate = next((float(g["lr"]) for g in groups if g.get(MASK_GROUP)), None)
        loss: Tensor = super().training_step(*args, **kwargs)
        self._loss_sum += loss
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each metric since the last entry, over all processes, and log."""
        if "loss" in logs:
            # transformers forgets at an interruption what it has summed since the last entry.
            steps = self.state.global_step - self._logged_step
            loss = self.accelerator.gather(self._loss_sum).mean().item() / steps
            self._loss_sum.zero_()
            self._logged_step = self.state.global_step
            logs = {**logs, "loss": loss, **self._means.take(self._sum_over_processes)}
            if self._mask_rate is not None:
                logs["mask_learning_rate"] = self._mask_rate
        super().log(logs, start_time)

    def _restore_groups(self) -> None:
        # accelerate finds the sharded weights of an optimizer by address, and those of which a
        # process holds nothing all have the same one.
        if self.is_fsdp_enabled and self.optimizer is not None:
            weights = dict(self._module.named_parameters())
            for group, names in zip(self.optimizer.param_groups, self._groups_by_name, strict=True):
                group["params"] = [weights[name] for name in names]

    # Saving

    def hook_before_checkpoint(self) -> None:
        """Sum up what was counted since the last log entry, over all processes."""
        steps = self.state.global_step - self._logged_step
        if steps == 0 or self.args.save_only_model:
            return
        names, table = self._means.table()
        table = self._sum_over_processes(table)
        loss = self.accelerator.gather(self._loss_sum).mean().item()
        self._window = {"steps": steps, "loss": loss, "names": names, "sums": table.tolist()}

    def hook_after_checkpoint(self) -> None:
        """Forget the sums, which belong to that checkpoint."""
        self._window = None

    def hook_save(self, directory: Path, gathered: dict[str, Tensor] | None) -> None:
        """Write policy, masks, tokenizer and the method's hyper-parameters."""
        module = self._module
        policy_state = None
        if gathered is not None:
            policy_state = {
                name.removeprefix("policy."): value
                for name, value in gathered.items()
                if name.startswith("policy.")
            }
        saved: Any = module.policy
        # The frozen start of trained adapters serves in training alone.
        which = {"selected_adapters": [saved.active_adapter]} if has_adapters(saved) else {}
        saved.save_pretrained(directory, state_dict=policy_state, **which)
        module.save_masks(directory, self.method, gathered, self.reference_origin)
        self._tokenizer.save_pretrained(directory)
        if self._window is not None:
            (directory / WINDOW_FILE).write_text(json.dumps(self._window) + "\n")

    def hook_load(self, checkpoint: Path, model: nn.Module) -> None:
        """Read policy and masks."""
        module: PolicyWithMasks = self.accelerator.unwrap_model(model)
        self._check_same_run(checkpoint)
        if self.is_fsdp_enabled:
            self._restore_groups()
            self.load_as_trainer(checkpoint, model)
            return
        if has_adapters(module.policy):
            self.load_as_trainer(checkpoint, module.policy)
        else:
            # A saved model may name weights otherwise than the model in memory does (GPT-NeoX's
            # head); only from_pretrained knows both names, transformers would skip such weights.
            saved = type(module.policy).from_pretrained(checkpoint, dtype=module.policy.dtype)
            module.policy.load_state_dict(saved.state_dict())
        module.load_masks(checkpoint)

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


class _Lifecycle(TrainerCallback):
    """Calls the trainer at the moments that transformers tells callbacks about."""

    def __init__(self, trainer: CheckpointedTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._trainer.begin()
