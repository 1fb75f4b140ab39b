"""What both environments share: texts, an NLI model without weights, weights of SummaC-Conv.

The stand-in's probabilities are a function of the two sentences alone. Fixtures made with it depend
on what SummaC does with probabilities and on nothing else: no model, no library's last bits.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

BINS = 23

DOCUMENT = (
    "My sister Ruth bought a small bakery in Leeds last spring. She borrowed 4,000 pounds from our "
    "uncle, Dr. Hale, and promised to pay it back by Christmas. The oven broke in June. "
    "I lent her another 900 pounds for the repair, i.e. most of my savings!\n\n"
    "Now she says that the shop makes no profit. Our uncle calls me twice a week. Should I tell "
    "him that she has a new car? Ok. I do not want to lose my sister over this."
)
TEXTS = [
    (DOCUMENT, "Sister borrowed money for her bakery and bought a car. Should I tell our uncle?"),
    (DOCUMENT, "My uncle owns a bakery in Leeds. It makes a large profit."),
    (DOCUMENT, DOCUMENT),
    (DOCUMENT, "no full stop at the end of this one"),
    (DOCUMENT, "Short."),
    (DOCUMENT, ""),
    ("", "The document is empty, the summary is not."),
    ("Tiny. Bits. No.", "The document has no sentence that is long enough."),
    (DOCUMENT, "Ruth's café in Köln naïvely lost 900 £ — «très triste», said Dr. Hale. Why?"),
    (DOCUMENT, " ".join(f"This is sentence number {i} of a long summary." for i in range(14))),
    (" ".join(f"Fact {i} is that house {i} is blue." for i in range(130)), "House 120 is blue."),
    ("One line without an end\nand a second one\n\nand a third", "A line, and then another line."),
]
"""Documents and summaries, the odd ones included."""


def probabilities(pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
    """Return made-up probabilities of entailment, neutral, contradiction, (pairs, 3), float32."""
    digests = [hashlib.sha256("\0".join(pair).encode()).digest()[:12] for pair in pairs]
    numbers = np.array([np.frombuffer(digest, dtype="<u4") for digest in digests], np.float64)
    logits = 14.0 * numbers / 2.0**32 - 7.0
    return torch.tensor(logits, dtype=torch.float32).softmax(-1)


class StandIn:
    """The stand-in as this project's NLI model."""

    language = "en"

    def signature(self) -> dict[str, str]:
        return {"nli": "stand-in"}

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return probabilities(pairs).double().numpy()


def write_conv_weights(file: Path) -> None:
    """Write weights of SummaC-Conv whose scores spread over (0, 1)."""
    state = {
        "mlp.weight": torch.linspace(-1.0, 1.5, BINS).square()[None] - 0.5,
        "mlp.bias": torch.tensor([-0.3]),
        "layer_final.weight": torch.tensor([[0.3, -0.2, 0.4], [-0.5, 0.7, 0.9]]),
        "layer_final.bias": torch.tensor([0.2, -0.4]),
    }
    torch.save(state, file)


def real_texts(folder: Path) -> list[tuple[str, str]]:
    """Return 300 documents and summaries of the files tldr_* in a folder."""
    found: list[tuple[str, str]] = []
    with gzip.open(folder / "tldr_rated_test.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            found += [(row["post"], summary) for summary in row["responses"]]
    with gzip.open(folder / "tldr_prompts.jsonl.gz", "rt", encoding="utf-8") as file:
        found += [(row["post"], row["summary"]) for row in map(json.loads, file)]
    return found[:150] + found[-150:]


def digest(document: str, summary: str) -> str:
    """Return what names a pair of texts in a fixture."""
    return hashlib.sha256(f"{document}\0{summary}".encode()).hexdigest()[:16]
