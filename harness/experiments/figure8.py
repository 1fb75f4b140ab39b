"""Figure 8: sparsity and token KL of SparsePO's common mask while it learns to code."""

from harness.experiments.rows import rows
from harness.experiments.spec import FigureSpec

FIGURE8 = FigureSpec(
    id="figure8",
    domain="code",
    title="Text-to-code: sparsity of the mask and token KL, SparsePO (common)",
    rows=rows("sparsepo-common"),
)
