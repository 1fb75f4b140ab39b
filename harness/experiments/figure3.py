"""Figure 3: sparsity and token KL during training for each β, independent masks [ours]."""

from harness.experiments.rows import rows
from harness.experiments.spec import FigureSpec

FIGURE3 = FigureSpec(
    id="figure3",
    domain="sentiment",
    title="SparsePO with independent masks: sparsity of the masks and token KL during training",
    # The first method is drawn; the tokens of both are ranked by what they decide.
    rows=rows("sparsepo-independent", "dpo"),
)
