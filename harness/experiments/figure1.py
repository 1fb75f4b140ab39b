"""Figure 1: DPO's token rewards on one text [ours]."""

from harness.experiments.rows import rows
from harness.experiments.spec import FigureSpec

FIGURE1 = FigureSpec(
    id="figure1",
    domain="sentiment",
    title="DPO's token rewards on one text",
    rows=rows("dpo"),
)
