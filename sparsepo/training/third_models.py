"""Log-probabilities by further frozen models: an oracle, its opposite, the previous policy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from sparsepo.batches.pack import lay_out, pack_pairs, packed_length, to_responses
from sparsepo.batches.regroup import batches_by_length
from sparsepo.errors import UserError
from sparsepo.methods.base import MEANINGS, Method, Needs, ThirdModel
from sparsepo.models.plain import Computation
from sparsepo.reference.cache import SideValues
from sparsepo.reference.online import Reference
from sparsepo.training.cached_reference import Progress, logps_of, sides_of
from sparsepo.types import PackedBatch, TokenizedPair

BATCH_PAIRS = 16


def check_given(method: Method, given: Iterable[str], made: Collection[str] = ()) -> None:
    """Check that just the models that a method reads are given.

    Args:
        method: the method.
        given: names of the models that the user gave.
        made: names of those that training itself provides.

    Raises:
        UserError: one is missing, or one is not read.
    """
    names = set(given)
    for name in method.needs.models:
        if name not in names and name not in made:
            raise UserError(
                f"Method '{method.name}' needs {MEANINGS[name]}; give it as {name}= or "
                f"--{name} DIR."
            )
    for other in sorted(names - set(method.needs.models)):
        raise UserError(f"Method '{method.name}' reads no {other} model; leave {other} out.")


class ThirdModels:
    """Token log-probabilities of pairs by frozen models, each computed once and kept in memory."""

    def __init__(
        self,
        models: Mapping[ThirdModel, PreTrainedModel],
        method: Method,
        device: torch.device,
        computation: Computation,
    ) -> None:
        """Freeze the models.

        Args:
            models: by name.
            method: which reads them.
            device: where they run.
            computation: how batches are computed.
        """
        self._method = method
        self._device = device
        self._references = {
            name: Reference(model, computation=computation).to(device)
            for name, model in models.items()
        }
        self._known: dict[str, dict[ThirdModel, SideValues]] = {}
        self._tokens: dict[str, tuple[tuple[int, ...], ...]] = {}

    def fill(self, pairs: Sequence[TokenizedPair], progress: Progress | None = None) -> None:
        """Compute what is not known of these pairs.

        Args:
            pairs: each with an id of its own.
            progress: called with the progress; not called if nothing has to be computed.

        Raises:
            UserError: two different pairs have the same id, or a value is not finite.
        """
        unknown: dict[str, TokenizedPair] = {}
        for pair in pairs:
            tokens = tuple(map(tuple, (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)))
            if self._tokens.setdefault(pair.pair_id, tokens) != tokens:
                raise UserError(
                    f"Two pairs have the id {pair.pair_id}, but log-probabilities of further "
                    "models are kept by id; give each pair a unique id."
                )
            if pair.pair_id not in self._known:
                unknown[pair.pair_id] = pair
        lacking, done = list(unknown.values()), 0
        groups = batches_by_length([packed_length(pair) for pair in lacking], BATCH_PAIRS)
        for group in groups:
            own = [lacking[item] for item in group]
            found = {name: self._logps(name, own) for name in self._references}
            for place, pair in enumerate(own):
                self._known[pair.pair_id] = {
                    name: sides_of(values[:, place], pair) for name, values in found.items()
                }
            done += len(own)
            if progress is not None:
                progress(done, len(lacking))

    @torch.no_grad()
    def _logps(
        self, name: ThirdModel, pairs: Sequence[TokenizedPair]
    ) -> Float[Tensor, "responses pairs tokens"]:
        reference = self._references[name]
        packed = reference.computation == "packed"
        batch = pack_pairs(pairs, share_prompt=packed).to(self._device)
        states = reference.read(batch, self._method, Needs())
        values = to_responses(logps_of(states, batch), batch).cpu()
        finite = values.isfinite().all(-1).all(0).tolist()
        if not all(finite):
            ids = [pair.pair_id for pair, ok in zip(pairs, finite, strict=True) if not ok]
            raise UserError(
                f"The {name} model gives log-probabilities that are not finite for "
                f"{', '.join(ids[:5])}; check these rows and the model's weights."
            )
        return values

    def forget(self) -> None:
        """Drop what is known of all pairs, which will not come again."""
        self._known.clear()
        self._tokens.clear()

    def of_pairs(self, name: ThirdModel, pairs: Sequence[TokenizedPair]) -> list[SideValues]:
        """Return one model's log-probabilities of pairs that were filled."""
        return [self._known[pair.pair_id][name] for pair in pairs]

    def of_batch(self, batch: PackedBatch) -> dict[str, Float[Tensor, "responses pairs tokens"]]:
        """Return the log-probabilities of a batch on its device, by field of TokenStats.

        Args:
            batch: pairs that were filled.
        """
        return {
            f"{name}_logps": lay_out(
                [self._known[pair_id][name] for pair_id in batch.pair_ids], batch
            )
            for name in self._references
        }
