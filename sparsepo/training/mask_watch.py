"""One-time warnings about learned masks that have died or are not sparse at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sparsepo.methods.base import Method

DEAD: Final = 99.9
"""Sparsity (%) from which a mask counts as dead: the policy learns nothing through it."""

DENSE_SHARE: Final = 0.5
"""Share of a run after which a mask that has never had a zero is reported."""

SIDES: Final = ("chosen", "rejected")


def watch_for(method: Method, names: tuple[str, ...], rate: float) -> MaskWatch | None:
    """Return the watch over a method's masks, or None if it trains none.

    Args:
        method: the method, whose hyper-parameters describe the masks.
        names: names of the masks.
        rate: the masks' peak learning rate.
    """
    if not names or getattr(method, "mask_kind", "learned") == "random":
        return None
    pulls = ("l1_reward", "l1_kl", "mask_weight_decay")
    return MaskWatch(
        names,
        penalized=any(getattr(method, pull, 0) for pull in pulls),
        limited=getattr(method, "l1_limit", "none") != "none"
        or not any(getattr(method, weight, 0) for weight in ("l1_reward", "l1_kl")),
        scaled=getattr(method, "mask_init", "paper") == "scaled",
        exact=getattr(method, "mask_gradient", "exact") == "exact",
        rate=rate,
    )


class MaskWatch:
    """Follows the sparsity of a run's learned masks through its log entries."""

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        penalized: bool,
        limited: bool,
        scaled: bool,
        exact: bool,
        rate: float,
    ) -> None:
        """Start before the first log entry.

        Args:
            names: "reward" and "kl", or only "reward" if both terms use one mask.
            penalized: whether an L1 term or weight decay pulls the masks towards zero.
            limited: whether l1_limit keeps the L1 term from outweighing the preference, or there is
                no such term.
            scaled: whether they were initialised with mask_init=scaled.
            exact: whether zeros pass no gradient, mask_gradient=exact.
            rate: the masks' peak learning rate.
        """
        self._names = names
        self._penalized = penalized
        self._limited = limited
        self._scaled = scaled
        self._exact = exact
        self._rate = f"mask_learning_rate (now {rate:.2g})"
        self._ever_sparse: set[str] = set()
        self._told: set[str] = set()

    def see(self, logs: Mapping[str, float], step: int, max_steps: int) -> list[str]:
        """Return the warnings for a log entry.

        Args:
            logs: the entry; sparsity/<mask>/<side> are percentages.
            step: the entry's step.
            max_steps: number of steps of the run.
        """
        warnings = []
        for name in self._names:
            values = [
                value
                for side in SIDES
                if (value := logs.get(f"sparsity/{name}/{side}")) is not None
            ]
            if not values or name in self._told:
                continue
            if max(values) > 0:
                self._ever_sparse.add(name)
            if min(values) >= DEAD:
                warnings.append(self._dead(name, step))
            elif name not in self._ever_sparse and step >= DENSE_SHARE * max_steps:
                warnings.append(self._dense(name, step))
            else:
                continue
            self._told.add(name)
        return warnings

    def _title(self, name: str) -> str:
        if len(self._names) == 1:
            return "The mask"
        return {"reward": "The reward mask", "kl": "The KL mask"}[name]

    def _l1(self, name: str) -> str:
        if len(self._names) == 1:
            return "l1_reward and l1_kl"
        return f"l1_{name}"

    def _dead(self, name: str, step: int) -> str:
        remedies = [
            f"lower {self._rate} or {self._l1(name)}",
            "lower mask_initial_sparsity" if self._scaled else "set mask_init to scaled",
        ]
        if self._exact:
            remedies.insert(0, "set mask_gradient to straight-through")
        if not self._limited:
            remedies.insert(0, "set l1_limit to preference")
        effect = "so that its term of the loss does not train the policy"
        if self._exact:
            effect = "and cannot recover, because zeros pass no gradient"
        return (
            f"{self._title(name)} is zero on all tokens at step {step}, {effect}; "
            f"{', or '.join(remedies)}."
        )

    def _dense(self, name: str, step: int) -> str:
        start = "raise mask_initial_sparsity" if self._scaled else "set mask_init to scaled"
        pull = f"raise {self._l1(name)} or mask_weight_decay"
        if not self._penalized:
            pull = f"set {self._l1(name)} above 0"
        pull = f"{start}, or {pull}"
        return (
            f"{self._title(name)} has had no zeros up to step {step}, so it is not sparse; {pull}."
        )
