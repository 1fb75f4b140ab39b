"""Figure 3: sparsity and token KL during training for each β, independent masks [ours]."""

from harness.experiments.spec import FigureSpec, RowSpec

FIGURE3 = FigureSpec(
    id="figure3",
    domain="sentiment",
    title="SparsePO with independent masks: sparsity of the masks and token KL during training",
    # The first method is drawn; the tokens of both are ranked by what they decide.
    rows=(RowSpec("sparsepo-independent", "SparsePO (independent)"), RowSpec("dpo", "DPO")),
)
