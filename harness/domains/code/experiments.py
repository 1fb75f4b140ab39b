"""The experiments on code: Table 2, Figures 6 and 8."""

from __future__ import annotations

from harness.domains.common.rows import method_rows
from harness.domains.common.spec import FigureSpec, RowSpec, TableSpec, percentage

TABLE2 = TableSpec(
    id="table2",
    domain="code",
    title="Text-to-code: pass@k after preference optimization on MBPP",
    rows=(
        RowSpec("base", "base", "Base model"),
        *method_rows(
            "dpo", "tdpo1", "tdpo2", "simpo", "mapo", "sparsepo-common", "sparsepo-independent"
        ),
    ),
    columns=(
        percentage("humaneval_pass@1", "HumanEval pass@1"),
        percentage("humaneval_pass@10", "HumanEval pass@10"),
        percentage("humaneval_pass@100", "HumanEval pass@100"),
        percentage("mbpp_pass@1", "MBPP pass@1"),
        percentage("mbpp_pass@10", "MBPP pass@10"),
        percentage("mbpp_pass@100", "MBPP pass@100"),
    ),
    baseline="base",
    reference="base",
    tunable=True,
    untuned=("base",),
    paper_setting="StarCoder 1B, MBPP",
)
"""Table 2: pass@k on HumanEval and MBPP after preference optimization on MBPP."""

FIGURE6 = FigureSpec(
    id="figure6",
    domain="code",
    title="Text-to-code: sparsity of the masks and token KL, SparsePO (independent)",
    rows=method_rows("sparsepo-independent"),
)
"""Figure 6: sparsity and token KL of SparsePO's independent masks while it learns to code."""

FIGURE8 = FigureSpec(
    id="figure8",
    domain="code",
    title="Text-to-code: sparsity of the mask and token KL, SparsePO (common)",
    rows=method_rows("sparsepo-common"),
)
"""Figure 8: sparsity and token KL of SparsePO's common mask while it learns to code."""

EXPERIMENTS = (TABLE2, FIGURE6, FIGURE8)
