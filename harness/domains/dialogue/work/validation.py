"""The stage that measures a trial of a method's tuning on validation prompts."""

from __future__ import annotations

from harness.domains.common.work.files import MODEL, read_pairs_file
from harness.domains.common.work.outcome import Outcome, write_outcome
from harness.domains.common.work.sampled import sample_responses
from harness.graph.stages import StageContext
from tasks.dialogue.judge import compare


def measure_trial(context: StageContext) -> None:
    """Write trial.json: win rate against the chosen responses, in percent, and response KL.

    Configuration: `max_new_tokens`, `batch_size`, `seed`, `device`. Inputs: "run" (of the trial),
    "validation" (pairs) and "reference".
    """
    write_outcome(context, lambda: _measure(context))


def _measure(context: StageContext) -> Outcome:
    pairs = read_pairs_file(context.inputs["validation"] / "validation.jsonl")
    sampled = sample_responses(
        context.inputs["run"] / MODEL,
        context.inputs["reference"] / MODEL,
        [list(pair.prompt) for pair in pairs],  # type: ignore[arg-type]  # chat form by read_hh
        context,
    )
    scores = []
    for pair, response in zip(pairs, sampled.texts, strict=True):
        assert not isinstance(pair.prompt, str)
        assert not isinstance(pair.chosen, str)
        scores.append(compare(pair.prompt, response, pair.chosen[-1]["content"]))
    return Outcome("complete", value=100.0 * sum(scores) / len(scores), kl=sampled.kl)
