"""The masks in token maps, as rows that another training run can be given."""

from __future__ import annotations

from sparsepo.analysis.maps import ModelMaps, PairMap
from sparsepo.data.token_masks import TokenMask, Weights
from sparsepo.errors import UserError
from sparsepo.registry import method_class


def masks_of(maps: ModelMaps) -> list[TokenMask]:
    """Return a model's masks of each pair, to be given to another training run as `token_masks`.

    Args:
        maps: the maps of a model with masks.

    Returns:
        One per pair; with a KL mask if the method has a mask of its own for the KL.

    Raises:
        UserError: the model's method has no masks.
    """
    mask = method_class(maps.method).needs.mask
    if mask == "none":
        raise UserError(f"{maps.label} has no masks; give a model that a masked method trained.")

    def both(pair: PairMap, name: str) -> Weights:
        chosen, rejected = (list(getattr(r, name)) for r in (pair.chosen, pair.rejected))
        return chosen, rejected

    independent = mask == "learned-independent"
    return [
        TokenMask(
            pair.pair_id,
            both(pair, "reward_mask"),
            both(pair, "kl_mask") if independent else None,
        )
        for pair in maps.pairs
    ]
