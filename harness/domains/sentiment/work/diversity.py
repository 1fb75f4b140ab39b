"""The stage that measures how alike a model's samples of a prompt are."""

from __future__ import annotations

import json

from harness.domains.common.work.files import MODEL, evenly_spaced, starting_model, write_json
from harness.domains.common.work.generation import JOURNAL, counts, finish, generation_settings
from harness.domains.sentiment.work.common import PROMPTS
from harness.graph.stages import StageContext
from tasks.metrics.text.base import text_of_signature
from tasks.metrics.text.self_bleu import SelfBleu
from tasks.models.generation import generate_responses

DIVERSITY = "diversity.json"


def measure_diversity(context: StageContext) -> None:
    """Write diversity.json: self-BLEU of the samples of each prompt, or null; and counts.

    Configuration: `prompts` (how many held-out ones), `samples` (of each), `new_tokens`, `seed`,
    `device`, `model`, `generation`. Inputs: "pairs", and "run", whose model is sampled; without it,
    the model that training starts from. Options: those of the generation engine.
    """
    config = context.config
    run = context.inputs.get("run")
    held_out = json.loads((context.inputs["pairs"] / PROMPTS).read_text(encoding="utf-8"))
    prompts = evenly_spaced(held_out, config["prompts"])
    samples: int = config["samples"]
    journal = context.work / JOURNAL
    responses = generate_responses(
        starting_model(context) if run is None else run / MODEL,
        prompts,
        samples=samples,
        max_new_tokens=config["new_tokens"],
        seed=config["seed"],
        device=config["device"],
        settings=generation_settings(context),
        journal=journal,
        progress=lambda done, total: context.progress(done, total, "samples"),
    )
    texts = responses.texts
    groups = [texts[start : start + samples] for start in range(0, len(texts), samples)]
    metric = SelfBleu()
    scores = metric.score(groups)
    write_json(
        {
            "signature": text_of_signature(metric.signature()),
            "self_bleu": scores.values,
            "missing": scores.missing,
        },
        context.work / DIVERSITY,
    )
    finish(context, counts(responses, len(prompts)), journal)
