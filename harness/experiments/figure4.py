"""Figure 4: token rewards and token KL after the masks, a first text [ours]."""

from harness.experiments.spec import FigureSpec, RowSpec

FIGURE4 = FigureSpec(
    id="figure4",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a first text",
    rows=(
        RowSpec("tdpo1", "TDPO v1"),
        RowSpec("sparsepo-common", "SparsePO (common)"),
        RowSpec("sparsepo-independent", "SparsePO (independent)"),
    ),
)
