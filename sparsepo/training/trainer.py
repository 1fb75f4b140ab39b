"""POTrainer: transformers.Trainer with preference pairs in and a method's loss out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_utils import IntervalStrategy

from sparsepo.batches.attention import attention_of, restore_attention, use_attention
from sparsepo.batches.pack import pack_pairs, packed_length
from sparsepo.batches.regroup import LengthGrouped, as_drawn, batches_by_length, hold, regroup
from sparsepo.batches.tokenize import TokenizeReport, tokenize_pairs
from sparsepo.distributed.processes import seed_apart, spread
from sparsepo.distributed.sharding import (
    check_sharding,
    forward_dtype,
    keep_precision,
    uses_fsdp,
)
from sparsepo.errors import UserError
from sparsepo.methods.base import Method, Needs
from sparsepo.methods.masked import sparsity
from sparsepo.models.adapters import is_quantized
from sparsepo.models.plain import Computation
from sparsepo.reference.cache import CachedValues
from sparsepo.reference.online import Reference, ReferenceStates, unwrap_peft
from sparsepo.training.cached_reference import CachedReference, states_from, told_progress
from sparsepo.training.card import reports_of
from sparsepo.training.checks import check_finite, check_sizes, check_start
from sparsepo.training.config import POConfig
from sparsepo.training.loading import (
    load_as_configured,
    load_tokenizer,
    make_policy,
    origin_of,
    switch_off_dropout,
)
from sparsepo.training.metrics import PairScore, pair_metrics, pair_scores, summary
from sparsepo.training.policy import (
    PolicyWithMasks,
    make_masks,
)
from sparsepo.training.sharing import SharingTrainer
from sparsepo.training.start_check import (
    START_CHECK,
    StartCheck,
    Subject,
    check_start_of,
)
from sparsepo.types import (
    LossOutput,
    PackedBatch,
    PreferencePair,
    TokenizedPair,
    TokenStats,
)

EvalPairs = Sequence[PreferencePair] | Mapping[str, Sequence[PreferencePair]]
"""Evaluation pairs, or several sets of them by name."""

MASK_PROBE_PAIRS = 16
"""Training pairs on which a fresh mask must be alive."""

MASK_DRAWS = 100
"""How often a mask is drawn before that is given up."""


class POTrainer(SharingTrainer):
    """Trains a policy on preference pairs with any registered method.

    `trainer.policy` is the language model; `trainer.model` holds it together with its masks.

    Args:
        model: the policy: a model, a PEFT model, a folder or a hub id.
        ref_model: the reference; None takes the policy's start (PEFT: the policy without adapters),
            or nothing where the method needs none.
        args: the configuration.
        train_dataset: preference pairs.
        eval_dataset: pairs for `evaluate`, or several sets by name.
        processing_class: the tokenizer; None loads it from the model's folder or id.
        callbacks: further transformers callbacks; one with `on_reference_cache(done, total)` is
            told how many pairs of a reference cache are computed.

    Raises:
        UserError: an option that the method does not use, data without a usable pair, or a model,
            tokenizer and reference that do not fit together.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        ref_model: str | PreTrainedModel | None = None,
        args: POConfig | None = None,
        train_dataset: Sequence[PreferencePair] | None = None,
        eval_dataset: Sequence[PreferencePair]
        | Mapping[str, Sequence[PreferencePair]]
        | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        args = args if args is not None else POConfig(output_dir="sparsepo-output")
        self.method: Method = args.make_method()
        self.needs: Needs = self.method.needs
        if processing_class is None:
            name = model if isinstance(model, str) else model.config.name_or_path
            processing_class = load_tokenizer(str(name))
        self.reference_origin = origin_of(ref_model if ref_model is not None else model)
        policy = make_policy(model, args)
        # Masks are initialised here: the same seed must give the same masks.
        set_seed(args.seed)
        plain = args.computation == "plain"
        computation: Computation = "plain" if plain else "packed"
        self.reference: Reference | None = None
        if self.needs.reference:
            if ref_model is not None:
                loaded = load_as_configured(ref_model, args)
                self.reference = Reference(loaded, computation=computation)
            elif args.reference_cache is None or self.needs.online_reference:
                self.reference = Reference.of_policy(
                    policy, share=not uses_fsdp(args), computation=computation
                )
            else:
                # Until training begins the policy is the reference itself.
                self.reference = Reference(policy, shared_with_policy=True)
        elif ref_model is not None:
            raise UserError(
                f"Method '{self.method.name}' uses no reference model; leave ref_model out."
            )
        if args.disable_dropout:
            switch_off_dropout(policy)
        run = [unwrap_peft(policy)]
        if self.reference is not None:
            run.append(self.reference.model)
        self._own_attention = attention_of(run)
        # The plain form has what the model comes with, unless told otherwise.
        if not plain or args.attention != "auto":
            use_attention(unwrap_peft(policy), args.attention, args.device)
            if self.reference is not None:
                use_attention(self.reference.model, args.attention, args.device, trained=False)
        if args.eval_strategy != "no" and not eval_dataset:
            strategy = IntervalStrategy(args.eval_strategy).value
            raise UserError(
                f"eval_strategy={strategy} needs held-out pairs; give an eval_dataset, or leave "
                "eval_strategy at no."
            )
        ref = self.reference.model if self.reference is not None else None
        check_sizes(policy, ref, processing_class)
        masks = make_masks(self.method, policy if ref is None else ref)
        # Beyond its positions a model fails, or computes something it never learned.
        positions = getattr(policy.config, "max_position_embeddings", None)
        self._context: int = positions or args.max_length
        self._config: POConfig = args
        self._tokenizer = processing_class
        self.read_reports = reports_of(train_dataset, eval_dataset)
        tokenized = None
        if train_dataset is not None:
            tokenized, self.tokenizer_report = self._tokenize(train_dataset)
        # The parent seeds anew; masks that are drawn again after it must not repeat these draws.
        random_state = torch.get_rng_state()
        self._losses: list[tuple[list[str], Tensor]] = []
        super().__init__(
            model=PolicyWithMasks(policy, masks, computation),
            args=args,
            data_collator=hold,
            train_dataset=tokenized,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        # compute_loss divides by the pairs of the whole accumulated batch itself.
        self.loss_is_scaled_for_ga = True
        if self.reference is not None:
            self.reference.to(self.args.device)
        self._start: StartCheck | None = None
        self._start_is_logged = False
        if tokenized and not self._is_sharded:
            self._check_start(tokenized)
        if tokenized and len(masks):
            torch.set_rng_state(random_state)
            self._draw_living_masks(tokenized[:MASK_PROBE_PAIRS])
            set_seed(args.seed)
        self._cache: CachedReference | None = None
        self._cached: CachedValues | None = None
        if args.reference_cache is not None:
            self._use_cache(tokenized or [], ref_model if ref_model is not None else model)

    @property
    def _is_sharded(self) -> bool:
        """Whether the policy is whole, and on its device, only once training begins."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _check_start(self, pairs: Sequence[TokenizedPair]) -> None:
        """Compare the computation with the model's own forward pass, once; choose its form."""
        if self._start is not None:
            return
        reference = self.reference
        if reference is not None and not reference.within_policy:
            # While the policy itself still is the reference, it is looked at once.
            reference = reference if reference.model is not unwrap_peft(self.policy) else None
        subject = Subject(
            self._module,
            reference,
            self.method,
            self.model_wrapped if self._is_sharded else None,
            self.accelerator,
            self._config.chunk_size,
            sharded=self._is_sharded,
        )
        epochs = self.args.num_train_epochs
        if self.args.max_steps > 0:
            step = self.args.train_batch_size * self.args.gradient_accumulation_steps
            epochs = self.args.max_steps * step / len(pairs)
        self._start = check_start_of(subject, pairs, self._config.computation, epochs)
        if self.reference is not None:
            self.reference.computation = self._start.computation
        if self._start.computation != "packed" and self._config.attention == "auto":
            restore_attention(self._own_attention)

    def _use_cache(self, train_pairs: list[TokenizedPair], start: str | PreTrainedModel) -> None:
        assert self.reference is not None
        source = start if isinstance(start, str | Path) else start.config.name_or_path
        pairs = list(train_pairs)
        held_out: Any = self.eval_dataset
        for part in held_out.values() if isinstance(held_out, dict) else [held_out or []]:
            pairs += self._tokenize(part)[0]
        self._cache = CachedReference(
            self._config,
            self.accelerator,
            self.reference,
            self._tokenizer,
            min(self._config.max_length, self._context),
            str(source) or None,
        )
        if self.reference.model is unwrap_peft(self.policy):
            # What is to be split over processes is not placed on a device before that.
            self._module.to(self.args.device)
        show = not self.args.disable_tqdm and self.accelerator.is_local_main_process
        with told_progress(self.callback_handler.callbacks, show) as progress:
            self._cache.fill(self.reference, self.method, pairs, progress)
        if train_pairs:
            self._cached = self._cache.select(train_pairs, self.method)
        costs_memory = self.is_fsdp_enabled or not self.reference.within_policy
        if costs_memory and not self.needs.online_reference:
            self.reference = None

    def _draw_living_masks(self, pairs: list[TokenizedPair]) -> None:
        limit = getattr(self.method, "mask_initial_sparsity", 100.0)
        module = self._module
        if self.reference is None or limit >= 100:
            return
        # What is to be split over processes is not placed on a device before that.
        module.masks.to(self.args.device)
        batch = self._pack(pairs, rejected=True).to(self.args.device)
        states = self.reference.read(batch, self.method, self.needs)
        for name in module.masks:
            if not module.redraw_mask(name, batch, states, limit, MASK_DRAWS):
                raise UserError(
                    f"In {MASK_DRAWS} draws no {name} mask started with less than {limit:g} % "
                    "zeros; raise mask_initial_sparsity or try another seed."
                )

    def _tokenize(
        self, pairs: Sequence[PreferencePair]
    ) -> tuple[list[TokenizedPair], TokenizeReport]:
        config = self._config
        tokenized = tokenize_pairs(
            pairs,
            self._tokenizer,
            max_length=min(config.max_length, self._context),
            max_prompt_length=config.max_prompt_length,
            on_long_response=config.on_long_response,
        )
        return tokenized.pairs, tokenized.report

    # Batches

    def _pack(self, pairs: list[TokenizedPair], rejected: bool) -> PackedBatch:
        return pack_pairs(
            pairs,
            tokens_per_row=self._config.tokens_per_row,
            share_prompt=self._module.computation == "packed",
            rejected=rejected,
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        pairs: Any = train_dataset if train_dataset is not None else self.train_dataset
        lengths = [packed_length(pair, self.needs.rejected) for pair in pairs]
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGrouped(step, lengths, seed)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Collect and pack the micro-batches of one step; count their pairs, over all processes.

        The mean over all pairs of a step does not depend on how they are split.
        """
        held, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = [sample["pairs"] for sample in held]
        drawn = list(chain.from_iterable(batches))
        weights = torch.ones(len(drawn))
        if batches:
            weights[len(drawn) - self._repeated(len(batches[-1])) :] = 0
        samples = []
        for group in self._groups(batches):
            batch = self._pack([drawn[item] for item in group], self.needs.rejected)
            samples.append({**vars(batch), "weights": weights[group]})
        pairs = weights.sum().to(device)
        if self.args.world_size > 1:
            pairs = self.accelerator.gather(pairs).sum()
        return samples, pairs

    def _groups(self, batches: list[list[TokenizedPair]]) -> list[list[int]]:
        """Return which of a step's pairs make up each micro-batch."""
        sizes = [len(batch) for batch in batches]
        if not self._config.length_bucketed:
            return as_drawn(sizes)
        pairs = chain.from_iterable(batches)
        lengths = [packed_length(pair, self.needs.rejected) for pair in pairs]
        return regroup(lengths, sizes, self._config.tokens_per_row)

    def _repeated(self, size: int) -> int:
        """Return how many pairs at the end of a micro-batch of that size do not count.

        At the end of an epoch accelerate fills the processes' batches with the epoch's first pairs,
        so that all processes take part in the last step; their second loss is not of this epoch.
        """
        world = self.args.world_size
        over = len(self.train_dataset) % (size * world)  # type: ignore[arg-type]
        if world == 1 or over == 0 or not self.accelerator.gradient_state.end_of_dataloader:
            return 0
        return size - int(min(max(over - self.args.process_index * size, 0), size))

    # Loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return Σ_pairs L / (pairs of the whole step), and record the metrics.

        Raises:
            UserError: a pair's loss is not finite, or the reference is not the policy's start.
        """
        weights = inputs.pop("weights", None)
        batch = PackedBatch(**inputs)
        reference = self._read_reference(batch, self.needs, self.reference, self._cached)
        chosen, rejected = model(batch, reference, self.needs, self._config.chunk_size)
        if self.state.global_step == 0 and self._config.check_reference and self.needs.ref_logps:
            within_policy = self.reference is not None and self.reference.within_policy

            def compute(training: bool) -> tuple[TokenStats, TokenStats | None]:
                model.train(training)
                try:
                    sides: tuple[TokenStats, TokenStats | None] = model(
                        batch, reference, self.needs, self._config.chunk_size
                    )
                finally:
                    model.train()
                return sides

            check_start(
                self.accelerator,
                (chosen, rejected),
                self.policy.dtype,
                within_policy=within_policy,
                again=partial(compute, True),
                settled=partial(compute, False),
            )
        output = self.method(chosen, rejected)
        if weights is None:
            weights = torch.ones_like(output.per_pair)
        self._losses.append((batch.pair_ids, output.per_pair.detach() * weights))
        if self.accelerator.sync_gradients:
            # Once a step, over its micro-batches and all processes: asking makes the device wait.
            losses, self._losses = self._losses, []
            check_finite(self.accelerator, losses, self.state.global_step)
        self._means.record(self._metrics(batch, reference, chosen, rejected, output), weights)
        loss = (output.per_pair * weights).sum()
        if num_items_in_batch is not None:
            # DDP averages gradients over processes; the pairs were counted over all of them.
            loss = loss / num_items_in_batch * self.args.world_size
        else:
            loss = loss / weights.sum()
        return (loss, output) if return_outputs else loss

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, and see that this training can run on it.

        Raises:
            UserError: the launcher's configuration is one in which the run would fail.
        """
        super().create_accelerator_and_postprocess()
        check_sharding(self.accelerator, is_quantized(self._module.policy))
        keep_precision(self.accelerator)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        dtype = forward_dtype(self.accelerator)
        if dtype is not None and self.reference is not None:
            self.reference.compute_in(dtype)
        prepared = super()._prepare_for_training(*args, **kwargs)
        self._losses = []
        pairs: Any = self.train_dataset
        self._check_start(pairs)
        seed_apart(self.accelerator, self.args.seed)
        return prepared

    def _read_reference(
        self,
        batch: PackedBatch,
        needs: Needs,
        reference: Reference | None,
        cached: CachedValues | None,
    ) -> ReferenceStates | None:
        # The policy's forward runs in the same context; log-ratios compare equal kernels.
        with self.accelerator.autocast():
            if cached is None:
                return None if reference is None else reference.read(batch, self.method, needs)
            online = None
            if needs.online_reference and reference is not None:
                online = reference.read(batch, self.method, replace(needs, mask="none"))
            return states_from(cached, batch, online)

    # Metrics

    def _metrics(
        self,
        batch: PackedBatch,
        reference: ReferenceStates | None,
        chosen: TokenStats,
        rejected: TokenStats | None,
        output: LossOutput,
    ) -> dict[str, Tensor]:
        metrics = pair_metrics(output, chosen, rejected)
        module = self._module
        if reference is not None and reference.layers is not None and len(module.masks):
            # The loss was computed under dropout; sparsity is a property of the mask without it.
            reward, kl = module.masks_without_dropout(batch, reference)
            for side, stats in enumerate((chosen, rejected)):
                if stats is not None:
                    name = ("chosen", "rejected")[side]
                    metrics[f"sparsity/reward/{name}"] = sparsity(reward[side], stats)
                    metrics[f"sparsity/kl/{name}"] = sparsity(kl[side], stats)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each metric since the last entry, over all processes, and log."""
        if "loss" in logs:
            if self._start is not None and not self._start_is_logged:
                logs = {**logs, START_CHECK: self._start.difference}
                self._start_is_logged = True
            logs = {**logs, **self._means.take(self._sum_over_processes)}
        super().log(logs, start_time)

    # Evaluation

    def score_pairs(
        self, pairs: Sequence[PreferencePair], batch_size: int | None = None
    ) -> list[PairScore]:
        """Score pairs with the current policy and masks, dropout off.

        Args:
            pairs: any preference pairs; those that do not fit the context are left out.
            batch_size: pairs per batch; per_device_eval_batch_size when None.

        Returns:
            One score per pair that was kept, in order.
        """
        tokenized, _ = self._tokenize(pairs)
        if tokenized:
            self._check_start(tokenized)
        size = batch_size or self.args.eval_batch_size
        # What costs little more here than in training is measured for every method.
        needs = replace(self.needs, rejected=True)
        reference, cached = self.reference, None
        if reference is None and self._cache is not None:
            reference = self._cache.reload()
            if reference is None:
                cached = self._cache.select(tokenized, self.method)
        if reference is not None:
            needs = replace(needs, ref_logps=True, kl=True)
        module = self._module
        was_training = module.training
        module.eval()
        groups = batches_by_length([packed_length(pair) for pair in tokenized], size)
        batches = [[tokenized[item] for item in group] for group in groups]

        def score(number: int, pairs: list[TokenizedPair]) -> list[PairScore]:
            # Random masks must neither move a score nor the training that goes on afterwards.
            torch.manual_seed(self.args.seed + number)
            batch = self._pack(pairs, rejected=True).to(self.args.device)
            states = self._read_reference(batch, needs, reference, cached)
            return self._score_batch(batch, needs, states)

        try:
            with torch.no_grad(), torch.random.fork_rng():
                found = spread(self.accelerator, batches, score)
        finally:
            module.train(was_training)
        places = chain.from_iterable(groups)
        scored = dict(zip(places, chain.from_iterable(found), strict=True))
        return [scored[place] for place in range(len(tokenized))]

    def _score_batch(
        self, batch: PackedBatch, needs: Needs, reference: ReferenceStates | None
    ) -> list[PairScore]:
        chosen, rejected = self._module(batch, reference, needs, self._config.chunk_size)
        return pair_scores(batch.pair_ids, self.method(chosen, rejected), chosen, rejected)

    def evaluate(  # type: ignore[override]
        self,
        eval_dataset: Sequence[PreferencePair]
        | Mapping[str, Sequence[PreferencePair]]
        | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return loss, rewards, margins, accuracies and KL on held-out pairs, and log them.

        Args:
            eval_dataset: pairs, or several sets by name; the trainer's own when None.
            ignore_keys: not used; part of transformers' signature.
            metric_key_prefix: put before each name, with the set's name after it.

        Raises:
            UserError: there are no pairs to evaluate on.
        """
        pairs: Any = eval_dataset if eval_dataset is not None else self.eval_dataset
        if isinstance(pairs, dict):
            every: dict[str, float] = {}
            for name, part in pairs.items():
                every |= self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}")
            return every
        scores = self.score_pairs(pairs) if pairs else []
        if not scores:
            raise UserError("Evaluation needs at least one pair; give an eval_dataset.")

        named = {f"{metric_key_prefix}_{name}": value for name, value in summary(scores).items()}
        self.log(dict(named))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named


__all__ = ["POConfig", "POTrainer", "PairScore"]
