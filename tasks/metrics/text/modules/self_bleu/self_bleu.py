"""SelfBleu as a module of the package evaluate."""

from __future__ import annotations

import evaluate

from tasks.metrics.text.modules import base

DESCRIPTION = """\
Self-BLEU in [0, 100]: the mean BLEU of each sample of a prompt with the other samples as
        references,
through the package sacrebleu. 100 means that all samples are the same.
"""
CITATION = """\
@inproceedings{zhu-2018-texygen,
    title = {Texygen: A Benchmarking Platform for Text Generation Models},
    author = {Zhu, Yaoming and Lu, Sidi and Zheng, Lei and Guo, Jiaxian and Zhang, Weinan and
        Wang, Jun and Yu, Yong},
    booktitle = {SIGIR},
    year = {2018}
}
@inproceedings{post-2018-call,
    title = {A Call for Clarity in Reporting {BLEU} Scores},
    author = {Post, Matt},
    booktitle = {Third Conference on Machine Translation},
    year = {2018}
}
"""


class SelfBleu(base.TextMetricModule):
    """See `DESCRIPTION`."""

    metric_name = "self_bleu"

    def _info(self) -> evaluate.MetricInfo:
        return self.describe(
            DESCRIPTION,
            CITATION,
            "https://github.com/mjpost/sacrebleu",
            needs=None,
            groups_only=True,
        )
