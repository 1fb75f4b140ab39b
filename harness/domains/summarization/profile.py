"""Every value of the summarization experiments (Figure 5, win rates), in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.profiles import WORLD, Profile, TrainingSettings
from harness.domains.common.laptop import adapter_training
from harness.domains.common.method_values import method_values, with_paper_masks
from harness.domains.common.packaged import SMOLLM2
from tasks.judges.settings import TRAINED, JudgeSettings, RewardTraining
from tasks.models.base_config import BaseModelConfig
from tasks.models.generation_settings import GenerationSettings
from tasks.summarization.filters import LONGEST_DIFFERENCE
from tasks.summarization.world.config import PostWorldConfig

TRAIN_FROM_SCRATCH = "tiny-neox"
"""A model's name: train the tiny GPT-NeoX of ``base`` from scratch."""
TINY_NLI = "tiny-nli"
"""An NLI model's name: train a tiny one on the statements that the world writes."""


@dataclass(frozen=True)
class DataSettings:
    """Where rows come from: "world", a hub id, a file or folder, none."""

    tldr: str
    """Preference pairs: people's comparisons, or ready-made pairs."""
    tldr_rated: str | None
    """A second subset of pairs: individually rated summaries, highest against lowest."""
    prompts: str
    """Held-out posts with a reference summary; the paper's are of TL;DR's test split."""
    sft: str | None
    """Posts with the summaries that SFT learns; none takes the chosen ones of the pairs."""
    train_pairs: int | None
    """Pairs drawn from the training split of each subset; none for all."""
    test_pairs: int | None
    """The same of the test split."""
    longest_difference: int | None = LONGEST_DIFFERENCE
    """[paper] Pairs whose summaries differ by more words are dropped; none keeps all."""


@dataclass(frozen=True)
class ModelSettings:
    """Which models."""

    summarization: str
    """What training starts from: "tiny-neox", a packaged model ("smollm2" or "gemma"), a GGUF file,
    a hub id, or a folder."""
    encoder: str
    """BERTScore's: "minilm", a hub id, or a folder."""
    nli: str
    """EDNA's: "tiny-nli", a hub id, or a folder."""


@dataclass(frozen=True)
class SamplingSettings:
    """How posts are summarized."""

    new_tokens: int
    prompts: int | None = 120
    """[paper] Posts; the code's notes say 100. none for all."""
    samples: int = 5
    """[paper] Summaries of each post at each temperature."""
    temperatures: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """[paper]"""
    top_p: float = 0.5
    """[code] Nucleus sampling's share."""
    seed: int = 0
    win_rate_prompts: int = 300
    """[ours] Held-out pairs whose post is summarized once and judged."""
    win_rate_temperature: float = 0.5
    """[ours] The middle of the temperatures."""


@dataclass(frozen=True)
class MetricSettings:
    """How summaries are scored."""

    encoder_layers: int | None = None
    """Layer of BERTScore's encoder; none for the usual one of a known encoder."""
    idf: bool = True
    """[paper] Weight BERTScore's tokens by their document frequency in the training summaries."""
    summac: Literal["conv", "zs"] = "zs"
    """conv [code] has weights that belong to SummaC's own NLI model."""
    conv_weights: str | None = None
    """A file with them; none downloads the published ones from SummaC's repository."""
    language: Literal["en", "any"] = "en"
    nli_epochs: int | None = None
    """Epochs of the tiny NLI model; none for its own default."""


