"""BERTScore F1, through bert-score."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tasks.metrics.text.base import (
    Scores,
    device_or_default,
    package_version,
    paired_with,
    scores_of,
)
from tasks.metrics.text.cache import Key, ScoreCache
from tasks.metrics.text.encoder import (
    MINILM,
    Encoder,
    check_language,
    layers_of,
    load_encoder,
    locate_encoder,
)
from tasks.metrics.text.language import language_notes, unreadable

_EMPTY = "the reference is empty"
_FORWARD_BATCH = 64
"""Texts in a batch of the encoder, bert-score's default."""


class BertScore:
    """F1 of greedily matched token vectors, ``2PR/(P+R)``.

    Every token of the candidate is matched with the reference's most similar one (cosine of the
    encoder's vectors); P is the mean similarity, weighted by IDF if texts for it are given, and R
    the same from the reference's side. An empty candidate has 0, as in the package; an empty
    reference has no value. Without IDF, the weights of [CLS] and [SEP] are 0, all others 1.

    Source:
        Zhang et al., BERTScore: Evaluating Text Generation with BERT (2020).
    """

    name = "bertscore"
    label = "BERTScore"
    higher_is_better = True
    bounds: tuple[float, float | None] = (-1.0, 1.0)
    takes: Literal["candidates"] = "candidates"
    needs: Literal["references"] = "references"

    def __init__(
        self,
        encoder: str = MINILM,
        layers: int | None = None,
        *,
        idf_texts: Sequence[str] | None = None,
        language: str = "en",
        device: str | None = None,
        cache: Path | None = None,
        batch: int = 1024,
    ) -> None:
        """Prepare the metric; the encoder is loaded when the first value is computed.

        Args:
            encoder: ``minilm``, a folder, or a hub id.
            layers: the layer whose vectors are compared; known for ``minilm`` and roberta-large.
            idf_texts: texts whose document frequencies give the IDF weights, the references of the
                training set [paper]; ``None`` for equal weights.
            language: ``en``, or ``any`` for a multilingual encoder.
            device: where the encoder runs; a GPU if there is one.
            cache: folder of cached values.
            batch: candidates in a line of the cache.

        Raises:
            UserError: a package is not installed, or an option has no such value.
        """
        self._version = package_version("bert-score", "bert_score", "BERTScore")
        self._location, self._identity = locate_encoder(encoder)
        self._layers = layers_of(encoder, layers)
        self._idf_texts = None if idf_texts is None else list(idf_texts)
        self._language = check_language(language)
        self._device = device
        self._batch = batch
        self.cache = ScoreCache(cache, self.name, self.signature())

    def signature(self) -> dict[str, str]:
        """Return package, version, model and settings."""
        return {
            "metric": self.name,
            "package": "bert-score",
            "version": self._version,
            "transformers": package_version("transformers", "transformers", "BERTScore"),
            **self._identity,
            "layer": str(self._layers),
            "idf": _idf_name(self._idf_texts),
            "statistic": "F1",
            "rescaled": "no",
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
            UserError: there are not as many references as candidates, or no encoder.
        """
        given = paired_with(candidates, references, "references", self.label)
        keys = [(one.strip(), other.strip()) for one, other in zip(candidates, given, strict=True)]
        problems = {key: self._problem(key) for key in dict.fromkeys(keys)}
        reasons = [problems[key] for key in keys]
        # A reference and its candidates are in one batch, which encodes it once.
        found = self.cache.values(
            [key for key in keys if problems[key] is None],
            self._compute,
            self._batch,
            order=lambda key: (len(key[1]), key[1]),
        )
        notes = language_notes(given, self._language)
        return scores_of(found, reasons, "BERTScore is not a number", notes)

    def _problem(self, key: Key) -> str | None:
        candidate, reference = key
        if not reference:
            return _EMPTY
        return unreadable(reference, self._language) or unreadable(candidate, self._language)

    def _compute(self, keys: list[Key]) -> list[float | None]:
        from bert_score.utils import bert_cos_score_idf

        # The package gives an empty candidate 0, with a warning for each batch.
        found: dict[Key, float | None] = {key: 0.0 for key in keys if not key[0]}
        given = [key for key in keys if key[0]]
        if given:
            encoder = self._encoder
            with _encoding_by(encoder, [text for pair in given for text in pair]):
                scores = bert_cos_score_idf(
                    encoder.model,
                    [reference for _, reference in given],
                    [candidate for candidate, _ in given],
                    encoder.tokenizer,
                    self._idf,
                    batch_size=_FORWARD_BATCH,
                    device=str(encoder.model.device),
                )
            # The package turns an F1 that is not a number into 0.
            defined = ~scores[:, :2].isnan().any(dim=1)
            for key, value, there in zip(given, scores[:, 2].tolist(), defined, strict=True):
                found[key] = value if there else None
        return [found[key] for key in keys]

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self._location, self._layers, device_or_default(self._device))

    @cached_property
    def _idf(self) -> dict[int, float]:
        tokenizer = self._encoder.tokenizer
        if self._idf_texts is None:
            weights: dict[int, float] = defaultdict(lambda: 1.0)
            weights[tokenizer.sep_token_id] = 0.0
            weights[tokenizer.cls_token_id] = 0.0
            return weights
        from bert_score.utils import get_idf_dict

        with _encoding_by(self._encoder, self._idf_texts):
            found: dict[int, float] = get_idf_dict(self._idf_texts, tokenizer, nthreads=0)
        return found


def _idf_name(texts: Sequence[str] | None) -> str:
    if texts is None:
        return "no"
    digest = hashlib.sha256(json.dumps(sorted(texts)).encode()).hexdigest()[:12]
    return f"of {len(texts)} texts ({digest})"


@contextmanager
def _encoding_by(encoder: Encoder, texts: Sequence[str]) -> Iterator[None]:
    """Let bert-score tokenize by calling the tokenizer, all texts at once, which is faster.

    The package's own function calls methods that transformers 5 has no longer for empty texts, and
    passes on the maximum length of tokenizers that have none.
    """
    from bert_score import utils

    distinct = list(dict.fromkeys(text.strip() for text in texts))
    known: dict[str, list[int]] = {}
    if distinct:
        found = encoder.tokenizer(distinct, truncation=True, max_length=encoder.max_tokens)
        known = dict(zip(distinct, found["input_ids"], strict=True))

    def encode(tokenizer: Any, text: str) -> list[int]:
        return known[text.strip()]

    own = utils.sent_encode
    utils.sent_encode = encode
    try:
        yield
    finally:
        utils.sent_encode = own
