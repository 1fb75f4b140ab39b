"""Length of a text in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tasks.metrics.text.base import Scores


class Length:
    """Number of words separated by white space; 0 for an empty text."""

    name = "length"
    label = "words"
    higher_is_better: bool | None = None
    bounds: tuple[float, float | None] = (0.0, None)
    takes: Literal["candidates"] = "candidates"
    needs: None = None

    def signature(self) -> dict[str, str]:
        """Return what a word is."""
        return {"metric": self.name, "package": "none", "words": "separated by white space"}

    def score(
        self,
        candidates: Sequence[str],
        *,
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
    ) -> Scores:
        """Count the words of each candidate.

        Args:
            candidates: texts, n.
            references: not used.
            documents: not used.

        Returns:
            The number of words of each candidate.
        """
        return Scores([float(len(text.split())) for text in candidates])
