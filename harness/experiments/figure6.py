"""Figure 6: sparsity and token KL of SparsePO's independent masks while it learns to code."""

from harness.experiments.spec import FigureSpec, RowSpec

FIGURE6 = FigureSpec(
    id="figure6",
    domain="code",
    title="Text-to-code: sparsity of the masks and token KL, SparsePO (independent)",
    rows=(RowSpec("sparsepo-independent", "SparsePO (independent)"),),
)
