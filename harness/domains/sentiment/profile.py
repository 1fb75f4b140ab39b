"""Every value of the sentiment experiments, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.config.profiles import (
    WORLD,
    DynamicsSettings,
    Profile,
    TrainingSettings,
    TuningSettings,
)
from harness.domains.common.laptop import adapter_training
from harness.domains.common.method_values import method_values, with_paper_masks
from harness.domains.common.packaged import SMOLLM2
from tasks.models.base_config import Architecture, BaseModelConfig
from tasks.models.generation_settings import GenerationSettings
from tasks.sentiment.pairs import PREFIX_TOKENS
from tasks.sentiment.rewards import DEFAULT_CLASSIFIER, VADER
from tasks.sentiment.world.config import ReviewWorldConfig

TRAIN_FROM_SCRATCH = "tiny-gpt2"
"""A model's name: train the tiny GPT-2 of ``base`` from scratch."""


@dataclass(frozen=True)
class DataSettings:
    """Where reviews and pairs come from: "world", a hub id, a file or folder."""

    reviews: str
    """Reviews (`text`), which prompts are cut from and the tiny model learns from."""
    pairs: str | None
    """Ready-made pairs (imdb-po's schema, or prompt, chosen, rejected) or scored samples (prompt,
    text, reward); none samples them."""
    train_prompts: int
    """Prompts of which training pairs are made; with ready-made pairs their cap."""
    test_prompts: int
    """Prompts that are answered at each evaluation."""
    test_pairs: int
    """Held-out pairs whose tokens are evaluated."""


@dataclass(frozen=True)
class ModelSettings:
    """Which models."""

    sentiment: str
    """The SFT model that everything starts from: "tiny-gpt2", a packaged model ("smollm2" or
    "gemma"), a GGUF file, a hub id, or a folder."""
    reward: str
    """The ground-truth reward: "vader", "trained" on labelled texts, or a sequence classifier's hub
    id or folder."""


@dataclass(frozen=True)
class RewardSettings:
    """How a classifier's classes are called, where their names do not say it; what trains one."""

    positive: str | None = None
    negative: str | None = None
    batch_size: int = 64
    labelled: str | None = None
    """Texts with labels for `model.reward=trained`: a file, a folder or a hub id; none for
    `data.reviews`."""


@dataclass(frozen=True)
class SamplingSettings:
    """Completions of prompts: for the pairs, and at each evaluation."""

    prefix_tokens: tuple[int, int] = PREFIX_TOKENS
    """[paper] Fewest and most tokens of a prompt."""
    new_tokens: int = 48
    completions: int = 2
    """[paper] Completions of each prompt; the best and the worst of them are its pair."""
    dtype: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class SweepSettings:
    """What is varied."""

    beta: tuple[float, ...]
    """β of every method but SimPO."""
    simpo_beta: tuple[float, ...]
    simpo_gamma: tuple[float, ...]
    """SimPO runs every β with every γ."""
    map_beta: float
    """β of the runs whose tokens Figures 1, 4 and 9 show, and of the checks beyond the paper; one
    of `beta`."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Evaluations during training, and the frontier's numbers."""

    steps: int
    """Training steps between evaluations; the start and the end are evaluated too."""
    kl_budgets: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    """Nats at which the frontier's reward is given."""
    kl_limit: float = 10.0
    """Nats up to which the hypervolume counts."""
    batch_size: int = 64
    """Responses that are scored together."""


@dataclass(frozen=True)
class NoiseSettings:
    """The check with flipped pairs; every value [ours]."""

    shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    """Shares of training pairs whose responses are exchanged."""
    simpo_beta: float = 2.0
    """SimPO's β; the other methods have `sweep.map_beta`."""
    simpo_gamma: float = 1.0


@dataclass(frozen=True)
class TransferSettings:
    """The models whose masks are transferred; every value [ours].

    They need the tokenizer of `model.sentiment`. None trains the tiny model of `base` from scratch.
    """

    same_model: str | None = None
    """A model of the same architecture: a hub id or folder, or None for another initialisation."""
    other_model: str | None = None
    """A model of another architecture: a hub id or folder, or None for `other_architecture`."""
    other_architecture: Architecture = "gpt_neox"


@dataclass(frozen=True)
class OnPolicySettings:
    """Training on samples of the policy; every value [ours].

    Steps, prompts in a step and learning rate are those of `po`, as for training on pairs.
    """

    samples_per_prompt: int = 4
    """Samples of a prompt in a step, an even number, the same for every method."""
    steps_per_rollout: int = 1
    """Optimizer steps on samples of the same policy, of every method but INPO."""
    iteration_steps: int = 8
    """Optimizer steps of an iteration of INPO."""
    dpo_beta: float = 0.1
    """β of online DPO, the method's default; DPO on pairs has each β of `sweep.beta`."""
    save_steps: int | None = 8
    """Steps between checkpoints; none for those of `po`."""
    diversity_prompts: int = 128
    """Held-out prompts whose samples are compared with each other."""
    diversity_samples: int = 8
    """Samples of each of them."""


