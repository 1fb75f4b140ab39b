"""Every value of the code experiments (Table 2, Figures 6 and 8), in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from harness.config.profiles import (
    HUB,
    WORLD,
    DynamicsSettings,
    Profile,
    TrainingSettings,
    TuningSettings,
)
from harness.domains.common.laptop import adapter_training
from harness.domains.common.method_values import method_values, with_paper_masks
from harness.domains.common.packaged import SMOLLM2
from tasks.code.world import CodeWorldConfig
from tasks.models.base_config import BaseModelConfig
from tasks.models.generation_settings import GenerationSettings

TRAIN_FROM_SCRATCH = "tiny-bigcode"
"""A model's name: train the tiny GPTBigCode of ``base`` from scratch."""


@dataclass(frozen=True)
class DataSettings:
    """Where problems come from: "world", "hub" (the data sets of these names) or a file."""

    humaneval: str
    mbpp: str
    """All splits in one file, told apart by the ids."""
    answers: str | None
    """A folder with train/merged.json and validation/merged.json (or test/), the authors' own
    sampled solutions; none samples and runs them here."""
    epochs: int
    """Epochs of training, each with a new random pair of every prompt. They are unrolled into the
    data, so that `po.epochs` is one pass over all of them."""


@dataclass(frozen=True)
class ModelSettings:
    """Which models."""

    code: str
    """What preference optimization starts from: "tiny-bigcode", a packaged model ("smollm2" or
    "gemma"), a GGUF file, a hub id, or a folder."""


@dataclass(frozen=True)
class SamplingSettings:
    """How solutions are sampled and run, for training, for tuning and for the table."""

    temperature: float
    top_p: float
    max_new_tokens: int
    stop_early: bool
    """End a sample at the convention's stop sequences; what follows them is cut off anyway."""
    dtype: str
    train_samples: int
    """Samples of each training and validation problem."""
    test_samples: int
    """Samples of each test problem: the largest k of pass@k."""
    convention: str = "bigcode"
    """How prompts are made and answers are cut; see tasks.code.conventions."""
    programs_at_once: int | None = 1
    """Programs that one stage runs side by side; none for one per core."""
    limit: int | None = None
    """Cap on the problems of each benchmark, evenly spaced; none for all."""
    train_limit: int | None = None
    """Cap on MBPP's training and validation problems, each; none for that of `limit`."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CodeTuning(TuningSettings):
    """How settings are chosen for each method.

    As published, β alone is chosen, by pass@k of a few samples of a few HumanEval problems. Trials
    are compared by pass@k on MBPP's validation problems, none of which is in the table.
    """

    always_used: ClassVar[tuple[str, ...]] = ("betas", "simpo_betas", "problems", "samples")

    criterion: Literal["pass@1", "pass@10"] = "pass@10"
    betas: tuple[float, ...]
    simpo_betas: tuple[float, ...]
    """Those of SimPO, whose rewards are means over tokens and not sums."""
    problems: int
    samples: int
    """Samples of each HumanEval problem, and the k of pass@k."""
    validation_samples: int = 20
    """Samples of each validation problem."""


def pass_k(criterion: str) -> int:
    """Return the k of a criterion, such as 10 of "pass@10"."""
    return int(criterion.partition("@")[2])


@dataclass(frozen=True, kw_only=True)
class CodeProfile(Profile):
    """One complete set of values."""

    chain_seeds = (*Profile.chain_seeds, "world.seed", "sampling.seed")

    data: DataSettings
    model: ModelSettings
    sampling: SamplingSettings
    tuning: CodeTuning
    dynamics: DynamicsSettings = field(default_factory=DynamicsSettings)
    world: CodeWorldConfig = field(default_factory=CodeWorldConfig)

    @property
    def embedded(self) -> bool:
        """Whether the only programs that run are written by the embedded world's own model."""
        sources = {self.data.humaneval, self.data.mbpp}
        return self.model.code == TRAIN_FROM_SCRATCH and sources == {WORLD}


TINY_REAL_LIMIT = 40
"""Cap on the problems of each benchmark that a user gives to the tiny profile, so that a run stays
within minutes."""

_METHODS: dict[str, dict[str, Any]] = {
    # β is tuned for each method [paper]; these values serve where tuning is switched off.
    "dpo": {"beta": 0.1},  # [paper], of the other experiments
    "tdpo1": {"beta": 0.1},  # [paper], of the other experiments
    "tdpo2": {"beta": 0.1},  # [paper], of the other experiments
    "simpo": {"beta": 2.0, "gamma": 1.0},  # [ours]: legible in neither
    "mapo": {"beta": 0.8},  # [code]
    # β [code]; no L1 penalty [paper].
    "sparsepo-common": {"beta": 0.8, "l1_reward": 0.0, "l1_kl": 0.0},
    "sparsepo-independent": {"beta": 0.8, "l1_reward": 0.0, "l1_kl": 0.0},
}


