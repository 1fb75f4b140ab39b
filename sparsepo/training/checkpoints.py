"""Saves, resumes and logs the training of a policy with its masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from sparsepo.distributed.processes import seed_apart
from sparsepo.distributed.sharding import shard_masks
from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.models.adapters import has_adapters, merged
from sparsepo.training.critic import load_critic, save_critic
from sparsepo.training.data_record import DATA_FILE, check_same_data, data_record
from sparsepo.training.given_masks import GivenMasks
from sparsepo.training.groups import MASK_GROUP, separate_critic, separate_masks
from sparsepo.training.hooks import TrainerHooks
from sparsepo.training.loading import last_checkpoint
from sparsepo.training.metrics import RunningMeans
from sparsepo.training.neftune import NoiseSwitch, noisy_embeddings
from sparsepo.training.policy import PolicyWithMasks, describe, read_description

STATE_FILE = "method_state.safetensors"
"""File of a checkpoint with the method's running state."""

WINDOW_FILE = "log_window.json"
"""File of a checkpoint with the sums since the last log entry."""

MASK_MOVEMENT = 64.0
"""With mask_learning_rate=auto, the change of a mask in units of its own size if every step of the
run had the peak rate and the same sign [ours]; docs/masks.md has what is left of it."""

MASK_FEWEST_STEPS = 32
"""Runs of fewer steps have the rate of this many: a single step must not replace a mask [ours]."""


