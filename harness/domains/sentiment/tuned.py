"""The tuned rows of Figure 2: trials at one β, and the sweep with the chosen settings.

The sweep varies β (and SimPO's γ) for a tuned row as it does for a published one, so that both have
equally many points. Only the other settings are tuned, at the β in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.config.search import Trial
from harness.domains.common.generation import generation_parts
from harness.domains.common.spec import RowSpec
from harness.domains.common.stages import GENERATION, Start, train_stage
from harness.domains.common.tuning import Search, as_trial, measuring_stage, search, trial_name
from harness.domains.sentiment.data import reward_parts
from harness.domains.sentiment.profile import SentimentProfile
from harness.graph.stages import Stage
from sparsepo.errors import UserError

WORK = "harness.domains.sentiment.work"


def search_at_one_beta(
    profile: SentimentProfile,
    row: RowSpec,
    reviews: Stage | None,
    pairs: Stage,
    start: Start,
    caches: dict[str, Stage],
    plugin: Path | None,
) -> Search:
    """Return the trials of a tuned row in one chain.

    Args:
        profile: the chain's settings.
        row: the tuned row.
        reviews: what validation prompts are cut from; None if there are none.
        pairs: the preference pairs.
        start: the model that training starts from, which is the reference too.
        caches: existing reference caches of the chain by address; new ones are added.
        plugin: the file of a plug-in method.

    Raises:
        UserError: there are no reviews, or see `common.tuning.search`.
    """
    if reviews is None:
        raise UserError(
            "--tune compares trials on validation prompts, which are cut from reviews; set "
            "data.reviews beside data.pairs, or leave --tune out."
        )
    swept = middle(profile, row)
    prompts = Stage(
        f"validation prompts seed {profile.seed}",
        f"{WORK}.validation_prompts:make_validation_prompts",
        {
            "prompts": profile.tuning.prompts,
            "prefix_tokens": list(profile.sampling.prefix_tokens),
            "seed": profile.sampling.seed,
            "model": start.model_id,
        },
        {"reviews": reviews, "pairs": pairs, **start.inputs},
        start.files,
        libraries=("transformers", "tokenizers"),
        seconds_hint=2,
    )
    reward = reward_parts(profile)

    def run(trial: Trial) -> Stage:
        stage = train_stage(
            profile,
            row,
            pairs,
            start,
            caches,
            plugin=plugin,
            overrides={**swept, **trial.settings},
            name=trial_name(profile, row, trial),
        )
        return as_trial(stage)

    def measure(trial: Stage) -> Stage:
        return measuring_stage(
            f"{WORK}.validation:measure_trial",
            trial,
            {
                "reward": reward.config,
                "max_new_tokens": profile.sampling.new_tokens,
                "batch_size": profile.evaluation.batch_size,
                "seed": profile.sampling.seed,
                "device": profile.device,
                "model": start.model_id,
            },
            {"prompts": prompts, **start.inputs, **reward.inputs},
            files={**start.files, **reward.files},
            libraries=(*GENERATION, *reward.libraries),
            options=generation_parts(profile).options,
            seconds_hint=4,
        )

    return search(profile, row, run, measure, fixed=swept)


def middle(profile: SentimentProfile, row: RowSpec) -> Mapping[str, float]:
    """Return the values of what the sweep varies at which a row's other settings are tuned."""
    sweep = profile.sweep
    if row.method != "simpo":
        return {"beta": sweep.map_beta}
    return {
        "beta": sweep.simpo_beta[len(sweep.simpo_beta) // 2],
        "gamma": sweep.simpo_gamma[len(sweep.simpo_gamma) // 2],
    }


def with_chosen(trained: Stage, search: Search) -> Stage:
    """Return a run of the sweep that takes its other settings from the chosen trial."""
    return replace(
        trained,
        function=f"{WORK}.chosen:train_chosen",
        inputs={**trained.inputs, "choice": search.choice},
    )
