"""How long stages take on a processor: constants measured on a 2-core AMD EPYC.

Origin: the durations in the store of `run --all --profile tiny`, two stages at once with one
thread each. They are right for models of half a million parameters; a larger model's matrix
products reach more FLOP/s.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.commands.plan.work import Work

MEASURED_ON = "a 2-core AMD EPYC"

RATE = 50e9
"""FLOP/s of a core in passes over packed pairs and prompts."""
BASE_RATE = 47e9
"""FLOP/s of a core in the training of base models."""
DECODING_RATE = 22e9
"""FLOP/s of a core in decoding steps, whose matrices are small."""
STEP_SECONDS = 0.0004
"""Seconds of a layer in a decoding step, besides its FLOPs."""

START: Mapping[str, float] = {
    "data and choices": 0.3,
    "base models": 2.0,
    "training": 2.8,
    "reference caches": 4.5,
    "sampling": 0.5,
    "leaderboards": 0.3,
    "training with evaluations": 2.8,
    "measuring": 0.1,
    "judging": 0.05,
    "reward and KL": 3.0,
}
"""Seconds that a stage takes before its first step, by kind: imports, reading, the start check."""
UNITS: Mapping[str, float] = {
    "programs of the world": 0.0008,
    "programs": 0.05,
    "bootstraps": 0.0006,
    "summaries": 0.0038,
}
"""Seconds of a unit of work that no GPU does. Programs: assumed; those of the world are mostly
copies of each other, which run once."""
MODEL_UNITS: Mapping[str, float] = {
    "mapped pairs": 0.0035,
    "evaluations": 1.2,
    "tiny NLI models": 14.0,
    "converted weights": 1e-7,
}
"""Seconds of a unit of a model's work on a processor, besides its FLOPs; of a converted weight of a
GGUF file roughly."""


def processor_seconds(work: Work) -> float:
    """Return the seconds of a stage on one core."""
    rate = BASE_RATE if work.kind == "base models" else RATE
    return (
        START.get(work.kind, 0.3)
        + work.flops / rate
        + work.decoded.flops / DECODING_RATE
        + work.decoded.steps * STEP_SECONDS
        + own_seconds(work)
        + sum(MODEL_UNITS.get(name, 0.0) * count for name, count in work.units.items())
    )


def own_seconds(work: Work) -> float:
    """Return the seconds of a stage's work that no GPU does, on one core."""
    return sum(UNITS.get(name, 0.0) * count for name, count in work.units.items())
