"""The checks pass on a CPU at reduced sizes, and each fails if what it checks is wrong."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from benchmarks.gpu import head, numerics, runs
from benchmarks.gpu.finding import Finding, NotRunError, Place
from sparsepo.fused import token_stats
from sparsepo.methods import BUILT_IN
from sparsepo.training import policy
from sparsepo.training.trainer import POTrainer

PLACE = Place("cpu", small=True)
Check = Callable[[Place], Finding]


def test_the_fused_operation_passes() -> None:
    found = numerics.fused_operation(PLACE)
    # Two dtypes, three forms, five values each.
    assert len(found.figures) == 30
    assert max(v for name, v in found.figures.items() if name.startswith("float32")) < 1e-5


def test_flex_attention_passes_forward() -> None:
    found = numerics.flex_attention(PLACE)
    assert "a CPU has no gradients for it" in found.text
    assert max(v for name, v in found.figures.items() if "states" in name) < 1e-5


@pytest.mark.slow
def test_packed_rows_pass() -> None:
    found = numerics.packed_is_plain(PLACE)
    assert len(found.figures) == 2 * len(numerics.ARCHITECTURES)
    assert 0 < max(found.figures.values()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("check", [runs.dtypes, runs.adapters, runs.resuming])
def test_the_training_runs_pass(check: Check) -> None:
    assert check(PLACE).verdict == "passed"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_quantized_weights_pass() -> None:
    assert runs.quantized(PLACE).verdict == "passed"


def test_the_head_is_measured_in_every_form() -> None:
    found = head.head_speed(PLACE)
    assert found.verdict == "measured"
    measured = {name for name, value in found.figures.items() if "milliseconds" in str(value)}
    expected = {f"hh, {form}" for form in head.forms(PLACE)}
    if find_spec("liger_kernel") is None:
        expected -= {"hh, Liger, DPO"}
        assert "Liger not run (liger-kernel is not installed)" in found.text
    assert measured == expected


# Each can fail


def skewed(*args: Any, **kwargs: Any) -> Any:
    """Return the fused operation's results with log-probabilities that are off by a thousandth."""
    found = token_stats(*args, **kwargs)
    return found._replace(policy_logps=1.001 * found.policy_logps)


def test_a_fused_operation_that_is_off_by_a_thousandth_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numerics, "token_stats", skewed)
    with pytest.raises(AssertionError, match=r"float32, kept: log π has a relative error of 1"):
        numerics.fused_operation(PLACE)


def test_a_flex_mask_that_lets_pairs_see_each_other_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    own = numerics.attention_mask_for

    def seen(model: Any, batch: Any) -> Any:
        if model.config._attn_implementation == "flex_attention":
            batch = type(batch)(**{**vars(batch), "part": torch.zeros_like(batch.part)})
        return own(model, batch)

    monkeypatch.setattr(numerics, "attention_mask_for", seen)
    with pytest.raises(AssertionError, match="gpt_neox, float32, a pair per row: the states"):
        numerics.flex_attention(PLACE)


def test_a_packed_gradient_that_is_off_by_a_hundredth_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The values are right, so that the trainer's own start check passes."""

    def steeper(*args: Any, **kwargs: Any) -> Any:
        found = token_stats(*args, **kwargs)
        logps = found.policy_logps
        return found._replace(policy_logps=logps + 0.01 * (logps - logps.detach()))

    monkeypatch.setattr(policy, "token_stats", steeper)
    with pytest.raises(AssertionError, match="gpt_neox: gradients of the policy differ by"):
        numerics.packed_is_plain(PLACE)


def test_a_run_whose_loss_stays_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "RATE", 0.0)
    with pytest.raises(AssertionError, match="float32: the loss did not fall"):
        runs.dtypes(PLACE)


@pytest.mark.slow
def test_a_resumed_run_without_its_optimizer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(POTrainer, "_load_optimizer_and_scheduler", lambda *_: None)
    with pytest.raises(AssertionError, match="differ by"):
        runs.resuming(PLACE)


def test_a_head_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = head.fused_kl
    monkeypatch.setattr(head, "fused_kl", lambda given: 1.1 * own(given))
    with pytest.raises(
        AssertionError, match=r"KL: the gradient has 1\.100 of the plain form's norm"
    ):
        head.head_speed(PLACE)


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(NotRunError, match="bitsandbytes is not installed"):
        runs.quantized(PLACE)
    with pytest.raises(ModuleNotFoundError) as missing:
        head.liger_dpo(PLACE)
    assert missing.value.name == "liger-kernel"
    monkeypatch.setattr(numerics, "has_triton", lambda: False)
    with pytest.raises(NotRunError, match="needs Triton"):
        numerics.flex_attention(Place("cuda", small=True))


def test_time_that_is_used_up_leaves_forms_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = head.head_speed(Place("cpu", small=True, seconds=0.0))
    assert "ours not run (no time was left)" in found.text


@pytest.mark.slow
def test_every_method_takes_steps() -> None:
    found = runs.methods(PLACE)
    count = sum(not cls.needs.rollout for cls in BUILT_IN.values())
    assert found.text == f"{count} of {count} methods took steps"


def test_a_method_that_stops_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(name: str, *_: Any) -> list[float]:
        if name == "ipo":
            raise RuntimeError("found at least two devices, cuda:0 and cpu!\nmore")
        return [1.0]

    monkeypatch.setattr(runs, "step_seconds", steps)
    with pytest.raises(AssertionError) as failure:
        runs.methods(PLACE)
    assert str(failure.value) == (
        "ipo stops (RuntimeError: found at least two devices, cuda:0 and cpu!)"
    )
