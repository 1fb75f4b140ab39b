"""Metrics of generated texts, each through its reference package or equal to it."""

from __future__ import annotations

from tasks.metrics.text.base import CandidateMetric, GroupMetric, Scores, TextMetric
from tasks.metrics.text.factory import (
    METRICS,
    TextMetricSettings,
    make_metric,
    score_groups,
)

__all__ = [
    "METRICS",
    "CandidateMetric",
    "GroupMetric",
    "Scores",
    "TextMetric",
    "TextMetricSettings",
    "make_metric",
    "score_groups",
]
