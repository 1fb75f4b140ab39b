"""What stages reserve on a cluster: which values are refused, and where stages then run."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.commands.run import describe
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.engines import Share
from harness.graph.engines.ray import RayEngine, uses_gpu
from harness.graph.stages import topological
from sparsepo.errors import UserError

GPUS: dict[str, Any] = {"engine": "ray", "gpus_per_stage": 0.5}


def profile(**request: Any) -> Any:
    return get_domain("dialogue").resolve_profile(RunRequest(**request))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"gpus_per_stage": 1}, "--gpus-per-stage has no effect without --engine ray"),
        ({"cpus_per_stage": 1}, "--cpus-per-stage has no effect without --engine ray"),
        ({"engine": "ray", "cpus_per_stage": 0}, "--cpus-per-stage must be above 0, not 0"),
        ({"engine": "ray", "cpus_per_stage": math.nan}, "must be above 0, not nan"),
        ({"engine": "ray", "gpus_per_stage": -1}, "--gpus-per-stage must be above 0, not -1"),
        ({"engine": "ray", "gpus_per_stage": 2, "profile": "small"}, "must be at most 1, not 2"),
        (GPUS, "The profile tiny runs on the CPU; leave --gpus-per-stage out"),
    ],
)
def test_what_is_refused(request_: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        profile(**request_)


def test_gpus_of_other_machines_are_enough() -> None:
    assert profile(**GPUS, profile="small").device == "cuda"
    assert profile(**GPUS, assignments=("device=cuda",)).device == "cuda"


def test_a_cluster_has_its_own_number_of_workers() -> None:
    experiment = EXPERIMENTS["figure2"]
    local = describe(experiment, RunRequest())
    assert getattr(local.engine, "workers", None) == local.profile.workers == 2
    ray = describe(experiment, RunRequest(engine="ray", cpus_per_stage=3))
    assert isinstance(ray.engine, RayEngine)
    assert ray.engine.workers is None
    assert ray.engine.share == Share(cpus=3, gpus=1)


@pytest.mark.parametrize("name", ["table1", "figure2", "figure5"])
def test_training_and_sampling_use_the_gpu(name: str) -> None:
    """Stages that only read, write or count do not reserve one."""
    request = RunRequest(**GPUS, assignments=("device=cuda",))
    graph: Any = describe(EXPERIMENTS[name], request).graph
    used = {stage.function: uses_gpu(stage) for stage in topological(graph.targets)}
    assert all(gpu for function, gpu in used.items() if ".work.train:" in function)
    assert set(used.values()) == {True, False}
