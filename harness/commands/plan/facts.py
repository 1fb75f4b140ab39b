"""What is known without a network of the models and data that profiles name on the hub.

Each entry was checked against a public page, named in the comment; what was not found is None and
shown as unknown. Sizes of other models are read from their folder or the hub's local cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.commands.plan.cost_model import Shape

CHARACTERS = 4.0
"""Characters of a token of English text or of code, roughly."""


@dataclass(frozen=True)
class HubModel:
    """A model on the hub."""

    shape: Shape
    stored: float | None
    """Bytes of a weight as published; None if unknown."""
    licence: str | None
    gated: bool | None
    architecture: str
    """transformers' model type; with ":" and what its head is, if it is no language model."""
    context: int
    """Longest sequence, in tokens."""

    @property
    def download(self) -> float | None:
        """Bytes of its weights."""
        return None if self.stored is None else self.stored * self.shape.parameters


@dataclass(frozen=True)
class HubData:
    """A data set on the hub."""

    licence: str | None = None
    gated: bool | None = None
    download: float | None = None
    """Bytes."""
    train: int | None = None
    """Pairs, or problems, of the training split."""
    test: int | None = None
    prompt: float | None = None
    """Mean tokens of a prompt; of a text where there are no responses."""
    response: float | None = None


# Sizes: the models' config.json (layers, width, inner width, vocabulary, parameters).
_PYTHIA_160M = Shape(12, 768, 3072, 50_304, 162_322_944)
_PYTHIA_410M = Shape(24, 1024, 4096, 50_304, 405_334_016)
_PYTHIA_1_4B = Shape(24, 2048, 8192, 50_304, 1_414_647_808)
_TINY_STARCODER = Shape(20, 768, 3072, 49_152, 164_144_128, kv_width=128)
_STARCODER_1B = Shape(24, 2048, 8192, 49_152, 1_137_207_296, kv_width=256)
_GPT2 = Shape(12, 768, 3072, 50_257, 124_439_808)
_GPT2_LARGE = Shape(36, 1280, 5120, 50_257, 774_030_080)
_GPT_NEO_125M = Shape(12, 768, 3072, 50_257, 125_198_592)
_GPT_NEO_1_3B = Shape(24, 2048, 8192, 50_257, 1_315_575_808)
_GPT_J = Shape(28, 4096, 16_384, 50_400, 6_050_882_784)
_ROBERTA_LARGE = Shape(24, 1024, 4096, 0, 355_359_744)
# All layers share one layer's weights.
_ALBERT_XLARGE = Shape(24, 2048, 8192, 0, 58_700_000)

