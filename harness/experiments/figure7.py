"""Figure 7: sparsity and token KL during training for each β, a common mask [ours]."""

from harness.experiments.rows import rows
from harness.experiments.spec import FigureSpec

FIGURE7 = FigureSpec(
    id="figure7",
    domain="sentiment",
    title="SparsePO with a common mask: sparsity of the mask and token KL during training",
    # The first method is drawn; the tokens of both are ranked by what they decide.
    rows=rows("sparsepo-common", "dpo"),
)
