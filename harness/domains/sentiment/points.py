"""Reward and KL of the responses that were sampled during training: points of a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import are_crossed, interval, means_of_chains
from harness.domains.common.dynamics import common_steps
from harness.domains.common.generation import sampled_json
from harness.domains.sentiment.pipeline import Graph, Run
from harness.graph.store import Store
from sparsepo.errors import UserError
from tasks.metrics.chains import ChainValues

_Place = tuple[float | None, float | None, int]
"""β, γ and step."""
_Measured = tuple[int, Mapping[str, Any]]
"""Seed of a chain, and one of its points in points.json."""


@dataclass(frozen=True)
class Point:
    """One policy of one row in every chain: reward (in percent) and KL (nats per response)."""

    beta: float | None
    gamma: float | None
    step: int
    reward: ChainValues
    kl: ChainValues
    tokens: float
    ended: float

    def as_json(self) -> dict[str, Any]:
        """Return the point as figure2.json holds it."""
        return {
            "beta": self.beta,
            "gamma": self.gamma,
            "step": self.step,
            "reward": interval(self.reward),
            "kl": interval(self.kl),
            "n": self.reward.items,
            "seeds": self.reward.chains,
            "response_tokens": round(self.tokens, 2),
            "ended": round(self.ended, 4),
        }


@dataclass(frozen=True)
class Scored:
    """The scored responses of all runs of a graph."""

    read: Mapping[int, Mapping[str, Any]]
    """id() of a run → its points.json."""
    kept: Mapping[int, Sequence[int]]
    """Seed of a chain → its prompts whose responses all have a reward."""
    crossed: bool
    """All chains have the same prompts."""
    missing: int
    """Responses without a finite reward."""
    for_pairs: Mapping[str, int] = field(default_factory=dict)
    """Counts of the completions that pairs were made of; empty if they are ready-made."""

    def points(self, runs: Sequence[Run], settings: StatisticsSettings) -> list[Point]:
        """Return one point per β, γ and step that all chains have, over all chains.

        The ends of training are one point, after however many steps a chain ends.

        Args:
            runs: those of a row.
            settings: replicates and seed.
        """
        return [self._point(*one, settings) for one in self._places(runs).items()]

    def last_point(self, runs: Sequence[Run], settings: StatisticsSettings) -> Point:
        """Return the policies at the end of training.

        Args:
            runs: those of one setting, one per chain.
            settings: replicates and seed.
        """
        last = max(self._places(runs).items(), key=lambda one: one[0][2])
        return self._point(*last, settings)

    def _places(self, runs: Sequence[Run]) -> dict[_Place, list[_Measured]]:
        """Return what all chains have measured at each place that all of them have."""
        measured = [self.read[id(run)]["points"] for run in runs]
        steps = common_steps([[point["step"] for point in own] for own in measured])
        found: dict[_Place, list[_Measured]] = {}
        for run, own, step_of in zip(runs, measured, steps, strict=True):
            for point in own:
                place = run.beta, run.gamma, step_of[point["step"]]
                found.setdefault(place, []).append((run.seed, point))
        chains = Counter((run.beta, run.gamma) for run in runs)
        return {place: own for place, own in found.items() if len(own) == chains[place[:2]]}

    def _point(
        self, place: _Place, chains: Sequence[_Measured], settings: StatisticsSettings
    ) -> Point:
        rewards, kls = [], []
        for seed, one in chains:
            kept = list(self.kept[seed])
            rewards.append(100.0 * np.array(one["rewards"], dtype=np.float64)[kept])
            kls.append((np.array(one["logps"]) - np.array(one["ref_logps"]))[kept])
        return Point(
            *place,
            means_of_chains(rewards, settings, self.crossed),
            means_of_chains(kls, settings, self.crossed),
            float(np.mean([one["tokens"] for _, one in chains])),
            float(np.mean([one["ended"] for _, one in chains])),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Return what a result's JSON says of the rewards."""
        return {
            "reward_model": next(iter(self.read.values()))["reward"],
            "missing_rewards": self.missing,
            "sampled": {"held-out prompts": self._answers(), "prompts of pairs": self.for_pairs},
        }

    def _answers(self) -> dict[str, int]:
        points = [point for one in self.read.values() for point in one["points"]]
        return {
            "responses": sum(len(point["logps"]) for point in points),
            "unfinished": sum(point["unfinished"] for point in points),
            # The same prompts are answered at every point.
            "truncated_prompts": max(point["truncated_prompts"] for point in points),
        }


def read_scored(graph: Graph, store: Store) -> Scored:
    """Read the scores of all runs of a graph.

    Raises:
        UserError: if the reward model scores no prompt's responses throughout.
    """
    read: dict[int, Any] = {}
    for run in graph.runs:
        assert run.points is not None
        read[id(run)] = store.read_json(run.points, "points.json")
    crossed = _same_prompts(graph)
    kept, missing = scored_prompts([(run.seed, read[id(run)]) for run in graph.runs], crossed)
    samples = [pairs.inputs["samples"] for pairs in graph.pairs if "samples" in pairs.inputs]
    return Scored(read, kept, crossed, missing, sampled_json(store, samples))


def _same_prompts(graph: Graph) -> bool:
    """Tell whether all chains are scored on the same held-out prompts."""
    pairs: dict[str, list[str]] = {}
    for run in graph.runs:
        assert run.points is not None
        place = f"{run.row.id} {run.beta} {run.gamma} {run.flipped}"
        pairs.setdefault(place, []).append(run.points.inputs["pairs"].address)
    return are_crossed(pairs, "held-out prompts")


def scored_prompts(
    runs: Sequence[tuple[int, Mapping[str, Any]]], crossed: bool
) -> tuple[dict[int, list[int]], int]:
    """Return the prompts whose responses all have a reward, and how many responses have none.

    Args:
        runs: (seed of its chain, points.json) of every run.
        crossed: all chains have the same prompts, and keep the same ones.
    """
    found: dict[int, list[Sequence[float | None]]] = {}
    for seed, run in runs:
        found.setdefault(seed, []).extend(point["rewards"] for point in run["points"])
    missing = sum(score is None for chain in found.values() for one in chain for score in one)
    kept = {
        seed: [
            index
            for index in range(len(chain[0]))
            if all(scores[index] is not None for scores in chain)
        ]
        for seed, chain in found.items()
    }
    if crossed:
        # One set of prompts has one set of draws, whatever has lost its reward where.
        common = [i for i in next(iter(kept.values())) if all(i in own for own in kept.values())]
        kept = dict.fromkeys(kept, common)
    if not all(kept.values()):
        raise UserError(
            "The reward model gives every prompt some response without a finite reward; use "
            "another one (model.reward)."
        )
    return kept, missing
