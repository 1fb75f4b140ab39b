"""Entailment of summaries by their documents (SummaC), and EDNA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Literal

from tasks.metrics.sentences import ensure_sentence_splitter
from tasks.metrics.text.base import Scores, counted, package_version, paired_with, scores_of
from tasks.metrics.text.cache import Key, ScoreCache
from tasks.metrics.text.language import language_notes, unreadable
from tasks.metrics.text.nli import NliModel
from tasks.metrics.text.self_bleu import TOO_FEW
from tasks.metrics.text.summac import (
    SHORTEST_SENTENCE,
    Variant,
    images,
    load_conv_weights,
    split_sentences,
    zero_shot,
)

_NO_SENTENCE = (
    f"the text has no sentence of more than {SHORTEST_SENTENCE} characters, the shortest that "
    "SummaC reads"
)


class SummaC:
    """How far a document entails a summary: SummaC-Conv in [0, 1], SummaC-ZS in [−1, 1].

    A text without a sentence that SummaC reads has no value; the package gives such pairs a fixed
    number.
    """

    name = "summac"
    label = "SummaC"
    higher_is_better = True
    takes: Literal["candidates"] = "candidates"
    needs: Literal["documents"] = "documents"

    def __init__(
        self,
        nli: NliModel,
        variant: Variant = "conv",
        *,
        conv_weights: Path | None = None,
        contradiction: bool = True,
        cache: Path | None = None,
        batch: int = 64,
    ) -> None:
        """Prepare the metric.

        Args:
            nli: the model of natural language inference.
            variant: ``conv``, with trained weights, or ``zs`` (zero-shot).
            conv_weights: the checkpoint of ``conv``.
            contradiction: whether ``zs`` subtracts contradiction.
            cache: folder of cached values.
            batch: pairs of texts in a line of the cache.

        Raises:
            UserError: a package or the weights are missing.
        """
        package_version("nltk", "nltk", "SummaC")
        self._nli = nli
        self._variant = variant
        self._batch = batch
        self._splitter = ensure_sentence_splitter()
        self._details = {"subtracts": "contradiction" if contradiction else "nothing"}
        if variant == "conv":
            if conv_weights is None:
                raise ValueError("SummaC-Conv needs weights")
            weights = load_conv_weights(conv_weights)
            self._details = {"conv_weights": weights.digest}
            self._of_image = weights.score
        else:
            self._of_image = lambda image: zero_shot(image, contradiction)
        positive = variant == "conv" or not contradiction
        self.bounds: tuple[float, float | None] = (0.0 if positive else -1.0, 1.0)
        self.cache = ScoreCache(cache, self.name, self.signature())

    def signature(self) -> dict[str, str]:
        """Return method, its package's version, NLI model and settings."""
        return {
            "metric": self.name,
            "method": "SummaC-Conv" if self._variant == "conv" else "SummaC-ZS",
            "as_in": "summac 0.0.4",
            **self._details,
            "granularity": "sentence",
            "sentences": self._splitter,
            "nltk": package_version("nltk", "nltk", "SummaC"),
            **self._nli.signature(),
        }

    def score(
        self,
        candidates: Sequence[str],
        *,
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
    ) -> Scores:
        """Score summaries against the documents that they summarize.

        Args:
            candidates: summaries, n.
            references: not used.
            documents: one per summary, n.

        Returns:
            One value per summary.

        Raises:
            UserError: there are not as many documents as summaries.
        """
        given = paired_with(candidates, documents, "documents", self.label)
        reasons = [
            self.problem(document) or self.problem(candidate)
            for candidate, document in zip(candidates, given, strict=True)
        ]
        keys = [
            (document, candidate)
            for candidate, document, reason in zip(candidates, given, reasons, strict=True)
            if reason is None
        ]
        undefined = "the NLI model's answer is not a number"
        notes = language_notes(given, self._nli.language)
        return scores_of(self.pairs(keys), reasons, undefined, notes)

    def problem(self, text: str) -> str | None:
        """Return why a text cannot be a premise or hypothesis, or ``None`` if it can."""
        if text not in self._problems:
            readable = unreadable(text, self._nli.language)
            self._problems[text] = readable or (None if self._split(text) else _NO_SENTENCE)
        return self._problems[text]

    def pairs(self, keys: Sequence[tuple[str, str]]) -> list[float | None]:
        """Return the value of each (document, summary), both of which have sentences."""
        return self.cache.values(keys, self._compute, self._batch)

    def _compute(self, keys: list[Key]) -> list[float | None]:
        chunks = [(self._split(document), self._split(summary)) for document, summary in keys]
        return [self._of_image(image) for image in images(self._nli, chunks)]

    @property
    def language(self) -> str:
        """The language of the NLI model."""
        return self._nli.language

    @cached_property
    def _problems(self) -> dict[str, str | None]:
        return {}

    @cached_property
    def _split(self) -> Callable[[str], list[str]]:
        found: dict[str, list[str]] = {}

        def split(text: str) -> list[str]:
            if text not in found:
                found[text] = split_sentences(text)
            return found[text]

        return split


