"""Given masks in training: read from a file, checked against the tokens, laid out for a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from sparsepo.batches.pack import lay_out
from sparsepo.data.token_masks import SIDES, TokenMask, Weights, read_token_masks
from sparsepo.errors import UserError
from sparsepo.methods.base import Method
from sparsepo.types import PackedBatch, TokenizedPair

_NAMED_IDS = 5


class GivenMasks:
    """The masks of a run's pairs."""

    def __init__(self, masks: Mapping[str, TokenMask], source: str) -> None:
        """Take the masks.

        Args:
            masks: pair_id → its masks.
            source: where they are from, for messages.
        """
        self._masks = masks
        self._source = source

    @classmethod
    def read(cls, source: str | Path, method: Method) -> GivenMasks:
        """Read the masks that a method needs.

        Args:
            source: the file, see `sparsepo.data.token_masks`.
            method: with one mask for both terms, or with one for each.

        Raises:
            UserError: the file cannot be used, or has too few or too many masks for the method.
        """
        masks = read_token_masks(source)
        has_kl = next(iter(masks.values())).kl_mask is not None
        independent = method.needs.mask == "learned-independent"
        if independent and not has_kl:
            raise UserError(
                f"{source} has no kl_mask, which {method.name} needs; add it, or use "
                "sparsepo-common, whose one mask is on both terms."
            )
        if has_kl and not independent:
            raise UserError(
                f"{source} has a kl_mask, which {method.name} does not use; leave it out, or use "
                "sparsepo-independent."
            )
        return cls(masks, str(source))

    def check(self, pairs: Sequence[TokenizedPair]) -> None:
        """Check that each pair has a mask of the length of its responses.

        Args:
            pairs: tokenized pairs.

        Raises:
            UserError: a pair has none, or one of another length.
        """
        self._require(pair.pair_id for pair in pairs)
        for pair in pairs:
            mask = self._masks[pair.pair_id]
            for name, weights in (("reward_mask", mask.reward_mask), ("kl_mask", mask.kl_mask)):
                if weights is not None:
                    self._check_lengths(pair, name, weights)

    def _check_lengths(self, pair: TokenizedPair, name: str, weights: Weights) -> None:
        responses = (pair.chosen_ids, pair.rejected_ids)
        for side, values, ids in zip(SIDES, weights, responses, strict=True):
            if len(values) != len(ids):
                raise UserError(
                    f"{self._source}: {name} of pair {pair.pair_id} has {len(values)} values for "
                    f"the {side} response of {len(ids)} tokens, end of sequence included; compute "
                    "the masks with this model's tokenizer and the same max_length and "
                    "max_prompt_length."
                )

    def _require(self, pair_ids: Iterable[str]) -> None:
        wanted = list(pair_ids)
        lacking = [pair_id for pair_id in wanted if pair_id not in self._masks]
        if lacking:
            named = ", ".join(lacking[:_NAMED_IDS])
            more = f" and {len(lacking) - _NAMED_IDS} more" if len(lacking) > _NAMED_IDS else ""
            raise UserError(
                f"{self._source} lacks the masks of {len(lacking)} of {len(wanted)} pairs "
                f"({named}{more}); add a row for each, with its pair_id."
            )

    def of_batch(
        self, batch: PackedBatch
    ) -> tuple[Float[Tensor, "responses pairs tokens"], Float[Tensor, "responses pairs tokens"]]:
        """Return the (reward, KL) masks of a batch on its device, zero on padding.

        Args:
            batch: a batch of pairs that were checked.

        Raises:
            UserError: a pair has no mask.
        """
        self._require(batch.pair_ids)
        masks = [self._masks[pair_id] for pair_id in batch.pair_ids]
        reward = lay_out([mask.reward_mask for mask in masks], batch)
        if masks[0].kl_mask is None:
            return reward, reward
        return reward, lay_out([mask.kl_mask or ([], []) for mask in masks], batch)

    @property
    def hash(self) -> str:
        """A hash of all masks, for the record of a run's data."""
        result = hashlib.sha256()
        for pair_id, mask in sorted(self._masks.items()):
            result.update(repr((pair_id, mask.reward_mask, mask.kl_mask)).encode())
        return result.hexdigest()
