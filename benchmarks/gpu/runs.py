"""Short training runs: dtypes, adapters, quantized weights, and resuming from a checkpoint."""

from __future__ import annotations

import importlib.util
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, TrainerCallback

from benchmarks.gpu.finding import Finding, NotRunError, Place
from benchmarks.gpu.models import model_of, saved, shape_of, text_pairs, training_shape
from benchmarks.steps import step_seconds
from sparsepo import POConfig, POTrainer
from sparsepo.errors import first_line
from sparsepo.methods import BUILT_IN

PAIRS = 8
"""Pairs of a run, all in each step: the loss must fall on them."""

STEPS = 8
RATE = 5e-4
"""Large enough that weights in bfloat16 take most of a step: they lose smaller ones by rounding."""

RESUMED_RATE = 1e-4
"""Small enough that the loss has not vanished in the last step."""

ADAPTER_RATE = 5e-3

HALF_DIFFERENCE = 0.1
"""Difference of a step's loss in bfloat16 from that in float32, at most."""

RESUMED = 0.05
"""How far weights may be from those of the run without interruption, as a share of how far that run
has moved them: sums on a GPU have no fixed order, and Adam makes steps of the same size of tiny
gradients. That a run without its optimizer's state is further away is tested."""

TIME_SHARE = 0.8
"""Share of the time after which no further method is begun."""


def make_trainer(place: Place, output: Path, model: Any = None, **settings: Any) -> POTrainer:
    """Return a trainer of the small model, which stops if packed rows are wrong.

    Args:
        place: where it runs.
        output: its output folder.
        model: the policy, or a folder; None makes the usual one.
        settings: further fields of POConfig; `callbacks` goes to the trainer.
    """
    shape = training_shape(place)
    callbacks = settings.pop("callbacks", None)
    arguments: dict[str, Any] = {
        "output_dir": str(output),
        "method": "sparsepo-common",
        "computation": "packed",
        "per_device_train_batch_size": PAIRS,
        "max_steps": STEPS,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not place.cuda,
        **settings,
    }
    with saved(shape, weights=False) as folder:
        return POTrainer(
            model_of(shape, "cpu") if model is None else model,
            args=POConfig(**arguments),
            train_dataset=text_pairs(PAIRS, shape),
            processing_class=AutoTokenizer.from_pretrained(folder),
            callbacks=callbacks,
        )


def losses_of(trainer: POTrainer) -> list[float]:
    """Return the loss of each step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _trained(name: str, trainer: POTrainer) -> list[float]:
    """Train and return the losses, which must be finite and fall."""
    trainer.train()
    losses = losses_of(trainer)
    assert len(losses) == trainer.args.max_steps, f"{name}: only {len(losses)} steps were taken"
    assert all(math.isfinite(loss) for loss in losses), f"{name}: the losses are {losses}"
    assert losses[-1] < losses[0] - 0.01, (
        f"{name}: the loss did not fall, from {losses[0]:.4f} to {losses[-1]:.4f}"
    )
    return losses


def dtypes(place: Place) -> Finding:
    """SparsePO with KL and masks in float32, in bfloat16 weights, and under autocast."""
    shape = training_shape(place)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for form, dtype, settings in (
            ("float32", torch.float32, {}),
            ("bfloat16", torch.bfloat16, {}),
            ("autocast", torch.float32, {"bf16": True}),
        ):
            model = model_of(shape, "cpu", dtype)
            found[form] = _trained(form, make_trainer(place, Path(name), model, **settings))
    for form in ("bfloat16", "autocast"):
        pairs = zip(found[form], found["float32"], strict=True)
        difference = max(abs(half - whole) for half, whole in pairs)
        assert difference <= HALF_DIFFERENCE, (
            f"{form}: a step's loss differs by {difference:.2f} from that in float32: {found}"
        )
    text = "; ".join(f"{form} {values[0]:.3f} → {values[-1]:.3f}" for form, values in found.items())
    return Finding(f"SparsePO, loss over {STEPS} steps: {text}", {"losses": found})


def _weights(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def adapters(place: Place) -> Finding:
    """LoRA: only adapters move, and saved ones give the same log-probabilities when loaded."""
    from peft import PeftModel

    shape = training_shape(place)
    pairs = text_pairs(PAIRS, shape)
    with tempfile.TemporaryDirectory() as name:
        model = model_of(shape, "cpu", torch.bfloat16 if place.cuda else torch.float32)
        trainer = make_trainer(place, Path(name), model, lora_r=8, learning_rate=ADAPTER_RATE)
        before = _weights(trainer.policy)
        losses = _trained("LoRA", trainer)
        after = _weights(trainer.policy)
        moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
        assert moved, "no adapter has moved"
        wrong = sorted(key for key in moved if "lora_" not in key)
        assert not wrong, f"a weight of the base model has moved: {wrong[0]}"
        scores = trainer.score_pairs(pairs)
        trainer.save_model(name)
        base = model_of(shape, "cpu", torch.bfloat16 if place.cuda else torch.float32)
        loaded: Any = PeftModel.from_pretrained(base, name, is_trainable=True)
        again = make_trainer(
            place, Path(name) / "again", loaded, check_reference=False
        ).score_pairs(pairs)
    worst = max(
        abs(one.chosen_logps - other.chosen_logps) / abs(one.chosen_logps)
        for one, other in zip(scores, again, strict=True)
    )
    allowed = 1e-2 if place.cuda else 1e-4
    assert worst <= allowed, f"log-probabilities of the loaded adapters differ by {worst:.1e}"
    text = f"loss {losses[0]:.3f} → {losses[-1]:.3f}; {len(moved)} adapter weights moved, no other"
    return Finding(f"{text}; loaded again within {worst:.0e}", {"losses": losses})


def quantized(place: Place) -> Finding:
    """QLoRA: adapters on NF4 and on 8-bit weights, by bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NotRunError("bitsandbytes is not installed")
    shape = training_shape(place)
    found: dict[str, list[float]] = {}
    with saved(shape, weights=True) as folder, tempfile.TemporaryDirectory() as name:
        for bits in (4, 8):
            settings: dict[str, Any] = {
                f"load_in_{bits}bit": True,
                "lora_r": 8,
                "learning_rate": ADAPTER_RATE,
                "bf16": place.cuda,
            }
            trainer = make_trainer(place, Path(name), str(folder), **settings)
            found[f"{bits} bits"] = _trained(f"{bits} bits", trainer)
    text = "; ".join(f"{form} {values[0]:.3f} → {values[-1]:.3f}" for form, values in found.items())
    return Finding(f"loss over {STEPS} steps: {text}", {"losses": found})


