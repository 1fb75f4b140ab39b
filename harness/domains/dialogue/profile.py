"""Every value of Table 1, in one place, and what the ablations share with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.profiles import HUB, WORLD, Profile, TrainingSettings, TuningSettings
from harness.domains.common.laptop import adapter_training
from harness.domains.common.method_values import method_values, with_paper_masks
from harness.domains.common.packaged import SMOLLM2
from harness.domains.dialogue.settings import (
    DataSettings,
    EvaluationSettings,
    LimitSettings,
    MaskSettings,
    ModelSettings,
    PairSource,
    RowSettings,
)
from tasks.dialogue.world import WorldConfig
from tasks.judges.settings import TRAINED, JudgeSettings, RewardTraining
from tasks.models.base_config import BaseModelConfig
from tasks.models.generation_settings import GenerationSettings

TRAIN_FROM_SCRATCH = "tiny-neox"
"""A model's name: train the tiny GPT-NeoX of ``base`` from scratch."""


@dataclass(frozen=True, kw_only=True)
class DialogueTuning(TuningSettings):
    """How trials are compared: by the win rate of their responses to validation prompts."""

    criterion: Literal["win_rate"] = "win_rate"
    kl_budget: float | None = 20.0
    prompts: int = 300
    """Validation prompts, each answered once."""


@dataclass(frozen=True, kw_only=True)
class AlignmentProfile(Profile):
    """The values of a table about models that are aligned on dialogues."""

    chain_seeds = (*Profile.chain_seeds, "world.seed", "evaluation.seed")

    data: RowSettings
    model: ModelSettings
    sft: TrainingSettings
    evaluation: EvaluationSettings
    tuning: DialogueTuning = field(default_factory=DialogueTuning)
    world: WorldConfig = field(default_factory=WorldConfig)

    @property
    def pair_source(self) -> PairSource:
        """Where its preference pairs come from."""
        raise NotImplementedError

    @property
    def measured_masks(self) -> MaskSettings | None:
        """How masks are measured; None if they are not."""
        return None


@dataclass(frozen=True, kw_only=True)
class DialogueProfile(AlignmentProfile):
    """One complete set of values of Table 1."""

    data: DataSettings
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """Of `--table winrate`; Table 1's win rate is by the world's rules."""

    @property
    def pair_source(self) -> PairSource:
        """Dialogues in HH's schema."""
        reader = "harness.domains.dialogue.work.pairs:make_pairs"
        return PairSource("data.hh_rlhf", self.data.hh_rlhf, reader, "hh")


# Real rows that a user gives to the tiny profile are capped, so that a run stays within minutes.
TINY_REAL_TRAIN_PAIRS = 600
TINY_REAL_TEST_PAIRS = 150
# Of each leaf task: BBH has 24 of them, MATH 7, GPQA and MuSR 3, the others one.
TINY_REAL_LIMITS = LimitSettings(bbh=16, math_hard=10, gpqa=50, musr=50, mmlu_pro=150, ifeval=100)

_METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "dpo": {"beta": 0.1},  # [paper]
    "tdpo1": {"beta": 0.1},  # [paper]
    "tdpo2": {"beta": 0.1},  # [paper]
    "simpo": {"beta": 2.0, "gamma": 1.0},  # [ours]: legible in neither
    "dpop": {"beta": 0.3},  # [paper of DPOP]
    "mapo": {"beta": 0.1},  # [paper]
    "sparsepo-common": {
        "beta": 0.1,  # [paper]
        "l1_reward": 1e-3,  # [paper]
        "l1_kl": 1e-3,  # [paper]
        "l1_limit": "preference",  # [ours]: without it the norm kills masks that learn quickly
    },
    "sparsepo-independent": {"beta": 0.1, "l1_reward": 0.0, "l1_kl": 0.0},  # [paper]
}
_PAPER_METHODS: dict[str, dict[str, Any]] = {
    **_METHODS,
    **{
        name: {**_METHODS[name], "learning_rate": 5e-7}  # [paper]
        for name in ("sparsepo-common", "sparsepo-independent")
    },
}


