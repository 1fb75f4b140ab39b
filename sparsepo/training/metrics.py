"""The metrics that training logs and evaluation reports.

The names are documented in docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparsepo.methods.base import present, response_mean, response_sum
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True, slots=True)
class PairScore:
    """One pair under the trained policy, masks without dropout.

    The response that an unpaired row lacks has NaN, and None as its KL.
    """

    pair_id: str
    loss: float
    chosen_reward: float
    """Implicit reward of the chosen response, as the method defines it."""
    rejected_reward: float
    chosen_logps: float
    """Σ_t log π(y_t | x, y_<t) of the chosen response, in nats."""
    rejected_logps: float
    chosen_kl: float | None
    """Mean token KL(π_ref ‖ π) of the chosen response, in nats; None without a reference."""
    rejected_kl: float | None

    @property
    def label(self) -> bool | None:
        """Whether the only response of an unpaired row is desirable; None for a pair."""
        chosen, rejected = map(math.isnan, (self.chosen_logps, self.rejected_logps))
        # Both are NaN for a diverged policy.
        return None if chosen == rejected else rejected


@torch.no_grad()
def pair_metrics(
    output: LossOutput, chosen: TokenStats, rejected: TokenStats | None
) -> dict[str, Float[Tensor, " B"]]:
    """Return a batch's metrics by name, one value per pair.

    Args:
        output: the method's output.
        chosen: statistics of the chosen responses.
        rejected: statistics of the rejected responses; None if the method reads none.
    """
    metrics = dict(output.metrics)
    for name, stats in (("chosen", chosen), ("rejected", rejected)):
        if stats is not None:
            metrics[f"logps/{name}"] = response_sum(stats.policy_logps, stats)
            if stats.kl is not None:
                metrics[f"kl/{name}"] = response_mean(stats.kl, stats)
    metrics["rewards/chosen"] = output.chosen_rewards
    if rejected is not None:
        metrics["rewards/rejected"] = output.rejected_rewards
        metrics["rewards/margins"] = output.chosen_rewards - output.rejected_rewards
        metrics["rewards/accuracies"] = (metrics["rewards/margins"] > 0).float()
    return metrics


def pair_scores(
    pair_ids: Sequence[str], output: LossOutput, chosen: TokenStats, rejected: TokenStats
) -> list[PairScore]:
    """Return one score per pair of a batch, in order."""
    sides = (chosen, rejected)
    here = [present(stats).tolist() for stats in sides]

    def values(found: Sequence[Tensor | None], lacking: float | None) -> list[Any]:
        return [
            [value if has else lacking for value, has in zip(side.tolist(), own, strict=True)]
            if side is not None
            else [None] * len(own)
            for side, own in zip(found, here, strict=True)
        ]

    columns = [
        pair_ids,
        output.per_pair.tolist(),
        *values([output.chosen_rewards, output.rejected_rewards], math.nan),
        *values([response_sum(stats.policy_logps, stats) for stats in sides], math.nan),
        *values([None if s.kl is None else response_mean(s.kl, s) for s in sides], None),
    ]
    return [PairScore(*row) for row in zip(*columns, strict=True)]


def summary(scores: Sequence[PairScore]) -> dict[str, float]:
    """Return the means over pairs that an evaluation reports, by metric name.

    Unpaired rows count where their response does: not for margins and accuracies.
    """
    pairs = [score for score in scores if score.label is None]
    values = {"loss": [score.loss for score in scores]}
    for side, label in (("chosen", True), ("rejected", False)):
        own = [score for score in scores if score.label in (None, label)]
        values[f"rewards/{side}"] = [getattr(score, f"{side}_reward") for score in own]
        kl = [getattr(score, f"{side}_kl") for score in own]
        values[f"kl/{side}"] = [value for value in kl if value is not None]
    values["rewards/margins"] = [s.chosen_reward - s.rejected_reward for s in pairs]
    values["rewards/accuracies"] = [float(s.chosen_reward > s.rejected_reward) for s in pairs]
    return {name: sum(found) / len(found) for name, found in values.items() if found}


def by_response(
    metrics: Mapping[str, Float[Tensor, " B"]], chosen: TokenStats, rejected: TokenStats | None
) -> list[tuple[dict[str, Float[Tensor, " B"]], Bool[Tensor, " B"]]]:
    """Group metrics by the rows that they describe, because an unpaired row has one response.

    Args:
        metrics: what `pair_metrics` returned, and others of one value per pair.
        chosen: statistics of the chosen responses.
        rejected: statistics of the rejected responses; None if the method reads none.

    Returns:
        Metrics by name, each group with the rows (B,) that have what it describes.
    """
    sides = {"chosen": present(chosen)}
    sides["rejected"] = sides["chosen"] if rejected is None else present(rejected)
    both = sides["chosen"] & sides["rejected"]
    groups: dict[str, tuple[dict[str, Tensor], Tensor]] = {
        **{side: ({}, rows) for side, rows in sides.items()},
        "both": ({}, both),
        "any": ({}, torch.ones_like(both)),
    }
    for name, values in metrics.items():
        side = name.rpartition("/")[2]
        if name in ("rewards/margins", "rewards/accuracies"):
            side = "both"
        groups[side if side in groups else "any"][0][name] = values
    return list(groups.values())


class RunningMeans:
    """Means over all pairs seen since the last log entry.

    Sums stay on the device until they are taken, because reading a value forces a synchronisation.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def record(self, metrics: dict[str, Float[Tensor, " B"]], weights: Float[Tensor, " B"]) -> None:
        """Add a batch's values.

        Args:
            metrics: one value per pair by metric name.
            weights: 1 for a pair that counts, 0 for one that only fills a batch.
        """
        weights = weights.double()
        for name, values in metrics.items():
            entry = torch.stack([(values.double() * weights).sum(), weights.sum()])
            self._sums[name] = self._sums[name] + entry if name in self._sums else entry

    def table(self) -> tuple[list[str], Float[Tensor, "metrics 2"]]:
        """Return the metrics' names, sorted, and the sum and count of each."""
        names = sorted(self._sums)
        rows = [self._sums[name] for name in names]
        return names, torch.stack(rows) if rows else torch.empty(0, 2, dtype=torch.float64)

    def restore(self, names: Sequence[str], table: Float[Tensor, "metrics 2"]) -> None:
        """Continue from a result of `table`."""
        self._sums = dict(zip(names, table, strict=True))

    def take(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the means of what has been recorded for any pair, and start again from zero.

        Args:
            reduce: sums a (metrics, 2) table of sums and counts over all processes.
        """
        names, table = self.table()
        self._sums = {}
        if not names:
            return {}
        sums, counts = reduce(table).T
        means = zip(names, (sums / counts).tolist(), counts.tolist(), strict=True)
        # Without a single row there is no mean: unpaired rows have no margin, and pairs that do
        # not count (ties of samples) leave none.
        return {name: mean for name, mean, count in means if count}
