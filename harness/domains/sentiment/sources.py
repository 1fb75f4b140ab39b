"""The stages of given masks in a chain: learned by another model, shuffled, or the oracle's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from harness.config.methods import METHOD_TABLE, method_code
from harness.domains.common.spec import RowSpec
from harness.domains.common.stages import (
    GENERATION,
    TRAINING,
    Start,
    base_stage,
    outside_start,
    train_stage,
)
from harness.domains.sentiment.experiments import TransferRow
from harness.domains.sentiment.profile import TRAIN_FROM_SCRATCH, SentimentProfile
from harness.graph.stages import Stage
from sparsepo.errors import UserError
from tasks.sentiment.rewards import VADER

Item = TypeVar("Item")

WORK = "harness.domains.sentiment.work"
OTHER_START = 1_000_000
"""Added to the seed of a chain's base model for a second model with another initialisation."""


def knows_decisive_tokens(profile: SentimentProfile) -> bool:
    """Return whether the lexicon that labels decisive tokens is what ranked the pairs."""
    return profile.data.pairs is None and profile.model.reward == VADER


def check_sources(profile: SentimentProfile) -> None:
    """Check the models whose masks are transferred.

    Raises:
        UserError: a model is missing, or the other architecture is the same one.
    """
    values = profile.transfer
    for name in ("same_model", "other_model"):
        if getattr(values, name) is None and profile.model.sentiment != TRAIN_FROM_SCRATCH:
            raise UserError(
                f"transfer.{name}: name a model with the tokenizer of model.sentiment; only "
                f"{TRAIN_FROM_SCRATCH} is trained from scratch."
            )
    if values.other_model is None and values.other_architecture == profile.base.architecture:
        raise UserError(
            f"transfer.other_architecture is {values.other_architecture}, which base.architecture "
            "is too; choose another one."
        )


@dataclass(frozen=True)
class MaskSources:
    """Makes the stages of given masks of one chain."""

    profile: SentimentProfile
    pairs: Stage
    start: Start
    """The start of the models that are given masks."""

    def masks(self, row: TransferRow, own: Stage) -> Stage:
        """Return the stage with the masks that a row is trained with.

        Args:
            row: with given masks.
            own: the run in which the target learns masks of the row's method itself.
        """
        if row.mask == "oracle":
            return self._oracle()
        if row.mask == "frozen":
            return self._extracted(row.method, "its own", own, self.start)
        if row.mask == "shuffled":
            return self._shuffled(row.method, self._learned(row.method, "same"))
        return self._learned(row.method, row.mask)

    def _learned(self, method: str, source: str) -> Stage:
        """The masks that another model has learned on the same pairs."""
        profile, start = self.profile, self._start_of(source)
        run = train_stage(
            profile,
            RowSpec(method, method, method),
            self.pairs,
            start,
            {},
            overrides={"beta": profile.sweep.map_beta},
            name=f"{method} of the {source} architecture seed {profile.seed}",
        )
        return self._extracted(method, f"the {source} architecture", run, start)

    def _start_of(self, source: str) -> Start:
        profile, values = self.profile, self.profile.transfer
        outside = values.same_model if source == "same" else values.other_model
        if outside is not None:
            return outside_start(f"transfer.{source}_model", outside)
        changes: Mapping[str, object] = {"seed": profile.base.seed + OTHER_START}
        if source == "other":
            changes = {"architecture": values.other_architecture}
        changed = replace(profile, base=replace(profile.base, **changes))  # type: ignore[arg-type]
        corpus = self.start.inputs["model"].inputs["corpus"]
        base = base_stage(changed, corpus)
        return Start({"model": replace(base, name=f"{base.name}, {source} architecture")})

    def _extracted(self, method: str, whose: str, run: Stage, start: Start) -> Stage:
        """The masks of a run on all pairs."""
        profile, target = self.profile, self.start
        return Stage(
            f"masks of {method} of {whose} seed {profile.seed}",
            f"{WORK}.masks:extract_masks",
            {
                "max_length": profile.po.max_length,
                "max_prompt_length": profile.po.max_prompt_length,
                "batch_size": profile.po.device_batch_size,
                "device": profile.device,
                "model": start.model_id,
                "target": target.model_id,
            },
            {"run": run, "pairs": self.pairs, **start.inputs, **_as_target(target.inputs)},
            {**start.files, **_as_target(target.files)},
            code=method_code(method),
            without=METHOD_TABLE,
            libraries=TRAINING,
            seconds_hint=6,
        )

    def _shuffled(self, method: str, masks: Stage) -> Stage:
        seed = self.profile.seed
        return Stage(
            f"masks of {method}, shuffled, seed {seed}",
            f"{WORK}.mask_controls:shuffle_masks",
            {"seed": seed},
            {"masks": masks},
            libraries=("numpy",),
            seconds_hint=2,
        )

    def _oracle(self) -> Stage:
        profile, start = self.profile, self.start
        return Stage(
            f"oracle masks seed {profile.seed}",
            f"{WORK}.mask_controls:oracle_masks",
            {
                "max_length": profile.po.max_length,
                "max_prompt_length": profile.po.max_prompt_length,
                "model": start.model_id,
            },
            {"pairs": self.pairs, **start.inputs},
            start.files,
            libraries=(*GENERATION, "vaderSentiment"),
            seconds_hint=6,
        )


def _as_target(start: Mapping[str, Item]) -> dict[str, Item]:
    """Return a start's only input or file under the name "target"."""
    return {"target": start["model"]} if start else {}
