"""The metrics that training logs and evaluation reports.

The names are documented in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import response_mean, response_sum
from sparsepo.types import LossOutput, TokenStats


@dataclass(frozen=True, slots=True)
class PairScore:
    """One pair under the trained policy, masks without dropout."""

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
    none = [None] * len(pair_ids)
    columns = [
        pair_ids,
        output.per_pair.tolist(),
        output.chosen_rewards.tolist(),
        output.rejected_rewards.tolist(),
        response_sum(chosen.policy_logps, chosen).tolist(),
        response_sum(rejected.policy_logps, rejected).tolist(),
        none if chosen.kl is None else response_mean(chosen.kl, chosen).tolist(),
        none if rejected.kl is None else response_mean(rejected.kl, rejected).tolist(),
    ]
    return [PairScore(*row) for row in zip(*columns, strict=True)]


def summary(scores: Sequence[PairScore]) -> dict[str, float]:
    """Return the means over pairs that an evaluation reports, by metric name."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    metrics = {
        "loss": mean([score.loss for score in scores]),
        "rewards/chosen": mean([score.chosen_reward for score in scores]),
        "rewards/rejected": mean([score.rejected_reward for score in scores]),
        "rewards/margins": mean([s.chosen_reward - s.rejected_reward for s in scores]),
        "rewards/accuracies": mean([float(s.chosen_reward > s.rejected_reward) for s in scores]),
    }
    for side in ("chosen", "rejected"):
        values = [kl for score in scores if (kl := getattr(score, f"{side}_kl")) is not None]
        if values:
            metrics[f"kl/{side}"] = mean(values)
    return metrics


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
        rows = zip(names, (sums / counts).tolist(), counts.tolist(), strict=True)
        return {name: mean for name, mean, count in rows if count}
