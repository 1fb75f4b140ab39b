"""Pairs become tokens, and tokens become packed rows with their attention masks."""
