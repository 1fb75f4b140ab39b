"""The experiments on sentiment: Figures 1, 2, 3, 4, 7 and 9."""

from __future__ import annotations

from dataclasses import dataclass

from harness.domains.common.rows import PAPER_METHODS, method_rows
from harness.domains.common.spec import FigureSpec, TableSpec, percentage


@dataclass(frozen=True, kw_only=True)
class FrontierFigure(TableSpec):
    """The frontier of reward and KL; its table has an additional column for each KL budget."""


@dataclass(frozen=True, kw_only=True)
class DynamicsFigure(FigureSpec):
    """Masks and token KL of the first row during training, and how all rows rank the tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenMapFigure(FigureSpec):
    """Token values of one held-out pair, under the model of each row."""

    pair: int
    """Index of the held-out pair [ours]."""
    quantities: tuple[str, ...]
    """Quantities that colour the tokens; fields of sparsepo.analysis' maps."""
    responses: tuple[str, ...] = ("chosen", "rejected")


FIGURE1 = TokenMapFigure(
    id="figure1",
    domain="sentiment",
    title="DPO's token rewards on one text",
    rows=method_rows("dpo"),
    pair=0,
    quantities=("rewards",),
    responses=("chosen",),
)
"""Figure 1: DPO's token rewards on one text [ours]."""

FIGURE2 = FrontierFigure(
    id="figure2",
    domain="sentiment",
    title="Sentiment control: the frontier of ground-truth reward and KL to the reference",
    rows=method_rows(*PAPER_METHODS),
    columns=(percentage("hypervolume", "Hypervolume"),),
    baseline="dpo",
    reference="sft",
    tunable=True,
    untuned=("sft",),
)
"""Figure 2: ground-truth reward against response-level KL, over β, γ and training steps."""

FIGURE3 = DynamicsFigure(
    id="figure3",
    domain="sentiment",
    title="SparsePO with independent masks: sparsity of the masks and token KL during training",
    rows=method_rows("sparsepo-independent", "dpo"),
)
"""Figure 3: sparsity and token KL during training for each β, independent masks [ours]."""

FIGURE4 = TokenMapFigure(
    id="figure4",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a first text",
    rows=method_rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
    pair=0,
    quantities=("masked_rewards", "masked_kl"),
)
"""Figure 4: token rewards and token KL after the masks, a first text [ours]."""

FIGURE7 = DynamicsFigure(
    id="figure7",
    domain="sentiment",
    title="SparsePO with a common mask: sparsity of the mask and token KL during training",
    rows=method_rows("sparsepo-common", "dpo"),
)
"""Figure 7: sparsity and token KL during training for each β, a common mask [ours]."""

FIGURE9 = TokenMapFigure(
    id="figure9",
    domain="sentiment",
    title="Token rewards and token KL after the masks, a second text",
    rows=method_rows("tdpo1", "sparsepo-common", "sparsepo-independent"),
    pair=1,
    quantities=("masked_rewards", "masked_kl"),
)
"""Figure 9: token rewards and token KL after the masks, a second text [ours]."""

EXPERIMENTS = (FIGURE1, FIGURE2, FIGURE3, FIGURE4, FIGURE7, FIGURE9)
