"""Tiny base models, and sampling from any causal model."""
