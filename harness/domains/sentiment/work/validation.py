"""The stage that measures a trial of a method's tuning on validation prompts."""

from __future__ import annotations

import json

from harness.domains.common.work.files import MODEL, starting_model
from harness.domains.common.work.outcome import Outcome, write_outcome
from harness.domains.common.work.sampled import sample_responses
from harness.domains.sentiment.work.common import PROMPTS
from harness.domains.sentiment.work.reward import reward_of
from harness.graph.stages import StageContext
from sparsepo.errors import UserError
from tasks.sentiment.rewards import score_texts


def measure_trial(context: StageContext) -> None:
    """Write trial.json: mean reward of prompt and response as one text, in percent, and KL.

    Configuration: `reward` (make_reward's arguments), `max_new_tokens`, `batch_size`, `seed`,
    `device`, `model`. Inputs: "run" (of the trial), "prompts", and "model" (the reference) unless
    it comes from outside.

    Raises:
        UserError: the reward model scores no response.
    """
    write_outcome(context, lambda: _measure(context))


def _measure(context: StageContext) -> Outcome:
    prompts = json.loads((context.inputs["prompts"] / PROMPTS).read_text(encoding="utf-8"))
    sampled = sample_responses(
        context.inputs["run"] / MODEL, starting_model(context), prompts, context
    )
    texts = [prompt + text for prompt, text in zip(prompts, sampled.texts, strict=True)]
    scores = [one for one in score_texts(reward_of(context), texts).scores if one is not None]
    if not scores:
        raise UserError(
            "The reward model gives no response to a validation prompt a finite reward; use "
            "another one (model.reward)."
        )
    return Outcome("complete", value=100.0 * sum(scores) / len(scores), kl=sampled.kl)
