"""Stages that make the data of sentiment control: reviews, samples, preference pairs, labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.domains.common.work.files import (
    evenly_spaced,
    read_pairs_file,
    write_json,
    write_pairs,
)
from harness.domains.common.work.train import starting_model
from harness.graph.stages import StageContext
from sparsepo.analysis.token_texts import token_texts
from sparsepo.batches.tokenize import tokenize_pairs
from sparsepo.types import PreferencePair
from tasks.models.generation import generate_responses
from tasks.sentiment.decisive_tokens import label_tokens, word_effects
from tasks.sentiment.pairs import rank_samples, review_prefixes
from tasks.sentiment.reviews import pair_texts, read_preferences, read_reviews
from tasks.sentiment.rewards import RewardModel, VaderReward, make_reward, score_texts
from tasks.sentiment.world import ReviewWorldConfig, write_reviews

LABELS = "labels.json"
PROMPTS = "prompts.json"
SPLITS = ("train", "test")


def make_world(context: StageContext) -> None:
    """Write the embedded world's reviews; the configuration is a ReviewWorldConfig's fields."""
    values: dict[str, Any] = dict(context.config)
    values["sentences"] = tuple(values["sentences"])
    write_reviews(ReviewWorldConfig(**values), context.work)
    texts = _texts(context.work / "train.jsonl")
    _write_texts(texts, context.work / "corpus.jsonl")
    write_json(
        {split: {"kept": len(_texts(context.work / f"{split}.jsonl"))} for split in SPLITS},
        context.work / "report.json",
    )


def make_reviews(context: StageContext) -> None:
    """Read reviews: train.jsonl, test.jsonl, corpus.jsonl (the training texts) and report.json.

    Configuration: `source`, a hub id or None for the file "reviews".
    """
    source: str | Path = context.config["source"] or context.files["reviews"]
    report: dict[str, Any] = {}
    for split in SPLITS:
        data = read_reviews(source, split)
        _write_texts(data.texts, context.work / f"{split}.jsonl")
        report[split] = data.report.counts()
    write_json(report, context.work / "report.json")
    _write_texts(_texts(context.work / "train.jsonl"), context.work / "corpus.jsonl")


def make_corpus(context: StageContext) -> None:
    """Write corpus.jsonl: the reviews, if there are any, and the texts of the training pairs.

    Both responses of a pair are written: the base model learns to write, not to prefer.
    """
    texts = list(pair_texts(read_pairs_file(context.inputs["pairs"] / "train.jsonl")))
    if "reviews" in context.inputs:
        reviews = _texts(context.inputs["reviews"] / "train.jsonl")
        # Spread evenly, because the base model reads its documents in windows of neighbours.
        step = len(reviews) / max(1, len(texts))
        for index, text in enumerate(texts):
            reviews.insert(int(index * step) + index, text)
        texts = reviews
    _write_texts(texts, context.work / "corpus.jsonl")


def read_pairs(context: StageContext) -> None:
    """Read ready-made pairs or scored samples: train.jsonl, test.jsonl, prompts.json, report.json.

    Configuration: `source` (a hub id, or None for the file "pairs"), `train_prompts`,
    `test_prompts` and `test_pairs` (caps).
    """
    config = context.config
    source: str | Path = config["source"] or context.files["pairs"]
    report: dict[str, Any] = {}
    for split in SPLITS:
        data = read_preferences(source, split)
        cap = config["train_prompts"] if split == "train" else config["test_pairs"]
        kept = evenly_spaced(data.pairs, cap)
        write_pairs(kept, context.work / f"{split}.jsonl")
        report[split] = {**data.report.counts(), "used": len(kept)}
        prompts = list(dict.fromkeys(str(pair.prompt) for pair in data.pairs))
    write_json(evenly_spaced(prompts, config["test_prompts"]), context.work / PROMPTS)
    write_json(report, context.work / "report.json")


def sample_completions(context: StageContext) -> None:
    """Write samples.jsonl: `split`, `prompt` and two `completions` of each prompt.

    Configuration: `train_prompts`, `test_prompts`, `prefix_tokens`, `new_tokens`, `batch_size`,
    `seed`, `device`, `dtype`, `model` (a hub id or None). The test prompts come of the test reviews
    and are none of the training prompts.
    """
    config = context.config
    model = starting_model(context)
    tokenizer = AutoTokenizer.from_pretrained(model)
    chosen: dict[str, list[str]] = {}
    for split in reversed(SPLITS):
        chosen[split] = review_prefixes(
            _texts(context.inputs["reviews"] / f"{split}.jsonl"),
            tokenizer,
            config[f"{split}_prompts"],
            config["seed"],
            tuple(config["prefix_tokens"]),
            exclude=chosen.get("test", ()),
        )
    rows = [(split, prompt) for split in SPLITS for prompt in chosen[split]]
    completions = generate_responses(
        model,
        [prompt for _, prompt in rows],
        samples=2,
        max_new_tokens=config["new_tokens"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        device=config["device"],
        dtype=config["dtype"],
        progress=lambda done, total: context.progress(done, total, "completions"),
    )
    with (context.work / "samples.jsonl").open("w", encoding="utf-8") as stream:
        for index, (split, prompt) in enumerate(rows):
            pair = completions[2 * index : 2 * index + 2]
            row = {"split": split, "prompt": prompt, "completions": pair}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def rank_completions(context: StageContext) -> None:
    """Rank samples by the reward: train.jsonl, test.jsonl, prompts.json and report.json.

    Configuration: `reward` (make_reward's arguments), `test_pairs` and `test_prompts` (caps).
    Prompts and completions are scored as one text.
    """
    reward = reward_of(context)
    with (context.inputs["samples"] / "samples.jsonl").open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    report: dict[str, Any] = {"reward": reward.name}
    for split in SPLITS:
        own = [row for row in rows if row["split"] == split]
        texts = [row["prompt"] + text for row in own for text in row["completions"]]
        scored = score_texts(reward, texts).scores
        found = rank_samples(
            [row["prompt"] for row in own],
            [row["completions"] for row in own],
            list(zip(scored[::2], scored[1::2], strict=True)),
            split,
        )
        cap = context.config["test_pairs"] if split == "test" else None
        kept = evenly_spaced(found.pairs, cap)
        write_pairs(kept, context.work / f"{split}.jsonl")
        known = [score for score in scored if score is not None]
        report[split] = {
            "rows": found.prompts,
            "kept": len(found.pairs),
            "used": len(kept),
            "skipped": dict(found.skipped),
            "mean_reward": sum(known) / len(known),
        }
        prompts = [row["prompt"] for row in own]
    write_json(evenly_spaced(prompts, context.config["test_prompts"]), context.work / PROMPTS)
    write_json(report, context.work / "report.json")


def label_pairs(context: StageContext) -> None:
    """Write labels.json: what each response token of the test pairs has to do with the reward.

    VADER's lexicon decides which words carry reward, whatever the reward model is. Beside the
    labels stands what the reference itself expects: its probability that the next token is one that
    decides somewhere in the training pairs, as far as any mask that sees the same states could go.

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
    for rows in _labelled(training, tokenizer, reward, config).values():
        for ids, labels in rows:
            vocabulary |= {token for token, label in zip(ids, labels, strict=True) if label}
    deciding = torch.tensor(sorted(vocabulary), device=model.device)
    # A list, since the order of the pairs is that of the tokens which are ranked.
    found = []
    prompts = {pair.pair_id: ids for pair, ids in _prompts(test, tokenizer, config)}
    for pair_id, rows in _labelled(test, tokenizer, reward, config).items():
        found += [
            {
                "pair_id": pair_id,
                "labels": labels,
                "expected": _expected(model, prompts[pair_id], ids, deciding),
            }
            for ids, labels in rows
        ]
    write_json({"deciding_tokens": len(vocabulary), "responses": found}, context.work / LABELS)


_VOCABULARY_PAIRS = 500
"""Training pairs whose deciding tokens make the vocabulary of what the reference expects."""


def reward_of(context: StageContext) -> RewardModel:
    """Return the reward model of a stage; a folder is its file "reward"."""
    values = dict(context.config["reward"])
    if "reward" in context.files:
        values["model"] = str(context.files["reward"])
    return make_reward(**values)


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


def _labelled(
    pairs: Sequence[PreferencePair], tokenizer: Any, reward: RewardModel, config: Any
) -> dict[str, list[tuple[list[int], list[bool]]]]:
    """Pair id → (token ids, labels) of the chosen and of the rejected response."""
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


def _texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line)["text"] for line in stream]


def _write_texts(texts: Sequence[str], path: Path) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for text in texts:
            stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
