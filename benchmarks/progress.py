"""What is being done, on one line of the terminal."""

import sys


def say(text: str) -> None:
    """Show a text in place of the last one; an empty text clears the line."""
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
