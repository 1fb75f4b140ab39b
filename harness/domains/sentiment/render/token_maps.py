"""Figures 1, 4 and 9: one text's token rewards and token KL, from the figure's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def token_map_files(
    result: Mapping[str, Any], quantities: Sequence[str], responses: Sequence[str]
) -> dict[str, str | bytes]:
    """Draw token maps; return file name → PNG or PDF, and an interactive page of the same maps.

    Args:
        result: the figure's JSON.
        quantities: the quantities that colour the tokens.
        responses: the responses to show, "chosen" or "rejected".
    """
    from harness.render.heatmap import pictures
    from sparsepo.analysis.page import render_document

    number = result["id"].removeprefix("figure")
    title = f"Figure {number}, {result['profile']} profile, β = {result['beta']:g}"
    drawn = pictures(
        result["maps"],
        result["pair_id"],
        quantities,
        sides=responses,
        title=title,
        panels=len(quantities) > 1,
    )
    files: dict[str, str | bytes] = {f"{result['id']}.{form}": x for form, x in drawn.items()}
    return {**files, f"{result['id']}.html": render_document(result["maps"], title)}
