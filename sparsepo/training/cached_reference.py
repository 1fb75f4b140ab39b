"""A reference that training reads from a cache, which is filled before the model is released.

Apart from its distribution and states, everything that a method reads from the reference is the
same at every step: log-probabilities and activation masks. These are computed once before training,
when the policy is still identical to its reference; no second copy of the model is needed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from sparsepo.batches.pack import pack_pairs, packed_length, to_responses
from sparsepo.batches.regroup import batches_by_length
from sparsepo.distributed.processes import collected
from sparsepo.errors import UserError, first_line
from sparsepo.fused import token_stats
from sparsepo.methods.base import Method, Needs
from sparsepo.models.adapters import is_quantized
from sparsepo.models.head import OutputHead
from sparsepo.models.plain import of_next_token
from sparsepo.reference.cache import (
    LOGPS,
    PART_PAIRS,
    CachedValues,
    ReferenceCache,
    SideValues,
    mask_name,
)
from sparsepo.reference.fingerprint import reference_fingerprint, weights_hash
from sparsepo.reference.online import Reference, ReferenceStates
from sparsepo.training.config import POConfig
from sparsepo.training.loading import load_as_configured
from sparsepo.training.policy import without_autocast
from sparsepo.types import PackedBatch, TokenizedPair

Item = TypeVar("Item")
Progress = Callable[[int, int], None]
"""Called with (pairs done, pairs to do)."""

_log = logging.getLogger(__name__)


def names_for(method: Method, needs: Needs) -> tuple[str, ...]:
    """Return the values that a method reads from a cache."""
    mask = (mask_name(method),) if needs.mask == "activation" else ()
    return mask if needs.online_reference else (LOGPS, *mask)


@contextlib.contextmanager
def told_progress(
    callbacks: Iterable[object],
    show: bool,
    what: str = "reference cache",
    hook: str = "on_reference_cache",
) -> Iterator[Progress]:
    """Yield a progress function that notifies callbacks; it shows nothing until it is called.

    Args:
        callbacks: those that have the method `hook(done, total)` are called.
        show: whether to draw a progress bar.
        what: the bar's name.
        hook: the method's name.
    """
    bars: list[Any] = []

    def report(done: int, total: int) -> None:
        for callback in callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(done, total)
        if show and not bars:
            bars.append(tqdm(total=total, desc=what, unit=" pairs"))
        for bar in bars:
            bar.update(done - bar.n)

    try:
        yield report
    finally:
        for bar in bars:
            bar.close()


def states_from(
    values: CachedValues, batch: PackedBatch, online: ReferenceStates | None = None
) -> ReferenceStates:
    """Return a batch's cached values, added to the states of a run of the model.

    Args:
        values: the cached values, which include the batch's pairs.
        batch: on any device.
        online: the states of a run of the model, for values that are not cached.
    """
    states = online if online is not None else ReferenceStates()
    cached = {name: values.read(name, batch) for name in values.names}
    logps = cached.pop(LOGPS, None)
    mask = next(iter(cached.values()), None)
    return replace(states, activation_mask=mask, logps=logps)


@torch.no_grad()
def fill(
    cache: ReferenceCache,
    reference: Reference,
    method: Method,
    lacking: Sequence[TokenizedPair],
    names: Collection[str],
    *,
    batch_size: int,
    tokens_per_row: int | None = None,
    chunk_size: int | None = None,
    share: tuple[int, int] = (0, 1),
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    progress: Progress | None = None,
) -> None:
    """Compute the reference's values of pairs and cache them, always including log-probabilities.

    log π_ref(y_t | x, y_<t) of both responses is computed by `token_stats`, with the reference as
    the policy, in float32 or wider.

    Args:
        cache: the cache, prepared by its `begin`.
        reference: the model; batches are moved to its device.
        method: the method, whose hyper-parameters describe the activation mask, if `names` has one.
        lacking: the pairs that `cache.missing` returned.
        names: the names of the values.
        batch_size: pairs per forward pass.
        tokens_per_row: maximum length of a packed row.
        chunk_size: tokens per block of the fused operation; None uses the device's default.
        share: (i, n) computes only the i-th of n shares, for one of n processes.
        autocast: returns the context in which the model runs in training.
        progress: called with the progress of this share.

    Raises:
        UserError: the disk cannot be written to, or a value is not finite.
    """
    computed = sorted({LOGPS, *names})
    size = max(1, min(PART_PAIRS, -(-len(lacking) // share[1])))
    chunks = [lacking[start : start + size] for start in range(0, len(lacking), size)]
    own = chunks[share[0] :: share[1]]
    total, done = sum(map(len, own)), 0
    report = progress if progress is not None else lambda _done, _total: None
    for chunk in own:
        # Another run that is filling the same cache may have been faster.
        if cache.holds(chunk, computed):
            done += len(chunk)
            report(done, total)
            continue
        values: dict[str, dict[int, SideValues]] = {name: {} for name in computed}
        for part in batches_by_length([packed_length(pair) for pair in chunk], batch_size):
            batch = pack_pairs(
                [chunk[i] for i in part],
                tokens_per_row=tokens_per_row,
                share_prompt=reference.computation == "packed",
            )
            with autocast():
                found = _compute(reference, method, batch, computed, chunk_size)
            for name, table in found.items():
                values[name].update(
                    (i, sides_of(table[:, n], chunk[i])) for n, i in enumerate(part)
                )
            done += len(part)
            report(done, total)
        numbers = range(len(chunk))
        cache.write(chunk, {n: [rows[i] for i in numbers] for n, rows in values.items()})


def _compute(
    reference: Reference,
    method: Method,
    batch: PackedBatch,
    names: Collection[str],
    chunk_size: int | None,
) -> dict[str, Float[Tensor, "responses pairs tokens"]]:
    """Return the named values of a batch, on the CPU."""
    batch = batch.to(reference.model.device)
    masked = any(name != LOGPS for name in names)
    states = reference.read(batch, method, Needs(mask="activation" if masked else "none"))
    found = {LOGPS: to_responses(logps_of(states, batch, chunk_size), batch)}
    if states.activation_mask is not None:
        found[mask_name(method)] = states.activation_mask
    finite = torch.stack([values.isfinite().all(-1).all(0) for values in found.values()]).all(0)
    if not bool(finite.all()):
        ids = [one for one, ok in zip(batch.pair_ids, finite.tolist(), strict=True) if not ok]
        raise UserError(
            f"The reference gives values that are not finite for {', '.join(ids[:5])}; check these "
            "rows and the model's weights."
        )
    return {name: values.cpu() for name, values in found.items()}


def logps_of(
    states: ReferenceStates, batch: PackedBatch, chunk_size: int | None = None
) -> Float[Tensor, " N"]:
    """Return the log-probabilities of a batch's tokens by the model whose states these are.

    Args:
        states: of a run of a frozen model.
        batch: the batch, on the model's device.
        chunk_size: tokens per block of the fused operation; None uses the device's default.
    """
    if states.log_probs is not None:
        return of_next_token(states.log_probs, batch)
    assert states.hidden is not None and states.head is not None
    # The policy's values are computed in the same way in a training step.
    with without_autocast(batch.input_ids.device.type) as cast:
        return token_stats(
            cast(states.hidden),
            cast(states.head),
            None,
            None,
            batch.targets,
            chunk_size,
            policy_bias=cast(states.bias),
            need_kl=False,
            policy_transform=states.transform,
        ).policy_logps


def sides_of(values: Float[Tensor, "responses tokens"], pair: TokenizedPair) -> SideValues:
    """Return a pair's values without padding."""
    return values[0, : len(pair.chosen_ids)], values[1, : len(pair.rejected_ids)]


