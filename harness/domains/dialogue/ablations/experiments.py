"""The ablations: Tables 3, 4 and 5, and a table beyond the paper, each with variants of one method.

`settings` of a row are all that tells it from the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.domains.common.spec import PERCENT, ColumnSpec, RowSpec, TableSpec, percentage
from harness.domains.dialogue.ablations.profile import METHOD
from harness.domains.dialogue.experiments import TABLE1
from harness.domains.dialogue.pipeline import PRUNED

_MASKS = (
    ColumnSpec("sparsity", "Zeros in the mask (%)", higher_is_better=None, bounds=PERCENT),
    percentage("auroc", "AUROC of decisive tokens (%)"),
)
_LOST = tuple(
    ColumnSpec(
        f"lost_{share}",
        f"Lost at {share} % zeros",
        higher_is_better=False,
        bounds=(-100.0, 100.0),
    )
    for share in PRUNED
)


def _ablation(
    id: str,
    title: str,
    rows: Mapping[str, tuple[str, Mapping[str, Any]]],
    baseline: str,
    *,
    supplement: tuple[ColumnSpec, ...] = (),
    paper_setting: str | None = None,
) -> TableSpec:
    """Return a table of variants, row id → (label, settings)."""
    return TableSpec(
        id=id,
        domain="dialogue.ablations",
        title=title,
        rows=tuple(RowSpec(row, METHOD, label, values) for row, (label, values) in rows.items()),
        columns=TABLE1.columns,
        average=TABLE1.average,
        supplement=(*TABLE1.supplement, *_MASKS, *supplement),
        baseline=baseline,
        reference=baseline,
        paper_setting=paper_setting,
    )


_PAPER = "Pythia 410M, DPO-mix-7k"

TABLE3 = _ablation(
    "table3",
    "Architecture of the mask: layers that it reads, and feed-forward layers",
    {
        "all-1": ("All layers, 1 feed-forward", {"mask_layers": "all", "mask_feed_forward": 1}),
        "last-1": ("Last layer, 1 feed-forward", {"mask_layers": "last", "mask_feed_forward": 1}),
        "last-2": ("Last layer, 2 feed-forward", {"mask_layers": "last", "mask_feed_forward": 2}),
    },
    "all-1",
    paper_setting=_PAPER,
)
"""Table 3: what a mask's architecture changes, common mask."""

TABLE4 = _ablation(
    "table4",
    "Weight decay of the mask",
    {
        f"decay-{text}": (f"Weight decay {text}", {"mask_weight_decay": float(text)})
        for text in ("0", "0.001", "0.01", "0.1", "1.0")
    },
    "decay-0.01",
    paper_setting=_PAPER,
)
"""Table 4: what weight decay of a mask's weights changes, common mask."""

TABLE5 = _ablation(
    "table5",
    "Kind of mask",
    {
        "learned": ("Sparse (learned)", {"mask_kind": "learned"}),
        "binary": ("Binary", {"mask_kind": "binary"}),
        "random": ("Random", {"mask_kind": "random"}),
    },
    "learned",
    paper_setting=_PAPER,
)
"""Table 5: a mask that is learned, binary or drawn at random."""

L1 = _ablation(
    "l1",
    "L1 norm of the mask: its sparsity, and what its smallest values are worth",
    {
        f"l1-{text}": (f"λ = {text}", {"l1_reward": float(text), "l1_kl": float(text)})
        for text in ("0", "0.0001", "0.001", "0.01", "0.1")
    },
    "l1-0",
    supplement=_LOST,
)
"""Beyond the paper: sparsity by L1 strength, and what pruning a trained mask loses [ours]."""

EXPERIMENTS = (TABLE3, TABLE4, TABLE5, L1)
