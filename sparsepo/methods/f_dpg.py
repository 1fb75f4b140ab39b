"""f-DPG: distributional policy gradients for any f-divergence (arXiv 2302.08215)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparsepo.methods.base import LARGEST_EXPONENT, Needs, RolloutValue, required, response_sum
from sparsepo.methods.hyper_parameters import hyper_parameter
from sparsepo.methods.sampled import SampledMethod, Samples, log_gain
from sparsepo.methods.search_space import BETA, LEARNING_RATE, SearchSpace
from sparsepo.types import TokenStats

_LOG_2 = math.log(2)


@dataclass(frozen=True)
class FDPG(SampledMethod):
    """Policy gradient of a divergence between the policy and the target p ∝ π_ref e^(R/β).

    L = (π/π_sampling) (f′(π/p) − b) log π, with constant factors before the logarithm. Its value
    means nothing, its gradient is that of D_f(π ‖ p). With s = log π − log π_ref − R/β + log Z,
    f′ is −e^(−s) for KL(p ‖ π) (`kl`), s + 1 for KL(π ‖ p) (`reverse-kl`),
    log 2 − log(1 + e^(−s)) for Jensen–Shannon (`js`), sign(s)/2 for the total variation (`tv`).
    Z is the mean of π_ref e^(R/β) / π_sampling over the prompt's samples, b the mean of f′ over the
    rollout.
    Source: arXiv 2302.08215; naver/disco.
    """

    name: ClassVar[str] = "f-dpg"
    title: ClassVar[str] = "f-DPG"
    source: ClassVar[str] = "arXiv 2302.08215; naver/disco"
    needs: ClassVar[Needs] = Needs(scores=True, rollout=("sampling_logps", "log_z", "baseline"))

    search_space: ClassVar[SearchSpace] = {"learning_rate": LEARNING_RATE, "beta": BETA}

    beta: float = hyper_parameter(
        0.1,
        "Temperature of the target: smaller follows the reward more.",
        source="[ours]",
        low=0,
        open_low=True,
    )
    divergence: str = hyper_parameter(
        "reverse-kl",
        "The divergence that is minimised.",
        source="[ours] that of RLHF",
        choices=("kl", "reverse-kl", "js", "tv"),
    )

    def sample_loss(
        self, stats: TokenStats
    ) -> tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]:
        """Return the surrogate loss of each sample; see `SampledMethod`."""
        logps = response_sum(stats.policy_logps, stats)
        ref = response_sum(required(stats.ref_logps, "ref_logps"), stats)
        scores, log_z = required(stats.scores, "scores"), required(stats.log_z, "log_z")
        distance = logps.detach() - ref - scores / self.beta + log_z
        ratio = log_gain(stats).detach().clamp(max=LARGEST_EXPONENT).exp()
        worth = self.derivative(distance) - required(stats.baseline, "baseline")
        return ratio * worth * logps, {f"{self.name}/distance": distance}

    def derivative(self, distance: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Return f′(e^s).

        Args:
            distance: s = log π(y) − log p(y), in nats.
        """
        if self.divergence == "kl":
            return -(-distance).clamp(max=LARGEST_EXPONENT).exp()
        if self.divergence == "js":
            return _LOG_2 - F.softplus(-distance)
        return distance.sign() / 2 if self.divergence == "tv" else distance + 1

    def from_rollout(self, samples: Samples) -> Mapping[RolloutValue, Tensor]:
        """Return log Z of each prompt, and the mean of f′."""
        logps = samples.logps.sum(-1)
        ref = required(samples.ref_logps, "ref_logps").sum(-1)
        log_weights = ref + samples.scores / self.beta - logps
        log_z = samples.by_group(log_weights).logsumexp(1) - math.log(samples.group_size)
        log_z = log_z.repeat_interleave(samples.group_size)
        mean = self.derivative(log_z - log_weights).mean()
        return {"log_z": log_z, "baseline": torch.full_like(log_z, float(mean))}
