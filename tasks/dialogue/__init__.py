"""Helpful and harmless dialogue: the reader of HH, the embedded world and its judge."""
