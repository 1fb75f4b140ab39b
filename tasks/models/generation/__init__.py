"""The generation engine: samples of a model that depend on their own seeds and on nothing else."""

from tasks.models.generation.engine import (
    Responses,
    SampledIds,
    generate_responses,
    prompt_room,
    sample_ids,
)

__all__ = ["Responses", "SampledIds", "generate_responses", "prompt_room", "sample_ids"]
