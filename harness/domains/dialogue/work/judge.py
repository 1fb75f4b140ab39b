"""The stage that judges responses by the world's rules."""

from __future__ import annotations

from harness.domains.common.work.files import read_pairs_file, write_json
from harness.graph.stages import StageContext
from sparsepo.data.jsonl import read_jsonl
from tasks.dialogue.judge import compare


def judge(context: StageContext) -> None:
    """Write judged.json: per prompt 1 for a win over the chosen response, ½ for a tie, 0."""
    pairs = {p.pair_id: p for p in read_pairs_file(context.inputs["pairs"] / "test.jsonl")}
    rows = list(read_jsonl(context.inputs["responses"] / "responses.jsonl"))
    scores = []
    for row in rows:
        pair = pairs[row["pair_id"]]
        assert not isinstance(pair.prompt, str)
        assert not isinstance(pair.chosen, str)
        scores.append(compare(pair.prompt, row["response"], pair.chosen[-1]["content"]))
    ids = [row["pair_id"] for row in rows]
    write_json({"pair_ids": ids, "scores": scores}, context.work / "judged.json")
