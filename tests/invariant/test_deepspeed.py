"""DeepSpeed on two processes on the CPU logs the curve that one process logs.

Needs the package: `python -m tox run -e deepspeed`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.invariant.curves import RUNS, assert_follows, entries
from tests.invariant.launching import carried_out
from tests.invariant.training import assert_same_weights

pytest.importorskip("deepspeed")

TWO: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "use_cpu": False,
    "ddp_backend": "gloo",
}
ADAMW: dict[str, Any] = {"optim": "adamw_torch", "learning_rate": 1e-3}
SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}

RUNS_OF_TWO: dict[str, dict[str, Any]] = {
    "dpo, ZeRO-1": {"name": "llama-dpo", "stage": 1, "changes": TWO},
    "dpo, ZeRO-2": {"name": "llama-dpo", "stage": 2, "changes": TWO},
    "sparsepo, ZeRO-1": {"name": "llama-sparsepo-independent", "stage": 1, "changes": TWO},
    "sparsepo, ZeRO-2": {"name": "llama-sparsepo-independent", "stage": 2, "changes": TWO},
    "resumed": {
        "name": "llama-sparsepo-independent",
        "stage": 2,
        "changes": {**TWO, **SAVING, **ADAMW},
        "interrupt": 11,
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return carried_out(tmp_path_factory, "deepspeed_zero2", RUNS_OF_TWO)


@pytest.mark.parametrize("name", RUNS_OF_TWO)
def test_the_curve_of_one_process(found: dict[str, Any], tmp_path: Path, name: str) -> None:
    """Each process holds half of the optimizer's weights; the whole model is on both, and saved."""
    first, second = found[name]
    run = RUNS[RUNS_OF_TWO[name]["name"]]
    assert first["wrapped"] == "DeepSpeedEngine"
    assert first["stage"] == RUNS_OF_TWO[name]["stage"]
    assert first["share"] == pytest.approx(0.5, abs=0.01)
    if name == "resumed":
        assert first["interrupted"] and second["interrupted"]
        plain = run.trainer(tmp_path, **ADAMW)
        plain.train()
        for ours, expected in zip(first["entries"], entries(plain), strict=True):
            # AdamW makes more of small differences.
            assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    else:
        assert_follows(first["entries"], run.name)
        assert_follows(second["entries"], run.name)
    for what in ("masks", "weights", "scores"):
        assert first[what] == second[what], what


@pytest.mark.parametrize("name", ["dpo, ZeRO-1", "sparsepo, ZeRO-2"])
def test_the_saved_model_is_that_of_one_process(
    found: dict[str, Any], tmp_path: Path, name: str
) -> None:
    saved = found["folder"] / str(list(RUNS_OF_TWO).index(name)) / "saved"
    trainer = RUNS[RUNS_OF_TWO[name]["name"]].trainer(tmp_path)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(saved)(ids).logits
        expected = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(ids).logits
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    for file in sorted((tmp_path / "saved").glob("*.safetensors")):
        assert_same_weights(load_file(saved / file.name), load_file(file), 1e-4)
