"""SummaC as a module of the package evaluate."""

from __future__ import annotations

import evaluate

from tasks.metrics.text.modules import base

DESCRIPTION = """\
SummaC: whether a document entails its summary, from natural language inference between their
sentences. SummaC-Conv is in [0, 1], SummaC-ZS in [-1, 1]. Settings name the NLI model (nli).
"""
CITATION = """\
@article{laban-2022-summac,
    title = {{SummaC}: Re-Visiting {NLI}-based Models for Inconsistency Detection in Summarization},
    author = {Laban, Philippe and Schnabel, Tobias and Bennett, Paul N. and Hearst, Marti A.},
    journal = {Transactions of the Association for Computational Linguistics},
    year = {2022}
}
"""


class SummaC(base.TextMetricModule):
    """See `DESCRIPTION`."""

    metric_name = "summac"

    def _info(self) -> evaluate.MetricInfo:
        return self.describe(
            DESCRIPTION,
            CITATION,
            "https://github.com/tingofurro/summac",
            needs="documents",
            groups_only=False,
        )