@dataclass(frozen=True, kw_only=True)
class SummarizationProfile(Profile):
    """One complete set of values."""

    chain_seeds = (*Profile.chain_seeds, "world.seed", "sampling.seed")

    data: DataSettings
    model: ModelSettings
    sampling: SamplingSettings
    metrics: MetricSettings = field(default_factory=MetricSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    world: PostWorldConfig = field(default_factory=PostWorldConfig)


# A larger vocabulary and a longer context, if the user gives real posts to the tiny profile.
TINY_REAL_BASE = {
    "vocabulary_size": 4096,
    "context": 512,
    "steps": 250,
    "batch_size": 8,
    "answer_weight": 4.0,
}
TINY_REAL_PROMPT, TINY_REAL_TOKENS = 440, 48
# Half an hour on two cores: one chain, and half of the posts.
TINY_REAL_PROMPTS = 60

# Learned masks have no L1 norm here [paper].
_MASKED: dict[str, Any] = {"l1_reward": 0.0, "l1_kl": 0.0}
_PAPER_METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "dpo": {"beta": 0.8},  # [paper]
    "tdpo1": {"beta": 0.8},  # [paper]
    "tdpo2": {"beta": 0.8},  # [paper]
    "simpo": {"beta": 2.0, "gamma": 1.0},  # [ours]: legible in neither
    "dpop": {"beta": 0.3},  # [paper of DPOP]
    "mapo": {"beta": 0.8},  # [paper]
    "sparsepo-common": {"beta": 0.8, **_MASKED},  # [paper]
    "sparsepo-independent": {"beta": 0.8, **_MASKED},  # [paper]
}
_TINY_METHODS: dict[str, dict[str, Any]] = {
    name: {**values, **({"beta": 0.1} if values.get("beta") == 0.8 else {})}
    for name, values in _PAPER_METHODS.items()
}


def _tiny() -> SummarizationProfile:
    """Embedded world, two CPU cores, minutes; every value [ours] that is not marked."""
    return SummarizationProfile(
        name="tiny",
        description="embedded world, a GPT-NeoX of half a million parameters, two cores, minutes",
        data=DataSettings(
            tldr=WORLD,
            tldr_rated=None,
            prompts=WORLD,
            sft=WORLD,
            train_pairs=None,
            test_pairs=None,
        ),
        model=ModelSettings(summarization=TRAIN_FROM_SCRATCH, encoder="minilm", nli=TINY_NLI),
        sft=TrainingSettings(
            learning_rate=3e-5,
            epochs=1,
            batch_size=32,
            device_batch_size=32,
            max_length=160,
            max_prompt_length=128,
        ),
        po=TrainingSettings(
            learning_rate=1e-4,
            epochs=1,
            batch_size=32,
            device_batch_size=32,
            max_length=160,
            max_prompt_length=128,
        ),
        methods=method_values(_TINY_METHODS),
        sampling=SamplingSettings(new_tokens=32),
        base=BaseModelConfig(context=160, steps=600, batch_size=16, answer_weight=30.0),
        generation=GenerationSettings(batch_size=120),
        seeds=3,
        device="cpu",
        workers=2,
    )


def _laptop() -> SummarizationProfile:
    """A pretrained model of 135M parameters and real posts, two CPU cores; every value [ours]."""
    adapters = adapter_training(max_length=576, max_prompt_length=480)
    return SummarizationProfile(
        name="laptop",
        description="SmolLM2-135M-Instruct from a package, real TL;DR, LoRA, two cores, a night",
        data=DataSettings(
            tldr="openai/summarize_from_feedback",
            tldr_rated=None,
            prompts="CarperAI/openai_summarize_tldr",
            sft=None,
            train_pairs=256,
            test_pairs=48,
        ),
        # The usual NLI models have no small relative with a licence: EDNA is missing by default.
        model=ModelSettings(summarization=SMOLLM2.name, encoder="minilm", nli=TINY_NLI),
        sft=adapters,
        po=adapters,
        methods=method_values(_PAPER_METHODS),
        sampling=SamplingSettings(new_tokens=48, prompts=24, win_rate_prompts=48),
        judge=JudgeSettings(
            kind="reward",
            model=TRAINED,
            train=RewardTraining(learning_rate=2e-5, batch_size=4),
            label_pairs=48,
            batch_size=8,
        ),
        generation=GenerationSettings(batch_size=32),
        seeds=2,
        device="auto",
        workers=2,
    )