def _tiny() -> DialogueProfile:
    """Embedded world, two CPU cores, minutes; every value [ours]."""
    return DialogueProfile(
        name="tiny",
        description="embedded world, a GPT-NeoX of half a million parameters, two cores, minutes",
        data=DataSettings(
            hh_rlhf=WORLD,
            train_pairs=None,
            test_pairs=None,
            bbh=WORLD,
            math_hard=WORLD,
            gpqa=WORLD,
            musr=WORLD,
            mmlu_pro=WORLD,
            ifeval=WORLD,
        ),
        model=ModelSettings(dialogue=TRAIN_FROM_SCRATCH),
        sft=TrainingSettings(
            # Gentle: at 2e-4 SFT alone orders as many pairs as their label noise allows, and
            # preference optimization has nothing left to gain.
            learning_rate=3e-5,
            epochs=1,
            batch_size=32,
            device_batch_size=32,
            max_length=128,
            max_prompt_length=80,
        ),
        po=TrainingSettings(
            # Chosen by DPO alone (docs/world.md): it costs skills and gains win rate. With larger
            # rates answers break down, and the gain goes first.
            learning_rate=7e-5,
            epochs=1,
            batch_size=32,
            device_batch_size=32,
            max_length=128,
            max_prompt_length=80,
        ),
        methods=method_values(_METHODS),
        # Lettered options first: docs/world.md.
        base=BaseModelConfig(steps=900, first_steps=500, first_share=0.25, rotary_share=1.0),
        evaluation=EvaluationSettings(
            limit=None,
            limits=LimitSettings(),
            batch_size=64,
            pack_tokens=768,
            math_tokens=16,
            ifeval_tokens=40,
            dtype="float32",
            win_rate_prompts=900,
            response_tokens=48,
            temperature=1.0,
            top_p=1.0,
        ),
        seeds=5,
        device="cpu",
        workers=2,
    )


def _laptop() -> DialogueProfile:
    """A pretrained model of 135M parameters and real rows, two CPU cores; every value [ours]."""
    adapters = adapter_training(max_length=320, max_prompt_length=224)
    return DialogueProfile(
        name="laptop",
        description="SmolLM2-135M-Instruct from a package, real HH, LoRA, two cores, a night",
        data=DataSettings(
            hh_rlhf="Anthropic/hh-rlhf",
            train_pairs=384,
            test_pairs=96,
            bbh=HUB,
            # Long prompts and answers; and a gated data set.
            math_hard=None,
            gpqa=None,
            musr=HUB,
            mmlu_pro=HUB,
            ifeval=HUB,
        ),
        model=ModelSettings(dialogue=SMOLLM2.name),
        sft=adapters,
        po=adapters,
        methods=method_values(_METHODS),
        evaluation=EvaluationSettings(
            limit=50,
            limits=LimitSettings(bbh=8, math_hard=4, gpqa=20, musr=20, mmlu_pro=120, ifeval=60),
            batch_size=30,
            pack_tokens=1024,
            math_tokens=128,
            ifeval_tokens=256,
            dtype="float32",
            win_rate_prompts=64,
            response_tokens=96,
            temperature=1.0,
            top_p=1.0,
        ),
        judge=JudgeSettings(
            kind="reward",
            model=TRAINED,
            train=RewardTraining(learning_rate=2e-5, batch_size=8),
            label_pairs=96,
            batch_size=8,
        ),
        generation=GenerationSettings(batch_size=32),
        seeds=2,
        device="auto",
        workers=2,
    )


