"""Figure 2: ground-truth reward against response-level KL, over β, γ and training steps."""

from harness.experiments.spec import ColumnSpec, RowSpec, TableSpec

FIGURE2 = TableSpec(
    id="figure2",
    domain="sentiment",
    title="Sentiment control: the frontier of ground-truth reward and KL to the reference",
    rows=(
        RowSpec("sft", "SFT"),
        RowSpec("dpo", "DPO"),
        RowSpec("tdpo1", "TDPO v1"),
        RowSpec("tdpo2", "TDPO v2"),
        RowSpec("simpo", "SimPO"),
        RowSpec("dpop", "DPOP"),
        RowSpec("mapo", "MaPO"),
        RowSpec("sparsepo-common", "SparsePO (common)"),
        RowSpec("sparsepo-independent", "SparsePO (independent)"),
    ),
    # One column per KL budget of the profile stands before it.
    columns=(ColumnSpec("hypervolume", "Hypervolume"),),
    baseline="dpo",
    reference="sft",
)
