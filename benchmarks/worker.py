"""A separate process that measures one system and takes a training step on request.

Started by benchmarks.training with a JSON description; it answers each input line with one JSON
line on standard output. A separate process gives each system its own peak of memory. The processes
take steps in turn and wait otherwise, which exposes all systems to the same load on the machine.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from benchmarks.clock import synchronize

LEARNING_RATE = 1e-6
MAX_LENGTH = 1024


def main() -> None:
    """Build the trainer described by the first argument, and take steps on request."""
    spec = json.loads(sys.argv[1])
    # Output of libraries must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    kind, _, method = spec["system"].partition(":")
    build = build_trl if kind.startswith("trl") else build_ours
    _import_for(kind)
    base = resident_bytes()
    trainer = build(spec, kind, method)
    reset_peak(spec["device"])
    trainer.add_callback(_paced(answers, base, spec["device"]))
    trainer.train()


def _import_for(kind: str) -> None:
    """Import a system's libraries before its baseline memory is measured."""
    if kind.startswith("trl"):
        _ = import_module("trl").DPOTrainer
    else:
        from sparsepo import POTrainer  # noqa: F401


def build_ours(spec: dict[str, Any], kind: str, method: str) -> Any:
    """Return a POTrainer.

    `ours` uses the defaults, `ours-sdpa` PyTorch's SDPA, `ours-cached` a reference cache,
    `ours-single` one pair per row, and `plain` the reference implementation of the same method.

    Raises:
        UserError: packed rows are wrong for this model, and the system is not `plain`.
    """
    from sparsepo import POConfig, POTrainer

    # With computation=auto a card might show the reference implementation under the other's name.
    own: dict[str, Any] = {"computation": "plain" if kind == "plain" else "packed"}
    if kind == "ours-cached":
        own["reference_cache"] = spec["cache"]
    if kind == "ours-sdpa":
        own["attention"] = "sdpa"
    if kind == "ours-single":
        _one_pair_per_row()
    if spec.get("lora_r"):
        own |= {"lora_r": spec["lora_r"], "lora_target_modules": "+".join(spec["lora_targets"])}
    if not spec.get("in_memory"):
        own["model_dtype"] = spec["dtype"]
    return POTrainer(
        _model(spec),
        args=POConfig(method=method, max_length=MAX_LENGTH, **own, **_common(spec)),
        train_dataset=_pairs(spec["pairs"]),
        processing_class=_tokenizer(spec),
    )


def _model(spec: dict[str, Any]) -> Any:
    from benchmarks.shapes import model_in_memory

    if not spec.get("in_memory"):
        return spec["model"]
    return model_in_memory(Path(spec["model"]), spec["device"], spec["dtype"])


