"""The stage that answers held-out prompts; another stage judges the answers."""

from __future__ import annotations

from harness.domains.common.work.files import MODEL, evenly_spaced, read_pairs_file
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from tasks.models.generation import generate_responses


def generate(context: StageContext) -> None:
    """Write responses.jsonl: `pair_id` and `response` of each prompt.

    Configuration: `prompts` (how many), `batch_size`, `max_new_tokens`, `temperature`, `top_p`,
    `seed`, `device`.
    """
    config = dict(context.config)
    pairs = read_pairs_file(context.inputs["pairs"] / "test.jsonl")
    pairs = evenly_spaced(pairs, config.pop("prompts"))
    device = config.pop("device")
    responses = generate_responses(
        context.inputs["model"] / MODEL,
        [list(pair.prompt) for pair in pairs],  # type: ignore[arg-type]  # chat form by read_hh
        **config,
        device=device,
        progress=lambda done, total: context.progress(done, total, "responses"),
    )
    rows = (
        {"pair_id": pair.pair_id, "response": response}
        for pair, response in zip(pairs, responses, strict=True)
    )
    write_jsonl(rows, context.work / "responses.jsonl")
