"""Figure 4: token rewards and token KL after the masks, a first text [ours]."""

from harness.experiments.rows import rows
from harness.experiments.spec import FigureSpec

FIGURE4 = FigureSpec(
    id="figure4",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a first text",
    rows=rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
)
