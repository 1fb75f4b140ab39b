"""Samples of a causal language model that depend on their own seeds and on nothing else."""

from sparsepo.generation.decode import TransformersBackend
from sparsepo.generation.requests import Request, Response, Sampling
from sparsepo.generation.seeds import sample_seeds

__all__ = ["Request", "Response", "Sampling", "TransformersBackend", "sample_seeds"]
