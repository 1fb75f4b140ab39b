"""The stage that summarizes the held-out posts at every temperature."""

from __future__ import annotations

from harness.domains.common.work.files import starting_model
from harness.domains.common.work.generation import counts, finish, generation_settings
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl, write_jsonl
from tasks.models.generation import generate_responses
from tasks.summarization.readers import as_prompt


def sample_summaries(context: StageContext) -> None:
    """Write samples.jsonl (`prompt_id`, `temperature`, `summaries`) and generation.json.

    Configuration: `samples`, `temperatures`, `top_p`, `new_tokens`, `seed`, `device`, `model` (as
    `starting_model` reads it), `generation`. Temperature 0 has one summary, which all of a post's
    samples are.
    """
    config = context.config
    prompts = list(read_jsonl(context.inputs["prompts"] / "prompts.jsonl"))
    model = starting_model(context)
    temperatures: list[float] = config["temperatures"]
    settings = generation_settings(context)
    rows, found, journals = [], {}, []
    for place, temperature in enumerate(temperatures):
        journal = context.work / f"journal-{temperature:g}.jsonl"
        journals.append(journal)
        drawn = 1 if temperature == 0 else config["samples"]
        responses = generate_responses(
            model,
            [as_prompt(row["prompt"]) for row in prompts],
            samples=drawn,
            max_new_tokens=config["new_tokens"],
            temperature=temperature,
            top_p=config["top_p"],
            seed=config["seed"],
            prompt_ids=[row["prompt_id"] for row in prompts],
            settings=settings,
            journal=journal,
            device=config["device"],
            progress=lambda done, total, place=place: context.progress(  # type: ignore[misc]
                place + done / total, len(temperatures), "temperatures"
            ),
        )
        found[f"{temperature:g}"] = counts(responses, len(prompts))
        for index, row in enumerate(prompts):
            texts = responses.texts[index * drawn : (index + 1) * drawn]
            rows.append(
                {
                    "prompt_id": row["prompt_id"],
                    "temperature": temperature,
                    "summaries": texts * (config["samples"] // drawn),
                }
            )
    write_jsonl(rows, context.work / "samples.jsonl")
    finish(context, found, *journals)
