"""Reads rows of many formats as preference pairs."""

from sparsepo.data.pairs import PairData, ReadReport, build_pairs, pairs_of_rows, read_pairs
from sparsepo.data.split import hold_out

__all__ = ["PairData", "ReadReport", "build_pairs", "hold_out", "pairs_of_rows", "read_pairs"]
