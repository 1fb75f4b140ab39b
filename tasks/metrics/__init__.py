"""Text and program metrics, and what may be concluded from their values."""