MODELS: Mapping[str, HubModel] = {
    # Pythia's model cards: sizes and Apache 2.0; pythia-410m's file of 911 MB shows 2 bytes.
    "EleutherAI/pythia-160m": HubModel(_PYTHIA_160M, 2, "Apache-2.0", False, "gpt_neox", 2048),
    "EleutherAI/pythia-410m": HubModel(_PYTHIA_410M, 2, "Apache-2.0", False, "gpt_neox", 2048),
    "EleutherAI/pythia-1.4b-deduped": HubModel(
        _PYTHIA_1_4B, 2, "Apache-2.0", False, "gpt_neox", 2048
    ),
    # TinyStarCoderPy's model card: 164M parameters, its licence.
    "bigcode/tiny_starcoder_py": HubModel(
        _TINY_STARCODER, None, "BigCode OpenRAIL-M", None, "gpt_bigcode", 8192
    ),
    # StarCoderBase-1B's page: its licence has to be accepted first.
    "bigcode/starcoderbase-1b": HubModel(
        _STARCODER_1B, None, "BigCode OpenRAIL-M", True, "gpt_bigcode", 8192
    ),
    # Its model card names no licence; a file of the same architecture has 498 MB, 4 bytes.
    "lvwerra/gpt2-imdb": HubModel(_GPT2, 4, None, None, "gpt2", 1024),
    "insub/gpt2-large-imdb-fine-tuned": HubModel(_GPT2_LARGE, None, None, None, "gpt2", 1024),
    "openai-community/gpt2": HubModel(_GPT2, None, None, None, "gpt2", 1024),
    "openai-community/gpt2-large": HubModel(_GPT2_LARGE, None, None, None, "gpt2", 1024),
    "EleutherAI/gpt-neo-125m": HubModel(_GPT_NEO_125M, None, None, None, "gpt_neo", 2048),
    # GPT-Neo 1.3B's page: MIT; its config.json: float32.
    "EleutherAI/gpt-neo-1.3B": HubModel(_GPT_NEO_1_3B, 4, "MIT", None, "gpt_neo", 2048),
    # The card of its successor (openai_summarize_tldr_ppo): GPT-J 6B; no licence is named.
    "CarperAI/openai_summarize_tldr_sft": HubModel(_GPT_J, None, None, None, "gptj", 2048),
    # SiEBERT's model card: a fine-tuned RoBERTa-large; no licence is named.
    "siebert/sentiment-roberta-large-english": HubModel(
        _ROBERTA_LARGE, None, None, None, "roberta:sentiment", 514
    ),
    "FacebookAI/roberta-large": HubModel(_ROBERTA_LARGE, None, None, None, "roberta", 514),
    # A directory of models: 58.7M parameters.
    "tals/albert-xlarge-vitaminc-mnli": HubModel(
        _ALBERT_XLARGE, None, None, None, "albert:entailment", 512
    ),
}

DATA: Mapping[str, HubData] = {
    # Dataset card: MIT; its copy by KHuss lists the rows. Lengths: harmless-base's test split,
    # 474 characters of a prompt and 190 of a response on average.
    "Anthropic/hh-rlhf": HubData("MIT", False, None, 160_800, 8_552, 119, 48),
    # Its page: MIT, 6.75k and 750 rows, files of 21.8 and 2.4 MB. Lengths: 600 of its rows, half
    # of them chats; 1,234 characters of a prompt, 1,288 of a response.
    "argilla/dpo-mix-7k": HubData("MIT", False, 24.2e6, 6_750, 750, 308, 322),
    # 25,000 rows in each split (dataset card); a review has 1,300 characters.
    "stanfordnlp/imdb": HubData(None, None, None, 25_000, 25_000, 325, None),
    # Lengths: 1,279 characters of a post, 151 of a summary.
    "openai/summarize_from_feedback": HubData(None, None, None, None, None, 320, 38),
    # Its page: files of 123 MB; no licence is named.
    "CarperAI/openai_summarize_tldr": HubData(None, False, 123e6, None, None, 316, 38),
    # openai/human-eval: MIT, 164 problems; a prompt has 451 characters, a solution 181.
    "openai/openai_humaneval": HubData("MIT", None, None, None, 164, 113, 45),
    # google-research: CC BY 4.0, 374 training and 500 test problems; prompts with their tests have
    # 262 characters, solutions 181.
    "google-research-datasets/mbpp": HubData("CC-BY-4.0", None, None, 374, 500, 66, 45),
    # lm-eval's task definitions name the benchmarks' repositories.
    "SaylorTwift/bbh": HubData(),
    "DigitalLearningGmbH/MATH-lighteval": HubData(),
    # GPQA's dataset card: CC BY 4.0, its conditions have to be accepted first.
    "Idavidrein/gpqa": HubData("CC-BY-4.0", True),
    "TAUR-Lab/MuSR": HubData(),
    "TIGER-Lab/MMLU-Pro": HubData(),
    "wis-k/instruction-following-eval": HubData(),
}
MBPP_VALIDATION = 90
"""Validation problems of MBPP."""
PAPER_PROMPTS = 183
"""[paper] Training problems of MBPP that gave StarCoder 1B pairs; assumed for other models."""


