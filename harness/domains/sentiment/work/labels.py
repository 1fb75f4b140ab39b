"""The stage that labels the tokens of held-out pairs by their effect on the reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.domains.common.work.files import read_pairs_file, starting_model, write_json
from harness.domains.sentiment.work.common import LABELS
from harness.graph.stages import StageContext
from sparsepo.analysis.texts import token_texts
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.types import PreferencePair
from tasks.sentiment.decisive_tokens import label_tokens, word_effects
from tasks.sentiment.reviews import pair_texts
from tasks.sentiment.rewards import RewardModel, VaderReward

_VOCABULARY_PAIRS = 500
"""Number of training pairs whose decisive tokens define the reference's expectation."""


def label_pairs(context: StageContext) -> None:
    """Write labels.json: which response tokens of the test pairs are decisive.

    VADER's lexicon determines which words carry reward, for any reward model. Next to each label is
    the reference's expectation: its probability that the next token is one that is decisive
    somewhere in the training pairs. A mask that reads the same states cannot know more than that.

    Configuration: `max_length`, `max_prompt_length`, `pairs` (cap), `device`, `model`.
    """
    config = context.config
    place = starting_model(context)
    tokenizer = AutoTokenizer.from_pretrained(place)
    model: Any = AutoModelForCausalLM.from_pretrained(place).to(config["device"]).eval()
    training = read_pairs_file(context.inputs["pairs"] / "train.jsonl")[:_VOCABULARY_PAIRS]
    test = read_pairs_file(context.inputs["pairs"] / "test.jsonl")[: config["pairs"]]
    reward = VaderReward()
    vocabulary: set[int] = set()
    for rows in labelled_tokens(training, tokenizer, reward, config).values():
        for ids, labels in rows:
            vocabulary |= {token for token, label in zip(ids, labels, strict=True) if label}
    deciding = torch.tensor(sorted(vocabulary), device=model.device)
    # A list, because the order of the pairs is that of the ranked tokens.
    found = []
    prompts = {pair.pair_id: ids for pair, ids in _prompts(test, tokenizer, config)}
    for pair_id, rows in labelled_tokens(test, tokenizer, reward, config).items():
        found += [
            {
                "pair_id": pair_id,
                "labels": labels,
                "expected": _expected(model, prompts[pair_id], ids, deciding),
            }
            for ids, labels in rows
        ]
    write_json({"deciding_tokens": len(vocabulary), "responses": found}, context.work / LABELS)


def _prompts(
    pairs: Sequence[PreferencePair], tokenizer: Any, config: Any
) -> list[tuple[PreferencePair, list[int]]]:
    return [(pair, one.prompt_ids) for pair, one in _tokenized(pairs, tokenizer, config)]


def _tokenized(pairs: Sequence[PreferencePair], tokenizer: Any, config: Any) -> list[Any]:
    tokenized = tokenize_pairs(
        pairs, tokenizer, config["max_length"], config["max_prompt_length"], "truncate"
    ).pairs
    by_id = {pair.pair_id: pair for pair in pairs}
    return [(by_id[one.pair_id], one) for one in tokenized]


def labelled_tokens(
    pairs: Sequence[PreferencePair], tokenizer: Any, reward: RewardModel, config: Any
) -> dict[str, list[tuple[list[int], list[bool]]]]:
    """Return which response tokens are decisive.

    Args:
        pairs: the pairs.
        tokenizer: splits them into tokens.
        reward: a token is decisive if this reward changes without its word.
        config: `max_length`, `max_prompt_length`.

    Returns:
        Pair id → (token ids, labels) of the chosen and of the rejected response.
    """
    tokenized = _tokenized(pairs, tokenizer, config)
    effects = iter(word_effects(list(pair_texts(pair for pair, _ in tokenized)), reward))
    found: dict[str, list[tuple[list[int], list[bool]]]] = {}
    for pair, one in tokenized:
        start = len(str(pair.prompt))
        found[pair.pair_id] = []
        for ids in (one.chosen_ids, one.rejected_ids):
            offsets, place = [], start
            for text in token_texts(tokenizer, one.prompt_ids, ids):
                offsets.append((place, place + len(text)))
                place += len(text)
            found[pair.pair_id].append((ids, label_tokens(offsets, next(effects))))
    return found


@torch.no_grad()
def _expected(
    model: Any, prompt: Sequence[int], response: Sequence[int], deciding: torch.Tensor
) -> list[float]:
    ids = torch.tensor([[*prompt, *response]], device=model.device)
    shares = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float().softmax(-1)
    found: list[float] = shares[:, deciding].sum(-1).tolist()
    return found
