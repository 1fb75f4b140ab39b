"""POTrainer: transformers.Trainer with preference pairs in and a method's loss out."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import (
    BitsAndBytesConfig,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_utils import EvalLoopOutput, IntervalStrategy

from sparsepo.batches.attention import attention_of, restore_attention, use_attention
from sparsepo.batches.pack import PADDING, pack_pairs, packed_length
from sparsepo.batches.regroup import LengthGrouped, as_drawn, batches_by_length, hold, regroup
from sparsepo.batches.tokenize import TokenizeReport, tokenize_pairs
from sparsepo.distributed.processes import spread
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
from sparsepo.training.checks import check_finite, check_optimizer, check_sizes, check_start
from sparsepo.training.config import POConfig
from sparsepo.training.dataset import (
    Stream,
    check_streaming,
    eval_sets,
    first_pairs,
    is_stream,
    one_split,
    to_pairs,
)
from sparsepo.training.loading import (
    check_loading,
    from_pretrained_options,
    load_as_configured,
    load_tokenizer,
    make_policy,
    origin_of,
    switch_off_dropout,
)
from sparsepo.training.mask_watch import MaskWatch, watch_for
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
from sparsepo.training.trl_names import refuse_arguments
from sparsepo.types import (
    LossOutput,
    PackedBatch,
    PreferencePair,
    TokenizedPair,
    TokenStats,
)

MASK_PROBE_PAIRS = 16
"""Training pairs on which a fresh mask must be alive."""

MASK_DRAWS = 100
"""How often a mask is drawn before that is given up."""


_log = logging.getLogger(__name__)


class POTrainer(SharingTrainer):
    """Trains a policy on preference pairs with any registered method.

    `trainer.policy` is the language model; `trainer.model` holds it together with its masks.

    Args:
        model: the policy: a model, a PEFT model, a folder or a hub id.
        ref_model: the reference; None takes the policy's start (PEFT: the policy without adapters),
            or nothing where the method needs none.
        args: the configuration.
        train_dataset: preference pairs, or rows in TRL's columns: a list of dictionaries, a
            `datasets.Dataset`, a `DatasetDict` with one split; or a stream of such rows
            (`datasets.IterableDataset`, a generator), with `max_steps`.
        eval_dataset: pairs or rows for `evaluate`, without a stream; or several sets by name, whose
            metrics are then named eval_<name>_….
        processing_class: the tokenizer; None loads it from the model's folder or id.
        callbacks: further transformers callbacks; one with `on_reference_cache(done, total)` is
            told how many pairs of a reference cache are computed.
        compute_metrics: makes further evaluation metrics of a transformers.EvalPrediction, whose
            predictions are the implicit rewards, (pairs, 2), chosen first, and whose label_ids are
            zeros.
        optimizers: an optimizer of the policy's weights, to which the masks are added, and a
            learning rate schedule.
        optimizer_cls_and_kwargs: an optimizer's class and arguments, in place of `args.optim`.
        peft_config: adapters to add, in place of `args.lora_r`.
        quantization_config: a BitsAndBytesConfig for a model given by folder or id.
        unsupported: arguments of other trainers, each refused with its remedy.

    Raises:
        UserError: an option that the method does not use, data without a usable pair, or a model,
            tokenizer and reference that do not fit together.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        ref_model: str | PreTrainedModel | None = None,
        args: POConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        *,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        optimizers: tuple[Optimizer | None, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[Optimizer], dict[str, Any]] | None = None,
        peft_config: PeftConfig | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
        **unsupported: Any,
    ) -> None:
        known = set(inspect.signature(POTrainer.__init__).parameters)
        refuse_arguments(unsupported, set(POConfig.field_types()), known)
        args = POConfig(output_dir="sparsepo-output") if args is None else args
        if not isinstance(args, POConfig):
            raise UserError(
                f"args is a {type(args).__name__}, which names no method; give "
                "POConfig(method=…, …), which has the same fields."
            )
        self.method: Method = args.make_method()
        self.needs: Needs = self.method.needs
        check_loading(model, args, peft_config, quantization_config)
        self.read_reports = reports_of(train_dataset, eval_dataset)
        # Data is looked at before anything is loaded.
        train_dataset = one_split(train_dataset, "train_dataset")
        streamed = train_dataset is not None and is_stream(train_dataset)
        if streamed:
            check_streaming(args)
        elif train_dataset is not None:
            train_dataset = to_pairs(train_dataset, "train_dataset")
        eval_dataset = eval_sets(eval_dataset)
        if args.eval_strategy != "no" and not eval_dataset:
            strategy = IntervalStrategy(args.eval_strategy).value
            raise UserError(
                f"eval_strategy={strategy} needs held-out pairs; give an eval_dataset, or leave "
                "eval_strategy at no."
            )
        if processing_class is None:
            name = model if isinstance(model, str | Path) else model.config.name_or_path
            processing_class = load_tokenizer(str(name), from_pretrained_options(args))
        elif not isinstance(processing_class, PreTrainedTokenizerBase):
            raise UserError(
                f"processing_class is of type {type(processing_class).__name__}; give the "
                "tokenizer of a language model, such as AutoTokenizer.from_pretrained(…)."
            )
        self.reference_origin = origin_of(ref_model if ref_model is not None else model)
        policy = make_policy(model, args, peft_config, quantization_config)
        check_optimizer(optimizers, policy, self.needs)
        # Masks are initialised here: the same seed must give the same masks.
        set_seed(args.seed)
        plain = args.computation == "plain"
        computation: Computation = "plain" if plain else "packed"
        self.reference: Reference | None = None
        if self.needs.reference:
            if ref_model is not None:
                loaded = load_as_configured(ref_model, args, quantization_config)
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
        ref = self.reference.model if self.reference is not None else None
        check_sizes(policy, ref, processing_class)
        masks = make_masks(self.method, policy if ref is None else ref)
        # Beyond its positions a model fails, or computes something it never learned.
        positions = getattr(policy.config, "max_position_embeddings", None)
        self._max_length: int = min(n for n in (positions, args.max_length, sys.maxsize) if n)
        self._config: POConfig = args
        self._tokenizer = processing_class
        tokenized: list[TokenizedPair] | Stream | None = None
        if streamed:
            tokenized = Stream(train_dataset, lambda pairs: self._tokenize(pairs)[0])
        elif train_dataset is not None:
            tokenized, self.tokenizer_report = self._tokenize(train_dataset)
        probe = first_pairs(tokenized, MASK_PROBE_PAIRS)
        # The parent seeds anew; masks that are drawn again after it must not repeat these draws.
        random_state = torch.get_rng_state()
        self._losses: list[tuple[list[str], Tensor]] = []
        self._watch: MaskWatch | None = None
        self._has_stepped = False
        super().__init__(
            model=PolicyWithMasks(policy, masks, computation),
            args=args,
            data_collator=hold,
            train_dataset=tokenized,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            compute_metrics=compute_metrics,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        check_sharding(self.accelerator, is_quantized(policy))
        keep_precision(self.accelerator)
        if self.reference is not None:
            self.reference.to(self.args.device)
        self._start: StartCheck | None = None
        self._start_is_logged = False
        compared = probe if isinstance(tokenized, Stream) else tokenized
        if compared and not self._is_sharded:
            self._check_start(compared)
        if probe and len(masks):
            torch.set_rng_state(random_state)
            self._draw_living_masks(probe)
            set_seed(args.seed)
        self._cache: CachedReference | None = None
        self._cached: CachedValues | None = None
        if args.reference_cache is not None:
            assert not isinstance(tokenized, Stream)
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
            self._max_length,
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
            max_length=self._max_length,
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

    def hook_sampler(self, dataset: Any) -> Any:
        """Return a sampler that groups pairs by their packed length, if that is asked for."""
        if self.args.train_sampling_strategy != "group_by_length":
            return None
        lengths = [packed_length(pair, self.needs.rejected) for pair in dataset]
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGrouped(step, lengths, seed)

    def hook_step(
        self, drawn: list[Any], device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor]:
        """Pack the micro-batches of one step; count their pairs, over all processes.

        The mean over all pairs of a step does not depend on how they are split.
        """
        batches = [sample["pairs"] for sample in drawn]
        pairs = list(chain.from_iterable(batches))
        weights = torch.ones(len(pairs))
        if batches:
            weights[len(pairs) - self._repeated(len(batches[-1])) :] = 0
        samples = []
        for group in self._groups(batches):
            batch = self._pack([pairs[item] for item in group], self.needs.rejected)
            samples.append({**vars(batch), "weights": weights[group]})
            if self.args.include_num_input_tokens_seen == "non_padding":
                # transformers counts the tokens of a mask by this name.
                samples[-1]["attention_mask"] = batch.part != PADDING
        count = weights.sum().to(device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        return samples, count

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
        world, dataset = self.args.world_size, self.train_dataset
        if world == 1 or self.args.dataloader_drop_last or isinstance(dataset, Stream):
            return 0
        over = len(dataset) % (size * world)  # type: ignore[arg-type]
        if over == 0 or not self.accelerator.gradient_state.end_of_dataloader:
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
        inputs = dict(inputs)
        weights = inputs.pop("weights", None)
        inputs.pop("attention_mask", None)
        batch = PackedBatch(**inputs)
        reference = self._read_reference(batch, self.needs, self.reference, self._cached)
        chosen, rejected = model(batch, reference, self.needs, self._config.chunk_size)
        self._has_stepped |= self.state.global_step > 0
        # A second call of train(), or a restart with smaller batches, goes on from trained weights.
        untrained = self.state.global_step == 0 and not self._has_stepped
        if untrained and self._config.check_reference and self.needs.ref_logps:
            within_policy = self.reference is not None and self.reference.within_policy
            noisy = self.args.neftune_noise_alpha is not None
            embeddings = unwrap_peft(self.policy).get_input_embeddings()

            def compute(training: bool) -> tuple[TokenStats, TokenStats | None]:
                model.train(training)
                # Noise on the embeddings moves the policy and not the reference.
                quiet = in_evaluation(embeddings) if noisy else contextlib.nullcontext()
                try:
                    with quiet:
                        found: tuple[TokenStats, TokenStats | None] = model(
                            batch, reference, self.needs, self._config.chunk_size
                        )
                finally:
                    model.train()
                return found

            sides = (chosen, rejected)
            if noisy:
                with torch.no_grad():
                    sides = compute(True)
            check_start(
                self.accelerator,
                sides,
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

    def begin(self) -> None:
        """Get ready for the first step."""
        dtype = forward_dtype(self.accelerator)
        if dtype is not None and self.reference is not None:
            self.reference.compute_in(dtype)
        self._losses = []
        self._watch = watch_for(self.method, tuple(self._module.masks))
        pairs: Any = self.train_dataset
        if isinstance(pairs, Stream):
            pairs = first_pairs(pairs, MASK_PROBE_PAIRS)
        self._check_start(pairs)
        super().begin()

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
        """Add the start check to the first entry, and log; warn about dying masks."""
        if "loss" in logs and self._start is not None and not self._start_is_logged:
            logs = {**logs, START_CHECK: self._start.difference}
            self._start_is_logged = True
        super().log(logs, start_time)
        if "loss" in logs and self._watch is not None:
            entry = self.state.log_history[-1]
            for text in self._watch.see(entry, self.state.global_step, self.state.max_steps):
                if self.accelerator.is_main_process:
                    _log.warning(text)

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
        return self._scores(pairs, batch_size or self.args.eval_batch_size)

    def _scores(
        self,
        pairs: Sequence[PreferencePair],
        size: int,
        tell: Callable[[], None] | None = None,
    ) -> list[PairScore]:
        tokenized, _ = self._tokenize(pairs)
        if tokenized:
            self._check_start(tokenized)
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
            found = self._score_batch(batch, needs, states)
            if tell is not None:
                tell()
            return found

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

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[PreferencePair]:
        """Return batches of evaluation pairs.

        Args:
            eval_dataset: any data that `train_dataset` may be, the name of one of the trainer's own
                evaluation sets, or None for its only one.

        Raises:
            UserError: there are no pairs, or they are of no known form.
        """
        pairs: Any = self.eval_dataset
        if isinstance(eval_dataset, str):
            pairs = pairs[eval_dataset]
        elif eval_dataset is not None:
            pairs = to_pairs(eval_dataset, "eval_dataset")
        if not pairs:
            raise UserError("Evaluation needs at least one pair; give an eval_dataset.")
        return DataLoader(pairs, batch_size=self.args.eval_batch_size, collate_fn=list)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[PreferencePair]:
        """Return batches of pairs for `predict`, as `get_eval_dataloader` does."""
        return self.get_eval_dataloader(test_dataset)

    def evaluation_loop(
        self,
        dataloader: DataLoader[PreferencePair],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Score pairs for `evaluate` and `predict`.

        Args:
            dataloader: its dataset is the pairs.
            description: not used; part of transformers' signature.
            prediction_loss_only: return no predictions; `args.prediction_loss_only` when None.
            ignore_keys: not used; part of transformers' signature.
            metric_key_prefix: put before each metric's name.

        Returns:
            predictions: the implicit rewards, (pairs, 2), chosen first; label_ids: zeros, the
            column that should be larger; metrics: loss, rewards, margins, accuracies, KL, and what
            `compute_metrics` returns for both arrays.

        Raises:
            UserError: no pair fits the context.
        """
        pairs: Any = dataloader.dataset
        # As transformers' own loop does; its progress bar asks.
        self.callback_handler.eval_dataloader = dataloader
        scores = self._scores(pairs, self.args.eval_batch_size, self._tell_evaluation_batch)
        if not scores:
            raise UserError("Evaluation needs at least one pair that fits the context.")
        only_loss = prediction_loss_only
        if only_loss is None:
            only_loss = self.args.prediction_loss_only
        rewards = np.array([[score.chosen_reward, score.rejected_reward] for score in scores])
        labels = np.zeros(len(scores), dtype=np.int64)
        metrics = summary(scores)
        if self.compute_metrics is not None and not only_loss:
            losses = None
            if "loss" in self.args.include_for_metrics:
                losses = np.array([score.loss for score in scores])
            metrics |= self.compute_metrics(EvalPrediction(rewards, labels, losses=losses))
        start = f"{metric_key_prefix}_"
        named = {
            name if name.startswith(start) else start + name: value
            for name, value in metrics.items()
        }
        return EvalLoopOutput(
            predictions=None if only_loss else rewards,  # type: ignore[arg-type]
            label_ids=None if only_loss else labels,
            metrics=named,
            num_samples=len(scores),
        )

    def _tell_evaluation_batch(self) -> None:
        self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)


@contextlib.contextmanager
def in_evaluation(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode inside."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


__all__ = ["POConfig", "POTrainer", "PairScore"]
