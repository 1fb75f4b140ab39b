"""One of several processes of a test: `accelerate launch … -m tests.invariant.worker SPEC.json`.

The file names runs of curves.py and how to carry them out, or methods (`tests.small_methods`); the
first process writes what all of them found beside it, as SPEC.found.json. Everything runs on the
CPU, over gloo.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, gather_object
from safetensors.torch import save_model
from torch import nn
from transformers import Trainer, TrainerCallback

from sparsepo import POTrainer, UserError
from sparsepo.training.policy import PolicyWithMasks
from tests.invariant.curves import RUNS, entries
from tests.invariant.training import StopAt, turned
from tests.small_methods import in_parts, losses
from tests.small_models import text_pairs


class ShardedOnCPU:
    """Has accelerate take FSDP as the launcher's environment describes it, which it does on GPUs.

    On a CPU it reads the environment and leaves FSDP out. Everything after that decision is its own
    code: the wrapping, the optimizer's mapping, state dicts.
    """

    def __init__(self) -> None:
        make = Trainer.create_accelerator_and_postprocess

        def make_sharded(trainer: Any) -> None:
            make(trainer)
            plugin = FullyShardedDataParallelPlugin()
            if trainer.args.bf16:
                plugin.set_mixed_precision("bf16")
            PartialState().distributed_type = DistributedType.FSDP
            trainer.accelerator.state.distributed_type = DistributedType.FSDP
            trainer.accelerator.state.fsdp_plugin = plugin
            trainer.is_fsdp_enabled = True

        Trainer.create_accelerator_and_postprocess = make_sharded


def leave_uncompiled() -> None:
    """Has DeepSpeed reduce by gloo alone, without the shared-memory kernels that it compiles."""
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False


class PoisonOne(TrainerCallback):
    """Makes the second process's log-probabilities NaN in a step."""

    def __init__(self, step: int) -> None:
        forward = PolicyWithMasks.forward
        self.step, self.now = step, -1

        def poisoned(module: Any, batch: Any, *args: Any) -> Any:
            chosen, rejected = forward(module, batch, *args)
            if self.now == step and PartialState().process_index == 1:
                chosen.policy_logps.data[0] = torch.nan
            return chosen, rejected

        self.forward = forward
        PolicyWithMasks.forward = poisoned  # type: ignore[method-assign]

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.now = state.global_step


def digest(module: nn.Module) -> str:
    """Return a hash of a module's weights."""
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return found.hexdigest()


def carry_out(spec: dict[str, Any], output: Path) -> dict[str, Any]:
    """Carry one run out and return what this process found."""
    run, changes = RUNS[spec["name"]], dict(spec.get("changes", {}))
    if "stage" in spec:
        # What the launcher's configuration says, which each run of this process reads again.
        os.environ["ACCELERATE_DEEPSPEED_ZERO_STAGE"] = str(spec["stage"])
    if "load_best_model_at_end" in changes:
        changes["eval_pairs"] = turned(text_pairs(5, seed=11))
    found: dict[str, Any] = {}
    if "interrupt" in spec:
        broken = run.trainer(output, **changes, callbacks=[StopAt(spec["interrupt"])])
        try:
            broken.train()
        except InterruptedError:
            found["interrupted"] = True
    poison = PoisonOne(spec["poison"]) if "poison" in spec else None
    trainer: POTrainer = run.trainer(output, **changes, callbacks=[poison] if poison else None)
    found["masks"] = digest(trainer.model.masks)
    try:
        trainer.train(resume_from_checkpoint="interrupt" in spec)
    except UserError as error:
        found["error"] = str(error)
        return found
    finally:
        if poison is not None:
            PolicyWithMasks.forward = poison.forward  # type: ignore[method-assign]
    found["entries"] = entries(trainer)
    if trainer.args.load_best_model_at_end:
        again = trainer.evaluate()["eval_loss"]
        found["best"] = [trainer.state.best_global_step, trainer.state.best_metric, again]
    found["wrapped"] = type(trainer.model_wrapped).__name__
    if trainer.is_deepspeed_enabled:
        engine: Any = trainer.model_wrapped
        found["stage"] = engine.zero_optimization_stage()
        # The optimizer inside DeepSpeed's holds this process's share of the weights.
        held = engine.optimizer.optimizer.param_groups
        found["share"] = sum(w.numel() for group in held for w in group["params"]) / sum(
            w.numel() for w in trainer.model.parameters() if w.requires_grad
        )
    if trainer.is_fsdp_enabled:
        blocks = [m for m in trainer.policy.modules() if type(m).__name__.startswith("FSDP")]
        found["units"] = len(blocks)
        masks = trainer.model.masks.values()
        found["mask_units"] = [type(mask).__name__.startswith("FSDP") for mask in masks]
    else:
        found["weights"] = digest(trainer.model)
    scores = trainer.score_pairs(text_pairs(5, seed=3), batch_size=2)
    found["scores"] = [[score.pair_id, score.loss, score.chosen_logps] for score in scores]
    trainer.save_model(str(output / "saved"))
    trainer.accelerator.wait_for_everyone()
    return found


def train_method(spec: dict[str, Any], output: Path) -> dict[str, Any]:
    """Train a method, and return its losses, or why it does not train in several processes."""
    # Each process writes for itself what a method needs beside the pairs.
    own = output / os.environ["RANK"]
    own.mkdir(parents=True)
    try:
        trainer = in_parts(own, spec["method"], **spec["options"])
    except UserError as error:
        return {"error": str(error)}
    trainer.train()
    if PartialState().process_index == 0:
        save_model(trainer.policy, str(output / "policy.safetensors"))
    return {
        "wrapped": type(trainer.model_wrapped).__name__,
        "losses": losses(trainer),
        "weights": digest(trainer.model),
    }


def main() -> None:
    """Carry out every run of the specification."""
    file = Path(sys.argv[1])
    content: dict[str, Any] = json.loads(file.read_text())
    if content["by"] == "fsdp":
        ShardedOnCPU()
    if content["by"] == "deepspeed_zero2":
        leave_uncompiled()
    results = []
    for number, spec in enumerate(content["runs"]):
        carry = train_method if "method" in spec else carry_out
        found = carry(spec, file.parent / str(number))
        results.append(gather_object([found]))
    if PartialState().process_index == 0:
        file.with_suffix(".found.json").write_text(json.dumps(results))
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main()