class Edna:
    """Diversity and faithfulness of a prompt's samples in one number in [0, 1].

    With n samples s_i of a document D and E(premise, hypothesis) the entailment of SummaC,

        faithful = mean_i E(D, s_i),    self = mean_{i ≠ j} E(s_i, s_j),
        EDNA = 2 · faithful · (1 − self) / (faithful + 1 − self),

    the harmonic mean of document entailment and of what the samples do not say alike: high if the
    samples follow the document and differ from each other. E is SummaC-Conv [code], or SummaC-ZS
    without contradiction, which is in [0, 1] too [ours].

    Source:
        Narayan et al., A Well-Composed Text is Half Done! Composition Sampling for Diverse
        Conditional Generation (2022), with its own NLI classifier as E.
    """

    name = "edna"
    label = "EDNA"
    higher_is_better = True
    bounds: tuple[float, float | None] = (0.0, 1.0)
    takes: Literal["groups"] = "groups"
    needs: Literal["documents"] = "documents"

    def __init__(self, entailment: SummaC) -> None:
        """Prepare the metric.

        Args:
            entailment: SummaC in [0, 1].
        """
        if entailment.bounds[0] < 0.0:
            raise ValueError("EDNA needs an entailment that is never negative")
        self.entailment = entailment

    @property
    def cache(self) -> ScoreCache:
        """The cache of SummaC's values, which decide EDNA."""
        return self.entailment.cache

    def signature(self) -> dict[str, str]:
        """Return SummaC's signature and how its values are combined."""
        combined = {"combined": "harmonic mean of document entailment and 1 - self-entailment"}
        return {**self.entailment.signature(), "metric": self.name, **combined}

    def score(
        self,
        groups: Sequence[Sequence[str]],
        *,
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
    ) -> Scores:
        """Score each group of samples.

        Args:
            groups: the samples of each document, g. Samples that SummaC cannot read are left out.
            references: not used.
            documents: one per group, g.

        Returns:
            One value per group.

        Raises:
            UserError: there are not as many documents as groups.
        """
        given = paired_with(groups, documents, "documents", self.label)
        problem = self.entailment.problem
        kept = [[sample for sample in group if problem(sample) is None] for group in groups]
        reasons = [
            problem(document) or (None if len(group) > 1 else TOO_FEW)
            for group, document in zip(kept, given, strict=True)
        ]
        asked = [
            _asked(document, group) if reason is None else []
            for group, document, reason in zip(kept, given, reasons, strict=True)
        ]
        distinct = list(dict.fromkeys(key for keys in asked for key in keys))
        found = dict(zip(distinct, self.entailment.pairs(distinct), strict=True))
        values = [
            edna(
                [found[key] for key in keys[: len(group)]],
                [found[key] for key in keys[len(group) :]],
            )
            if keys
            else None
            for group, keys in zip(kept, asked, strict=True)
        ]
        reasons = [
            "the NLI model's answer is not a number" if reason is None and value is None else reason
            for reason, value in zip(reasons, values, strict=True)
        ]
        return Scores(values, counted(reasons), language_notes(given, self.entailment.language))


def edna(document: Sequence[float | None], between: Sequence[float | None]) -> float | None:
    """Combine document entailment and self-entailment.

    Args:
        document: entailment of each sample by the document, n.
        between: entailment of each sample by each other one, n(n − 1).

    Returns:
        Their harmonic mean as in `Edna`; 0 if either part is 0, ``None`` if a value is missing.
    """
    given = [value for value in document if value is not None]
    own = [value for value in between if value is not None]
    if len(given) < len(document) or len(own) < len(between):
        return None
    faithful = sum(given) / len(given)
    diverse = 1.0 - sum(own) / len(own)
    total = faithful + diverse
    return 2.0 * faithful * diverse / total if total > 0.0 else 0.0


def _asked(document: str, samples: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs whose entailment decides EDNA: of the document first, then of samples."""
    return [(document, sample) for sample in samples] + list(permutations(samples, 2))
