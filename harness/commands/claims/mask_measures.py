"""What a figure of masks during training says of each chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.commands.claims.columns import (
    POINTS,
    Column,
    MissingQuantityError,
    Results,
    plain_values,
)
from tasks.metrics.significance import FloatArray


@dataclass(frozen=True)
class MaskDynamics:
    """One number per chain, from the curves of a figure of masks during training."""

    experiment: str
    quantity: str
    """See `_SHAPES`."""

    @property
    def experiments(self) -> tuple[str, ...]:
        """Return the figure."""
        return (self.experiment,)

    def column(self, results: Results) -> Column:
        """Return a column with one row, "all"."""
        result = results[self.experiment]
        label, unit, read = _SHAPES[self.quantity]
        curves = {name: _curves(result, name) for name in ("sparsity/reward", "sparsity/kl", "kl")}
        betas = [beta for beta in curves["kl"] if all(beta in one for one in curves.values())]
        if len(betas) < 3:
            raise MissingQuantityError(f"{self.experiment} has fewer than three values of β")
        sorted_curves = {
            name: [own[beta] for beta in sorted(betas)] for name, own in curves.items()
        }
        values = read(_Curves(np.log(sorted(betas)), **_renamed(sorted_curves)))
        return Column(label, unit, {"all": plain_values(values, 1, result)}, {"all": "SparsePO"})


@dataclass(frozen=True)
class _Curves:
    """Curves against the share of training, resampled to the same places: (β, chains, places)."""

    log_betas: FloatArray
    reward: FloatArray
    kl_mask: FloatArray
    kl: FloatArray


_PLACES = 31
_THIRD = (_PLACES - 1) // 3


def _renamed(curves: Mapping[str, Sequence[FloatArray]]) -> dict[str, FloatArray]:
    names = {"sparsity/reward": "reward", "sparsity/kl": "kl_mask", "kl": "kl"}
    chains = min(one.shape[0] for own in curves.values() for one in own)
    return {names[name]: np.stack([one[:chains] for one in own]) for name, own in curves.items()}


def _curves(result: Mapping[str, Any], quantity: str) -> dict[float, FloatArray]:
    """Return β → (chains, places) of a quantity over the chosen responses."""
    panel = next(
        (
            panel
            for panel in result.get("panels", [])
            if panel["quantity"] == quantity and panel.get("response", "chosen") == "chosen"
        ),
        None,
    )
    if panel is None:
        raise MissingQuantityError(f"{result['id']} has no curve of {quantity}")
    found = {}
    for series in panel["series"]:
        if not series.get("per_chain"):
            raise MissingQuantityError(f"{result['id']} was made without the values of each chain")
        steps = np.array(series["steps"], dtype=np.float64)
        share = (steps - steps[0]) / max(1.0, steps[-1] - steps[0])
        values = np.array(series["per_chain"], dtype=np.float64)
        rows = np.empty((len(values), _PLACES))
        known = ~np.isnan(values)
        # Chains that have their values at the same steps are resampled together.
        for there in np.unique(known, axis=0):
            if not there.any():
                raise MissingQuantityError(f"a chain of {result['id']} has no value of {quantity}")
            alike = (known == there).all(axis=1)
            rows[alike] = values[alike][:, there] @ _resampling(share[there])
        found[float(series["beta"])] = rows
    return found


def _resampling(share: FloatArray) -> FloatArray:
    """Return what linear interpolation multiplies the values of a curve with, (steps, places)."""
    places = np.linspace(0.0, 1.0, _PLACES)
    return np.array([np.interp(places, share, one) for one in np.eye(len(share))])


def _slope(log_betas: FloatArray, values: FloatArray) -> FloatArray:
    """Return each chain's least-squares slope of values (β, chains) against ln β."""
    centred = log_betas - log_betas.mean()
    found: FloatArray = centred @ values / (centred @ centred)
    return found


def _fall(own: _Curves) -> FloatArray:
    """The change of the reward mask's sparsity after the first third, (β, chains)."""
    found: FloatArray = own.reward[:, :, -1] - own.reward[:, :, _THIRD]
    return found


def _halves(own: _Curves, upper: bool) -> FloatArray:
    middle = len(own.log_betas) // 2
    part = slice(middle, None) if upper else slice(None, middle + 1)
    return _slope(own.log_betas[part], _fall(own)[part])


_SHAPES: Mapping[str, tuple[str, str, Callable[[_Curves], FloatArray]]] = {
    "start": (
        "sparsity of the reward mask at the start",
        POINTS,
        lambda own: own.reward[:, :, 0].mean(axis=0),
    ),
    "rise": (
        "change of the reward mask's sparsity in the first third",
        POINTS,
        lambda own: (own.reward[:, :, _THIRD] - own.reward[:, :, 0]).mean(axis=0),
    ),
    "fall": (
        "change of the reward mask's sparsity after the first third",
        POINTS,
        lambda own: _fall(own).mean(axis=0),
    ),
    "fall_lower": (
        "slope of that change against ln β, lower half of β",
        "points per unit of ln β",
        lambda own: _halves(own, upper=False),
    ),
    "fall_upper": (
        "slope of that change against ln β, upper half of β",
        "points per unit of ln β",
        lambda own: _halves(own, upper=True),
    ),
    "kl_mask_slope": (
        "slope of the KL mask's sparsity against ln β",
        "points per unit of ln β",
        lambda own: _slope(own.log_betas, own.kl_mask.mean(axis=2)),
    ),
    "kl_slope": (
        "slope of token KL against ln β",
        "nats per unit of ln β",
        lambda own: _slope(own.log_betas, own.kl.mean(axis=2)),
    ),
    "gap_low": (
        "sparsity of the reward mask minus that of the KL mask, smallest β",
        POINTS,
        lambda own: (own.reward - own.kl_mask).mean(axis=2)[0],
    ),
    "gap_middle": (
        "the same difference at the smallest β minus that at the middle one",
        POINTS,
        lambda own: _gap(own, 0) - _gap(own, len(own.log_betas) // 2),
    ),
    "reward_high": (
        "sparsity of the reward mask, largest β",
        POINTS,
        lambda own: own.reward.mean(axis=2)[-1],
    ),
    "kl_mask_high": (
        "sparsity of the KL mask, largest β",
        POINTS,
        lambda own: own.kl_mask.mean(axis=2)[-1],
    ),
    "denser": (
        "sparsity of the KL mask minus that of the reward mask",
        POINTS,
        lambda own: (own.kl_mask - own.reward).mean(axis=(0, 2)),
    ),
    "reward_range": (
        "range of the reward mask's sparsity during training",
        POINTS,
        lambda own: np.ptp(own.reward, axis=2).mean(axis=0),
    ),
    "kl_mask_range": (
        "range of the KL mask's sparsity during training",
        POINTS,
        lambda own: np.ptp(own.kl_mask, axis=2).mean(axis=0),
    ),
}


def _gap(own: _Curves, place: int) -> FloatArray:
    found: FloatArray = np.abs((own.reward - own.kl_mask).mean(axis=2)[place])
    return found
