"""Table 2: pass@k on HumanEval and MBPP after preference optimization on MBPP."""

from harness.experiments.rows import rows
from harness.experiments.spec import ColumnSpec, RowSpec, TableSpec

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