def _tokenizer(spec: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(spec["model"])


def _pairs(file: str) -> Any:
    from sparsepo.data.pairs import read_pairs

    return read_pairs(file).pairs


def _one_pair_per_row() -> None:
    """Disable packing several pairs into a row, to measure its benefit."""

    def single(lengths: list[int], tokens_per_row: int | None = None) -> list[list[int]]:
        return [[item] for item in range(len(lengths))]

    for module in ("sparsepo.batches.pack", "sparsepo.batches.regroup"):
        setattr(import_module(module), "plan_rows", single)  # noqa: B010


def build_trl(spec: dict[str, Any], kind: str, method: str) -> Any:
    """Return TRL's DPOTrainer.

    `trl` is as installed, `trl-precompute` with its reference cache, `trl-liger` with Liger's
    kernels in place of the model's own.
    """
    from datasets import load_dataset

    trl = import_module("trl")
    own: dict[str, Any] = {}
    if kind == "trl-liger":
        own["use_liger_kernel"] = True
    further: dict[str, Any] = {}
    if spec.get("lora_r"):
        from peft import LoraConfig

        rank = spec["lora_r"]
        further["peft_config"] = LoraConfig(
            task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules=spec["lora_targets"]
        )
    model = _model(spec)
    if not spec.get("in_memory"):
        own["model_init_kwargs"] = {"dtype": spec["dtype"]}
    elif not spec.get("lora_r"):
        # TRL would load the reference from the folder that the policy is named after.
        further["ref_model"] = copy.deepcopy(model)
    rows = load_dataset("json", data_files=spec["pairs"], split="train", cache_dir=spec["cache"])
    return trl.DPOTrainer(
        model,
        args=trl.DPOConfig(
            max_length=MAX_LENGTH,
            precompute_ref_log_probs=kind == "trl-precompute",
            **own,
            **_common(spec),
        ),
        train_dataset=rows,
        processing_class=_tokenizer(spec),
        **further,
    )


def _common(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "output_dir": spec["output"],
        "per_device_train_batch_size": spec["batch_size"],
        "beta": 0.1,
        "learning_rate": LEARNING_RATE,
        "max_steps": spec["steps"],
        "train_sampling_strategy": "sequential",
        # Log every step (both trainers default to every ten) to record the masks' sparsity.
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": spec["device"] == "cpu",
        "bf16": False,
        "gradient_checkpointing": False,
    }


def _paced(answers: TextIO, base: int, device: str) -> Any:
    from transformers import TrainerCallback

    class Paced(TrainerCallback):
        """Waits for a word before each step; answers with its seconds and the peak so far.

        "step" takes a step. "record" takes one and records its matrix products, which "products"
        then computes alone.
        """

        def __init__(self) -> None:
            self.started = 0.0
            self.sparsity: list[float] = []
            self.recorded: Any = None
            self.timers: list[Any] = []

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self._answer({"ready": True, "base": base})
            self._wait()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            synchronize(device)
            seconds = time.perf_counter() - self.started
            if self.recorded is not None and not self.timers:
                self.recorded.__exit__(None, None, None)
                _keep_all_blocks(False)
                self.timers = [self.recorded.timer(attention=a) for a in (False, True)]
            self._answer({"seconds": seconds, "peak": peak_bytes(device, base)})
            self._wait()

        def on_log(self, *args: Any, **kwargs: Any) -> None:
            logs: dict[str, float] = kwargs["logs"]
            found = [value for name, value in logs.items() if "sparsity/reward" in name]
            self.sparsity += [sum(found) / len(found)] if found else []

        def _answer(self, answer: dict[str, Any]) -> None:
            if self.sparsity:
                answer["sparsity"] = sum(self.sparsity) / len(self.sparsity)
            print(json.dumps(answer), file=answers, flush=True)

        def _wait(self) -> None:
            word = sys.stdin.readline().strip()
            while word == "products":
                own, whole = (timer() for timer in self.timers)
                flops = [self.recorded.flops(attention=a) for a in (False, True)]
                self._answer({"products": own, "with_attention": whole, "flops": flops})
                word = sys.stdin.readline().strip()
            if word not in ("step", "record"):
                os._exit(0)
            if word == "record":
                from benchmarks.products import Products

                _keep_all_blocks(True)
                self.recorded = Products()
                self.recorded.__enter__()
            self.started = time.perf_counter()

    return Paced()


_kept_before: list[Any] = []


def _keep_all_blocks(on: bool) -> None:
    """Let the fused operation recompute nothing: such products are no part of what a step needs."""
    from sparsepo import fused

    if on:
        _kept_before.append(fused.keep_bytes_on)
        setattr(fused, "keep_bytes_on", lambda _device: 2**40)  # noqa: B010
    else:
        setattr(fused, "keep_bytes_on", _kept_before.pop())  # noqa: B010


def resident_bytes() -> int:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def reset_peak(device: str) -> None:
    """Reset the peak of memory, because loading is not part of a step."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: str, base: int) -> int:
    """Return the peak since `reset_peak`: allocated on a GPU, otherwise resident minus base."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 - base


if __name__ == "__main__":
    main()
