"""Rows of any format become preference pairs."""

from sparsepo.data.pairs import PairData, ReadReport, build_pairs, pairs_of_rows, read_pairs

__all__ = ["PairData", "ReadReport", "build_pairs", "pairs_of_rows", "read_pairs"]
