"""The table of win rates, one for each domain, and what a domain says about its comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.config.assign import assigned_keys
from harness.config.request import RunRequest
from harness.domains.common.rows import PAPER_METHODS, method_rows
from harness.domains.common.spec import PERCENT, ColumnSpec, TableSpec, percentage
from harness.graph.stages import Stage
from tasks.judges.prompt import Task
from tasks.judges.settings import TRAINED

GROUP = "winrate"
CHOSEN, BASELINE = "chosen", "dpo"
"""What every row is compared with: the chosen responses of the data, and those of DPO."""


@dataclass(frozen=True)
class Contest:
    """What is compared in a domain."""

    task: Task
    rules: str | None
    """``package.module:function`` of the world's rules, called with prompt and two responses; None
    for real data."""
    prompts: int
    """Held-out prompts that every row answers."""
    prompt_tokens: int
    """Of the longest prompt, for the estimate of costs."""
    response_tokens: int


@dataclass(frozen=True)
class Answers:
    """What is compared in one chain."""

    seed: int
    pairs: Stage
    """Writes test.jsonl, the held-out pairs."""
    responses: Mapping[str, Stage]
    """Row id → the stage that writes responses.jsonl, `pair_id` and `response`."""
    sft: Stage | None = None
    """The model that a reward model is trained from, where the judge is one; None if the chain
    trains no model before preference optimization."""


def judge_of_real_rows(request: RunRequest) -> dict[str, object]:
    """Return the tiny profile's judge of rows whose truth no rules know, by dotted name.

    It is a reward model trained on the preference pairs, unless the user chooses a kind of judge.
    """
    if "judge.kind" in assigned_keys(request.assignments):
        return {}
    return {"judge.kind": "reward", "judge.model": TRAINED}


def winrate_table(domain: str, title: str) -> TableSpec:
    """Return a domain's table of win rates, of which the paper gives differences alone.

    Args:
        domain: its folder in harness.domains.
        title: what is compared.
    """
    return TableSpec(
        id=f"{GROUP}-{domain}",
        domain=domain,
        group=GROUP,
        judged=True,
        title=title,
        rows=method_rows(*PAPER_METHODS),
        columns=(
            percentage("win_chosen", "Win against chosen (%)"),
            percentage("controlled_chosen", "LC win against chosen (%)"),
            percentage("win_dpo", "Win against DPO (%)"),
            percentage("controlled_dpo", "LC win against DPO (%)"),
            ColumnSpec("first_shown", "First shown preferred (%)", None, PERCENT),
            ColumnSpec("characters", "Characters", None, (0.0, None)),
        ),
        baseline=BASELINE,
        reference="sft",
    )
