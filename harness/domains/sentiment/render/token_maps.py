"""Figures 1, 4 and 9: one text's token rewards and token KL, from the figure's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAYOUTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "figure1": (("rewards",), ("chosen",)),
    "figure4": (("masked_rewards", "masked_kl"), ("chosen", "rejected")),
    "figure9": (("masked_rewards", "masked_kl"), ("chosen", "rejected")),
}
"""Figure → what colours its tokens, and which responses it shows."""


def token_map_files(result: Mapping[str, Any]) -> dict[str, str | bytes]:
    """Draw a heat map, file name → PNG or PDF, and the interactive page of the same maps.

    Args:
        result: the figure's JSON.
    """
    from harness.render.heatmap import pictures
    from sparsepo.analysis.page import render_document

    quantities, sides = LAYOUTS[result["id"]]
    number = result["id"].removeprefix("figure")
    title = f"Figure {number}, {result['profile']} profile, β = {result['beta']:g}"
    drawn = pictures(result["maps"], result["pair_id"], quantities, sides=sides, title=title)
    files: dict[str, str | bytes] = {f"{result['id']}.{form}": x for form, x in drawn.items()}
    return {**files, f"{result['id']}.html": render_document(result["maps"], title)}
