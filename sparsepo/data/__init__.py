"""Reads rows of many formats as preference pairs."""

from sparsepo.data.pairs import PairData, ReadReport, build_pairs, pairs_of_rows, read_pairs
from sparsepo.data.split import hold_out
from sparsepo.data.token_masks import TokenMask, read_token_masks, write_token_masks

__all__ = [
    "PairData",
    "ReadReport",
    "TokenMask",
    "build_pairs",
    "hold_out",
    "pairs_of_rows",
    "read_pairs",
    "read_token_masks",
    "write_token_masks",
]
