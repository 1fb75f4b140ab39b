"""Rewards of sampled responses: any function, a function in a file, or a reward model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sparsepo.data.hub import require_model
from sparsepo.data.pairs import Content
from sparsepo.errors import UserError, did_you_mean, first_line
from sparsepo.registry import load_file

Reward = Callable[[Sequence[Content], Sequence[str]], Sequence[float]]
"""`(prompts, responses) -> rewards`, one per response; higher is better."""


def checked_rewards(
    reward: Reward, prompts: Sequence[Content], responses: Sequence[str]
) -> list[float]:
    """Return the rewards of responses, one finite number each.

    Raises:
        UserError: the function fails, returns another number of values, or one that is not finite.
    """
    try:
        found = [float(value) for value in reward(prompts, responses)]
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The reward function failed ({type(error).__name__}: {first_line(error)}); fix it and "
            "run the same command again."
        ) from error
    if len(found) != len(responses):
        raise UserError(
            f"The reward function returned {len(found)} values for {len(responses)} responses; "
            "return one for each."
        )
    for value, response in zip(found, responses, strict=True):
        if not math.isfinite(value):
            raise UserError(
                f"The reward function returned {value} for the response {response[:60]!r}; return "
                "a finite number."
            )
    return found


def load_reward(text: str) -> Reward:
    """Return the reward function of `FILE.py:NAME`.

    Raises:
        UserError: there is no such file or function, or the file fails.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        raise UserError(f"--reward must be FILE.py:FUNCTION, not {text}.")
    if not Path(file).is_file():
        raise UserError(f"No such file: {file}.")
    module = load_file(Path(file), "sparsepo_reward_", "reward file")
    found: Any = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise UserError(f"{file} has no function '{name}'.{did_you_mean(name, known)}")
    reward: Reward = found
    return reward


class RewardModel:
    """A sequence classification model with one output, which scores prompt and response."""

    def __init__(
        self, source: str | Path, device: torch.device | str, batch_size: int = 16
    ) -> None:
        """Load the model.

        Args:
            source: a folder or hub id of a model and its tokenizer.
            device: where it runs.
            batch_size: responses that are scored together.

        Raises:
            UserError: there is no such model, or it has more than one output.
        """
        require_model(source)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForSequenceClassification.from_pretrained(source)
        if model.config.num_labels != 1:
            raise UserError(
                f"{source} has {model.config.num_labels} outputs; a reward model has one."
            )
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model = model.to(device).eval()
        self._device = torch.device(device)
        self._batch_size = batch_size

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        """Return the model's output for each response after its prompt."""
        texts = [self._text(*both) for both in zip(prompts, responses, strict=True)]
        found: list[float] = []
        for start in range(0, len(texts), self._batch_size):
            inputs = self._tokenizer(
                texts[start : start + self._batch_size],
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(self._device)
            found += self._model(**inputs).logits[:, 0].float().tolist()
        return found

    def _text(self, prompt: Content, response: str) -> str:
        if isinstance(prompt, str):
            return prompt + response
        messages = [*prompt, {"role": "assistant", "content": response}]
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False)
        return text
