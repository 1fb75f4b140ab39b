"""The stage that answers held-out prompts; another stage judges the answers."""

from __future__ import annotations

from harness.domains.common.work.files import evenly_spaced, read_pairs_file, starting_model
from harness.domains.common.work.generation import JOURNAL, counts, finish, generation_settings
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from tasks.models.generation import generate_responses


def generate(context: StageContext) -> None:
    """Write responses.jsonl: `pair_id` and `response` of each prompt; and generation.json.

    Configuration: `prompts` (how many), `max_new_tokens`, `temperature`, `top_p`, `seed`, `device`,
    `generation`, `model` (as `starting_model` reads it). Options: those of the generation engine.
    """
    config = {k: v for k, v in context.config.items() if k not in ("generation", "model")}
    pairs = read_pairs_file(context.inputs["pairs"] / "test.jsonl")
    pairs = evenly_spaced(pairs, config.pop("prompts"))
    journal = context.work / JOURNAL
    responses = generate_responses(
        starting_model(context),
        [list(pair.prompt) for pair in pairs],  # type: ignore[arg-type]  # chat form by read_hh
        **config,
        prompt_ids=[pair.pair_id for pair in pairs],
        settings=generation_settings(context),
        journal=journal,
        progress=lambda done, total: context.progress(done, total, "responses"),
    )
    rows = (
        {"pair_id": pair.pair_id, "response": response}
        for pair, response in zip(pairs, responses.texts, strict=True)
    )
    write_jsonl(rows, context.work / "responses.jsonl")
    finish(context, counts(responses, len(pairs)), journal)
