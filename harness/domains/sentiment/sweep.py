"""What an experiment varies: β, γ and flipped shares of each row; and checks of these values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.config.methods import check_methods
from harness.domains.common.spec import Experiment, RowSpec
from harness.domains.sentiment.experiments import (
    AT_ONE_BETA,
    NoiseTable,
    OnPolicyTable,
    TransferRow,
    TransferTable,
)
from harness.domains.sentiment.profile import TRAIN_FROM_SCRATCH, SentimentProfile
from harness.domains.sentiment.sources import check_sources, knows_decisive_tokens
from sparsepo.errors import UserError
from sparsepo.registry import method_class


def check_values(experiment: Experiment, profile: SentimentProfile) -> None:
    """Check the values that an experiment uses.

    Raises:
        UserError: one is out of range, or nothing uses it.
    """
    check_methods(profile)
    sweep = profile.sweep
    for name in ("beta", "simpo_beta", "simpo_gamma"):
        values = getattr(sweep, name)
        if not values or len(set(values)) < len(values):
            raise UserError(f"sweep.{name}: give one or more different values.")
    if isinstance(experiment, AT_ONE_BETA) and sweep.map_beta not in sweep.beta:
        listed = ", ".join(f"{beta:g}" for beta in sweep.beta)
        raise UserError(f"sweep.map_beta={sweep.map_beta:g} is not among sweep.beta ({listed}).")
    if isinstance(experiment, NoiseTable):
        shares = profile.noise.shares
        if not shares or len(set(shares)) < len(shares) or not all(0 <= s < 0.5 for s in shares):
            raise UserError(
                "noise.shares: give one or more different shares from 0 to below 0.5, such as 0.1; "
                "from 0.5 on the flipped pairs would be the majority."
            )
    if isinstance(experiment, TransferTable):
        check_sources(profile)
    if isinstance(experiment, OnPolicyTable):
        _check_on_policy(profile)
    if profile.evaluation.steps < 1:
        raise UserError("evaluation.steps must be at least 1.")
    if profile.model.sentiment == TRAIN_FROM_SCRATCH:
        room = profile.base.context - profile.sampling.new_tokens
        if room < profile.sampling.prefix_tokens[1] + 1:
            raise UserError(
                f"sampling.new_tokens={profile.sampling.new_tokens} leaves no room for a prompt in "
                f"a context of {profile.base.context} tokens (base.context); lower it."
            )
    if profile.sampling.completions < 2:
        raise UserError("sampling.completions must be at least 2: a pair has two responses.")
    for name in ("train_prompts", "test_prompts", "test_pairs"):
        if getattr(profile.data, name) < 2:
            raise UserError(f"data.{name} must be at least 2.")
    for method in profile.methods:
        swept = not method_class(method).needs.rollout
        if swept and set(profile.methods[method]) & {"beta", "gamma"}:
            raise UserError(
                f"methods.{method}: β and γ are what these figures vary; set sweep.beta, "
                "sweep.map_beta, sweep.simpo_beta or sweep.simpo_gamma."
            )


def _check_on_policy(profile: SentimentProfile) -> None:
    values = profile.on_policy
    least = {
        "samples_per_prompt": 2,
        "steps_per_rollout": 1,
        "iteration_steps": 1,
        "diversity_prompts": 2,
        "diversity_samples": 2,
        **({} if values.save_steps is None else {"save_steps": 1}),
    }
    for name, smallest in least.items():
        if getattr(values, name) < smallest:
            raise UserError(f"on_policy.{name} must be at least {smallest}.")
    if values.samples_per_prompt % 2:
        raise UserError(
            f"on_policy.samples_per_prompt must be an even number, not "
            f"{values.samples_per_prompt}: samples are trained on in twos."
        )
    if values.dpo_beta <= 0:
        raise UserError(f"on_policy.dpo_beta must be above 0, not {values.dpo_beta:g}.")
    if values.diversity_prompts > profile.data.test_prompts:
        raise UserError(
            f"on_policy.diversity_prompts={values.diversity_prompts} is more than there are "
            f"held-out prompts, data.test_prompts={profile.data.test_prompts}; lower it."
        )
    if profile.data.pairs is None and profile.data.train_prompts < profile.po.batch_size:
        raise UserError(
            f"A step samples po.batch_size={profile.po.batch_size} prompts, and "
            f"data.train_prompts={profile.data.train_prompts}; lower the first."
        )
    if profile.po.max_length <= profile.sampling.new_tokens:
        raise UserError(
            f"sampling.new_tokens={profile.sampling.new_tokens} leaves no room for a prompt in "
            f"po.max_length={profile.po.max_length} tokens; lower it."
        )


def with_swept_rows(experiment: OnPolicyTable, profile: SentimentProfile) -> OnPolicyTable:
    """Return the table with a row at each β of the sweep in place of its baseline.

    The new baseline is the one at `sweep.map_beta`.
    """
    rows: list[RowSpec] = []
    for row in experiment.rows:
        if row.id != experiment.baseline:
            rows.append(row)
            continue
        # Whether every β is different is checked later.
        for beta in dict.fromkeys(profile.sweep.beta):
            label, settings = f"{row.label}, β = {beta:g}", {**row.settings, "beta": beta}
            rows.append(replace(row, id=f"{row.id}-{beta:g}", label=label, settings=settings))
    return replace(
        experiment,
        rows=tuple(rows),
        baseline=f"{experiment.baseline}-{profile.sweep.map_beta:g}",
    )


def require_masks(method: str) -> None:
    """Raise a UserError unless a method has masks."""
    if method_class(method).needs.mask == "none":
        raise UserError(
            f"Method '{method}' has no masks to show; name a masked one first with --methods."
        )


def rows_with_masks(profile: SentimentProfile, rows: Sequence[RowSpec]) -> list[RowSpec]:
    """Return the rows that can be run: no oracle where the decisive tokens are not known.

    Raises:
        UserError: no row has a mask.
    """
    found = [
        row
        for row in rows
        if not (isinstance(row, TransferRow) and row.mask == "oracle")
        or knows_decisive_tokens(profile)
    ]
    if not any(isinstance(row, TransferRow) for row in found):
        raise UserError(
            "The table transfer compares masks; name at least one of its masked rows with "
            "--methods, such as same-independent."
        )
    return found


def settings_of(
    experiment: Experiment, profile: SentimentProfile, row: RowSpec
) -> list[tuple[float | None, float | None]]:
    """Return (β, γ) of each run of a row; a row's own value of either is not varied."""
    if row.method == "sft":
        return [(None, None)]
    sweep = profile.sweep
    betas = sweep.simpo_beta if row.method == "simpo" else sweep.beta
    gammas: tuple[float | None, ...] = sweep.simpo_gamma if row.method == "simpo" else (None,)
    if isinstance(experiment, AT_ONE_BETA):
        betas, gammas = (sweep.map_beta,), (None,)
        if row.method == "simpo" and isinstance(experiment, NoiseTable):
            betas, gammas = (profile.noise.simpo_beta,), (profile.noise.simpo_gamma,)
    if "beta" in row.settings:
        betas = (row.settings["beta"],)
    if "gamma" in row.settings:
        gammas = (row.settings["gamma"],)
    return [(beta, gamma) for gamma in gammas for beta in betas]


def flipped_shares(
    experiment: Experiment, profile: SentimentProfile, row: RowSpec
) -> tuple[float, ...]:
    """Return the shares of flipped pairs of a row's runs; SFT, which sees no pairs, has none."""
    if not isinstance(experiment, NoiseTable) or row.method == "sft":
        return (0.0,)
    return tuple(sorted(profile.noise.shares))