def _small() -> SummarizationProfile:
    """A hub model of at most 500M parameters on one GPU."""
    return SummarizationProfile(
        name="small",
        description="Pythia 410M on TL;DR from the hub, one GPU, hours",
        data=DataSettings(
            tldr="openai/summarize_from_feedback",  # [paper]
            tldr_rated="openai/summarize_from_feedback",  # [paper]
            prompts="CarperAI/openai_summarize_tldr",  # [ours]: TL;DR's test split with references
            sft=None,  # [ours]: the chosen summaries
            train_pairs=10_000,  # [ours]
            test_pairs=1_000,  # [ours]
        ),
        model=ModelSettings(
            summarization="EleutherAI/pythia-410m",  # [ours]
            encoder="FacebookAI/roberta-large",  # [paper]
            nli="tals/albert-xlarge-vitaminc-mnli",  # [code]: SummaC's own
        ),
        sft=TrainingSettings(
            learning_rate=1e-5,  # [ours]
            epochs=1,  # [ours]
            batch_size=128,  # [ours]
            device_batch_size=8,  # [ours]: no effect on the result
            max_length=640,  # [ours]
            max_prompt_length=560,  # [ours]
            precision="bfloat16",  # [ours]
            save_steps=50,  # [ours]
        ),
        po=TrainingSettings(
            learning_rate=1e-6,  # [ours]: the paper's is for QLoRA
            epochs=1,  # [paper]
            batch_size=64,  # [ours]
            device_batch_size=8,  # [ours]: no effect on the result
            max_length=640,  # [ours]
            max_prompt_length=560,  # [ours]
            precision="bfloat16",  # [ours]
            save_steps=50,  # [ours]
        ),
        methods=method_values(_PAPER_METHODS),
        sampling=SamplingSettings(new_tokens=64),  # [ours]
        metrics=MetricSettings(encoder_layers=17, summac="conv"),  # [paper], [code]
        judge=JudgeSettings(kind="endpoint"),
        seeds=1,
        device="auto",
        workers=None,
    )


def _paper() -> SummarizationProfile:
    """The paper's model, data and settings."""
    return SummarizationProfile(
        name="paper",
        description="GPT-J 6B on TL;DR by QLoRA, the paper's settings, GPUs, days",
        data=DataSettings(
            tldr="openai/summarize_from_feedback",  # [paper]
            tldr_rated="openai/summarize_from_feedback",  # [paper]
            prompts="CarperAI/openai_summarize_tldr",  # [ours]: TL;DR's test split with references
            sft=None,
            train_pairs=20_000,  # [paper]
            test_pairs=4_000,  # [paper]
        ),
        model=ModelSettings(
            summarization="CarperAI/openai_summarize_tldr_sft",  # [paper]: GPT-J 6B after SFT
            encoder="FacebookAI/roberta-large",  # [paper]
            nli="tals/albert-xlarge-vitaminc-mnli",  # [code]: SummaC's own
        ),
        po=TrainingSettings(
            learning_rate=1e-4,  # [paper]
            epochs=1,  # [paper]
            batch_size=256,  # [paper]
            device_batch_size=4,  # [ours]: no effect on the result
            max_length=640,  # [ours]
            max_prompt_length=560,  # [ours]
            scheduler="cosine",  # [paper]
            warmup=0.1,  # [paper]
            precision="bfloat16",  # [ours]
            activation_checkpointing=True,  # [paper]
            load_in_4bit=True,  # [paper]
            lora_r=64,  # [paper]
            lora_alpha=16,  # [paper]
            lora_dropout=0.1,  # [paper]
            # [paper]: q, k, v, dense, fc1 and fc2, which GPT-J calls
            lora_targets="q_proj+k_proj+v_proj+out_proj+fc_in+fc_out",
            save_steps=20,  # [ours]
        ),
        methods=method_values(with_paper_masks(_PAPER_METHODS)),
        sampling=SamplingSettings(new_tokens=64),  # [ours]
        metrics=MetricSettings(encoder_layers=17, summac="conv"),  # [paper], [code]
        judge=JudgeSettings(kind="endpoint"),
        seeds=1,  # [paper]: seed 42
        device="auto",
        workers=None,
    )


PROFILES = {"tiny": _tiny, "laptop": _laptop, "small": _small, "paper": _paper}
