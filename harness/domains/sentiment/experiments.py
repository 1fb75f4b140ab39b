"""The experiments on sentiment: Figures 1, 2, 3, 4, 7 and 9."""

from __future__ import annotations

from harness.domains.common.rows import rows
from harness.domains.common.spec import ColumnSpec, FigureSpec, TableSpec

FIGURE1 = FigureSpec(
    id="figure1",
    domain="sentiment",
    title="DPO's token rewards on one text",
    rows=rows("dpo"),
)
"""Figure 1: DPO's token rewards on one text [ours]."""

FIGURE2 = TableSpec(
    id="figure2",
    domain="sentiment",
    title="Sentiment control: the frontier of ground-truth reward and KL to the reference",
    rows=rows(),
    # One column per KL budget of the profile stands before it.
    columns=(ColumnSpec("hypervolume", "Hypervolume"),),
    baseline="dpo",
    reference="sft",
)
"""Figure 2: ground-truth reward against response-level KL, over β, γ and training steps."""

FIGURE3 = FigureSpec(
    id="figure3",
    domain="sentiment",
    title="SparsePO with independent masks: sparsity of the masks and token KL during training",
    # The first method is drawn; the tokens of both are ranked by what they decide.
    rows=rows("sparsepo-independent", "dpo"),
)
"""Figure 3: sparsity and token KL during training for each β, independent masks [ours]."""

FIGURE4 = FigureSpec(
    id="figure4",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a first text",
    rows=rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
)
"""Figure 4: token rewards and token KL after the masks, a first text [ours]."""

FIGURE7 = FigureSpec(
    id="figure7",
    domain="sentiment",
    title="SparsePO with a common mask: sparsity of the mask and token KL during training",
    # The first method is drawn; the tokens of both are ranked by what they decide.
    rows=rows("sparsepo-common", "dpo"),
)
"""Figure 7: sparsity and token KL during training for each β, a common mask [ours]."""

FIGURE9 = FigureSpec(
    id="figure9",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a second text",
    rows=rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
)
"""Figure 9: token rewards and token KL after the masks, a second text [ours]."""

EXPERIMENTS = (FIGURE1, FIGURE2, FIGURE3, FIGURE4, FIGURE7, FIGURE9)
