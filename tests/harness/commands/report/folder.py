"""A small folder of results: a table, token maps, samples, and texts that try to be markup."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.domains.common.samples import Response, Sample, SampleSet, samples_file, samples_name
from harness.graph.stages import Stage
from tests.harness.render.test_table import table

HOSTILE = (
    '</script><script>document.title = "ran"; alert(1)</script>'
    '<img src="http://example.org/x.png" onerror="alert(2)"><b>bold</b>{{ 7 * 7 }}'
)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d4944415478da63fcffff3f030005fe02fea7d6a3e50000000049454e44ae426082"
)
"""The smallest PNG: one white pixel."""
ROWS = {"sft": "SFT", "dpo": "DPO", "tdpo1": "TDPO v1"}
SCORES = {"win": "win against chosen", "verdict": "verdict on this program"}
SOURCE = Stage("a stage", "harness.domains.dialogue.work.world:make_world")

TOKENS = {
    "text": "good film",
    "tokens": ["good", " film", ""],
    "token_ids": [1, 2, 3],
    "policy_logps": [-0.5, -1.0, -0.1],
    "ref_logps": [-1.0, -0.5, -0.1],
    "log_ratios": [0.5, -0.5, 0.0],
    "kl": [0.1, 0.2, 0.0],
    "reward_mask": [1.0, 0.0, 0.5],
    "kl_mask": None,
    "rewards": [0.05, -0.05, 0.0],
    "masked_rewards": [0.05, 0.0, 0.0],
    "weighted_kl": None,
    "masked_kl": None,
    "contributions": [0.05, 0.0, 0.0],
    "reward": 0.05,
}


def samples(count: int, text: str = "A response") -> list[Sample]:
    """Return samples of two chains and groups; the win of DPO falls with the number."""
    return [
        Sample(
            id=f"pair:{number}",
            chain=42 + number % 2,
            group=("first half", "second half")[2 * number // count],
            prompt=[{"role": "user", "content": f"Question {number}?"}],
            responses=[
                Response(row, f"{text} {number} by {row}", _scores(number, row)) for row in ROWS
            ],
            references={"chosen": f"What was chosen in {number}"},
        )
        for number in range(count)
    ]


def _scores(number: int, row: str) -> dict[str, float | str | None]:
    win = -float(number) if row == "dpo" else None
    return {"win": win, "verdict": "passed" if number % 3 else "failed"}


def token_samples() -> list[Sample]:
    """Return one sample whose responses have token maps, the last one without a mask."""
    maps: list[Mapping[str, Any]] = [TOKENS, TOKENS, {**TOKENS, "masked_rewards": None}]
    responses = [
        Response(row, "good film", {"win": 1.0}, tokens=own)
        for row, own in zip(ROWS, maps, strict=True)
    ]
    return [Sample("pair:0", 42, "chosen response", "This is a", responses)]


def write_samples_of(folder: Path, name: str, found: list[Sample], **changes: Any) -> Path:
    """Write an experiment's file of samples beside its result."""
    values: dict[str, Any] = {"rows": ROWS, "scores": SCORES, **changes}
    file = folder / samples_name(name)
    content = samples_file(name, SampleSet(sources=[SOURCE], read=lambda: found, **values), file)
    assert content is not None
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def write_result(results: Path, name: str, result: Mapping[str, Any]) -> Path:
    """Write a result's JSON where `run` writes it."""
    folder = results / "tiny" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result['id']}.json").write_text(json.dumps(result))
    return folder


def small_table(**changes: Any) -> dict[str, Any]:
    """Return a table's JSON with ids, values of chains, and other values in each row."""
    made = table(**changes)
    made["provenance"]["settings"] = {"seed": 42}
    for part in (made, made["supplement"]):
        for place, row in enumerate(part["rows"]):
            row["id"] = row["method"]
            for column, cell in row["values"].items():
                if cell is not None:
                    cell["mean"] += 5.0 * (column == "math_hard") * (1 if place == 1 else -1)
                    cell["per_chain"] = [cell["mean"] - 1.0, cell["mean"], cell["mean"] + 1.0]
    return made


def map_figure() -> dict[str, Any]:
    """Return the JSON of a figure without rows."""
    return {
        "id": "figure4",
        "title": "Token rewards and token KL after the masks",
        "profile": "tiny",
        "methods": ROWS,
        "beta": 0.1,
        "pair_id": "pair:0",
        "maps": {},
        "provenance": {"git_commit": "0123456789abcdef", "git_dirty": False},
        "notes": ["One pair."],
    }


def write_results(results: Path, count: int = 260) -> None:
    """Write a table with samples, a figure with token maps, and a picture."""
    folder = write_result(results, "table1", small_table())
    (folder / "table1.png").write_bytes(PIXEL)
    (folder / "timings.json").write_text("{}")
    write_samples_of(folder, "table1", samples(count))
    maps = write_result(results, "figure4", map_figure())
    write_samples_of(maps, "figure4", token_samples())


PART = {
    "of": "SparsePO (common) − DPOP, Avg",
    "statement": "> 0",
    "estimate": 1.5,
    "ci95": [-0.5, 3.5],
    "n": 5,
    "p": 0.06,
    "p_against": 0.94,
    "unit": "points",
    "items": 900,
}
CLAIM = {
    "id": "c1",
    "section": "4.1",
    "where": "Table 1",
    "text": "Masks keep the reward at a smaller KL.",
    "means": "The difference of the two is above 0.",
    "verdict": "undecided",
    "experiments": ["table1"],
    "command": "python -m harness run --table 1",
    "reason": "The interval contains 0.",
    "unit": "points",
    "margin": None,
    "test": "moderated t, paired by chain",
    "items": 900,
    "p_holm": 0.3,
    "detectable": 2.5,
    **{name: PART[name] for name in ("of", "estimate", "ci95", "n", "p")},
    "parts": [PART, {**PART, "of": "another", "p": None}],
}
_NOT_RUN = dict.fromkeys(
    ("of", "estimate", "ci95", "unit", "test", "n", "items", "p", "p_holm", "detectable")
)
CLAIMS = {
    "profile": "tiny",
    "alpha": 0.05,
    "claims": [
        CLAIM,
        {**CLAIM, "id": "c2", "verdict": "supported"},
        {
            **CLAIM,
            **_NOT_RUN,
            "id": "c3",
            "verdict": "not run",
            "command": "python -m harness run --figure 2",
            "reason": "It has not been run.",
            "parts": [],
        },
    ],
    "counts": {"supported": 1, "contradicted": 0, "undecided": 1, "not run": 1},
    "left_out": [{"name": "table2", "reason": "It is damaged."}],
    "notes": ["One note."],
}
