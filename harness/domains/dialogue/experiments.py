"""The experiments on dialogue: Table 1, and the win rates of the abstract."""

from __future__ import annotations

from harness.domains.common.rows import BASE, PAPER_METHODS, method_rows
from harness.domains.common.spec import TableSpec, percentage
from harness.domains.common.winrate.spec import winrate_table

TABLE1 = TableSpec(
    id="table1",
    domain="dialogue",
    title="Helpful and harmless dialogue: Open LLM Leaderboard v2 after preference optimization",
    rows=method_rows(*PAPER_METHODS),
    optional=(BASE,),
    columns=(
        percentage("bbh", "BBH"),
        percentage("math_hard", "MATH"),
        percentage("gpqa", "GPQA"),
        percentage("musr", "MuSR"),
        percentage("mmlu_pro", "MMLU-Pro"),
        percentage("ifeval_inst", "IFEval inst."),
        percentage("ifeval_prom", "IFEval prom."),
        percentage("avg", "Avg"),
    ),
    average="avg",
    supplement=(
        percentage("preference_accuracy", "Preference accuracy (%)"),
        percentage("win_rate", "Win rate (%)"),
    ),
    baseline="dpo",
    reference="sft",
    tunable=True,
    untuned=(BASE.id, "sft"),
    paper_setting="Pythia 1.4B, HH-RLHF",
)
"""Table 1: what alignment on HH costs on the Open LLM Leaderboard v2, for nine methods."""

WINRATE = winrate_table("dialogue", "Win rates of helpful and harmless dialogue")
"""The abstract's win rates: Table 1's models, whose responses a judge compares."""

EXPERIMENTS = (TABLE1, WINRATE)
