"""Token maps: per-token values of preference pairs under trained models, and their page."""

from sparsepo.analysis.maps import (
    NOT_FINITE,
    QUANTITIES,
    SCHEMA,
    Maps,
    ModelMaps,
    PairMap,
    Quantity,
    ResponseMap,
    Sparsity,
    beta_of,
    document,
    token_maps,
    token_texts,
)
from sparsepo.analysis.masks import masks_of

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
