"""``python -m tests.summac.write_fixtures [--data FOLDER]``: what the package summac computes.

Runs in the tox environment `summac` and writes tests/golden/summac.json, which the project's own
environment compares its scores with. With a folder of the TL;DR files, scores of real rows are
added, under hashes of their texts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tasks.metrics.sentences import ensure_sentence_splitter
from tests.summac.package import patched, scores
from tests.summac.stand_in import TEXTS, digest, real_texts, write_conv_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "summac.json"


def main() -> None:
    """Write the file; real rows that it holds already stay without --data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the files tldr_*.jsonl.gz")
    options = parser.parse_args()
    splitter = ensure_sentence_splitter()
    known = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    module = patched()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "conv.bin"
        write_conv_weights(weights)

        def rows(texts: list[tuple[str, str]]) -> list[list[object]]:
            found = scores(module, "stand-in", texts, str(weights))
            return [
                [digest(*pair), *(round(value, 9) for value in one.values())]
                for pair, one in zip(texts, found, strict=True)
            ]

        golden = {
            "package": "summac 0.0.4",
            "sentences": splitter,
            "columns": ["text", "zs", "zs_entailment", "conv"],
            "own": rows(TEXTS),
            "tldr": rows(real_texts(options.data)) if options.data else known.get("tldr", []),
        }
    GOLDEN.write_text(_text(golden))


def _text(golden: dict[str, object]) -> str:
    lines = []
    for name, value in golden.items():
        if isinstance(value, list) and value and isinstance(value[0], list):
            rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
            lines.append(f' "{name}": [\n{rows}\n ]')
        else:
            lines.append(f' "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
