"""Table 2: pass@k on HumanEval and MBPP after preference optimization on MBPP."""

from harness.experiments.spec import ColumnSpec, RowSpec, TableSpec

TABLE2 = TableSpec(
    id="table2",
    domain="code",
    title="Text-to-code: pass@k after preference optimization on MBPP",
    rows=(
        RowSpec("base", "Base model"),
        RowSpec("dpo", "DPO"),
        RowSpec("tdpo1", "TDPO v1"),
        RowSpec("tdpo2", "TDPO v2"),
        RowSpec("simpo", "SimPO"),
        RowSpec("mapo", "MaPO"),
        RowSpec("sparsepo-common", "SparsePO (common)"),
        RowSpec("sparsepo-independent", "SparsePO (independent)"),
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
