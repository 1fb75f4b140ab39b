"""Figure 9: token rewards and token KL after the masks, a second text [ours]."""

from harness.experiments.rows import rows
from harness.experiments.spec import FigureSpec

FIGURE9 = FigureSpec(
    id="figure9",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a second text",
    rows=rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
)
