"""SummaC: entailment of a summary by a document, from NLI between their sentences.

The package summac pins a huggingface-hub that transformers 5 does not accept. This file computes
what its SummaCZS and SummaCConv compute, from NLI probabilities of any model; fixtures that the
package itself writes in an environment of its own (``tox -e summac``) hold it to 1e-6.

Source:
    Laban et al., SummaC: Re-Visiting NLI-based Models for Inconsistency Detection in Summarization
    (2022); the package's `SummaCImager`, `SummaCZS` and `SummaCConv` (0.0.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sparsepo.errors import UserError, first_line
from tasks.metrics.sentences import ensure_sentence_splitter
from tasks.metrics.text.base import FloatArray
from tasks.metrics.text.nli import NliModel

if TYPE_CHECKING:
    from torch import Tensor

Variant = Literal["conv", "zs"]

SHORTEST_SENTENCE = 10
"""Sentences of at most this many characters are left out."""
MOST_SENTENCES = 100
"""Only the first sentences of a document are read."""
MOST_HYPOTHESES = 10
"""SummaC-Conv reads this many sentences of a summary."""

CONV_URL = "https://github.com/tingofurro/summac/raw/master/summac_conv_vitc_sent_perc_e.bin"
"""Where SummaC's authors publish the weights of SummaC-Conv."""
CONV_SHA256 = "cd880581f59bd47b8968c7f48d754cd617dfe9b256d8d76fdcbc0fa4a3b3c6fe"

# The package's bins "percentile", which the published weights were trained with.
_BINS = (
    *(0.0, 0.01, 0.02, 0.03, 0.04, 0.07, 0.13, 0.37, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.955),
    *(0.96, 0.965, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 1.0),
)
CONV_SHAPES = {
    "mlp.weight": (1, len(_BINS) - 1),
    "mlp.bias": (1,),
    "layer_final.weight": (2, 3),
    "layer_final.bias": (2,),
}
"""Names and shapes of the weights."""


def split_sentences(text: str) -> list[str]:
    """Split a text as SummaC does: nltk's sentences of more than ten characters."""
    from nltk.tokenize import sent_tokenize

    ensure_sentence_splitter()
    return [sentence for sentence in sent_tokenize(text) if len(sentence) > SHORTEST_SENTENCE]


def images(
    nli: NliModel, chunks: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> list[FloatArray]:
    """Return the NLI probabilities of every document sentence with every summary sentence.

    Args:
        nli: the model.
        chunks: the sentences of document (D of them) and summary (S), for each pair of texts.

    Returns:
        One image per pair of texts, (3, D, S): entailment, contradiction, neutral, as in the
        package; (3, 1, 1) of zeros if either text has no sentence.
    """
    asked = [list(product(document[:MOST_SENTENCES], summary)) for document, summary in chunks]
    distinct = list(dict.fromkeys(pair for pairs in asked for pair in pairs))
    found = nli.probabilities(distinct)[:, [0, 2, 1]] if distinct else np.empty((0, 3))
    place = {pair: i for i, pair in enumerate(distinct)}
    result: list[FloatArray] = []
    for pairs, (_, summary) in zip(asked, chunks, strict=True):
        if not pairs:
            result.append(np.zeros((3, 1, 1)))
            continue
        rows = found[[place[pair] for pair in pairs]]
        result.append(rows.T.reshape(3, -1, len(summary)))
    return result


def zero_shot(image: FloatArray, contradiction: bool = True) -> float:
    """Return the score of SummaC-ZS.

    Over document sentences d and summary sentences s,
    ``mean_s (max_d entailment(d, s) − max_d contradiction(d, s))``, in [−1, 1]; without the second
    term in [0, 1].

    Args:
        image: probabilities, (3, D, S).
        contradiction: whether the second term is subtracted, as by the package's default.
    """
    scores = image[0].max(axis=0)
    if contradiction:
        scores = scores - image[1].max(axis=0)
    return float(scores.mean())


@dataclass(frozen=True)
class ConvWeights:
    """The trained layer of SummaC-Conv, in the format of its checkpoint."""

    mlp_weight: Tensor
    mlp_bias: Tensor
    final_weight: Tensor
    final_bias: Tensor
    digest: str
    """Hash of the checkpoint's content."""

    def score(self, image: FloatArray) -> float:
        """Return the score of SummaC-Conv, in [0, 1].

        For each of the first ten summary sentences, a histogram of its entailment probabilities
        over the document's sentences, and from it one number by the trained layer; their mean goes
        through a second layer and a softmax.

        Args:
            image: probabilities, (3, D, S).
        """
        import torch
        from torch.nn import functional

        rows = [
            np.histogram(column, range=(0, 1), bins=list(_BINS), density=False)[0]
            for column in image[0].T[:MOST_HYPOTHESES]
        ]
        histograms = torch.tensor(np.array(rows), dtype=torch.float32)
        per_sentence = functional.linear(histograms, self.mlp_weight, self.mlp_bias)[:, 0]
        # The package's other aggregations put minimum, mean and maximum here.
        features = per_sentence.mean().expand(3)
        logits = functional.linear(features, self.final_weight, self.final_bias)
        return float(logits.softmax(-1)[1])


def load_conv_weights(file: Path) -> ConvWeights:
    """Read a checkpoint of SummaC-Conv: one NLI model, label "e", bins "percentile".

    Args:
        file: what the package calls ``start_file``.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"There are no weights of SummaC-Conv at {file}; download them from {CONV_URL}."
        ) from None
    except Exception as error:  # torch and pickle raise what they find in the file
        raise UserError(
            f"{file} is not a checkpoint of SummaC-Conv ({first_line(error)}); download one from "
            f"{CONV_URL}."
        ) from None
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != CONV_SHAPES:
        raise UserError(
            f"{file} is not a checkpoint of SummaC-Conv with one NLI model, the label e and the "
            f"bins 'percentile'; download one from {CONV_URL}."
        )
    digest = hashlib.sha256()
    for name in CONV_SHAPES:
        digest.update(state[name].float().numpy().tobytes())
    mlp_weight, mlp_bias, final_weight, final_bias = (state[name].float() for name in CONV_SHAPES)
    return ConvWeights(mlp_weight, mlp_bias, final_weight, final_bias, digest.hexdigest()[:16])


def published_conv_weights(folder: Path) -> Path:
    """Return the authors' weights of SummaC-Conv, downloading them (2 kB) if they are not there.

    Args:
        folder: where they are kept.

    Raises:
        UserError: they cannot be downloaded, or are not the file that is expected.
    """
    file = folder / CONV_URL.rpartition("/")[2]
    if not file.is_file():
        import torch

        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(
                CONV_URL, str(file), hash_prefix=CONV_SHA256, progress=False
            )
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"The weights of SummaC-Conv cannot be downloaded ({first_line(error)}); save "
                f"{CONV_URL} and set conv_weights to the file."
            ) from None
    return file
