"""Helpful and harmless dialogue: HH's reader, the embedded world, its judge and base model."""