def _tiny() -> CodeProfile:
    """Embedded world, two CPU cores, minutes; every value [ours]."""
    return CodeProfile(
        name="tiny",
        description="embedded world, a GPTBigCode of half a million parameters, two cores, minutes",
        data=DataSettings(humaneval=WORLD, mbpp=WORLD, answers=None, epochs=5),
        model=ModelSettings(code=TRAIN_FROM_SCRATCH),
        po=TrainingSettings(
            learning_rate=2e-4,
            epochs=1,
            batch_size=32,
            device_batch_size=32,
            max_length=160,
            max_prompt_length=112,
            scheduler="linear",
            order="given",
            logging_steps=2,
            validation_steps=4,
        ),
        methods=method_values(_METHODS),
        sampling=SamplingSettings(
            temperature=0.6,
            top_p=1.0,
            max_new_tokens=48,
            stop_early=False,  # the tiny model ends its programs itself
            dtype="float32",
            train_samples=100,
            test_samples=100,
        ),
        tuning=CodeTuning(
            betas=(0.4, 2.0, 10.0), simpo_betas=(1.0, 2.0, 4.0), problems=10, samples=10
        ),
        generation=GenerationSettings(batch_size=500),
        seeds=5,
        device="cpu",
        workers=2,
        base=BaseModelConfig(
            architecture="gpt_bigcode",
            vocabulary_size=640,
            context=160,
            steps=800,
            leading_bos=True,
        ),
    )


def _laptop() -> CodeProfile:
    """A pretrained model of 135M parameters, real problems, two CPU cores; every value [ours]."""
    return CodeProfile(
        name="laptop",
        description=(
            "SmolLM2-135M-Instruct from a package, MBPP and HumanEval, LoRA, two cores, a night"
        ),
        data=DataSettings(humaneval=HUB, mbpp=HUB, answers=None, epochs=3),
        model=ModelSettings(code=SMOLLM2.name),
        po=replace(
            adapter_training(max_length=384, max_prompt_length=224),
            scheduler="linear",
            order="given",  # one pass over the unrolled epochs of `data.epochs`
            validation_steps=4,
            save_steps=None,  # those of the validations
        ),
        methods=method_values({"sft": {}, **_METHODS}),
        sampling=SamplingSettings(
            temperature=0.6,
            top_p=1.0,
            max_new_tokens=128,
            stop_early=True,
            dtype="float32",
            train_samples=20,
            test_samples=10,
            limit=164,  # all of HumanEval
            train_limit=384,  # all of MBPP's, because many give no pair
        ),
        tuning=CodeTuning(betas=(0.1, 0.8), simpo_betas=(2.0,), problems=10, samples=10),
        generation=GenerationSettings(batch_size=64),
        seeds=1,
        device="auto",
        workers=2,
    )


def _small() -> CodeProfile:
    """A hub model of at most 500M parameters on one GPU: the paper's recipe on it."""
    return CodeProfile(
        name="small",
        description="Tiny StarCoder 164M on MBPP and HumanEval from the hub, one GPU, hours",
        data=DataSettings(humaneval=HUB, mbpp=HUB, answers=None, epochs=3),
        model=ModelSettings(code="bigcode/tiny_starcoder_py"),  # [ours]: a small one of its family
        po=_paper_training(),
        methods=method_values(_METHODS),
        sampling=_paper_sampling(train_samples=50, test_samples=20),  # [ours]
        tuning=CodeTuning(betas=(0.1, 0.8), simpo_betas=(2.0,), problems=10, samples=10),  # [ours]
        generation=GenerationSettings(batch_size=100),  # [ours]: no effect on the result
        seeds=1,
        device="auto",
        workers=None,
    )


def _paper() -> CodeProfile:
    """The paper's model, data and settings."""
    return CodeProfile(
        name="paper",
        description="StarCoder 1B on MBPP and HumanEval, the paper's settings, GPUs, days",
        data=DataSettings(
            humaneval=HUB,  # [paper]
            mbpp=HUB,  # [paper]
            answers=None,
            epochs=3,  # [code]
        ),
        model=ModelSettings(code="bigcode/starcoderbase-1b"),  # [paper]
        po=_paper_training(),
        methods=method_values(with_paper_masks(_METHODS)),
        sampling=_paper_sampling(train_samples=100, test_samples=100),  # [paper]
        tuning=CodeTuning(
            betas=(0.1, 0.2, 0.4, 0.8),  # [ours]
            simpo_betas=(1.0, 2.0, 2.5),  # [ours]
            problems=10,  # [paper]
            samples=10,  # [paper]
        ),
        generation=GenerationSettings(batch_size=100),  # [ours]: no effect on the result
        seeds=1,  # [paper]: seed 42
        device="auto",
        workers=None,
    )


def _paper_training() -> TrainingSettings:
    return TrainingSettings(
        learning_rate=5e-7,  # [paper]
        epochs=1,  # one pass over the unrolled epochs of `data.epochs`
        batch_size=32,  # [paper]
        device_batch_size=4,  # [ours]: no effect on the result
        max_length=1024,  # [ours]
        max_prompt_length=512,  # [ours]
        scheduler="linear",  # [paper]
        warmup=0.1,  # [paper]
        precision="bfloat16",  # [paper]: half precision
        activation_checkpointing=True,  # [paper]
        order="given",
        logging_steps=1,  # [ours]
        validation_steps=6,  # [ours]: about an epoch of the paper's 183 prompts
    )


def _paper_sampling(train_samples: int, test_samples: int) -> SamplingSettings:
    return SamplingSettings(
        temperature=0.6,  # [paper]
        top_p=1.0,  # [paper]
        max_new_tokens=512,  # [paper]: the longest sequence, its prompt not counted [ours]
        stop_early=True,
        dtype="bfloat16",  # [paper]: half precision
        train_samples=train_samples,
        test_samples=test_samples,
        programs_at_once=None,
    )


PROFILES = {"tiny": _tiny, "laptop": _laptop, "small": _small, "paper": _paper}