class CheckpointedTrainer(TrainerHooks):
    """A transformers.Trainer of a PolicyWithMasks that saves, resumes and logs policy and masks."""

    method: Method
    _method_state: dict[str, Tensor] = {}  # noqa: RUF012 - never changed in place
    """The running state of the method; empty for a method without one."""
    reference_origin: str | None = None
    """Folder or hub id of the reference; None if it has none, such as a model made in memory."""
    _tokenizer: PreTrainedTokenizerBase
    _given: GivenMasks | None = None
    """The masks that the user has given; None for masks that are computed, and without masks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.noise = NoiseSwitch()
        self._means = RunningMeans()
        self._resumed_from: str | None = None
        self._window: dict[str, Any] | None = None
        self._mask_step: float | None = None
        self._mask_rate: float | None = None
        self.mask_learning_rate: float | None = None
        """Peak learning rate of the masks; None without learned masks, or before training."""
        self._data: dict[str, Any] | None = None
        self._in_checkpoint = False
        super().__init__(*args, **kwargs)
        # noisy_embeddings adds the noise.
        self.neftune_noise_alpha = None
        self._loss_sum = torch.tensor(0.0, device=self.args.device)
        self._logged_step = 0
        self.add_callback(_Lifecycle(self))

    @property
    def policy(self) -> PreTrainedModel:
        """The language model that is being trained."""
        return self._module.policy

    @property
    def _module(self) -> PolicyWithMasks:
        """The trained module without accelerate's wrappers."""
        module: PolicyWithMasks = self.accelerator.unwrap_model(self.model)
        return module

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer, with separate groups for the parameters of masks and critic.

        The masks' weight decay is `mask_weight_decay` for weights and 0 for biases and norms; their
        peak learning rate is `mask_learning_rate`, or the policy's. The critic's rate is the
        policy's times `value_rate`.
        """
        if self.is_fsdp_enabled:
            # This is the last call before accelerate shards the policy.
            shard_masks(self._module.masks)
        optimizer = super().create_optimizer(model)
        wrapped = model if model is not None else self._module
        decay = getattr(self.method, "mask_weight_decay", None)
        if decay is not None:
            rate = getattr(self.method, "mask_learning_rate", None)
            separate_masks(optimizer, wrapped, decay, None if isinstance(rate, str) else rate)
        critic = self._module.critic
        if critic is not None:
            separate_critic(optimizer, critic, getattr(self.method, "value_rate", 1.0))
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
        """Merge a policy's adapters into its weights, for saving; training cannot continue.

        Raises:
            UserError: there are no adapters, or the weights are quantized.
        """
        module = self._module
        module.policy = merged(module.policy)

    # Resuming

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train, or resume an interrupted run.

        Args:
            resume_from_checkpoint: a checkpoint's folder, or True for the newest complete one in
                the output folder; None uses `args.resume_from_checkpoint`.
            args: further arguments of transformers.Trainer.train.
            kwargs: likewise.

        Raises:
            UserError: there is nothing to train on or to resume from, the checkpoint belongs to
                another run, or training must stop.
        """
        if self.train_dataset is None:
            raise UserError("There is nothing to train on; give the trainer a train_dataset.")
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.args.resume_from_checkpoint
        self._resumed_from = self._find_checkpoint(resume_from_checkpoint)
        if self._resumed_from is not None:
            check_same_data(Path(self._resumed_from), self._data_record())
            if self.is_deepspeed_enabled:
                # DeepSpeed reads weights and optimizer itself, without hook_load.
                self._load_method(Path(self._resumed_from))
        with noisy_embeddings(self._module, self.args.neftune_noise_alpha, self.noise):
            return super().train(self._resumed_from, *args, **kwargs)

    def _find_checkpoint(self, wanted: str | bool | None) -> str | None:
        output = Path(str(self.args.output_dir))
        if wanted is True:
            newest = last_checkpoint(output)
            if newest is None:
                raise UserError(
                    f"{output} contains no complete checkpoint to resume from; leave out "
                    "resume_from_checkpoint to start from the beginning."
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

    def _data_record(self) -> dict[str, Any]:
        if self._data is None:
            held_out: Any = self.eval_dataset
            self._data = data_record(self.train_dataset, held_out, self._given)
        return self._data

    def begin(self) -> None:
        """Prepare for the first step; called after transformers has reset its own sums."""
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
        # The log contains the mean of the processes' losses, and the sum of their metrics' sums.
        self._loss_sum.fill_(window["loss"])
        if self.args.process_index == 0:
            table = torch.tensor(window["sums"], dtype=torch.float64, device=self.args.device)
            self._means.restore(window["names"], table)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run a micro-batch forward and backward, and add its loss to the next log entry."""
        # The schedule has moved on by the time that a step is logged.
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        self._mask_rate = next((float(g["lr"]) for g in groups if g.get(MASK_GROUP)), None)
        loss: Tensor = super().training_step(*args, **kwargs)
        self._loss_sum += loss
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each metric since the last entry, over all processes, and log."""
        if "loss" in logs:
            # transformers loses its sums since the last entry when a run is interrupted.
            steps = self.state.global_step - self._logged_step
            loss = self.accelerator.gather(self._loss_sum).mean().item() / steps
            self._loss_sum.zero_()
            self._logged_step = self.state.global_step
            logs = {**logs, "loss": loss, **self._means.take(self._sum_over_processes)}
            if self._mask_rate is not None:
                logs["mask_learning_rate"] = self._mask_rate
        super().log(logs, start_time)

    def _restore_groups(self) -> None:
        # accelerate identifies an optimizer's sharded weights by address, but all weights of which
        # a process holds no part have the same address.
        if self.is_fsdp_enabled and self.optimizer is not None:
            weights = dict(self._module.named_parameters())
            for group, names in zip(self.optimizer.param_groups, self._groups_by_name, strict=True):
                group["params"] = [weights[name] for name in names]

    # Saving

    def hook_before_checkpoint(self) -> None:
        """Collect the sums since the last log entry, over all processes."""
        self._in_checkpoint = True
        steps = self.state.global_step - self._logged_step
        if steps == 0 or self.args.save_only_model:
            return
        names, table = self._means.table()
        table = self._sum_over_processes(table)
        loss = self.accelerator.gather(self._loss_sum).mean().item()
        self._window = {"steps": steps, "loss": loss, "names": names, "sums": table.tolist()}

    def hook_after_checkpoint(self) -> None:
        """Discard the sums, which belong to that checkpoint."""
        self._window = None
        self._in_checkpoint = False

    def hook_save(self, directory: Path, gathered: dict[str, Tensor] | None) -> None:
        """Write policy, masks, critic, tokenizer and the method's hyper-parameters."""
        module = self._module
        policy_state = None
        if gathered is not None:
            policy_state = {
                name.removeprefix("policy."): value
                for name, value in gathered.items()
                if name.startswith("policy.")
            }
            # Gathered weights may be copies, so that tied ones would be written twice.
            tied = getattr(module.policy, "all_tied_weights_keys", {})
            policy_state = {
                name: value
                for name, value in policy_state.items()
                if tied.get(name) not in policy_state
            }
        saved: Any = module.policy
        # The frozen copy of the initial adapters is used only in training.
        which = {"selected_adapters": [saved.active_adapter]} if has_adapters(saved) else {}
        saved.save_pretrained(directory, state_dict=policy_state, **which)
        module.save_masks(directory, self.method, gathered, self.reference_origin)
        if module.critic is not None:
            save_critic(module.critic, directory)
        self._tokenizer.save_pretrained(directory)
        if self._in_checkpoint:
            (directory / DATA_FILE).write_text(json.dumps(self._data_record(), indent=2) + "\n")
            if self._method_state:
                state = {name: value.cpu() for name, value in self._method_state.items()}
                save_file(state, directory / STATE_FILE)
        if self._window is not None:
            (directory / WINDOW_FILE).write_text(json.dumps(self._window) + "\n")

    def hook_load(self, checkpoint: Path, model: nn.Module) -> None:
        """Read policy, masks and critic."""
        module: PolicyWithMasks = self.accelerator.unwrap_model(model)
        self._load_method(checkpoint)
        if self.is_fsdp_enabled:
            self._restore_groups()
            self.load_as_trainer(checkpoint, model)
            return
        if has_adapters(module.policy):
            self.load_as_trainer(checkpoint, module.policy)
        else:
            # Weights may have other names in a saved model than in memory (GPT-NeoX's head). Only
            # from_pretrained knows both; Trainer's own loading would skip such weights.
            saved = type(module.policy).from_pretrained(checkpoint, dtype=module.policy.dtype)
            module.policy.load_state_dict(saved.state_dict())
        module.load_masks(checkpoint)
        if module.critic is not None:
            load_critic(module.critic, checkpoint)

    def _load_method(self, checkpoint: Path) -> None:
        """Check that a checkpoint is of the same method, and read the method's running state."""
        self._check_same_run(checkpoint)
        if self._method_state and (checkpoint / STATE_FILE).is_file():
            self._method_state = load_file(checkpoint / STATE_FILE)

    def _check_same_run(self, checkpoint: Path) -> None:
        written = read_description(checkpoint)
        own = describe(self.method)
        # The location of the reference may differ, but method and hyper-parameters may not.
        if written is not None and {name: written.get(name) for name in own} != own:
            raise UserError(
                f"{checkpoint} was written by a run with another method or other hyper-parameters "
                f"({written['method']}); use the same ones, or choose another output folder."
            )

    def _sum_over_processes(self, table: Tensor) -> Tensor:
        if self.args.world_size == 1:
            return table
        total: Tensor = self.accelerator.reduce(table, "sum")
        return total


class _Lifecycle(TrainerCallback):
    """Calls the trainer on events of transformers' callbacks."""

    def __init__(self, trainer: CheckpointedTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self._trainer.begin()
