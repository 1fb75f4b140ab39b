"""The experiments on code: Table 2, Figures 6 and 8."""

from __future__ import annotations

from harness.domains.common.rows import rows
from harness.domains.common.spec import ColumnSpec, FigureSpec, RowSpec, TableSpec

TABLE2 = TableSpec(
    id="table2",
    domain="code",
    title="Text-to-code: pass@k after preference optimization on MBPP",
    rows=(
        RowSpec("base", "Base model"),
        *rows("dpo", "tdpo1", "tdpo2", "simpo", "mapo", "sparsepo-common", "sparsepo-independent"),
    ),
    columns=(
        ColumnSpec("humaneval_pass@1", "HumanEval pass@1"),
        ColumnSpec("humaneval_pass@10", "HumanEval pass@10"),
        ColumnSpec("humaneval_pass@100", "HumanEval pass@100"),
        ColumnSpec("mbpp_pass@1", "MBPP pass@1"),
        ColumnSpec("mbpp_pass@10", "MBPP pass@10"),
        ColumnSpec("mbpp_pass@100", "MBPP pass@100"),
    ),
    baseline="base",
    reference="base",
)
"""Table 2: pass@k on HumanEval and MBPP after preference optimization on MBPP."""

FIGURE6 = FigureSpec(
    id="figure6",
    domain="code",
    title="Text-to-code: sparsity of the masks and token KL, SparsePO (independent)",
    rows=rows("sparsepo-independent"),
)
"""Figure 6: sparsity and token KL of SparsePO's independent masks while it learns to code."""

FIGURE8 = FigureSpec(
    id="figure8",
    domain="code",
    title="Text-to-code: sparsity of the mask and token KL, SparsePO (common)",
    rows=rows("sparsepo-common"),
)
"""Figure 8: sparsity and token KL of SparsePO's common mask while it learns to code."""

EXPERIMENTS = (TABLE2, FIGURE6, FIGURE8)
