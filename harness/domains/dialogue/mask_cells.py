"""A table's columns about masks: sparsity, decisive tokens, and what their smallest values do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import Cells, Statistic, mean_cells
from harness.domains.dialogue.pipeline import PRUNED, System
from harness.graph.store import Store
from tasks.metrics.chains import ChainValues


def mask_cells(
    systems: Mapping[str, Sequence[System]], store: Store, settings: StatisticsSettings
) -> Cells:
    """Compute the columns about masks, for the rows whose masks were measured.

    Args:
        systems: row id → the system of each chain.
        store: holds their measurements.
        settings: replicates and seed.

    Returns:
        `sparsity` (%), `auroc` (%; where the decisive tokens are known), and `lost_<share>`:
        preference accuracy, in points, that is lost when the smallest values are set to 0.
    """
    measured = {
        row: [_measured(system, store) for system in own]
        for row, own in systems.items()
        if own[0].masks is not None
    }
    columns = {"sparsity": _zeros, **{f"lost_{share}": _lost(share) for share in PRUNED}}
    cells: Cells = {row: {} for row in measured}
    for column, score in columns.items():
        scores = {
            row: [{name: score(pair) for name, pair in chain.items()} for chain in chains]
            for row, chains in measured.items()
        }
        for row, own in mean_cells(scores, column, settings).items():
            cells[row].update(own)
    for row in measured:
        auroc = _auroc(systems[row], store)
        if auroc is not None:
            cells[row]["auroc"] = auroc
    return cells


def _measured(system: System, store: Store) -> dict[str, Any]:
    """Return what was measured on each pair of a chain."""
    assert system.masks is not None
    world = system.masks.inputs["pairs"].address
    found = store.read_json(system.masks, "masks.json")["pairs"]
    return {f"{world}/{pair['pair_id']}": pair for pair in found}


def _zeros(pair: Mapping[str, Any]) -> float:
    return float(pair["zeros"])


def _lost(share: int) -> Any:
    """Return the score 1 for a pair that is no longer ordered, −1 for one that now is, else 0."""

    def score(pair: Mapping[str, Any]) -> float:
        margins = pair["margins"]
        return float(margins["0"] > 0) - float(margins[str(share)] > 0)

    return score


def _auroc(systems: Sequence[System], store: Store) -> Statistic | None:
    """Return how well a row's masks rank the decisive tokens; None where these are not known."""
    chains, pairs, worlds = [], [], set()
    for system in systems:
        assert system.masks is not None
        file = store.folder(system.masks.address) / "ranking.npz"
        if not file.is_file():
            return None
        with np.load(file) as data:
            chains.append(100.0 * data["auroc"].astype(np.float64))
        pairs.append(store.read_json(system.masks, "masks.json")["known"]["pairs"])
        worlds.add(system.masks.inputs["pairs"].address)
    drawn = np.stack(chains)
    # Chains of the embedded world have pairs of their own.
    return Statistic(ChainValues(drawn[:, 0], drawn[:, 1:], min(pairs), crossed=len(worlds) == 1))
