"""SamplingTrainer: a POTrainer that draws samples of its policy and reads their probabilities."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel

from sparsepo.batches.attention import attention_of, restore_attention
from sparsepo.batches.pack import packed_length
from sparsepo.batches.regroup import batches_by_length
from sparsepo.data.prompts import Prompt
from sparsepo.generation import Request, TransformersBackend, sample_seeds
from sparsepo.methods.base import Needs
from sparsepo.reference.cache import SideValues
from sparsepo.reference.online import unwrap_peft
from sparsepo.training.cached_reference import sides_of
from sparsepo.training.rewards import Reward, checked_rewards
from sparsepo.training.rollout_config import RolloutConfig
from sparsepo.training.rollouts import Drawn
from sparsepo.training.trainer import POTrainer
from sparsepo.types import TokenizedPair


class SamplingTrainer(POTrainer):
    """A POTrainer that draws samples of its current policy and has them scored."""

    draws_samples: ClassVar[bool] = True
    _config: RolloutConfig
    _reward: Reward
    _prompts: dict[str, Prompt]
    """The prompts as they were given, by id."""
    _seconds: dict[str, float]
    """Time spent on sampling and scoring since the last log entry."""

    def _draw(
        self, prompts: Sequence[TokenizedPair], name: str, count: int, score: bool = True
    ) -> list[Drawn]:
        """Draw samples of prompts with the current policy.

        Args:
            prompts: tokenized.
            name: makes these samples differ from those of other rollouts.
            count: samples of a prompt.
            score: whether the reward is asked.
        """
        config = self._config
        began = time.perf_counter()
        names = [f"{name}/{prompt.pair_id}" for prompt in prompts]
        seeds = sample_seeds(config.seed, names, count)
        requests = [
            Request(tuple(prompts[item // count].prompt_ids), seed)
            for item, seed in enumerate(seeds)
        ]
        responses: list[Any] = [None] * len(requests)
        with self._sampling_mode() as policy:
            backend = TransformersBackend(policy, self._tokenizer, config.sampling_batch_size)
            for batch in backend.sample(requests, config.make_sampling()):
                for place, response in batch:
                    responses[place] = response
        drawn_at = time.perf_counter()
        self._seconds["sampling"] += drawn_at - began
        scores = [0.0] * len(requests)
        if score:
            ids = [list(response.ids) for response in responses]
            texts = [str(t) for t in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]
            contents = [self._prompts[p.pair_id].content for p in prompts for _ in range(count)]
            scores = checked_rewards(self._reward, contents, texts)
            self._seconds["scoring"] += time.perf_counter() - drawn_at
        found = []
        for place, prompt in enumerate(prompts):
            part = slice(place * count, (place + 1) * count)
            found.append(
                Drawn(
                    prompt.pair_id,
                    prompt.prompt_ids,
                    [list(response.ids) for response in responses[part]],
                    scores[part],
                    sum(response.end == "length" for response in responses[part]),
                )
            )
        return found

    @contextlib.contextmanager
    def _sampling_mode(self) -> Iterator[PreTrainedModel]:
        """Give the policy without dropout, and with an attention that has a cache."""
        module, policy = self._module, self.policy
        module.to(self.args.device)
        was_training = module.training
        packed = attention_of([unwrap_peft(policy)])
        restore_attention({model: self._own_attention[model] for model in packed})
        module.eval()
        try:
            with torch.no_grad(), self.accelerator.autocast():
                yield policy
        finally:
            module.train(was_training)
            restore_attention(packed)

    @torch.no_grad()
    def _read_samples(self, pairs: Sequence[TokenizedPair]) -> dict[str, list[SideValues]]:
        """Return what the current policy, the reference and the critic say of samples.

        Args:
            pairs: the samples.

        Returns:
            policy_logps; ref_logps and values if the method reads them.
        """
        module, config = self._module, self._config
        needs = Needs(ref_logps=self.needs.ref_logps, values=self.needs.values)
        names = ("policy_logps", "ref_logps", "values")
        was_training = module.training
        module.eval()
        groups = batches_by_length([packed_length(pair) for pair in pairs], config.eval_batch_size)
        found: dict[str, dict[int, SideValues]] = {name: {} for name in names}
        try:
            for group in groups:
                own = [pairs[item] for item in group]
                batch = self._pack(own, rejected=True).to(self.args.device)
                states = self._read_reference(batch, needs, self.reference, None)
                with self.accelerator.autocast():
                    sides = module(batch, states, needs, config.chunk_size)
                for name, table in found.items():
                    values = [getattr(stats, name) for stats in sides]
                    if values[0] is None:
                        continue
                    both = torch.stack(values).float().cpu()
                    for place, item in enumerate(group):
                        table[item] = sides_of(both[:, place], pairs[item])
        finally:
            module.train(was_training)
        order = range(len(pairs))
        return {name: [table[item] for item in order] for name, table in found.items() if table}
