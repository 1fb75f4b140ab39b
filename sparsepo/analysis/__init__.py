"""What each token is to a trained model: values, and the page that shows them."""

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
    "token_maps",
    "token_texts",
]