def _small() -> DialogueProfile:
    """Hub models of at most 500M parameters on one GPU: the paper's recipe, smaller batches."""
    return DialogueProfile(
        name="small",
        description="Pythia 410M on HH-RLHF from the hub, one GPU, hours",
        data=DataSettings(
            hh_rlhf="Anthropic/hh-rlhf",  # [paper]
            train_pairs=20_000,  # [ours]
            test_pairs=1_000,  # [ours]
            bbh=HUB,
            math_hard=HUB,
            gpqa=HUB,
            musr=HUB,
            mmlu_pro=HUB,
            ifeval=HUB,
        ),
        model=ModelSettings(dialogue="EleutherAI/pythia-410m"),  # [ours]: that of its ablations
        sft=TrainingSettings(
            learning_rate=1e-5,  # [code]
            epochs=1,  # [paper]
            batch_size=128,  # [ours]: a step of 1024 would leave 20 steps
            device_batch_size=8,  # [ours]
            max_length=1024,  # [ours]
            max_prompt_length=512,  # [ours]
            precision="bfloat16",  # [ours]
            save_steps=50,  # [ours]
        ),
        po=TrainingSettings(
            learning_rate=1e-6,  # [paper]
            epochs=1,  # [ours]
            batch_size=64,  # [ours]
            device_batch_size=4,  # [ours]
            max_length=1024,  # [ours]
            max_prompt_length=512,  # [ours]
            precision="bfloat16",  # [ours]
            save_steps=50,  # [ours]
        ),
        methods=method_values(_PAPER_METHODS),
        evaluation=EvaluationSettings(
            limit=100,  # [ours]
            limits=LimitSettings(),
            batch_size=16,
            pack_tokens=None,
            math_tokens=512,  # [ours]
            ifeval_tokens=512,  # [ours]
            dtype="bfloat16",  # [ours]
            win_rate_prompts=200,
            response_tokens=256,
            temperature=1.0,
            top_p=1.0,
        ),
        judge=JudgeSettings(kind="endpoint"),
        generation=GenerationSettings(batch_size=16),  # [ours]: no effect on the result
        seeds=1,
        device="auto",
        workers=None,
    )


def _paper() -> DialogueProfile:
    """The paper's model, data and settings."""
    return DialogueProfile(
        name="paper",
        description="Pythia 1.4B on all of HH-RLHF, the paper's settings, several GPUs, days",
        data=DataSettings(
            hh_rlhf="Anthropic/hh-rlhf",  # [paper]
            train_pairs=None,  # [paper]: all of it
            test_pairs=None,
            bbh=HUB,  # [paper]
            math_hard=HUB,
            gpqa=HUB,
            musr=HUB,
            mmlu_pro=HUB,
            ifeval=HUB,
        ),
        model=ModelSettings(dialogue="EleutherAI/pythia-1.4b-deduped"),  # [paper]
        sft=TrainingSettings(
            learning_rate=1e-5,  # [code]: its command line; its yaml says 2e-5
            epochs=1,  # [paper]
            batch_size=1024,  # [code]
            device_batch_size=8,  # [ours]: no effect on the result
            max_length=2048,  # [paper]
            max_prompt_length=1024,  # [paper]
            activation_checkpointing=True,  # [paper]
            save_steps=20,  # [ours]
        ),
        po=TrainingSettings(
            learning_rate=1e-6,  # [paper]; SparsePO 5e-7, under methods
            epochs=3,  # [paper]
            batch_size=128,  # [paper]
            device_batch_size=4,  # [ours]: no effect on the result
            max_length=2048,  # [paper]
            max_prompt_length=1024,  # [paper]
            scheduler="cosine",  # [paper]
            warmup=0.1,  # [paper]
            precision="float32",  # [paper]: full precision
            activation_checkpointing=True,  # [paper]
            save_steps=200,  # [ours]
        ),
        methods=method_values(with_paper_masks(_PAPER_METHODS)),
        evaluation=EvaluationSettings(
            limit=None,  # [paper]
            limits=LimitSettings(),
            batch_size=8,
            pack_tokens=None,  # lm-eval's own scoring
            math_tokens=None,  # lm-eval's own
            ifeval_tokens=None,
            dtype="float32",  # [paper]
            win_rate_prompts=300,
            response_tokens=256,
            temperature=1.0,
            top_p=1.0,
        ),
        judge=JudgeSettings(kind="endpoint"),
        generation=GenerationSettings(batch_size=8),  # [ours]: no effect on the result
        seeds=1,  # [paper]: seed 42
        device="auto",
        workers=None,
    )


PROFILES = {"tiny": _tiny, "laptop": _laptop, "small": _small, "paper": _paper}
