"""Runs pairs through policy and reference without training: scores, evaluation, prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput

from sparsepo.batches.attention import restore_attention
from sparsepo.batches.pack import pack_pairs, packed_length
from sparsepo.batches.regroup import batches_by_length
from sparsepo.batches.tokenize import TokenizeReport, tokenize_pairs
from sparsepo.distributed.processes import spread
from sparsepo.errors import UserError
from sparsepo.methods.base import Needs, required, response_sum
from sparsepo.reference.cache import CachedValues
from sparsepo.reference.online import Reference, ReferenceStates, unwrap_peft
from sparsepo.training.cached_reference import CachedReference, states_from, told_progress
from sparsepo.training.config import POConfig
from sparsepo.training.dataset import to_pairs
from sparsepo.training.importance import token_importance
from sparsepo.training.method_data import check_data, check_paired
from sparsepo.training.metrics import PairScore, pair_scores, summary
from sparsepo.training.mismatched import mismatched
from sparsepo.training.sharing import SharingTrainer
from sparsepo.training.start_check import StartCheck, Subject, check_start_of
from sparsepo.training.third_models import ThirdModels
from sparsepo.types import LossOutput, PackedBatch, PreferencePair, TokenizedPair, TokenStats


class ScoringTrainer(SharingTrainer):
    """A SharingTrainer with a reference, which scores pairs in the same way as training."""

    needs: Needs
    reference: Reference | None
    _third_models: ThirdModels | None = None
    _config: POConfig
    _max_length: int
    """Longest prompt and response together, in tokens."""
    _cache: CachedReference | None = None
    _start: StartCheck | None = None
    _own_attention: Any
    """The attention that the models came with."""

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
            # While the policy itself is the reference, one check is enough.
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

    # Batches

    def _tokenize(
        self, pairs: Sequence[PreferencePair]
    ) -> tuple[list[TokenizedPair], TokenizeReport]:
        config = self._config
        check_paired(self.method, pairs)
        tokenized = tokenize_pairs(
            pairs,
            self._tokenizer,
            max_length=self._max_length,
            max_prompt_length=config.max_prompt_length,
            on_long_response=config.on_long_response,
        )
        return tokenized.pairs, tokenized.report

    def _pack(self, pairs: list[TokenizedPair], rejected: bool) -> PackedBatch:
        return pack_pairs(
            pairs,
            tokens_per_row=self._config.tokens_per_row,
            share_prompt=self._module.computation == "packed",
            rejected=rejected,
        )

    def _fill_third_models(self, pairs: Sequence[TokenizedPair]) -> None:
        if self._third_models is None:
            return
        show = not self.args.disable_tqdm and self.accelerator.is_local_main_process
        with told_progress(
            self.callback_handler.callbacks, show, "further models", "on_third_models"
        ) as progress:
            self._third_models.fill(pairs, progress)

    def _read_reference(
        self,
        batch: PackedBatch,
        needs: Needs,
        reference: Reference | None,
        cached: CachedValues | None,
    ) -> ReferenceStates | None:
        # The policy's forward runs in the same context; log-ratios compare equal kernels.
        with self.accelerator.autocast():
            if self._given is not None:
                assert reference is not None
                states = reference.read(batch, self.method, needs)
                return replace(states, given_masks=self._given.of_batch(batch))
            if cached is None:
                return None if reference is None else reference.read(batch, self.method, needs)
            online = None
            if needs.online_reference and reference is not None:
                online = reference.read(batch, self.method, replace(needs, mask="none"))
            return states_from(cached, batch, online)

    # Scores

    def score_pairs(
        self, pairs: Sequence[PreferencePair], batch_size: int | None = None
    ) -> list[PairScore]:
        """Score pairs with the current policy and masks, without dropout.

        Args:
            pairs: any preference pairs; those that do not fit the context are skipped.
            batch_size: pairs per batch; None uses per_device_eval_batch_size.

        Returns:
            One score per pair that was not skipped, in order.
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
        check_data(self.method, tokenized)
        self._fill_third_models(tokenized)
        # Log-ratios and KL are computed for every method, because they cost little here.
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
            # Random masks must affect neither the scores nor the training that continues later.
            torch.manual_seed(self.args.seed + number)
            batch = self._pack(pairs, rejected=True).to(self.args.device)
            states = self._read_reference(batch, needs, reference, cached)
            apart = None
            if needs.mismatched and (others := mismatched(pairs, self._max_length)):
                apart = self._pack(others, rejected=True).to(self.args.device)
            found = self._score_batch(batch, needs, states, apart)
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
        self,
        batch: PackedBatch,
        needs: Needs,
        reference: ReferenceStates | None,
        apart: PackedBatch | None,
    ) -> list[PairScore]:
        sides = self._module(batch, reference, needs, self._config.chunk_size)
        chosen, rejected = self._completed(batch, sides, apart)
        assert rejected is not None
        return pair_scores(batch.pair_ids, self._output(chosen, rejected), chosen, rejected)

    def _output(self, chosen: TokenStats, rejected: TokenStats | None) -> LossOutput:
        """Return the method's output, given its running state if it has one."""
        method: Any = self.method
        if self._method_state:
            output: LossOutput = method(chosen, rejected, self._method_state)
        else:
            output = method(chosen, rejected)
        return output

    def _completed(
        self,
        batch: PackedBatch,
        sides: tuple[TokenStats, TokenStats | None],
        apart: PackedBatch | None,
    ) -> tuple[TokenStats, TokenStats | None]:
        """Add to the statistics what comes from the data, from further models and from other pairs.

        Args:
            batch: the pairs.
            sides: statistics of chosen and rejected responses.
            apart: the same responses with other pairs' prompts, for methods that need them.
        """
        needs = self.needs
        added: dict[str, Tensor] = {}
        if needs.scores and batch.scores is not None:
            added["scores"] = batch.scores
        if needs.win_probability and batch.win_probability is not None:
            win = batch.win_probability
            added["win_probability"] = torch.stack([win, 1 - win])
        if self._third_models is not None:
            added |= self._third_models.of_batch(batch)
        if needs.token_weights and self._given is not None:
            added["token_weights"] = self._given.of_batch(batch)[0]
        if needs.importance:
            added["importance"] = token_importance(self._module, batch)
        if needs.mismatched:
            added |= self._mismatched_logps(batch, apart)
        added |= self._sampled_values(batch)
        if not added:
            return sides
        chosen, rejected = (
            None if stats is None else replace(stats, **{k: v[side] for k, v in added.items()})
            for side, stats in enumerate(sides)
        )
        assert chosen is not None
        return chosen, rejected

    def _sampled_values(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Return what is known of a batch because its responses are samples of the policy."""
        del batch
        return {}

    @torch.no_grad()
    def _mismatched_logps(
        self, batch: PackedBatch, apart: PackedBatch | None
    ) -> dict[str, Float[Tensor, "responses pairs"]]:
        """Return summed log-probabilities with other prompts; 0 where there is no other one."""
        names = ("mismatched_policy_logps", "mismatched_ref_logps")
        if apart is None:
            nothing = torch.zeros(batch.response_mask.shape[:2], device=batch.response_mask.device)
            return dict.fromkeys(names, nothing)
        assert self.reference is not None
        only = Needs()
        states = self.reference.read(apart, self.method, only)
        sides = self._module(apart, states, only, self._config.chunk_size)
        sums = [
            [response_sum(required(getattr(stats, name), name), stats) for stats in sides if stats]
            for name in ("policy_logps", "ref_logps")
        ]
        return {name: torch.stack(values) for name, values in zip(names, sums, strict=True)}

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
            pairs = to_pairs(eval_dataset, "eval_dataset", unpaired=self.method.unpaired)
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
        # transformers' progress bar reads this attribute.
        self.callback_handler.eval_dataloader = dataloader
        scores = self._scores(pairs, self.args.eval_batch_size, self._tell_evaluation_batch)
        if not scores:
            raise UserError(
                "Evaluation needs at least one pair that fits the context; raise max_length."
            )
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
