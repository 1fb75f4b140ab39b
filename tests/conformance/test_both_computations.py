"""Every registered method gives the same loss, metrics and gradients in both computations.

Packed, prompts are shared, rows are filled and statistics are computed in blocks. The reference
implementation pads a row per response and computes whole distributions. All statistics that a
method can use must be equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sparsepo
from sparsepo.batches.pack import pack_pairs
from sparsepo.methods import BUILT_IN, PAPER, Needs
from sparsepo.training.trainer import POTrainer
from tests.invariant.training import make_trainer
from tests.small_models import PAPER_ARCHITECTURES, small_model, text_pairs

# The related work's methods are functions of the same statistics; these are a sum, a mean without a
# reference, and the one that reads log Σ π².
METHODS = {**PAPER, **{name: BUILT_IN[name] for name in ("ipo", "cpo", "wpo")}}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-6}
"""Relative: of a loss to its size, of a gradient to its norm. Some architectures compute a norm or
an attention in float32 whatever the model's dtype."""

NEGLIGIBLE = {torch.float32: 1.0, torch.float64: 1e-3}
"""A gradient below this share of the norm of all (the policy's, the masks') is measured against
that share. The attention's key bias, for one, has a gradient of 0 that is nothing but rounding, and
a mask's sums up terms of both signs, each as exact as a log-ratio in float32 is. In float64 every
gradient is measured by its own size."""


def moved(architecture: str) -> Any:
    """Return a policy some way from the model that it started from, as in mid-training."""
    model = small_model(architecture)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=generator)
    return model


def one_step(
    tmp_path: Path,
    method: str,
    architecture: str,
    computation: str,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    has_reference = METHODS[method].needs.reference
    trainer = make_trainer(
        tmp_path,
        method,
        model=moved(architecture).to(dtype),
        ref_model=small_model(architecture).to(dtype) if has_reference else None,
        pairs=text_pairs(4),
        computation=computation,
        check_reference=False,
    )
    trainer.model.to(dtype)
    batch = pack_pairs(
        trainer.train_dataset,
        share_prompt=computation == "packed",
        rejected=METHODS[method].needs.rejected,
    )
    torch.manual_seed(0)  # the masks' dropout
    trainer.model.train()
    loss, output = trainer.compute_loss(trainer.model, vars(batch), return_outputs=True)
    loss.backward()
    gradients = {name: weight.grad for name, weight in trainer.model.named_parameters()}
    scores = trainer.score_pairs(text_pairs(4))
    return {"loss": loss.item(), "output": output, "gradients": gradients, "scores": scores}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_loss_and_every_gradient_agree(
    tmp_path: Path, method: str, architecture: str, dtype: torch.dtype
) -> None:
    packed, plain = (
        one_step(tmp_path, method, architecture, computation, dtype)
        for computation in ("packed", "plain")
    )
    tolerance = TOLERANCE[dtype]
    assert packed["loss"] == pytest.approx(plain["loss"], rel=tolerance)
    # A pair's own values may be differences of two sums over many tokens.
    loose = 10 * tolerance
    values = {"per_pair": plain["output"].per_pair, **plain["output"].metrics}
    ours = {"per_pair": packed["output"].per_pair, **packed["output"].metrics}
    assert ours.keys() == values.keys()
    for name, value in values.items():
        size = float(value.abs().max())
        torch.testing.assert_close(ours[name], value, rtol=loose, atol=loose * size)
    assert_gradients_agree(packed["gradients"], plain["gradients"])
    for mine, wanted in zip(packed["scores"], plain["scores"], strict=True):
        for field in ("loss", "chosen_reward", "rejected_reward", "chosen_logps", "chosen_kl"):
            expected = getattr(wanted, field)
            if expected is None:
                assert getattr(mine, field) is None
            else:
                assert getattr(mine, field) == pytest.approx(expected, rel=1e-4, abs=1e-4), field


def assert_gradients_agree(
    ours: dict[str, Tensor | None], expected: dict[str, Tensor | None], factor: float = 1.0
) -> None:
    """Compare gradients, within `factor` times the tolerance of their precision."""
    assert ours.keys() == expected.keys()
    for module in ("policy.", "masks."):
        found = {name: g for name, g in expected.items() if name.startswith(module)}
        whole = sum(float(g.square().sum()) for g in found.values() if g is not None) ** 0.5
        assert whole > 0 or not found
        for name, wanted in found.items():
            mine = ours[name]
            assert (mine is None) == (wanted is None), name
            if mine is not None and wanted is not None:
                size = max(float(wanted.norm()), NEGLIGIBLE[wanted.dtype] * whole)
                assert float((mine - wanted).norm()) <= factor * TOLERANCE[wanted.dtype] * size, (
                    name
                )


def test_the_comparison_sees_a_gradient_that_is_off_by_a_thousandth(tmp_path: Path) -> None:
    plain = one_step(tmp_path, "sparsepo-common", "gpt2", "plain")["gradients"]
    name = next(name for name, gradient in plain.items() if gradient is not None)
    off = {**plain, name: plain[name] * 1.001}
    with pytest.raises(AssertionError):
        assert_gradients_agree(off, plain)


def test_the_reference_implementation_trains(tmp_path: Path) -> None:
    """The whole training run, not a step alone: same curve as packed."""

    def curve(computation: str) -> list[float]:
        trainer: POTrainer = make_trainer(
            tmp_path / computation, "sparsepo-independent", computation=computation, optim="sgd"
        )
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    assert curve("plain") == pytest.approx(curve("packed"), rel=1e-4)


@pytest.mark.parametrize("option", [{"chunk_size": 4}, {"reference_cache": "cache"}])
def test_the_reference_implementation_refuses_what_it_would_ignore(
    tmp_path: Path, option: dict[str, Any]
) -> None:
    with pytest.raises(sparsepo.UserError, match="computation=plain uses no"):
        make_trainer(tmp_path, "dpo", computation="plain", **option)


def test_an_unknown_computation_is_named(tmp_path: Path) -> None:
    with pytest.raises(sparsepo.UserError, match="Choose one of: auto, packed, plain"):
        make_trainer(tmp_path, "dpo", computation="fast")


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_final_states_agree(tmp_path: Path, architecture: str) -> None:
    """Those that OTPO and a critic read; also if every response has a forward pass of its own."""
    trainer = make_trainer(
        tmp_path, "otpo", model=small_model(architecture), pairs=text_pairs(4), computation="packed"
    )
    module = trainer.model.eval()
    needs = Needs(ref_logps=False, hidden=True)
    found = {}
    for computation in ("packed", "plain", "alone"):
        module.computation = computation
        batch = pack_pairs(trainer.train_dataset, share_prompt=computation == "packed")
        found[computation] = module(batch, None, needs)
    for name in ("plain", "alone"):
        for ours, expected in zip(found[name], found["packed"], strict=True):
            assert expected.hidden.abs().max() > 0.1
            torch.testing.assert_close(ours.hidden, expected.hidden, rtol=0, atol=1e-4)
