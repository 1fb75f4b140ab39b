"""How the paper's methods are called in tables and pictures, everywhere the same."""

from __future__ import annotations

from harness.domains.common.spec import RowSpec

LABELS = {
    "sft": "SFT",
    "dpo": "DPO",
    "tdpo1": "TDPO v1",
    "tdpo2": "TDPO v2",
    "simpo": "SimPO",
    "dpop": "DPOP",
    "mapo": "MaPO",
    "sparsepo-common": "SparsePO (common)",
    "sparsepo-independent": "SparsePO (independent)",
}
"""Method → label, in the paper's order."""


def rows(*methods: str) -> tuple[RowSpec, ...]:
    """Return the rows of methods of the paper.

    Args:
        methods: their names, in the order shown; all nine where none is named.

    Raises:
        KeyError: the paper has no such method.
    """
    return tuple(RowSpec(method, LABELS[method]) for method in methods or LABELS)
