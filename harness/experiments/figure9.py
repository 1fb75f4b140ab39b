"""Figure 9: token rewards and token KL after the masks, a second text [ours]."""

from harness.experiments.spec import FigureSpec, RowSpec

FIGURE9 = FigureSpec(
    id="figure9",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a second text",
    rows=(
        RowSpec("tdpo1", "TDPO v1"),
        RowSpec("sparsepo-common", "SparsePO (common)"),
        RowSpec("sparsepo-independent", "SparsePO (independent)"),
    ),
)