class CachedReference:
    """The cache of one run; it can reload the model that the cache was computed from."""

    def __init__(
        self,
        config: POConfig,
        accelerator: Accelerator,
        reference: Reference,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        source: str | None,
    ) -> None:
        """Open the cache of `config.reference_cache` for a reference.

        Args:
            config: the run's arguments.
            accelerator: connects the run's processes.
            reference: the complete reference, before training.
            tokenizer: the tokenizer of the pairs.
            max_length: the length that the pairs were truncated to.
            source: folder or hub id of the reference; None if it has none.

        Raises:
            UserError: the weights are incomplete in this process, or the cache is damaged.
        """
        assert config.reference_cache is not None
        self._config, self._accelerator, self._source = config, accelerator, source
        model = reference.model
        self._dtype, self._attention = model.dtype, model.config._attn_implementation
        settings = {
            "max_length": max_length,
            "max_prompt_length": config.max_prompt_length,
            "on_long_response": config.on_long_response,
            "mixed_precision": accelerator.mixed_precision,
            "device": accelerator.device.type,
            "adapters": reference.adapter_settings,
        }
        self._computation = reference.computation
        # Included only if they are not the defaults, to keep existing caches valid.
        if reference.computation != "packed":
            settings["computation"] = reference.computation
        if reference.output_head != OutputHead():
            settings["output_head"] = asdict(reference.output_head)
        own = reference_fingerprint(
            model, tokenizer, settings, without_adapters=reference.without_adapters
        )
        # The main process's weights are decisive. Processes that did not load theirs (FSDP's
        # cpu_ram_efficient_loading) leave the work to those that did.
        fingerprint = self._from_main_process(own)
        self._able = collected(accelerator, [own == fingerprint])
        self.cache = ReferenceCache(config.reference_cache, fingerprint)

    def _from_main_process(self, value: Item) -> Item:
        if self._accelerator.num_processes == 1:
            return value
        (common,) = broadcast_object_list([value])
        return common  # type: ignore[no-any-return]

    def fill(
        self,
        reference: Reference,
        method: Method,
        pairs: Sequence[TokenizedPair],
        progress: Progress | None = None,
    ) -> None:
        """Cache the values that a method reads for these pairs; each process does its share.

        Args:
            reference: the model.
            method: the method.
            pairs: all pairs, the same in every process.
            progress: called with the progress of this process.

        Raises:
            UserError: the cache cannot be written to, or a value is not finite.
        """
        names = names_for(method, method.needs)
        # All processes divide up the same list, even if another run adds parts in the meantime.
        lacking = self._from_main_process(self.cache.missing(pairs, names))
        config, rank = self._config, self._accelerator.process_index
        model, home = reference.model, reference.model.device
        problem = None
        try:
            if lacking and self._able[rank]:
                self.cache.begin(lacking, len(pairs))
                # FSDP leaves a model on the CPU until training begins.
                nn.Module.to(model, self._accelerator.device)
                fill(
                    self.cache,
                    reference,
                    method,
                    lacking,
                    names,
                    batch_size=config.eval_batch_size,
                    tokens_per_row=config.tokens_per_row,
                    chunk_size=config.chunk_size,
                    share=(sum(self._able[:rank]), sum(self._able)),
                    autocast=self._accelerator.autocast,
                    progress=progress,
                )
        except UserError as error:
            problem = str(error)
        finally:
            nn.Module.to(model, home)
        # An error in one process is raised in all of them, because the others would wait forever.
        problems = [text for text in collected(self._accelerator, [problem]) if text is not None]
        if problems:
            raise UserError(problems[0])
        self.cache.refresh()

    def select(self, pairs: Sequence[TokenizedPair], method: Method) -> CachedValues:
        """Return the values that a method reads for these pairs.

        Raises:
            UserError: a value is missing, or a file is damaged.
        """
        remedy = (
            "make this folder accessible to every process"
            if self._accelerator.num_processes > 1
            else "use a model that can be loaded again from its folder or hub id"
        )
        return self.cache.select(pairs, names_for(method, method.needs), remedy)

    def reload(self) -> Reference | None:
        """Load the reference again, for values that are not cached; None if that is impossible.

        Weights that differ from those that the cache was computed from are not used.
        """
        if self._source is None:
            return None
        try:
            loaded = load_as_configured(self._source, self._config)
            reference = Reference(loaded, computation=self._computation)
        except UserError as error:
            _log.warning("Evaluation reports no KL: %s", first_line(error))
            return None
        model = reference.model
        if not is_quantized(model):
            nn.Module.to(model, self._dtype)
        if weights_hash(model) != self.cache.fingerprint["weights"]:
            _log.warning(
                "Evaluation reports no KL: the weights in %s have changed; pass ref_model with the "
                "original ones.",
                self._source,
            )
            return None
        if model.config._attn_implementation != self._attention:
            model.set_attn_implementation(self._attention)
        return reference.to(self._accelerator.device)
