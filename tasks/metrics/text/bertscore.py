"""BERTScore F1, through bert-score."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

_EMPTY = "the reference is empty"
_FORWARD_BATCH = 64
"""Texts in a batch of the encoder, bert-score's default."""


class TokenVectors(NamedTuple):
    """What is matched of one text of k tokens."""

    states: Float[Tensor, "k width"]
    weights: Float[Tensor, "k"]
    """IDF weights."""


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
        # The package gives an empty candidate 0, with a warning for each batch.
        found: dict[Key, float | None] = {key: 0.0 for key in keys if not key[0]}
        given = [key for key in keys if key[0]]
        # Without any, the encoder need not be loaded.
        vectors = self._vectors([text for pair in given for text in pair]) if given else {}
        for start in range(0, len(given), _FORWARD_BATCH):
            batch = given[start : start + _FORWARD_BATCH]
            scores = _matched(batch, vectors, self._encoder.model.device)
            found |= zip(batch, scores, strict=True)
        return [found[key] for key in keys]

    def _vectors(self, texts: Sequence[str]) -> dict[str, TokenVectors]:
        """Encode each distinct text once.

        The package's own loop sorts texts by words, and equally long ones by Python's hash of
        them. Sorted by tokens, batches have less padding and are the same in every process.
        """
        from bert_score.utils import get_bert_embedding

        encoder, idf = self._encoder, self._idf
        ids = _token_ids(encoder, texts)
        ordered = sorted(ids, key=lambda text: (len(ids[text]), text), reverse=True)
        found: dict[str, TokenVectors] = {}
        with _tokenized_as(ids):
            for start in range(0, len(ordered), _FORWARD_BATCH):
                batch = ordered[start : start + _FORWARD_BATCH]
                vectors, _, weights = get_bert_embedding(
                    batch, encoder.model, encoder.tokenizer, idf, device=str(encoder.model.device)
                )
                # Not all texts' vectors fit on a GPU.
                for text, own, own_weights in zip(batch, vectors.cpu(), weights, strict=True):
                    length = len(ids[text])
                    found[text] = TokenVectors(own[:length], own_weights[:length])
        return found

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

        with _tokenized_as(_token_ids(self._encoder, self._idf_texts)):
            found: dict[int, float] = get_idf_dict(self._idf_texts, tokenizer, nthreads=0)
        return found


def _idf_name(texts: Sequence[str] | None) -> str:
    if texts is None:
        return "no"
    digest = hashlib.sha256(json.dumps(sorted(texts)).encode()).hexdigest()[:12]
    return f"of {len(texts)} texts ({digest})"


def _matched(
    keys: Sequence[Key], vectors: Mapping[str, TokenVectors], device: torch.device
) -> list[float | None]:
    """Return the F1 of (candidate, reference) pairs by the package's greedy matching."""
    import torch
    from bert_score.utils import greedy_cos_idf
    from torch.nn.utils.rnn import pad_sequence

    def padded(texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        own = [vectors[text] for text in texts]
        # As in the package: a padded vector must not be zero, because it is divided by its norm.
        states = pad_sequence([one.states for one in own], batch_first=True, padding_value=2.0)
        weights = pad_sequence([one.weights for one in own], batch_first=True)
        lengths = torch.tensor([len(one.weights) for one in own])
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        return states.to(device), mask.to(device), weights.to(device)

    with torch.no_grad():
        precision, recall, f1 = greedy_cos_idf(
            *padded([reference for _, reference in keys]),
            *padded([candidate for candidate, _ in keys]),
        )
    # The package turns an F1 that is not a number into 0.
    defined = ~(precision.isnan() | recall.isnan())
    return [
        value if there else None for value, there in zip(f1.tolist(), defined.tolist(), strict=True)
    ]


def _token_ids(encoder: Encoder, texts: Sequence[str]) -> dict[str, list[int]]:
    """Tokenize distinct texts all at once, which is faster than the package's one by one."""
    distinct = list(dict.fromkeys(text.strip() for text in texts))
    if not distinct:
        return {}
    found = encoder.tokenizer(distinct, truncation=True, max_length=encoder.max_tokens)
    return dict(zip(distinct, found["input_ids"], strict=True))


@contextmanager
def _tokenized_as(known: Mapping[str, list[int]]) -> Iterator[None]:
    """Let bert-score take these token ids instead of tokenizing.

    Its own function calls methods that transformers 5 has no longer for empty texts, and passes
    on the maximum length of tokenizers that have none.
    """
    from bert_score import utils

    def encode(tokenizer: Any, text: str) -> list[int]:
        return known[text.strip()]

    own = utils.sent_encode
    utils.sent_encode = encode
    try:
        yield
    finally:
        utils.sent_encode = own
