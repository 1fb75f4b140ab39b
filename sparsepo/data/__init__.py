"""Rows of any format become preference pairs."""

from sparsepo.data.pairs import PairData, ReadReport, build_pairs, read_pairs
from sparsepo.data.split import hold_out

__all__ = ["PairData", "ReadReport", "build_pairs", "hold_out", "read_pairs"]
