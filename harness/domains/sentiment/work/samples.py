"""The stage that samples completions of review prefixes; another stage ranks them."""

from __future__ import annotations

from transformers import AutoTokenizer

from harness.domains.common.work.files import starting_model
from harness.domains.common.work.generation import JOURNAL, counts, finish, generation_settings
from harness.domains.sentiment.work.common import SAMPLES, SPLITS, read_texts
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from tasks.models.generation import generate_responses
from tasks.sentiment.pairs import review_prefixes


def sample_completions(context: StageContext) -> None:
    """Write samples.jsonl: `split`, `prompt` and `completions` of each prompt; and counts.

    Configuration: `train_prompts`, `test_prompts`, `prefix_tokens`, `new_tokens`, `completions`,
    `seed`, `device`, `dtype`, `model` (a hub id or None), `generation`. Options: those of the
    generation engine. The test prompts come from the test reviews and differ from all training
    prompts.
    """
    config = context.config
    model = starting_model(context)
    tokenizer = AutoTokenizer.from_pretrained(model)
    chosen: dict[str, list[str]] = {}
    for split in reversed(SPLITS):
        chosen[split] = review_prefixes(
            read_texts(context.inputs["reviews"] / f"{split}.jsonl"),
            tokenizer,
            config[f"{split}_prompts"],
            config["seed"],
            tuple(config["prefix_tokens"]),
            exclude=chosen.get("test", ()),
        )
    rows = [(split, prompt) for split in SPLITS for prompt in chosen[split]]
    journal = context.work / JOURNAL
    responses = generate_responses(
        model,
        [prompt for _, prompt in rows],
        samples=config["completions"],
        max_new_tokens=config["new_tokens"],
        seed=config["seed"],
        device=config["device"],
        dtype=config["dtype"],
        settings=generation_settings(context),
        journal=journal,
        progress=lambda done, total: context.progress(done, total, "completions"),
    )
    texts, drawn = responses.texts, config["completions"]
    sampled = (
        {
            "split": split,
            "prompt": prompt,
            "completions": texts[drawn * index : drawn * (index + 1)],
        }
        for index, (split, prompt) in enumerate(rows)
    )
    write_jsonl(sampled, context.work / SAMPLES)
    finish(context, counts(responses, len(rows)), journal)
