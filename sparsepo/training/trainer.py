"""POTrainer: a transformers.Trainer for preference pairs and the loss of any method."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import (
    BitsAndBytesConfig,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from transformers.trainer_utils import IntervalStrategy

from sparsepo.batches.attention import attention_of, use_attention
from sparsepo.batches.regroup import hold
from sparsepo.distributed.sharding import (
    check_sharding,
    forward_dtype,
    keep_precision,
    uses_fsdp,
)
from sparsepo.errors import UserError
from sparsepo.methods.base import Method, Needs, ThirdModel
from sparsepo.methods.masked import sparsity
from sparsepo.models.adapters import is_quantized
from sparsepo.models.plain import Computation
from sparsepo.reference.cache import CachedValues
from sparsepo.reference.online import Reference, ReferenceStates, unwrap_peft
from sparsepo.training.cached_reference import CachedReference, told_progress
from sparsepo.training.card import reports_of
from sparsepo.training.checks import check_finite, check_optimizer, check_sizes, check_start
from sparsepo.training.config import POConfig
from sparsepo.training.critic import make_critic
from sparsepo.training.dataset import (
    Stream,
    check_streaming,
    eval_sets,
    first_pairs,
    is_stream,
    one_split,
    to_pairs,
)
from sparsepo.training.given_masks import GivenMasks
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
from sparsepo.training.method_data import check_data, check_labels, check_samples, check_steps
from sparsepo.training.metrics import PairScore, by_response, pair_metrics
from sparsepo.training.micro_batches import MISMATCHED, StepTrainer
from sparsepo.training.policy import PolicyWithMasks, make_masks
from sparsepo.training.start_check import START_CHECK, StartCheck
from sparsepo.training.third_models import ThirdModels, check_given
from sparsepo.training.trl_names import refuse_arguments
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
"""Training pairs on which the initial sparsity of a mask is measured."""

MASK_DRAWS = 100
"""Maximum number of initialisations of a mask."""

_log = logging.getLogger(__name__)


class POTrainer(StepTrainer):
    """Trains a policy on preference pairs with any registered method.

    `trainer.policy` is the language model; `trainer.model` holds it together with its masks and its
    critic.

    Args:
        model: the policy: a model, a PEFT model, a folder or a hub id.
        ref_model: the reference; None uses the initial policy (PEFT: the policy without adapters),
            or nothing if the method needs none.
        args: the configuration.
        train_dataset: preference pairs, or rows in TRL's columns: a list of dictionaries, a
            `datasets.Dataset`, a `DatasetDict` with one split; or a stream of such rows
            (`datasets.IterableDataset`, a generator), with `max_steps`.
        eval_dataset: pairs or rows for `evaluate`, without a stream; or several sets by name, whose
            metrics are then named eval_<name>_….
        processing_class: the tokenizer; None loads it from the model's folder or id.
        callbacks: further transformers callbacks; if one has `on_reference_cache(done, total)` or
            `on_third_models(done, total)`, it is called with the progress of filling a reference
            cache, or of running the oracle, anti and history models on the pairs.
        compute_metrics: computes further evaluation metrics from a transformers.EvalPrediction,
            whose predictions are the implicit rewards, (pairs, 2), chosen first, and whose
            label_ids are zeros.
        optimizers: an optimizer of the policy's weights, to which masks and critic are added, and a
            learning rate schedule.
        optimizer_cls_and_kwargs: an optimizer's class and arguments, in place of `args.optim`.
        peft_config: adapters to add, in place of `args.lora_r`.
        quantization_config: a BitsAndBytesConfig for a model given by folder or id.
        oracle: a model that was trained on the preferences, for methods that read one; its
            log-probabilities are computed once.
        anti: a model that was trained on the reversed preferences, likewise.
        history: the policy of the previous iteration, likewise.
        unsupported: arguments of other trainers, each rejected with a remedy.

    Raises:
        UserError: the method does not use an option, the data has no usable pair, or model,
            tokenizer and reference do not match.
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
        oracle: str | PreTrainedModel | None = None,
        anti: str | PreTrainedModel | None = None,
        history: str | PreTrainedModel | None = None,
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
        check_steps(self.method, args)
        check_samples(self.method, self.draws_samples)
        named: dict[ThirdModel, Any] = {"oracle": oracle, "anti": anti, "history": history}
        third_models = {name: value for name, value in named.items() if value is not None}
        check_given(self.method, third_models, ("history",) if self.draws_samples else ())
        self._given: GivenMasks | None = None
        if args.token_masks is not None:
            self._given = GivenMasks.read(args.token_masks, self.method)
            # Nothing of the reference is read for masks.
            self.needs = replace(self.needs, mask="none")
        check_loading(model, args, peft_config, quantization_config)
        # Data is checked before any model is loaded.
        train_dataset = one_split(train_dataset, "train_dataset")
        streamed = not self.draws_samples and is_stream(train_dataset)
        if streamed:
            check_streaming(args, self.method)
        elif train_dataset is not None:
            train_dataset = self._training_data(train_dataset)
        eval_dataset = eval_sets(eval_dataset, unpaired=self.method.unpaired)
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
                # Until training begins, the policy itself is the reference.
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
        # The reference implementation uses the model's default attention, unless one is set.
        if not plain or args.attention != "auto":
            use_attention(unwrap_peft(policy), args.attention, args.device)
            if self.reference is not None:
                use_attention(self.reference.model, args.attention, args.device, trained=False)
        ref = self.reference.model if self.reference is not None else None
        check_sizes(policy, ref, processing_class)
        loaded_models = {
            name: load_as_configured(source, args, quantization_config)
            for name, source in third_models.items()
        }
        for third in loaded_models.values():
            check_sizes(policy, third, processing_class)
        self._method_state = self.method.initial_state()
        masks = make_masks(self.method, policy if ref is None else ref)
        critic = make_critic(self.method, unwrap_peft(policy))
        # Beyond its trained positions a model fails or gives meaningless results.
        positions = getattr(policy.config, "max_position_embeddings", None)
        self._max_length: int = min(n for n in (positions, args.max_length, sys.maxsize) if n)
        self._config: POConfig = args
        self._tokenizer = processing_class
        self.read_reports = reports_of(train_dataset, eval_dataset)
        tokenized: list[TokenizedPair] | Stream | None = None
        if streamed:
            tokenized = Stream(
                train_dataset,
                lambda pairs: self._tokenize(pairs)[0],
                unpaired=self.method.unpaired,
            )
        elif train_dataset is not None:
            tokenized = self._tokenize_training(train_dataset)
        if self._given is not None:
            assert not isinstance(tokenized, Stream)
            held_out = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
            for part in (tokenized, *(self._tokenize(own)[0] for own in held_out if own)):
                self._given.check(part or [])
        # The parent resets the seed; re-initialised masks must not repeat the first draw.
        random_state = torch.get_rng_state()
        self._losses: list[tuple[list[str], Tensor]] = []
        self._watch: MaskWatch | None = None
        self._has_stepped = False
        super().__init__(
            model=PolicyWithMasks(policy, masks, computation, critic),
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
        if critic is not None and self._is_sharded:
            raise UserError(
                f"Method '{self.method.name}' trains a critic, which is not sharded; use data "
                "parallelism alone."
            )
        if self.needs.importance and self._is_sharded:
            raise UserError(
                f"Method '{self.method.name}' differentiates the policy twice in a step, which "
                "sharded weights do not allow; use whole weights, with LoRA if they do not fit."
            )
        if self.reference is not None:
            self.reference.to(self.args.device)
        self._start: StartCheck | None = None
        self._start_is_logged = False
        self._known_pairs = self._first_pairs(tokenized)
        if self._known_pairs and not self._is_sharded:
            self._check_start(self._known_pairs)
        if self._known_pairs and len(masks):
            torch.set_rng_state(random_state)
            self._initialise_masks(self._known_pairs[:MASK_PROBE_PAIRS])
            set_seed(args.seed)
        # Before a checkpoint replaces the new masks, and before they are sharded.
        self._mask_step = self._module.relative_step()
        if loaded_models:
            self._third_models = ThirdModels(
                loaded_models, self.method, self.args.device, self._module.computation
            )
            if not self.draws_samples:
                self._fill_third_models(self._known_pairs)
        self._cache: CachedReference | None = None
        self._cached: CachedValues | None = None
        if args.reference_cache is not None:
            assert not isinstance(tokenized, Stream)
            self._use_cache(tokenized or [], ref_model if ref_model is not None else model)

    # Data

    def _training_data(self, train_dataset: Any) -> Sequence[Any]:
        """Return the finite training data of the user, checked."""
        pairs = to_pairs(train_dataset, "train_dataset", unpaired=self.method.unpaired)
        if not pairs:
            raise UserError("train_dataset is empty; give at least one pair.")
        return pairs

    def _tokenize_training(self, pairs: Sequence[Any]) -> list[TokenizedPair]:
        """Return what an epoch goes through."""
        tokenized, self.tokenizer_report = self._tokenize(pairs)
        check_data(self.method, tokenized)
        check_labels(self.method, tokenized)
        return tokenized

    def _first_pairs(self, tokenized: list[TokenizedPair] | Stream | None) -> list[TokenizedPair]:
        """Return pairs for the start check and for new masks."""
        return first_pairs(tokenized)

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
            # Weights that will be sharded have not been placed on a device yet.
            self._module.to(self.args.device)
        show = not self.args.disable_tqdm and self.accelerator.is_local_main_process
        with told_progress(self.callback_handler.callbacks, show) as progress:
            self._cache.fill(self.reference, self.method, pairs, progress)
        if train_pairs:
            self._cached = self._cache.select(train_pairs, self.method)
        costs_memory = self.is_fsdp_enabled or not self.reference.within_policy
        if costs_memory and not self.needs.online_reference:
            self.reference = None

    def _initialise_masks(self, pairs: list[TokenizedPair]) -> None:
        """Scale new masks on some pairs or, with mask_init=paper, re-initialise dead ones."""
        limit = getattr(self.method, "initial_sparsity", 100.0)
        scaled = getattr(self.method, "mask_init", "paper") == "scaled"
        module = self._module
        if self.reference is None or (limit >= 100 and not scaled):
            return
        # Weights that will be sharded have not been placed on a device yet.
        module.masks.to(self.args.device)
        batch = self._pack(pairs, rejected=True).to(self.args.device)
        states = self.reference.read(batch, self.method, self.needs)
        if scaled:
            module.scale_masks(states, limit)
            return
        for name in module.masks:
            if not module.reinitialise_mask(name, batch, states, limit, MASK_DRAWS):
                raise UserError(
                    f"In {MASK_DRAWS} initialisations no {name} mask had less than {limit:g} % "
                    "zeros; raise mask_initial_sparsity or try another seed."
                )

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
            DivergedError: a pair's loss is not finite.
            UserError: the reference is not the policy's start.
        """
        inputs = dict(inputs)
        weights = inputs.pop("weights", None)
        inputs.pop("attention_mask", None)
        apart = inputs.pop(MISMATCHED, None)
        batch = PackedBatch(**inputs)
        reference = self._read_reference(batch, self.needs, self.reference, self._cached)
        sides = model(batch, reference, self.needs, self._config.chunk_size)
        self._check_reference(model, batch, reference, sides)
        chosen, rejected = self._completed(
            batch, sides, None if apart is None else PackedBatch(**apart)
        )
        output = self._output(chosen, rejected)
        self._method_state = dict(output.state)
        if weights is None:
            weights = torch.ones_like(output.per_pair)
        self._losses.append((batch.pair_ids, output.per_pair.detach() * weights))
        if self.accelerator.sync_gradients:
            # Checked once per step for all micro-batches and processes, because it synchronises the
            # device.
            losses, self._losses = self._losses, []
            check_finite(self.accelerator, losses, self.state.global_step)
        metrics = self._metrics(batch, reference, chosen, rejected, output)
        for group, rows in by_response(metrics, chosen, rejected):
            self._means.record(group, weights * rows)
        loss = (output.per_pair * weights).sum()
        if num_items_in_batch is not None:
            # DDP averages gradients over processes; the pairs were counted over all of them.
            loss = loss / num_items_in_batch * self.args.world_size
        else:
            loss = loss / weights.sum()
        return (loss, output) if return_outputs else loss

    def _check_reference(
        self,
        model: nn.Module,
        batch: PackedBatch,
        reference: ReferenceStates | None,
        sides: tuple[TokenStats, TokenStats | None],
    ) -> None:
        """Check in the first step that the reference is the policy's start."""
        self._has_stepped |= self.state.global_step > 0
        # A second call of train(), or a restart with smaller batches, starts from trained weights.
        untrained = self.state.global_step == 0 and not self._has_stepped
        if not (untrained and self._config.check_reference and self.needs.ref_logps):
            return

        def compute(training: bool) -> tuple[TokenStats, TokenStats | None]:
            model.train(training)
            try:
                found: tuple[TokenStats, TokenStats | None] = model(
                    batch, reference, self.needs, self._config.chunk_size
                )
            finally:
                model.train()
            return found

        # Noise on the embeddings changes the policy but not the reference.
        with self.noise.paused() as was_on:
            if was_on:
                with torch.no_grad():
                    sides = compute(True)
            check_start(
                self.accelerator,
                sides,
                self.policy.dtype,
                within_policy=self.reference is not None and self.reference.within_policy,
                again=partial(compute, True),
                in_evaluation=partial(compute, False),
            )

    def begin(self) -> None:
        """Prepare for the first step."""
        dtype = forward_dtype(self.accelerator)
        if dtype is not None and self.reference is not None:
            self.reference.compute_in(dtype)
        self._losses = []
        rate = self.mask_learning_rate
        self._watch = watch_for(
            self.method,
            tuple(self._module.masks),
            self.args.learning_rate if rate is None else rate,
        )
        super().begin()
        # After the optimizer's groups are restored, because a forward pass replaces sharded weights
        # with whole ones. It must not change the random numbers of training.
        with torch.random.fork_rng():
            self._check_start(self._known_pairs)

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
            # The loss was computed with mask dropout, but sparsity is defined without it.
            reward, kl = module.masks_without_dropout(batch, reference)
            for side, stats in enumerate((chosen, rejected)):
                if stats is not None:
                    name = ("chosen", "rejected")[side]
                    metrics[f"sparsity/reward/{name}"] = sparsity(reward[side], stats)
                    metrics[f"sparsity/kl/{name}"] = sparsity(kl[side], stats)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the mean of each metric since the last entry, and warn about dying masks."""
        if "loss" in logs and self._start is not None and not self._start_is_logged:
            logs = {**logs, START_CHECK: self._start.difference}
            self._start_is_logged = True
        super().log(logs, start_time)
        if "loss" in logs and self._watch is not None:
            entry = self.state.log_history[-1]
            for text in self._watch.see(entry, self.state.global_step, self.state.max_steps):
                if self.accelerator.is_main_process:
                    _log.warning(text)


__all__ = ["POConfig", "POTrainer", "PairScore"]
