"""Edna as a module of the package evaluate."""

from __future__ import annotations

import evaluate

from tasks.metrics.text.modules import base

DESCRIPTION = """\
EDNA in [0, 1]: the harmonic mean of the entailment of a prompt's samples by its document and of one
minus their entailment by each other, both through SummaC: high if samples are faithful and differ.
Settings name the NLI model (nli).
"""
CITATION = """\
@inproceedings{narayan-2022-well,
    title = {A Well-Composed Text is Half Done! Composition Sampling for Diverse Conditional
        Generation},
    author = {Narayan, Shashi and Simoes, Goncalo and Zhao, Yao and Maynez, Joshua and Das,
        Dipanjan and Collins, Michael and Lapata, Mirella},
    booktitle = {Proceedings of ACL},
    year = {2022}
}
"""


class Edna(base.TextMetricModule):
    """See `DESCRIPTION`."""

    metric_name = "edna"

    def _info(self) -> evaluate.MetricInfo:
        return self.describe(
            DESCRIPTION,
            CITATION,
            "https://github.com/tingofurro/summac",
            needs="documents",
            groups_only=True,
        )
