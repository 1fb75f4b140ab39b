"""The groups of values that Table 1 and the ablations share: rows, models, evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.profiles import WORLD


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """Where rows come from: "world", a hub id ("hub" for benchmarks), a file or folder, none."""

    train_pairs: int | None
    """Cap on training pairs, evenly spaced over the rows; none for all."""
    test_pairs: int | None
    """Cap on held-out pairs."""
    bbh: str | None
    math_hard: str | None
    gpqa: str | None
    musr: str | None
    mmlu_pro: str | None
    ifeval: str | None


@dataclass(frozen=True, kw_only=True)
class DataSettings(RowSettings):
    """The rows of Table 1."""

    hh_rlhf: str


@dataclass(frozen=True)
class PairSource:
    """Where preference pairs come from."""

    key: str
    """The setting that names it."""
    value: str
    reader: str
    """The stage function that reads real pairs of this schema."""
    file: str
    """What that function calls a local source."""

    @property
    def real(self) -> bool:
        """Whether the pairs are not the embedded world's."""
        return self.value != WORLD


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How trained masks are measured."""

    pairs: int = 300
    """Held-out pairs, the first ones."""


@dataclass(frozen=True)
class ModelSettings:
    """Which models."""

    dialogue: str
    """What SFT starts from: "tiny-neox", a packaged model ("smollm2" or "gemma"), a GGUF file, a
    hub id, or a folder."""


@dataclass(frozen=True)
class LimitSettings:
    """Caps on the rows of each leaf task of a benchmark; none leaves it to `limit`."""

    bbh: int | None = None
    math_hard: int | None = None
    gpqa: int | None = None
    musr: int | None = None
    mmlu_pro: int | None = None
    ifeval: int | None = None


@dataclass(frozen=True)
class EvaluationSettings:
    """Leaderboard and win rate."""

    limit: int | None
    """Cap on the rows of each of the leaderboard's leaf tasks, evenly spaced; none for all."""
    limits: LimitSettings
    """Caps of single benchmarks, which come before `limit`."""
    batch_size: int
    pack_tokens: int | None
    """Tokens of a row in which prompts share their common prefix; none scores as lm-eval does."""
    math_tokens: int | None
    """Cap on generated tokens; none for lm-eval's own."""
    ifeval_tokens: int | None
    dtype: str
    win_rate_prompts: int
    """Held-out prompts that are answered and judged."""
    response_tokens: int
    temperature: float
    top_p: float
    seed: int = 0
    """Of the sampled responses."""
