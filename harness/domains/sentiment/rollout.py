"""The stage of a training run on samples of the policy itself."""

from __future__ import annotations

from dataclasses import asdict, replace

from harness.config.methods import METHOD_TABLE, method_code, method_settings
from harness.domains.common.generation import generation_parts
from harness.domains.common.stages import TRAINING, Start, check_batches, third_models
from harness.domains.sentiment.data import WORK, reward_parts
from harness.domains.sentiment.experiments import OnPolicyRow
from harness.domains.sentiment.measured import evaluation_values
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.stages import Stage
from sparsepo.registry import get_method


def rollout_stage(
    profile: SentimentProfile,
    row: OnPolicyRow,
    pairs: Stage,
    start: Start,
    caches: dict[str, Stage],
) -> Stage:
    """Return the stage that trains a row on samples of its policy.

    The prompts, their number in a step, the steps and the learning rate are those of the offline
    runs.

    Args:
        profile: the chain's settings.
        row: the row.
        pairs: the preference pairs, whose prompts are sampled.
        start: the model that training starts from, which is the reference too.
        caches: existing reference caches of the chain by address; an oracle's is added.

    Raises:
        UserError: values contradict each other, or the method does not use one.
    """
    values = profile.on_policy
    swept = {"beta": values.dpo_beta} if row.method == "dpo" else {}
    hyper_parameters, training = method_settings(profile, row.method, {**row.settings, **swept})
    if values.save_steps is not None:
        training = replace(training, save_steps=values.save_steps)
    method = get_method(row.method, **hyper_parameters)
    check_batches(training, row.method)
    reward = reward_parts(profile)
    return Stage(
        f"{row.id} seed {profile.seed}",
        f"{WORK}.rollout:train_on_samples",
        {
            "method": row.method,
            "hyper_parameters": hyper_parameters,
            "training": asdict(training),
            "rollout": {
                "samples_per_prompt": values.samples_per_prompt,
                "steps_per_rollout": (
                    values.iteration_steps if row.iterates else values.steps_per_rollout
                ),
                "max_new_tokens": profile.sampling.new_tokens,
            },
            "reward": reward.config,
            "evaluations": evaluation_values(profile),
            "seed": profile.seed,
            "device": profile.device,
            "model": start.model_id,
        },
        {
            "pairs": pairs,
            **start.inputs,
            **reward.inputs,
            **third_models(profile, method, pairs, start, caches, ""),
        },
        {**start.files, **reward.files},
        code=method_code(row.method),
        without=METHOD_TABLE,
        libraries=(*TRAINING, *reward.libraries),
        options=generation_parts(profile).options,
        resumable=training.save_steps is not None,
        seconds_hint=40,
    )
