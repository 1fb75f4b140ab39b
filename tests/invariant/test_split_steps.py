"""Every method on pairs: a step that is split has the numbers of the whole, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_model
from torch import nn

from sparsepo import UserError
from sparsepo.methods import BUILT_IN
from tests.invariant.launching import carried_out
from tests.small_methods import ON_PAIRS, in_parts, losses
from tests.small_models import small_model

WHOLE = [name for name in ON_PAIRS if BUILT_IN[name].needs.whole_step]
DIVISIBLE = [name for name in ON_PAIRS if name not in WHOLE]
BY_BATCH = ["cpo", "orpo", "slic"]
"""Their likelihood term can be a mean over a batch's tokens, which is refused too."""

RUNS: dict[str, dict[str, Any]] = {
    **{name: {"method": name, "options": {"size": 2}} for name in ON_PAIRS},
    **{
        f"{name} by batch": {
            "method": name,
            "options": {"size": 2, "method_args": {"nll": "batch"}},
        }
        for name in BY_BATCH
    },
}
REFUSED = [*WHOLE, *(f"{name} by batch" for name in BY_BATCH)]


def assert_moved_alike(ours: nn.Module, expected: nn.Module) -> None:
    """Assert that weights differ by little of what training changed in them, and by rounding."""
    start, found = small_model("gpt2").state_dict(), ours.state_dict()
    weights = expected.state_dict()
    moved = max(float((value - start[name]).abs().max()) for name, value in weights.items())
    apart = max(float((value - found[name]).abs().max()) for name, value in weights.items())
    assert moved > 1e-7
    assert apart < 0.01 * moved + 2e-8


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes found, which train one method after the other."""
    return carried_out(tmp_path_factory, "ddp", RUNS, "methods")


@pytest.mark.parametrize("method", DIVISIBLE)
def test_parts_of_a_step_are_the_whole(method: str, two: dict[str, Any], tmp_path: Path) -> None:
    """In two processes, and in two micro-batches of one; the last step is not full."""
    for name in ("whole", "split"):
        (tmp_path / name).mkdir()
    whole = in_parts(tmp_path / "whole", method, 4)
    whole.train()
    expected = losses(whole)
    assert len(expected) == 3

    split = in_parts(tmp_path / "split", method, 2, gradient_accumulation_steps=2)
    split.train()
    assert losses(split) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert_moved_alike(split.policy, whole.policy)

    first, second = two[method]
    assert first["wrapped"] == "DistributedDataParallel"
    assert first["losses"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert first["losses"] == second["losses"]
    assert first["weights"] == second["weights"]
    policy = small_model("gpt2")
    folder = two["folder"] / str(list(RUNS).index(method))
    load_model(policy, folder / "policy.safetensors")
    assert_moved_alike(policy, whole.policy)


@pytest.mark.parametrize("name", REFUSED)
def test_a_step_that_must_be_whole_is_refused_in_one_sentence(
    name: str, two: dict[str, Any], tmp_path: Path
) -> None:
    first, second = two[name]
    assert first["error"] == second["error"]
    spec = RUNS[name]
    with pytest.raises(UserError) as caught:
        in_parts(tmp_path, spec["method"], gradient_accumulation_steps=2, **spec["options"])
    for text in (first["error"], str(caught.value)):
        assert f"Method '{spec['method']}' needs all pairs of a step at once" in text
        assert "and one process." in text
        assert text.count(". ") == 0 and "\n" not in text
