"""Figure 6: sparsity and token KL of SparsePO's independent masks while it learns to code."""

from harness.experiments.rows import rows
from harness.experiments.spec import FigureSpec

FIGURE6 = FigureSpec(
    id="figure6",
    domain="code",
    title="Text-to-code: sparsity of the masks and token KL, SparsePO (independent)",
    rows=rows("sparsepo-independent"),
)
