"""RougeL as a module of the package evaluate."""

from __future__ import annotations

import evaluate

from tasks.metrics.text.modules import base

DESCRIPTION = """\
ROUGE-L F1 with Porter's stemmer, in [0, 1]: the longest common subsequence of the words of
        prediction
and reference, through the package rouge-score.
"""
CITATION = """\
@inproceedings{lin-2004-rouge,
    title = {{ROUGE}: A Package for Automatic Evaluation of Summaries},
    author = {Lin, Chin-Yew},
    booktitle = {Text Summarization Branches Out},
    year = {2004}
}
"""


class RougeL(base.TextMetricModule):
    """See `DESCRIPTION`."""

    metric_name = "rougeL"

    def _info(self) -> evaluate.MetricInfo:
        return self.describe(
            DESCRIPTION,
            CITATION,
            "https://pypi.org/project/rouge-score/",
            needs="references",
            groups_only=False,
        )