class _Interrupted(TrainerCallback):
    """Stops training before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise InterruptedError


def resuming(place: Place) -> Finding:
    """A run that is stopped after five steps and resumed from its checkpoint at four."""
    run = {"save_strategy": "steps", "save_steps": 2, "learning_rate": RESUMED_RATE}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = make_trainer(place, folder / "whole", **run)
        start = _weights(whole.model)
        whole.train()
        stopped = make_trainer(place, folder / "stopped", **run, callbacks=[_Interrupted(5)])
        try:
            stopped.train()
        except InterruptedError:
            pass
        else:
            raise AssertionError("the interruption did not stop the run")
        del stopped
        # A new process knows nothing of the old one's random state.
        torch.manual_seed(999)
        resumed = make_trainer(place, folder / "stopped", **run)
        resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == STEPS, f"it ended at step {resumed.state.global_step}"
    ours, expected = losses_of(resumed), losses_of(whole)
    assert len(ours) == len(expected), f"{len(ours)} losses are logged, not {len(expected)}"
    difference = max(abs(a - b) for a, b in zip(ours, expected, strict=True))
    assert difference <= 0.01, f"losses differ by {difference:.2f}: {ours} and {expected}"
    shares = {
        part: _share(_weights(resumed.model), _weights(whole.model), start, part)
        for part in ("policy", "masks")
    }
    for part, share in shares.items():
        assert share <= RESUMED, f"the {part} differ by {share:.1%} of their movement"
    text = ", ".join(f"{part} {share:.1e}" for part, share in shares.items())
    return Finding(
        f"resumed at step 4 of {STEPS}: losses within {difference:.0e}; difference from the whole "
        f"run over its movement: {text}",
        {"losses": ours, **shares},
    )


def _share(
    ours: dict[str, Tensor], expected: dict[str, Tensor], start: dict[str, Tensor], part: str
) -> float:
    """Return ‖ours − expected‖ / ‖expected − start‖ of a part of the model."""
    names = [name for name in expected if name.startswith(f"{part}.")]

    def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        return math.sqrt(
            sum(float((one[n].double() - other[n].double()).square().sum()) for n in names)
        )

    return distance(ours, expected) / max(distance(expected, start), 1e-300)


# Every method


def methods(place: Place) -> Finding:
    """Steps of every method that trains on given pairs: all its tensors are on the device."""
    shape = replace(shape_of("gpt2"), response=6, pairs=4)
    names = [name for name, cls in BUILT_IN.items() if not cls.needs.rollout]
    wrong: dict[str, str] = {}
    taken: dict[str, float] = {}
    started = time.perf_counter()
    with saved(shape, weights=True) as folder:
        pairs = [
            replace(pair, scores=(2.0, 1.0), win_probability=0.75)
            for pair in text_pairs(shape.pairs, shape)
        ]
        for name in names:
            if time.perf_counter() - started > TIME_SHARE * place.seconds:
                break
            try:
                taken[name] = step_seconds(name, folder, pairs, 1)[0]
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                wrong[name] = f"{type(error).__name__}: {first_line(error)}"
    assert not wrong, "; ".join(f"{name} stops ({text})" for name, text in wrong.items())
    text = f"{len(taken)} of {len(names)} methods took steps"
    return Finding(text, {"seconds": taken})
