"""Token masks in a file: given values of m_u and m_d for each response token of each pair.

One row per pair, as JSON Lines or Parquet:

    {"pair_id": "…", "reward_mask": {"chosen": [0.0, 1.5, …], "rejected": […]}, "kl_mask": {…}}

with one value ≥ 0 for each response token, including the end of sequence. `kl_mask` is there if the
two terms of the loss have different masks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsepo.data.rows import Row, read_rows
from sparsepo.errors import UserError

SIDES = ("chosen", "rejected")

Weights = tuple[list[float], list[float]]
"""One value per response token, of the chosen and of the rejected response."""


@dataclass(frozen=True, slots=True)
class TokenMask:
    """The masks of one pair."""

    pair_id: str
    reward_mask: Weights
    """m_u, on the log-ratios."""
    kl_mask: Weights | None = None
    """m_d, on the token KL; None if one mask serves both terms."""


def read_token_masks(source: str | Path) -> dict[str, TokenMask]:
    """Read a file of token masks.

    Args:
        source: a JSON Lines or Parquet file; JSON may be gzipped.

    Returns:
        pair_id → the pair's masks, in the order of the rows.

    Raises:
        UserError: the file is missing or empty, a row has no masks of this form, a value is
            negative or not finite, or two rows have the same pair_id.
    """
    if not Path(source).is_file():
        raise UserError(f"The file of token masks {source} does not exist; give a file.")
    found: dict[str, TokenMask] = {}
    for number, row in enumerate(read_rows(source)):
        where = f"{source}, row {number}"
        mask = _parse(row, where)
        if mask.pair_id in found:
            raise UserError(f"{where}: pair_id {mask.pair_id} is repeated; keep one row per pair.")
        if (mask.kl_mask is None) != (next(iter(found.values()), mask).kl_mask is None):
            raise UserError(f"{where}: either all rows or none must have a kl_mask.")
        found[mask.pair_id] = mask
    if not found:
        raise UserError(f"{source} contains no rows; give one for each pair.")
    return found


def write_token_masks(masks: Iterable[TokenMask], path: Path) -> None:
    """Write token masks as JSON Lines.

    Args:
        masks: one per pair.
        path: the file.
    """
    path.write_text(token_masks_text(masks), encoding="ascii")


def token_masks_text(masks: Iterable[TokenMask]) -> str:
    """Return token masks as JSON Lines.

    Args:
        masks: one per pair.
    """
    return "".join(json.dumps(_row(mask)) + "\n" for mask in masks)


def _row(mask: TokenMask) -> dict[str, Any]:
    row: dict[str, Any] = {"pair_id": mask.pair_id}
    for name in ("reward_mask", "kl_mask"):
        weights = getattr(mask, name)
        if weights is not None:
            row[name] = dict(zip(SIDES, weights, strict=True))
    return row


def _parse(row: Row, where: str) -> TokenMask:
    pair_id = row.get("pair_id")
    if not isinstance(pair_id, str | int) or isinstance(pair_id, bool):
        raise UserError(f"{where} has no pair_id; name the pair that it belongs to.")
    if row.get("reward_mask") is None:
        raise UserError(
            f"{where} has no reward_mask; give it as an object with chosen and rejected, a list of "
            "values each."
        )
    kl = row.get("kl_mask")
    return TokenMask(
        str(pair_id),
        _weights(row["reward_mask"], f"{where}: reward_mask"),
        None if kl is None else _weights(kl, f"{where}: kl_mask"),
    )


def _weights(value: Any, where: str) -> Weights:
    if not isinstance(value, Mapping) or not all(isinstance(value.get(s), list) for s in SIDES):
        raise UserError(f"{where} must be an object with chosen and rejected, a list each.")
    chosen, rejected = (_checked(value[side], f"{where}, {side}") for side in SIDES)
    return chosen, rejected


def _checked(values: list[Any], where: str) -> list[float]:
    for place, value in enumerate(values):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise UserError(
                f"{where}: value {place} is {value!r}; masks are finite numbers of at least 0."
            )
    return [float(value) for value in values]
