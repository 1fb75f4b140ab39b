"""The experiments on dialogue: Table 1."""

from __future__ import annotations

from harness.domains.common.rows import rows
from harness.domains.common.spec import ColumnSpec, TableSpec

TABLE1 = TableSpec(
    id="table1",
    domain="dialogue",
    title="Helpful and harmless dialogue: Open LLM Leaderboard v2 after preference optimization",
    rows=rows(),
    columns=(
        ColumnSpec("bbh", "BBH"),
        ColumnSpec("math_hard", "MATH"),
        ColumnSpec("gpqa", "GPQA"),
        ColumnSpec("musr", "MuSR"),
        ColumnSpec("mmlu_pro", "MMLU-Pro"),
        ColumnSpec("ifeval_inst", "IFEval inst."),
        ColumnSpec("ifeval_prom", "IFEval prom."),
        ColumnSpec("avg", "Avg"),
    ),
    average="avg",
    supplement=(
        ColumnSpec("preference_accuracy", "Preference accuracy (%)"),
        ColumnSpec("win_rate", "Win rate (%)"),
    ),
    baseline="dpo",
    reference="sft",
)
"""Table 1: what alignment on HH costs on the Open LLM Leaderboard v2, for nine methods."""

EXPERIMENTS = (TABLE1,)
