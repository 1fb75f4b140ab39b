"""What a stage that samples needs to know of the generation engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.profiles import Profile
from harness.domains.common.stages import GENERATION
from harness.graph.stages import Stage
from harness.graph.store import Store
from tasks.models.generation_settings import resolve_backend


@dataclass(frozen=True)
class GenerationParts:
    """The parts of a stage that say how samples are drawn."""

    config: Mapping[str, Any]
    """What samples depend on: the backend, and the served model's name."""
    options: Mapping[str, Any]
    """What they do not depend on: batch size, the server's address, requests at a time."""
    libraries: tuple[str, ...]


def generation_parts(profile: Profile) -> GenerationParts:
    """Return these parts for a profile.

    Raises:
        UserError: the settings contradict each other, or the backend is not there.
    """
    settings = profile.generation
    backend = resolve_backend(settings, profile.device)
    config: dict[str, Any] = {"backend": backend}
    options: dict[str, Any] = {"batch_size": settings.batch_size}
    if backend == "endpoint":
        config["model"] = settings.model
        options |= {"endpoint": settings.endpoint, "concurrency": settings.concurrency}
    libraries = (*GENERATION, "vllm") if backend == "vllm" else GENERATION
    return GenerationParts(config, options, libraries)


def sampled_json(store: Store, stages: Iterable[Stage]) -> dict[str, int]:
    """Return what several stages have sampled, each of them counted once.

    Args:
        store: has the artefacts.
        stages: those that wrote counts (`common.work.generation`).

    Returns:
        `prompts`, `truncated_prompts`, `responses` and `unfinished`; empty without stages.
    """
    total: Counter[str] = Counter()
    for stage in {stage.address: stage for stage in stages}.values():
        found = store.read_json(stage, "generation.json")
        for counts in found.values() if isinstance(next(iter(found.values())), dict) else [found]:
            total.update(counts)
    return dict(total)
