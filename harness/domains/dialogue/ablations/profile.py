"""Every value of the ablations (Tables 3, 4, 5 and l1), in one place; `tiny` has Table 1's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from harness.config.profiles import WORLD
from harness.domains.common.method_values import PAPER_MASKS, method_values
from harness.domains.dialogue.profile import PROFILES as TABLE1
from harness.domains.dialogue.profile import AlignmentProfile, DialogueProfile
from harness.domains.dialogue.settings import (
    MaskSettings,
    ModelSettings,
    PairSource,
    RowSettings,
)

METHOD = "sparsepo-common"
"""The method that is varied [paper]."""
DPO_MIX = "argilla/dpo-mix-7k"


@dataclass(frozen=True, kw_only=True)
class AblationData(RowSettings):
    """The rows of the ablations."""

    dpo_mix: str


@dataclass(frozen=True, kw_only=True)
class AblationProfile(AlignmentProfile):
    """One complete set of values."""

    data: AblationData
    masks: MaskSettings = field(default_factory=MaskSettings)

    @property
    def pair_source(self) -> PairSource:
        """Dialogues in DPO-mix's schema."""
        reader = "harness.domains.dialogue.work.dpo_mix:make_dpo_mix_pairs"
        return PairSource("data.dpo_mix", self.data.dpo_mix, reader, "pairs")

    @property
    def measured_masks(self) -> MaskSettings:
        """How masks are measured."""
        return self.masks


def _like_table1(name: str, dpo_mix: str, **changes: Any) -> AblationProfile:
    """Return Table 1's profile with the ablations' own values."""
    own: DialogueProfile = TABLE1[name]()
    shared = {item.name: getattr(own, item.name) for item in fields(AlignmentProfile)}
    rows = {key: value for key, value in asdict(own.data).items() if key != "hh_rlhf"}
    data = AblationData(dpo_mix=dpo_mix, **rows)
    return AblationProfile(**{**shared, "data": data, **changes})


def _tiny() -> AblationProfile:
    """Table 1's world, chains and values: its base models, SFT and pairs are in the store."""
    return _like_table1("tiny", WORLD)


def _small() -> AblationProfile:
    """A hub model of at most 200M parameters on one GPU."""
    own: DialogueProfile = TABLE1["small"]()
    return _like_table1(
        "small",
        DPO_MIX,  # [paper]
        description="Pythia 160M on DPO-mix-7k from the hub, one GPU, an hour",
        model=ModelSettings(dialogue="EleutherAI/pythia-160m"),  # [ours]
        po=replace(own.po, learning_rate=5e-7),  # [ours]: as in `paper`
        methods=method_values({"sft": {}, METHOD: _COMMON}),
    )


def _paper() -> AblationProfile:
    """The paper's model and data; what it does not say of them is as in Table 1."""
    own: DialogueProfile = TABLE1["paper"]()
    return _like_table1(
        "paper",
        DPO_MIX,  # [paper]
        description="Pythia 410M on DPO-mix-7k, one GPU, hours",
        model=ModelSettings(dialogue="EleutherAI/pythia-410m"),  # [paper]
        po=replace(
            own.po,
            learning_rate=5e-7,  # [ours]
            epochs=3,  # [ours]
            batch_size=128,  # [ours]
            save_steps=50,  # [ours]
        ),
        methods=method_values({"sft": {}, METHOD: {**_COMMON, **PAPER_MASKS}}),
    )


_COMMON: dict[str, Any] = {
    "beta": 0.1,  # [paper]
    "l1_reward": 1e-3,  # [ours]: the paper's of Table 1
    "l1_kl": 1e-3,  # [ours]
    "l1_limit": "preference",  # [ours], as in Table 1
}

PROFILES = {"tiny": _tiny, "small": _small, "paper": _paper}
