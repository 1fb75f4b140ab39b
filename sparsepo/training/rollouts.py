"""Rollouts: samples of the policy with their rewards, as pairs that a step is trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsepo.batches.pack import lay_out
from sparsepo.errors import UserError
from sparsepo.reference.cache import SideValues
from sparsepo.types import PackedBatch, TokenizedPair

ROLLOUT_FILE = "rollout.json"
VALUES_FILE = "rollout.safetensors"
"""Files of a checkpoint that was written between two steps on the same rollout."""

_SIDES = 2


@dataclass(frozen=True)
class Drawn:
    """The samples of one prompt, in the order in which they were drawn."""

    prompt_id: str
    prompt_ids: list[int]
    samples: list[list[int]]
    """Token ids of each sample, including EOS if it was drawn."""
    scores: list[float]
    unfinished: int
    """How many reached the longest length without EOS."""


@dataclass
class Rollout:
    """What the steps of a block are trained on."""

    start: int
    """Number of the block's first optimizer step."""
    pairs: dict[str, list[TokenizedPair]]
    """The pairs of each prompt, by the prompt's id."""
    tied: set[str] = field(default_factory=set)
    """Pairs whose responses have equal rewards; they do not count."""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """What is logged of each prompt, by the prompt's id."""
    values: dict[str, dict[str, SideValues]] = field(default_factory=dict)
    """Further fields of TokenStats by name and pair: one value per token, or one per response."""

    def all_pairs(self) -> list[TokenizedPair]:
        """Return the pairs of all prompts."""
        return [pair for own in self.pairs.values() for pair in own]

    def of_batch(self, batch: PackedBatch) -> dict[str, Float[Tensor, "responses pairs *tokens"]]:
        """Return the further fields of a batch, on its device."""
        found = {}
        for name, by_pair in self.values.items():
            rows = [by_pair[pair_id] for pair_id in batch.pair_ids]
            if rows[0][0].ndim == 0:
                table = torch.stack([torch.stack([row[side] for row in rows]) for side in (0, 1)])
                found[name] = table.to(batch.response_mask.device)
            else:
                found[name] = lay_out(rows, batch, rows[0][0].dtype)
        return found

    def save(self, directory: Path) -> None:
        """Write the rollout into an existing folder."""
        content = {
            "start": self.start,
            "pairs": {key: [asdict(pair) for pair in own] for key, own in self.pairs.items()},
            "tied": sorted(self.tied),
            "metrics": self.metrics,
            "fields": sorted(self.values),
        }
        ids = [pair.pair_id for pair in self.all_pairs()]
        tensors = {
            f"{name}/{place}/{side}": self.values[name][pair_id][side].clone()
            for name in self.values
            for place, pair_id in enumerate(ids)
            for side in range(_SIDES)
        }
        save_file(tensors, directory / VALUES_FILE)
        (directory / ROLLOUT_FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Rollout | None:
        """Read what `save` wrote; None if the folder has no rollout.

        Raises:
            UserError: the files are damaged.
        """
        file = directory / ROLLOUT_FILE
        if not file.is_file():
            return None
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            tensors = load_file(directory / VALUES_FILE)
            pairs = {key: [_pair(given) for given in own] for key, own in content["pairs"].items()}
            rollout = cls(content["start"], pairs, set(content["tied"]), dict(content["metrics"]))
            ids = [pair.pair_id for pair in rollout.all_pairs()]
            rollout.values = {
                name: {
                    pair_id: (tensors[f"{name}/{place}/0"], tensors[f"{name}/{place}/1"])
                    for place, pair_id in enumerate(ids)
                }
                for name in content["fields"]
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The rollout in {directory} is damaged; remove this checkpoint to resume from the "
                "one before it."
            ) from error
        return rollout


def _pair(given: Mapping[str, Any]) -> TokenizedPair:
    scores = given["scores"]
    return TokenizedPair(**{**given, "scores": None if scores is None else tuple(scores)})


def best_and_worst(drawn: Drawn, name: str) -> tuple[TokenizedPair, bool]:
    """Return a prompt's best and worst sample, and whether their rewards are equal.

    Args:
        drawn: the samples.
        name: the pair's id.
    """
    order = sorted(range(len(drawn.scores)), key=lambda item: -drawn.scores[item])
    best, worst = order[0], order[-1]
    scores = (drawn.scores[best], drawn.scores[worst])
    pair = TokenizedPair(name, drawn.prompt_ids, drawn.samples[best], drawn.samples[worst], scores)
    return pair, scores[0] == scores[1]


def in_twos(drawn: Drawn, name: str) -> list[TokenizedPair]:
    """Return a prompt's samples two by two, as pairs whose sides mean nothing."""
    return [
        TokenizedPair(
            f"{name}.{first}",
            drawn.prompt_ids,
            drawn.samples[first],
            drawn.samples[first + 1],
            (drawn.scores[first], drawn.scores[first + 1]),
        )
        for first in range(0, len(drawn.samples), _SIDES)
    ]


def measured(drawn: Drawn) -> dict[str, float]:
    """Return what is logged of a prompt's samples."""
    count = len(drawn.samples)
    mean = sum(drawn.scores) / count
    return {
        "rollout/reward": mean,
        "rollout/reward_spread": (sum((s - mean) ** 2 for s in drawn.scores) / count) ** 0.5,
        "rollout/length": sum(map(len, drawn.samples)) / count,
        "rollout/unfinished": drawn.unfinished / count,
    }


def split_sides(values: Float[Tensor, "S *T"], lengths: Sequence[int]) -> list[SideValues]:
    """Return values of samples two by two, as `in_twos` has them, without padding."""
    rows = [
        value if value.ndim == 0 else value[:n] for value, n in zip(values, lengths, strict=True)
    ]
    return [(rows[first], rows[first + 1]) for first in range(0, len(rows), _SIDES)]
