"""Hyper-parameters that are the same in all of the paper's experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.assign import open_mapping

_MASKS = {
    "mask_weight_decay": 0.01,  # [paper]
    "mask_dropout": 0.01,  # [code]
}
_EVERYWHERE: Mapping[str, Mapping[str, Any]] = {
    "tdpo2": {"alpha": 0.5},  # [code]
    "dpop": {"lam": 50.0},  # [paper of DPOP], arXiv 2402.13228
    "sparsepo-common": _MASKS,
    "sparsepo-independent": _MASKS,
}


def method_values(own: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a profile's ``methods``: the common values, overridden by a domain's own.

    Args:
        own: method → the domain's values; only these methods are included.

    Returns:
        A mapping to which ``--set`` may add values.
    """
    return open_mapping(
        {method: {**_EVERYWHERE.get(method, {}), **values} for method, values in own.items()}
    )


PAPER_MASKS = {
    "mask_init": "paper",
    "mask_gradient": "exact",
    "mask_learning_rate": "policy",
    "l1_limit": "none",
}
"""[code] Learned masks as the authors have them: PyTorch's draw, the rectifiers' own gradient, the
policy's learning rate and an L1 norm without a limit."""


def with_paper_masks(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the values of methods, with learned masks as the authors have them.

    Args:
        values: method → its values.
    """
    learned = ("sparsepo-common", "sparsepo-independent")
    return {
        name: {**own, **(PAPER_MASKS if name in learned else {})} for name, own in values.items()
    }