@dataclass(frozen=True)
class Benchmark:
    """The size of one of the leaderboard's benchmarks."""

    source: str
    """Its repository on the hub."""
    rows: int
    tasks: int
    """Leaf tasks, each of which a limit applies to."""
    prompt: float
    """Tokens of a request, with its examples."""
    requests: float = 1.0
    """Passes over the prompt per row: one per option whose tokens are more than one."""
    generated: int = 0
    """Tokens that are generated per row, at most."""
    examples: int = 0
    """Of the prompt, the same for all rows of a task."""


BENCHMARKS: Mapping[str, Benchmark] = {
    # Rows: counted in BBH's, IFEval's and GPQA's own files; those of MATH (level 5), MuSR and
    # MMLU-Pro are as published, not checked here. Tokens: mean characters of rows, times 1 + the
    # examples that lm-eval shows, over 4; those of MATH and GPQA are assumed.
    "bbh": Benchmark("SaylorTwift/bbh", 5_761, 24, 370, 4, examples=3),
    "math_hard": Benchmark("DigitalLearningGmbH/MATH-lighteval", 1_324, 7, 700, 1, 1_024, 4),
    "gpqa": Benchmark("Idavidrein/gpqa", 1_192, 3, 250, 4),
    "musr": Benchmark("TAUR-Lab/MuSR", 756, 3, 1_279, 3),
    "mmlu_pro": Benchmark("TIGER-Lab/MMLU-Pro", 12_032, 1, 892, 1, examples=5),
    "ifeval": Benchmark("wis-k/instruction-following-eval", 541, 1, 53, 1, 1_280),
}


WORLD_BENCHMARKS: Mapping[str, Benchmark] = {
    # Of the embedded world; rows come from its settings. Tokens: by the tiny models' tokenizers.
    "bbh": Benchmark("world", 0, 1, 60, 3),
    "math_hard": Benchmark("world", 0, 1, 60, 1, 6),
    "gpqa": Benchmark("world", 0, 1, 40, 4),
    "musr": Benchmark("world", 0, 1, 60, 3),
    "mmlu_pro": Benchmark("world", 0, 1, 100, 1),
    "ifeval": Benchmark("world", 0, 1, 30, 1, 15),
}


@dataclass(frozen=True)
class World:
    """Mean tokens of an embedded world's rows, by the tiny models' own tokenizers; measured."""

    prompt: float
    response: float
    kept: float = 1.0
    """Share of its problems or prompts that give pairs."""


WORLDS: Mapping[str, World] = {
    "dialogue": World(29.5, 25.4),
    "code": World(52, 22, 0.63),
    "sentiment": World(6, 30),
    "summarization": World(100, 20),
}


def shape_of_config(config: Mapping[str, Any]) -> Shape | None:
    """Return the sizes of a model from its config.json; None if it does not say them."""

    def first(*names: str) -> int | None:
        return next((int(config[name]) for name in names if config.get(name)), None)

    layers = first("num_hidden_layers", "n_layer", "num_layers")
    width = first("hidden_size", "n_embd")
    vocabulary = first("vocab_size")
    if layers is None or width is None or vocabulary is None:
        return None
    inner = first("intermediate_size", "n_inner") or 4 * width
    heads = first("num_attention_heads", "n_head", "num_heads") or 1
    kv_heads = 1 if config.get("multi_query") else first("num_key_value_heads") or heads
    kv_width = 2 * width * kv_heads // heads
    # Gates come with SiLU in the Llama family, and with this name of the setting in Gemma.
    gated = config.get("hidden_act") == "silu" or "hidden_activation" in config
    feed_forward = 3 if gated else 2
    tied = config.get("tie_word_embeddings", config.get("model_type") != "gpt_neox")
    bare = Shape(layers, width, inner, vocabulary, 0, kv_width, feed_forward)
    positions = first("n_positions", "n_ctx") or 0
    parameters = bare.body + bare.head * (1 if tied else 2) + positions * width
    return Shape(layers, width, inner, vocabulary, parameters, kv_width, feed_forward)
