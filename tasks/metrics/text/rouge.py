"""ROUGE-L with stemming, through rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tasks.metrics.text.base import Scores, package_version, paired_with, scores_of
from tasks.metrics.text.cache import Key, ScoreCache

_NO_WORDS = "the reference has no word that ROUGE counts (letters a–z and digits)"


class RougeL:
    """F1 of the longest common subsequence of stemmed words, ``2PR/(P+R)`` in [0, 1].

    P and R are the subsequence's share of the candidate's and of the reference's words. An empty
    candidate has 0. A reference without any word that the package's tokenizer keeps has no value:
    the package gives 0 for every candidate then, its own copy included.

    Source:
        Lin, ROUGE: A Package for Automatic Evaluation of Summaries (2004); rouge-score's ``rougeL``
        with ``use_stemmer=True`` [paper].
    """

    name = "rougeL"
    label = "ROUGE-L"
    higher_is_better = True
    bounds: tuple[float, float | None] = (0.0, 1.0)
    takes: Literal["candidates"] = "candidates"
    needs: Literal["references"] = "references"

    def __init__(self, cache: Path | None = None, batch: int = 1024) -> None:
        self._version = package_version("rouge-score", "rouge_score", "ROUGE-L")
        self._batch = batch
        self.cache = ScoreCache(cache, self.name, self.signature())

    def signature(self) -> dict[str, str]:
        """Return package, version and settings."""
        return {
            "metric": self.name,
            "package": "rouge-score",
            "version": self._version,
            "statistic": "F1",
            "stemmer": "porter",
        }

    def score(
        self,
        candidates: Sequence[str],
        *,
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
    ) -> Scores:
        """Score candidates against one reference each.

        Args:
            candidates: texts, n.
            references: one per candidate, n.
            documents: not used.

        Returns:
            F1 of each candidate.

        Raises:
            UserError: there are not as many references as candidates.
        """
        given = paired_with(candidates, references, "references", self.label)
        tokenize = self._scorer._tokenizer.tokenize
        has_words = {text: bool(tokenize(text)) for text in set(given)}
        reasons = [None if has_words[text] else _NO_WORDS for text in given]
        keys = [
            key
            for key, reason in zip(zip(candidates, given, strict=True), reasons, strict=True)
            if reason is None
        ]
        return scores_of(self.cache.values(keys, self._compute, self._batch), reasons)

    def _compute(self, keys: list[Key]) -> list[float | None]:
        return [
            float(self._scorer.score(reference, candidate)["rougeL"].fmeasure)
            for candidate, reference in keys
        ]

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(["rougeL"], use_stemmer=True)
