"""Shared by the stages that sample: settings of the engine, and counts for a table's notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.domains.common.work.files import write_json
from harness.graph.stages import StageContext
from tasks.models.generation import Responses
from tasks.models.generation_settings import GenerationSettings

JOURNAL = "journal.jsonl"


def generation_settings(context: StageContext) -> GenerationSettings:
    """Return the engine's settings of a stage: those that results depend on, and the others."""
    return replace(GenerationSettings(), **context.config.get("generation", {}), **context.options)


def batch_size(context: StageContext) -> int:
    """Return how many samples a stage draws together in its own process."""
    return generation_settings(context).batch_size


def counts(responses: Responses, prompts: int) -> dict[str, int]:
    """Return what a table's notes say of sampled responses.

    Args:
        responses: those of one call.
        prompts: how many were answered.
    """
    return {
        "prompts": prompts,
        "truncated_prompts": responses.truncated_prompts,
        "responses": len(responses.texts),
        "unfinished": responses.unfinished,
    }


def finish(context: StageContext, found: Any, *journals: Path) -> None:
    """Write generation.json, and remove the journals, which are no part of the artefact.

    Args:
        context: the stage's.
        found: `counts`, or several of them by name.
        journals: the stage's; those that do not exist are passed over.
    """
    write_json(found, context.work / "generation.json")
    for journal in journals:
        journal.unlink(missing_ok=True)
