"""What splits a model over processes: which configurations are refused, and what keeps float32.

Training itself is in tests/invariant: test_processes.py (FSDP), test_deepspeed.py.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
import yaml
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from sparsepo import POConfig, UserError
from sparsepo.distributed.sharding import (
    check_joined,
    check_sharding,
    forward_dtype,
    keep_precision,
)

if TYPE_CHECKING:
    from transformers import TrainingArguments

CONFIGURATIONS = Path(__file__).parents[3] / "configs" / "accelerate"


def accelerator(kind: DistributedType = DistributedType.FSDP, **state: Any) -> Any:
    return SimpleNamespace(
        state=SimpleNamespace(**state),
        distributed_type=kind,
        mixed_precision=state.get("mixed_precision", "no"),
    )


def fsdp(**changes: Any) -> Any:
    options: dict[str, Any] = {
        "fsdp_version": 2,
        "reshard_after_forward": True,
        "state_dict_type": "FULL_STATE_DICT",
        "cpu_ram_efficient_loading": False,
        **changes,
    }
    return accelerator(fsdp_plugin=FullyShardedDataParallelPlugin(**options))


def zero(stage: int) -> Any:
    plugin = SimpleNamespace(zero_stage=stage)
    return accelerator(DistributedType.DEEPSPEED, deepspeed_plugin=plugin)


def test_what_works_is_not_refused() -> None:
    for fine in (accelerator(DistributedType.NO), fsdp(), zero(1), zero(2)):
        check_sharding(fine, quantized=False)
    check_sharding(accelerator(DistributedType.MULTI_GPU), quantized=True)


@pytest.mark.parametrize(
    ("refused", "quantized", "remedy"),
    [
        (fsdp(state_dict_type="SHARDED_STATE_DICT"), False, "fsdp_state_dict_type to FULL_STATE_"),
        (fsdp(cpu_ram_efficient_loading=True), False, "set it to false"),
        (fsdp(fsdp_version=1, reshard_after_forward="FULL_SHARD"), False, "fsdp_version to 2"),
        (zero(3), False, "set zero_stage to 2"),
        (fsdp(), True, "configs/accelerate/ddp.yaml"),
        (zero(2), True, "configs/accelerate/ddp.yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused(refused: Any, quantized: bool, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        check_sharding(refused, quantized)


def launched_by_deepspeed(monkeypatch: pytest.MonkeyPatch, *, installed: bool = True) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    spec = object() if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_deepspeed_has_to_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched_by_deepspeed(monkeypatch, installed=False)
    with pytest.raises(UserError, match="is not installed; run `python -m pip install 'deepspeed"):
        POConfig(output_dir=str(tmp_path))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false")
    with pytest.raises(UserError, match="is not installed; run `python -m pip install 'deepspeed"):
        POConfig(output_dir=str(tmp_path), deepspeed="zero2.json")


def test_deepspeed_is_not_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched_by_deepspeed(monkeypatch)
    with pytest.raises(UserError, match="leaves DeepSpeed out; set ddp_backend=gloo"):
        POConfig(output_dir=str(tmp_path), use_cpu=True)


def test_processes_have_to_be_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU and a backend, accelerate would train in each process on its own."""
    apart, together = (
        cast("TrainingArguments", SimpleNamespace(deepspeed=None, world_size=n)) for n in (1, 2)
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_joined(apart)  # not by DeepSpeed
    launched_by_deepspeed(monkeypatch)
    check_joined(together)
    with pytest.raises(UserError, match="set ddp_backend=gloo"):
        check_joined(apart)


def test_weights_alone_are_cast() -> None:
    half = fsdp()
    half.state.fsdp_plugin.set_mixed_precision("bf16")
    keep_precision(half)
    policy = half.state.fsdp_plugin.mixed_precision_policy
    assert policy.param_dtype == torch.bfloat16
    assert policy.reduce_dtype == torch.float32
    assert policy.output_dtype is None
    assert not policy.cast_forward_inputs
    whole = fsdp()
    keep_precision(whole)
    assert whole.state.fsdp_plugin.mixed_precision_policy is None


@pytest.mark.parametrize(
    ("kind", "precision", "expected"),
    [
        (DistributedType.FSDP, "bf16", torch.bfloat16),
        (DistributedType.DEEPSPEED, "fp16", torch.float16),
        (DistributedType.FSDP, "no", None),
        # Autocast leaves the weights as they are.
        (DistributedType.MULTI_GPU, "bf16", None),
        (DistributedType.NO, "bf16", None),
    ],
)
def test_the_dtype_of_weights_while_they_run(
    kind: DistributedType, precision: str, expected: torch.dtype | None
) -> None:
    assert forward_dtype(accelerator(kind, mixed_precision=precision)) == expected


def test_shipped_configurations() -> None:
    """They say what the checks ask for, and leave the precision to the command."""
    found = {file.stem: yaml.safe_load(file.read_text()) for file in CONFIGURATIONS.iterdir()}
    assert set(found) == {"ddp", "fsdp", "deepspeed_zero2"}
    assert all(config["mixed_precision"] == "no" for config in found.values())
    assert found["deepspeed_zero2"]["deepspeed_config"]["zero_stage"] == 2
    options = found["fsdp"]["fsdp_config"]
    assert options["fsdp_version"] == 2
    assert options["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    assert options["fsdp_cpu_ram_efficient_loading"] is False
