"""The experiments on code: Table 2, Figures 6 and 8."""

from __future__ import annotations

from dataclasses import replace

from harness.domains.common.rows import BASE, method_rows
from harness.domains.common.spec import DynamicsSpec, TableSpec, percentage

TABLE2 = TableSpec(
    id="table2",
    domain="code",
    title="Text-to-code: pass@k after preference optimization on MBPP",
    rows=(
        BASE,
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
    baseline=BASE.id,
    reference=BASE.id,
    tunable=True,
    untuned=(BASE.id,),
    paper_setting="StarCoder 1B, MBPP",
)
"""Table 2: pass@k on HumanEval and MBPP after preference optimization on MBPP."""

LAPTOP_TABLE2 = replace(
    TABLE2,
    rows=(BASE, *method_rows("sft", "dpo", "sparsepo-common", "sparsepo-independent")),
)
"""Table 2 of the profile `laptop`: what two cores can make in a night, and SFT on the chosen
programs, which shows what the rejected ones add. `--methods` takes the others too."""

FIGURE6 = DynamicsSpec(
    id="figure6",
    domain="code",
    title="Text-to-code: sparsity of SparsePO's independent masks and token KL, chosen responses",
    rows=method_rows("sparsepo-independent"),
    response="chosen",
    one_chain=True,
)
"""Figure 6: sparsity of both masks and token KL during training for each β, chosen responses."""

FIGURE8 = DynamicsSpec(
    id="figure8",
    domain="code",
    title="Text-to-code: sparsity of SparsePO's independent masks and token KL, rejected responses",
    rows=method_rows("sparsepo-independent"),
    response="rejected",
    one_chain=True,
)
"""Figure 8: the same as Figure 6 over rejected responses."""

EXPERIMENTS = (TABLE2, FIGURE6, FIGURE8)
