"""Token maps: per-token values of preference pairs under trained models, and their page.

Names are imported when they are first used: drawing a page does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsepo.analysis.maps import (
        NOT_FINITE,
        SCHEMA,
        Maps,
        ModelMaps,
        PairMap,
        ResponseMap,
        Sparsity,
        beta_of,
        document,
        token_maps,
        token_texts,
    )
    from sparsepo.analysis.masks import masks_of
    from sparsepo.analysis.quantities import QUANTITIES, Quantity

__all__ = [
    "NOT_FINITE",
    "QUANTITIES",
    "SCHEMA",
    "Maps",
    "ModelMaps",
    "PairMap",
    "Quantity",
    "ResponseMap",
    "Sparsity",
    "beta_of",
    "document",
    "masks_of",
    "token_maps",
    "token_texts",
]

_HOME = {"masks_of": "masks", "QUANTITIES": "quantities", "Quantity": "quantities"}


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'sparsepo.analysis' has no attribute '{name}'")
    value = getattr(import_module(f"sparsepo.analysis.{_HOME.get(name, 'maps')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
