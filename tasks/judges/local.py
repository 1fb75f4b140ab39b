"""Models on this machine as judges: a reward model, and an instruct model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from sparsepo.data.hub import require_model
from sparsepo.errors import UserError
from sparsepo.types import Message
from tasks.judges.base import Item, Judge, Verdict
from tasks.judges.prompt import ANSWERS, STEM, VERSION, Task, question, read_answer
from tasks.judges.reward_text import Ids, encode_response, without_beginning
from tasks.judges.settings import TRAINED, JudgeSettings
from tasks.metrics.preference import Preference

_TOO_LONG = "prompt and response are longer than the judge's context of {} tokens"
_NOT_FINITE = "the judge's score is not finite"


class _LocalJudge(Judge):
    """Scores texts in batches of equal lengths, each text once."""

    kind: str

    def __init__(self, settings: JudgeSettings, folder: str | Path, device: str) -> None:
        require_model(folder)
        self._settings = settings
        self._name = str(settings.model)
        self._device = device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model: Any = self._load(folder).to(device).eval()
        self._context = getattr(self._model.config, "max_position_embeddings", None)
        self._known: dict[tuple[int, ...], float] = {}

    @abstractmethod
    def _load(self, folder: str | Path) -> Any:
        """Return the model."""

    @property
    def signature(self) -> dict[str, str]:
        """Return the model's name; its contents are those of the stage's input."""
        return {"kind": self.kind, "model": self._name}

    def _fits(self, ids: Sequence[int], room: int = 0) -> bool:
        return self._context is None or len(ids) + room <= self._context

    def _batches(self, texts: Sequence[tuple[int, ...]]) -> Iterator[tuple[list[int], Any, Any]]:
        """Yield (positions, token ids, attention mask), longest first, padded on the right."""
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), self._settings.batch_size):
            own = order[start : start + self._settings.batch_size]
            width = len(texts[own[0]])
            ids = torch.full((len(own), width), self._tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for row, position in enumerate(own):
                ids[row, : len(texts[position])] = torch.tensor(texts[position])
                mask[row, : len(texts[position])] = 1
            yield own, ids.to(self._device), mask.to(self._device)


class RewardJudge(_LocalJudge):
    """Prefers the response with the higher reward; the order cannot matter.

    One that was trained for this (`reward_train`) reads long prompts as in its training, without
    their beginning.
    """

    kind = "reward"
    in_order = False

    def _load(self, folder: str | Path) -> Any:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=self._settings.dtype, output_loading_info=True
        )
        if model.config.num_labels != 1 or found["missing_keys"]:
            raise UserError(
                f"judge.model: {self._name} is not a reward model with one score; give a model for "
                "sequence classification with one label."
            )
        model.config.pad_token_id = self._tokenizer.pad_token_id
        return model

    def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Verdict]]:
        """Score both responses of every item; see the base class."""
        encoded = [self._encode(item) for item in items]
        texts = dict.fromkeys(ids for both in encoded for ids in both if self._fits(ids))
        self._score([ids for ids in texts if ids not in self._known])
        for position, both in enumerate(encoded):
            yield position, self._verdict(both)

    def _encode(self, item: Item) -> tuple[Ids, Ids]:
        first, second = (
            encode_response(self._tokenizer, item.prompt, text)
            for text in (item.first, item.second)
        )
        cuts = self._settings.model == TRAINED
        return without_beginning(first, second, self._context) if cuts else (first, second)

    def _verdict(self, both: tuple[Ids, Ids]) -> Verdict:
        if not all(map(self._fits, both)):
            return Verdict("failed", _TOO_LONG.format(self._context))
        first, second = (self._known[ids] for ids in both)
        if not (math.isfinite(first) and math.isfinite(second)):
            return Verdict("failed", _NOT_FINITE)
        better: Preference = "first" if first > second else "second" if second > first else "tie"
        return Verdict(better, f"{first:.6g} against {second:.6g}")

    def _score(self, texts: list[tuple[int, ...]]) -> None:
        with torch.no_grad():
            for own, ids, mask in self._batches(texts):
                rewards = self._model(input_ids=ids, attention_mask=mask).logits[:, 0].float()
                for position, reward in zip(own, rewards.tolist(), strict=True):
                    self._known[texts[position]] = reward


class InstructJudge(_LocalJudge):
    """Asks an instruct model with its chat template."""

    kind = "instruct"

    def __init__(
        self, settings: JudgeSettings, folder: str | Path, device: str, task: Task
    ) -> None:
        super().__init__(settings, folder, device)
        self._task: Task = task
        if self._tokenizer.chat_template is None:
            raise UserError(
                f"judge.model: {self._name} has no chat template; give an instruct model."
            )

    def _load(self, folder: str | Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=self._settings.dtype)

    @property
    def signature(self) -> dict[str, str]:
        """Return the model's name and how it is asked."""
        own = {"task": self._task, "prompt": VERSION, "answer": self._settings.answer}
        if self._settings.answer == "generate":
            own["max_tokens"] = str(self._settings.max_tokens)
        return super().signature | own

    def each(self, items: Sequence[Item]) -> Iterator[tuple[int, Verdict]]:
        """Ask about every item; see the base class."""
        at_once = self._settings.answer == "likelihood"
        asked = [self._encode(question(item, self._task, at_once), at_once) for item in items]
        room = 8 if at_once else self._settings.max_tokens
        for position, ids in enumerate(asked):
            if not self._fits(ids, room):
                yield position, Verdict("failed", _TOO_LONG.format(self._context))
        fitting = [position for position, ids in enumerate(asked) if self._fits(ids, room)]
        answer = self._by_likelihood if at_once else self._in_words
        for own, verdict in answer([asked[position] for position in fitting]):
            yield fitting[own], verdict

    def _encode(self, messages: list[Message], at_once: bool) -> tuple[int, ...]:
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        text += STEM if at_once else ""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _by_likelihood(self, asked: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, Verdict]]:
        """Choose the answer whose tokens have the highest log-probability after the question."""
        endings = [
            tuple(self._tokenizer(answer, add_special_tokens=False)["input_ids"])
            for answer in ANSWERS
        ]
        for start in range(0, len(asked), self._settings.batch_size):
            own = asked[start : start + self._settings.batch_size]
            texts = [ids + ending for ids in own for ending in endings]
            scores = [0.0] * len(texts)
            with torch.no_grad():
                for positions, ids, mask in self._batches(texts):
                    logits = self._model(input_ids=ids, attention_mask=mask).logits
                    for row, position in enumerate(positions):
                        ending = endings[position % len(endings)]
                        end = len(texts[position])
                        at = range(end - len(ending) - 1, end - 1)
                        logps = logits[row, list(at)].float().log_softmax(-1)
                        chosen = logps[range(len(ending)), list(ending)]
                        scores[position] = float(chosen.sum())
            for row in range(len(own)):
                these = scores[row * len(endings) : (row + 1) * len(endings)]
                if not all(map(math.isfinite, these)):
                    yield start + row, Verdict("failed", _NOT_FINITE)
                    continue
                best = max(range(len(these)), key=these.__getitem__)
                words = ", ".join(
                    f"{answer.strip()} {score:.4g}"
                    for answer, score in zip(ANSWERS, these, strict=True)
                )
                yield start + row, Verdict(list(ANSWERS.values())[best], words)

    def _in_words(self, asked: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, Verdict]]:
        """Let the model answer greedily, and read its last line."""
        for position, ids in enumerate(asked):
            with torch.no_grad():
                output = self._model.generate(
                    input_ids=torch.tensor([ids], device=self._device),
                    attention_mask=torch.ones((1, len(ids)), dtype=torch.long, device=self._device),
                    max_new_tokens=self._settings.max_tokens,
                    do_sample=False,
                    pad_token_id=self._tokenizer.pad_token_id,
                )
            new = output[0, len(ids) :]
            text = str(self._tokenizer.decode(new, skip_special_tokens=True)).strip()
            preference = read_answer(text) or "failed"
            yield position, Verdict(preference, text or "an empty answer", len(ids), len(new))
