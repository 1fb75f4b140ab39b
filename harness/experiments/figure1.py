"""Figure 1: DPO's token rewards on one text [ours]."""

from harness.experiments.spec import FigureSpec, RowSpec

FIGURE1 = FigureSpec(
    id="figure1",
    domain="sentiment",
    title="DPO's token rewards on one text",
    rows=(RowSpec("dpo", "DPO"),),
)