@dataclass(frozen=True, kw_only=True)
class SentimentTuning(TuningSettings):
    """How trials are compared: by the mean reward of their responses to validation prompts."""

    criterion: Literal["reward"] = "reward"
    kl_budget: float | None = 10.0
    prompts: int = 256
    """Validation prompts, each answered once."""


@dataclass(frozen=True, kw_only=True)
class SentimentProfile(Profile):
    """One complete set of values."""

    chain_seeds = (*Profile.chain_seeds, "world.seed", "sampling.seed")

    data: DataSettings
    model: ModelSettings
    reward: RewardSettings = field(default_factory=RewardSettings)
    sampling: SamplingSettings
    sweep: SweepSettings
    evaluation: EvaluationSettings
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    on_policy: OnPolicySettings = field(default_factory=OnPolicySettings)
    dynamics: DynamicsSettings = field(default_factory=DynamicsSettings)
    tuning: SentimentTuning = field(default_factory=SentimentTuning)
    world: ReviewWorldConfig = field(default_factory=ReviewWorldConfig)


TINY_REAL_BASE = {"context": 96, "vocabulary_size": 2048, "steps": 800}
"""The tiny model on real text, whose words are many more; unless the user sets these."""
TINY_REAL_LEARNING_RATE = 3e-4
"""Its preference optimization there; a model that has seen so little text is easily lost."""
TINY_REAL_PROMPT = 32
"""Tokens of a prompt there, for ready-made pairs that count words."""

_METHODS: dict[str, dict[str, Any]] = {
    # β, and γ of SimPO, are what these figures vary.
    "sft": {},
    "dpo": {},
    "tdpo1": {},
    "tdpo2": {},
    "simpo": {},
    "dpop": {},
    "mapo": {},
    "sparsepo-common": {"l1_reward": 0.0, "l1_kl": 0.0},  # [paper]
    "sparsepo-independent": {"l1_reward": 0.0, "l1_kl": 0.0},  # [paper]
}
_BETAS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 5.0)  # [ours]: the article's own are not legible


def _tiny() -> SentimentProfile:
    """Embedded world, two CPU cores, minutes; every value [ours]."""
    return SentimentProfile(
        name="tiny",
        description="embedded world, a GPT-2 of 0.3 million parameters, two cores, minutes",
        data=DataSettings(
            reviews=WORLD, pairs=None, train_prompts=1000, test_prompts=512, test_pairs=64
        ),
        model=ModelSettings(sentiment=TRAIN_FROM_SCRATCH, reward=VADER),
        po=TrainingSettings(
            learning_rate=1e-3,
            epochs=1,
            batch_size=32,
            device_batch_size=32,
            max_length=64,
            max_prompt_length=16,
            logging_steps=2,
        ),
        methods=method_values(_METHODS),
        sampling=SamplingSettings(new_tokens=40),
        sweep=SweepSettings(
            beta=(0.05, 0.2, 0.8, 2.0, 5.0),
            simpo_beta=(0.5, 1.0, 2.0, 5.0, 10.0),
            simpo_gamma=(0.5, 1.0),
            map_beta=0.8,
        ),
        evaluation=EvaluationSettings(steps=8, batch_size=64),
        generation=GenerationSettings(batch_size=500),
        seeds=3,
        device="cpu",
        workers=2,
        base=BaseModelConfig(
            architecture="gpt2",
            layers=2,
            width=96,
            heads=4,
            vocabulary_size=1024,
            context=64,
            steps=900,
            answer_weight=1.0,
            leading_bos=True,
        ),
    )


def _laptop() -> SentimentProfile:
    """A pretrained model of 135M parameters and real reviews, two CPU cores; every value [ours]."""
    return SentimentProfile(
        name="laptop",
        description="SmolLM2-135M-Instruct from a package, real reviews, LoRA, two cores, hours",
        data=DataSettings(
            reviews="stanfordnlp/imdb",
            pairs=None,
            train_prompts=256,
            test_prompts=64,
            test_pairs=32,
        ),
        model=ModelSettings(sentiment=SMOLLM2.name, reward=VADER),
        po=replace(
            adapter_training(max_length=64, max_prompt_length=16),
            learning_rate=1e-3,
            device_batch_size=8,
            save_steps=None,
        ),
        methods=method_values(_METHODS),
        sampling=SamplingSettings(new_tokens=48, completions=4),
        sweep=SweepSettings(
            beta=(0.1, 0.8),
            simpo_beta=(2.0, 10.0),
            simpo_gamma=(1.0,),
            map_beta=0.8,
        ),
        evaluation=EvaluationSettings(steps=8, batch_size=32),
        generation=GenerationSettings(batch_size=64),
        on_policy=OnPolicySettings(diversity_prompts=64),
        tuning=SentimentTuning(trials=4, prompts=64),
        seeds=2,
        device="auto",
        workers=2,
    )


