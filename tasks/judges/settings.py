"""Which judge, and how it is asked; free of heavy imports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from sparsepo.errors import UserError, require_choice

Kind = Literal["rules", "reward", "instruct", "endpoint"]

KINDS: tuple[Kind, ...] = ("rules", "reward", "instruct", "endpoint")

_LOCAL = ("model", "batch_size", "dtype")
_USED: dict[Kind, tuple[str, ...]] = {
    "rules": (),
    "reward": (*_LOCAL, "train"),
    "instruct": (*_LOCAL, "answer", "max_tokens"),
    "endpoint": (
        "model",
        "url",
        "max_tokens",
        "temperature",
        "concurrency",
        "requests_per_minute",
        "timeout",
        "retries",
        "agree",
        "price_in",
        "price_out",
    ),
}
_OF_ALL = ("kind", "label_pairs")


TRAINED = "trained"
"""A reward model's name: train it from a chain's SFT model on the chain's preference pairs."""


@dataclass(frozen=True)
class RewardTraining:
    """How a reward model is trained; every value [ours]."""

    learning_rate: float = 1e-4
    epochs: int = 1
    batch_size: int = 32
    """Pairs in a step."""


@dataclass(frozen=True)
class JudgeSettings:
    """Which judge compares two responses; values that its kind does not use are an error."""

    kind: Kind = "rules"
    """The embedded world's rules, a reward model, an instruct model on this machine, or one at an
    OpenAI-compatible endpoint."""
    model: str | None = None
    """A folder or hub id of a local model; the served model's name at an endpoint. "trained" trains
    a reward model on the chain's own pairs."""
    train: RewardTraining = field(default_factory=RewardTraining)
    label_pairs: int = 300
    """Held-out pairs on which the judge's agreement with the data's labels is measured."""
    batch_size: int = 16
    """Texts that a local model reads at a time."""
    dtype: str = "auto"
    """A local model's weights."""
    answer: Literal["likelihood", "generate"] = "likelihood"
    """How an instruct model answers: by the most likely of A, B and tie, or in words."""
    max_tokens: int = 256
    """Longest answer in words."""
    url: str | None = None
    """The endpoint's base URL, such as http://localhost:8000/v1."""
    temperature: float | None = 0.0
    """At an endpoint; none leaves it out, which some models ask for."""
    concurrency: int = 8
    """Most requests at the same time."""
    requests_per_minute: float | None = None
    timeout: float = 120.0
    """Seconds of silence after which a request has failed."""
    retries: int = 6
    agree: bool = False
    """Whether the estimated cost is agreed to; without it the command asks, in a terminal."""
    price_in: float | None = None
    """Price of a million prompt tokens; 0 for both prices means that nothing has to be agreed."""
    price_out: float | None = None
    """Price of a million generated tokens."""

    @property
    def is_free(self) -> bool:
        """Return whether no request costs anything."""
        return self.kind != "endpoint" or (self.price_in == 0.0 and self.price_out == 0.0)


_WHAT = ("kind", "answer", "max_tokens", "temperature", "dtype")
_HOW = ("url", "batch_size", "concurrency", "requests_per_minute", "timeout", "retries")


def deciding(settings: JudgeSettings) -> dict[str, object]:
    """Return the values that a verdict depends on, besides the model."""
    return {
        name: getattr(settings, name)
        for name in _WHAT
        if name == "kind" or name in _USED[settings.kind]
    }


def circumstances(settings: JudgeSettings) -> dict[str, object]:
    """Return the values that say how a judge is asked, without effect on its verdicts."""
    return {name: getattr(settings, name) for name in _HOW if name in _USED[settings.kind]}


def check_judge(settings: JudgeSettings, assigned: Collection[str], knows_rules: bool) -> None:
    """Check a judge's settings before anything is run.

    Args:
        settings: the settings.
        assigned: names of the fields that the user has set.
        knows_rules: whether the prompts are those of an embedded world.

    Raises:
        UserError: a value is missing, out of range, or not used by this kind of judge.
    """
    require_choice("judge.kind", settings.kind, KINDS)
    require_choice("judge.answer", settings.answer, ("likelihood", "generate"))
    for key in sorted(set(assigned) - set(_OF_ALL)):
        name = key.partition(".")[0]
        if name not in _USED[settings.kind]:
            users = [kind for kind in KINDS if name in _USED[kind]]
            raise UserError(
                f"judge.{key} has no effect on a judge of kind {settings.kind}; leave it out, or "
                f"set judge.kind={users[0]}."
            )
    if settings.answer == "likelihood" and settings.kind == "instruct" and "max_tokens" in assigned:
        raise UserError("judge.max_tokens has no effect without judge.answer=generate.")
    trained = settings.kind == "reward" and settings.model == TRAINED
    if not trained and any(key.partition(".")[0] == "train" for key in assigned):
        raise UserError(f"judge.train has no effect without judge.model={TRAINED}.")
    for name in ("learning_rate", "epochs", "batch_size"):
        if not getattr(settings.train, name) > 0:
            raise UserError(f"judge.train.{name} must be above 0.")
    if settings.kind == "rules" and not knows_rules:
        raise UserError(
            "The rules know the embedded world's prompts only; set judge.kind=reward with "
            f"judge.model={TRAINED} (or a reward model), judge.kind=instruct with judge.model, or "
            "judge.kind=endpoint with judge.url and judge.model."
        )
    if settings.kind != "rules" and not settings.model:
        own = f" (or {TRAINED})" if settings.kind == "reward" else ""
        raise UserError(f"A judge of kind {settings.kind} needs judge.model=NAME{own}.")
    if settings.kind == "endpoint" and not settings.url:
        raise UserError("A judge of kind endpoint needs judge.url=URL.")
    for name in ("batch_size", "max_tokens", "label_pairs"):
        value = getattr(settings, name)
        if value < 1:
            raise UserError(f"judge.{name} must be at least 1, not {value}.")
    for name in ("price_in", "price_out"):
        price = getattr(settings, name)
        if price is not None and not price >= 0:
            raise UserError(f"judge.{name} cannot be {price}; give a price per million tokens.")
