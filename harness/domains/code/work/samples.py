"""The stage in which a model generates programs; another stage runs them."""

from __future__ import annotations

from harness.domains.code.work.common import problems_of
from harness.domains.common.work.files import evenly_spaced, starting_model
from harness.domains.common.work.generation import JOURNAL, counts, finish, generation_settings
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import write_jsonl
from tasks.code.conventions import get_convention
from tasks.models.generation import generate_responses


def sample(context: StageContext) -> None:
    """Write <benchmark>.jsonl of each benchmark: `task_id` and `completion` of every sample.

    Also writes generation.json, benchmark → counts. Configuration: `samples` (benchmark → number
    per problem), `problems` (cap on the problems, evenly spaced, or None), `convention`,
    `stop_early`, `temperature`, `top_p`, `max_new_tokens`, `seed`, `dtype`, `device`, `model` (a
    hub id, or None for the input or the folder "model"), `generation`. Input: "problems". Options:
    those of the generation engine.
    """
    config = dict(context.config)
    numbers: dict[str, int] = config.pop("samples")
    convention_name, cap = config.pop("convention"), config.pop("problems")
    stop_early = config.pop("stop_early")
    config.pop("model")
    config.pop("generation", None)
    chosen = {name: evenly_spaced(problems_of(context, name), cap) for name in numbers}
    total = sum(numbers[name] * len(problems) for name, problems in chosen.items())
    before = 0
    found: dict[str, dict[str, int]] = {}
    journals = {name: context.work / f"{name}-{JOURNAL}" for name in chosen}
    for name, problems in chosen.items():
        convention = get_convention(convention_name, problems)
        responses = generate_responses(
            starting_model(context),
            [convention.prompt(problem) for problem in problems],
            samples=numbers[name],
            # They are the same for all problems of a benchmark.
            stop=convention.stops(problems[0]) if stop_early else (),
            prompt_ids=[str(problem.task_id) for problem in problems],
            settings=generation_settings(context),
            journal=journals[name],
            progress=lambda done, _, before=before: context.progress(  # type: ignore[misc]
                before + done, total, "samples"
            ),
            **config,
        )
        rows = (
            {"task_id": problems[index // numbers[name]].task_id, "completion": completion}
            for index, completion in enumerate(responses.texts)
        )
        write_jsonl(rows, context.work / f"{name}.jsonl")
        before += len(responses.texts)
        found[name] = counts(responses, len(problems))
    finish(context, found, *journals.values())
