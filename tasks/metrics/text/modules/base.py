"""What the modules of evaluate share."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import datasets
import evaluate

from sparsepo.errors import UserError, did_you_mean
from tasks.metrics.text.base import CandidateMetric, Needs, text_of_signature
from tasks.metrics.text.factory import TextMetricSettings, make_metric, score_groups

INPUTS = """\
Args:
    predictions: a list of texts, or, with several samples of each prompt, a list of lists of texts.
    {needs}
    settings: a dictionary of options, the same for all text metrics, so that evaluate.combine can
        hand it to each: encoder, encoder_layers, idf_texts, nli, summac, conv_weights, language,
        device, cache (tasks/metrics/text/factory.py).

Returns:
    {name}: the mean, or None if no value can be computed.
    {name}_values: one value per prediction (the mean of its samples, where there are several), None
        where it cannot be computed.
    {name}_missing: why values are missing, and how many.
    {name}_signature: package, version, model and settings.
"""
_NEEDS = {
    "references": "references: a list of texts, one per prediction or list of samples.",
    "documents": "documents: a list of texts, one per prediction or list of samples.",
    None: "(nothing else is compared.)",
}


class TextMetricModule(evaluate.Metric, ABC):
    """A text metric behind evaluate's interface; a subclass names it and describes it."""

    metric_name: str

    def describe(
        self, description: str, citation: str, url: str, needs: Needs | None, groups_only: bool
    ) -> evaluate.MetricInfo:
        """Return what evaluate shows of a module.

        Args:
            description: what is measured, and how.
            citation: BibTeX.
            url: of the reference package.
            needs: what predictions are compared with.
            groups_only: whether predictions must be lists of samples.
        """
        text = datasets.Value("string")
        other: dict[str, Any] = {needs: text} if needs else {}
        forms = [datasets.List(text)] if groups_only else [datasets.List(text), text]
        features = [datasets.Features({"predictions": form, **other}) for form in forms]
        return evaluate.MetricInfo(
            description=description,
            citation=citation,
            inputs_description=INPUTS.format(name=self.metric_name, needs=_NEEDS[needs]),
            features=features,
            reference_urls=[url],
        )

    def _compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[str] | None = None,
        documents: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        name = self.metric_name
        metric = make_metric(name, settings_of(settings or {}))
        if predictions and isinstance(predictions[0], str):
            single = cast(CandidateMetric, metric)
            found = single.score(predictions, references=references, documents=documents)
        else:
            found = score_groups(metric, predictions, references=references, documents=documents)
        return {
            name: found.mean(),
            f"{name}_values": found.values,
            f"{name}_missing": found.missing,
            f"{name}_signature": text_of_signature(metric.signature()),
        }


def settings_of(options: Mapping[str, Any]) -> TextMetricSettings:
    """Return the settings that a user gave as a dictionary.

    Raises:
        UserError: an option has no such name.
    """
    known = TextMetricSettings.__dataclass_fields__
    for name in options:
        if name not in known:
            raise UserError(
                f"Text metrics have no setting {name!r}.{did_you_mean(name, known)} "
                f"Choose among: {', '.join(known)}."
            )
    files = {name: Path(options[name]) for name in ("cache", "conv_weights") if options.get(name)}
    return TextMetricSettings(**{**options, **files})
