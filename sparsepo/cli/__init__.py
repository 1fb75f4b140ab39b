"""The command line: ``python -m sparsepo train | inspect``."""
