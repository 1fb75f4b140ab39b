"""The stage that adds the texts of ready-made pairs to the base model's corpus."""

from __future__ import annotations

from harness.domains.common.work.files import read_pairs_file
from harness.domains.sentiment.work.common import read_texts, write_texts
from harness.graph.stages import StageContext
from tasks.sentiment.reviews import pair_texts


def make_corpus(context: StageContext) -> None:
    """Write corpus.jsonl: the reviews, if there are any, and the texts of the training pairs.

    Both responses of a pair are written, because the base model learns to write, not to prefer.
    """
    texts = list(pair_texts(read_pairs_file(context.inputs["pairs"] / "train.jsonl")))
    if "reviews" in context.inputs:
        reviews = read_texts(context.inputs["reviews"] / "train.jsonl")
        # Distributed evenly, because the base model reads neighbouring documents in one window.
        step = len(reviews) / max(1, len(texts))
        for index, text in enumerate(texts):
            reviews.insert(int(index * step) + index, text)
        texts = reviews
    write_texts(texts, context.work / "corpus.jsonl")
