"""How runs are measured: evaluations during training, reward and KL, and the samples' diversity."""

from __future__ import annotations

from typing import Any

from harness.domains.common.generation import generation_parts
from harness.domains.common.stages import TRAINING, Start
from harness.domains.sentiment.data import WORK, reward_parts
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.stages import Stage


def evaluation_values(profile: SentimentProfile, token_pairs: int = 0) -> dict[str, Any]:
    """Return the settings of the evaluations during training.

    Args:
        profile: the chain's settings.
        token_pairs: held-out pairs whose tokens are evaluated too.
    """
    return {
        "steps": profile.evaluation.steps,
        "new_tokens": profile.sampling.new_tokens,
        "batch_size": profile.evaluation.batch_size,
        "seed": profile.sampling.seed,
        "token_pairs": token_pairs,
    }


def start_stage(profile: SentimentProfile, pairs: Stage, start: Start) -> Stage:
    """Return the stage that evaluates the model that all runs start from.

    Args:
        profile: the chain's settings.
        pairs: the pairs with the held-out prompts.
        start: the model.
    """
    return Stage(
        f"SFT model, seed {profile.seed}",
        f"{WORK}.start:evaluate_start",
        {
            "evaluations": evaluation_values(profile),
            "seed": profile.seed,
            "device": profile.device,
            "model": start.model_id,
        },
        {"pairs": pairs, **start.inputs},
        start.files,
        libraries=TRAINING,
        options=generation_parts(profile).options,
        seconds_hint=6,
    )


def points_stage(
    profile: SentimentProfile,
    trained: Stage,
    pairs: Stage,
    start: Start,
    first: Stage | None = None,
) -> Stage:
    """Return the stage that scores the responses sampled during a run.

    Args:
        profile: the chain's settings.
        trained: the run.
        pairs: the pairs with the held-out prompts.
        start: the reference.
        first: the points of the initial model; None if the run is its evaluation.
    """
    reward = reward_parts(profile)
    inputs = {} if first is None else {"start": first}
    return Stage(
        f"reward and KL of {trained.name}",
        f"{WORK}.score:score_responses",
        {
            "reward": reward.config,
            "batch_size": profile.evaluation.batch_size,
            "device": profile.device,
            "model": start.model_id,
        },
        {"run": trained, "pairs": pairs, **inputs, **start.inputs, **reward.inputs},
        {**start.files, **reward.files},
        libraries=(*TRAINING, *reward.libraries),
        seconds_hint=2,
    )


def diversity_stage(
    profile: SentimentProfile, method: str, trained: Stage, pairs: Stage, start: Start
) -> Stage:
    """Return the stage that measures how alike a model's samples of a prompt are.

    Args:
        profile: the chain's settings.
        method: "sft" for the start itself, which its run has no copy of.
        trained: the run.
        pairs: the pairs with the held-out prompts.
        start: the model that training starts from.
    """
    values = profile.on_policy
    generation = generation_parts(profile)
    from_start = method == "sft"
    return Stage(
        f"diversity of {trained.name}",
        f"{WORK}.diversity:measure_diversity",
        {
            "prompts": values.diversity_prompts,
            "samples": values.diversity_samples,
            "new_tokens": profile.sampling.new_tokens,
            "seed": profile.sampling.seed,
            "device": profile.device,
            "model": start.model_id if from_start else None,
            "generation": generation.config,
        },
        {"pairs": pairs, **(start.inputs if from_start else {"run": trained})},
        start.files if from_start else {},
        libraries=(*generation.libraries, "sacrebleu"),
        options=generation.options,
        resumable=True,
        seconds_hint=5,
    )
