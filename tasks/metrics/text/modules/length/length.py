"""Length as a module of the package evaluate."""

from __future__ import annotations

import evaluate

from tasks.metrics.text.modules import base

DESCRIPTION = """\
Length of predictions in words separated by white space.
"""
CITATION = """\
@article{christopoulou-2024-sparsepo,
    title = {{SparsePO}: Controlling Preference Alignment of {LLMs} via Sparse Token Masks},
    author = {Christopoulou, Fenia and Cardenas, Ronald and Lampouras, Gerasimos and
        Bou-Ammar, Haitham and Wang, Jun},
    journal = {arXiv preprint arXiv:2410.05102},
    year = {2024}
}
"""


class Length(base.TextMetricModule):
    """See `DESCRIPTION`."""

    metric_name = "length"

    def _info(self) -> evaluate.MetricInfo:
        return self.describe(
            DESCRIPTION,
            CITATION,
            "https://github.com/huggingface/evaluate",
            None,
            groups_only=False,
        )
