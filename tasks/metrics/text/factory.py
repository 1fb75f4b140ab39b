"""Metrics by name, from one set of settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sparsepo.errors import UserError, require_choice
from tasks.metrics.text.base import CandidateMetric, GroupMetric, Scores, paired_with
from tasks.metrics.text.bertscore import BertScore
from tasks.metrics.text.encoder import MINILM
from tasks.metrics.text.entailment import Edna, SummaC
from tasks.metrics.text.length import Length
from tasks.metrics.text.nli import NliModel, TransformersNli
from tasks.metrics.text.rouge import RougeL
from tasks.metrics.text.self_bleu import SelfBleu
from tasks.metrics.text.summac import Variant, published_conv_weights


@dataclass(frozen=True, slots=True)
class TextMetricSettings:
    """What decides the values of all text metrics."""

    encoder: str = MINILM
    """BERTScore's encoder: ``minilm``, a folder or a hub id; the paper's is roberta-large."""
    encoder_layers: int | None = None
    """The layer that BERTScore compares; known for ``minilm`` (6) and roberta-large (17)."""
    idf_texts: Sequence[str] | None = None
    """Texts whose document frequencies weight BERTScore's tokens: the references of the training
    set [paper]. ``None`` for equal weights."""
    nli: str | NliModel | None = None
    """The NLI model of SummaC and EDNA: a folder, a hub id, or a loaded one. SummaC's own is
    `tasks.metrics.text.nli.SUMMAC_NLI`."""
    summac: Variant = "conv"
    """``conv`` [code], or ``zs``, which needs no trained weights."""
    conv_weights: Path | None = None
    """Weights of SummaC-Conv; ``None`` downloads the published ones, which belong to SummaC's own
    NLI model."""
    language: str = "en"
    """Language of encoder and NLI model; ``any`` for multilingual ones."""
    device: str | None = None
    """Where models run; a GPU if there is one."""
    cache: Path | None = None
    """Folder of cached values; ``None`` keeps them in memory."""


def make_metric(
    name: str, settings: TextMetricSettings | None = None
) -> CandidateMetric | GroupMetric:
    """Return a metric.

    Args:
        name: one of `METRICS`.
        settings: of all metrics; each takes what concerns it.

    Raises:
        UserError: there is no such metric, its package is not installed, or a model that it needs
            is not set or cannot be loaded.
    """
    require_choice("A text metric", name, METRICS)
    return METRICS[name](settings or TextMetricSettings())


def _bertscore(settings: TextMetricSettings) -> BertScore:
    return BertScore(
        settings.encoder,
        settings.encoder_layers,
        idf_texts=settings.idf_texts,
        language=settings.language,
        device=settings.device,
        cache=settings.cache,
    )


def _summac(settings: TextMetricSettings, contradiction: bool = True) -> SummaC:
    if settings.nli is None:
        raise UserError(
            "SummaC and EDNA need an NLI model; set nli to a folder or a hub id, such as SummaC's "
            "own, tals/albert-xlarge-vitaminc-mnli."
        )
    nli = settings.nli
    if isinstance(nli, str):
        nli = TransformersNli(nli, device=settings.device, language=settings.language)
    weights = settings.conv_weights
    if settings.summac == "conv" and weights is None:
        weights = published_conv_weights(settings.cache or Path.home() / ".cache" / "sparsepo")
    return SummaC(
        nli,
        settings.summac,
        conv_weights=weights,
        contradiction=contradiction,
        cache=settings.cache,
    )


METRICS: dict[str, Callable[[TextMetricSettings], CandidateMetric | GroupMetric]] = {
    "rougeL": lambda settings: RougeL(settings.cache),
    "bertscore": _bertscore,
    "self_bleu": lambda settings: SelfBleu(settings.cache),
    "edna": lambda settings: Edna(_summac(settings, contradiction=False)),
    "summac": _summac,
    "length": lambda settings: Length(),
}


def score_groups(
    metric: CandidateMetric | GroupMetric,
    groups: Sequence[Sequence[str]],
    *,
    references: Sequence[str] | None = None,
    documents: Sequence[str] | None = None,
) -> Scores:
    """Score prompts that have several samples each: one value per prompt for any metric.

    A metric of single texts has the mean over the prompt's samples that have a value.

    Args:
        metric: any.
        groups: the samples of each prompt, g.
        references: one per prompt, g, if the metric needs them.
        documents: one per prompt, g, if the metric needs them.

    Returns:
        One value per prompt, ``None`` if none of its samples has one. `missing` counts samples for
        a metric of single texts, prompts for one of groups.

    Raises:
        UserError: there are not as many references or documents as groups.
    """
    if metric.takes == "groups":
        return cast(GroupMetric, metric).score(groups, references=references, documents=documents)
    flat = [sample for group in groups for sample in group]

    def repeated(texts: Sequence[str] | None, kind: str) -> list[str] | None:
        if metric.needs != kind:
            return None
        given = paired_with(groups, texts, kind, metric.label)
        return [text for text, group in zip(given, groups, strict=True) for _ in group]

    found = cast(CandidateMetric, metric).score(
        flat,
        references=repeated(references, "references"),
        documents=repeated(documents, "documents"),
    )
    values, start = [], 0
    for group in groups:
        values.append(Scores(found.values[start : start + len(group)]).mean())
        start += len(group)
    return Scores(values, found.missing, found.notes)
