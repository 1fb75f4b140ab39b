"""Token maps: per-token values of preference pairs under trained models, and their page.

Names are imported when they are first used: drawing a page does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsepo.lazy import names_on_demand

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
    )
    from sparsepo.analysis.masks import masks_of
    from sparsepo.analysis.quantities import QUANTITIES, Quantity
    from sparsepo.analysis.texts import token_texts

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

_HOME = dict.fromkeys(__all__, "sparsepo.analysis.maps") | {
    "QUANTITIES": "sparsepo.analysis.quantities",
    "Quantity": "sparsepo.analysis.quantities",
    "masks_of": "sparsepo.analysis.masks",
    "token_texts": "sparsepo.analysis.texts",
}

__getattr__, __dir__ = names_on_demand(__name__, _HOME)