def _small() -> SentimentProfile:
    """GPT-2 of 124M parameters on one GPU."""
    return SentimentProfile(
        name="small",
        description="GPT-2 fine-tuned on IMDB, from the hub, one GPU, hours",
        data=DataSettings(
            reviews="stanfordnlp/imdb",  # [paper]
            pairs=None,
            train_prompts=5_000,  # [ours]
            test_prompts=256,  # [ours]
            test_pairs=128,  # [ours]
        ),
        model=ModelSettings(
            sentiment="lvwerra/gpt2-imdb",  # [ours]: the paper's family, small
            reward=DEFAULT_CLASSIFIER,  # [paper]
        ),
        po=TrainingSettings(
            learning_rate=1e-5,  # [ours]: fewer steps than the paper's
            epochs=1,  # [ours]
            batch_size=64,  # [paper]
            device_batch_size=16,  # [ours]: no effect on the result
            max_length=128,  # [ours]
            max_prompt_length=32,  # [ours]
            precision="bfloat16",  # [ours]
        ),
        methods=method_values(_METHODS),
        sampling=SamplingSettings(new_tokens=64),  # [ours]
        sweep=SweepSettings(
            beta=(0.05, 0.1, 0.4, 0.8, 5.0),  # [ours]
            simpo_beta=(0.5, 1.0, 2.0, 5.0, 10.0),  # [ours]
            simpo_gamma=(1.0,),  # [ours]
            map_beta=0.8,  # [code]
        ),
        evaluation=EvaluationSettings(steps=20, batch_size=128),  # [ours]
        generation=GenerationSettings(batch_size=128),  # [ours]: no effect on the result
        transfer=TransferSettings("openai-community/gpt2", "EleutherAI/gpt-neo-125m"),  # [ours]
        on_policy=OnPolicySettings(iteration_steps=20, save_steps=20),  # [ours]
        seeds=1,
        device="auto",
        workers=None,
    )


def _paper() -> SentimentProfile:
    """The paper's models, data and settings."""
    return SentimentProfile(
        name="paper",
        description="GPT-2 large on IMDB, the paper's settings, a GPU, days",
        data=DataSettings(
            reviews="stanfordnlp/imdb",  # [paper]
            pairs=None,  # [paper]: two samples per prefix of the SFT model
            train_prompts=25_000,  # [ours]: every training review
            test_prompts=512,  # [ours]
            test_pairs=256,  # [ours]
        ),
        model=ModelSettings(
            sentiment="insub/gpt2-large-imdb-fine-tuned",  # [paper]
            reward=DEFAULT_CLASSIFIER,  # [paper]
        ),
        po=TrainingSettings(
            learning_rate=1e-6,  # [paper]
            epochs=3,  # [paper]
            batch_size=64,  # [paper]
            device_batch_size=8,  # [ours]: no effect on the result
            max_length=512,  # [ours]
            max_prompt_length=32,  # [ours]: prompts have 8 tokens
            scheduler="cosine",  # [paper]
            warmup=0.1,  # [paper]
            activation_checkpointing=True,  # [paper]
            save_steps=200,  # [ours]
        ),
        methods=method_values(with_paper_masks(_METHODS)),
        sampling=SamplingSettings(new_tokens=60),  # [ours]
        sweep=SweepSettings(
            beta=_BETAS,
            simpo_beta=(0.5, 1.0, 2.0, 5.0, 10.0),  # [ours]
            simpo_gamma=(0.5, 1.0, 2.0),  # [ours]
            map_beta=0.8,  # [code]
        ),
        evaluation=EvaluationSettings(steps=100),  # [paper]
        transfer=TransferSettings("openai-community/gpt2-large", "EleutherAI/gpt-neo-1.3B"),
        on_policy=OnPolicySettings(  # [ours]: the paper has no such experiment
            iteration_steps=300, save_steps=100, diversity_prompts=512
        ),
        seeds=1,  # [paper]: seed 42
        device="auto",
        workers=None,
    )


PROFILES = {"tiny": _tiny, "laptop": _laptop, "small": _small, "paper": _paper}
