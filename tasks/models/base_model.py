"""Train the tiny base model of an embedded world from scratch: tokenizer and language model.

The architecture is that of the paper's model for the same experiment: GPT-NeoX (Pythia) for
dialogue, GPT-2 for sentiment, GPTBigCode (StarCoder) for code. Runs are reproducible on one machine
with one number of threads, which the caller sets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTBigCodeConfig,
    GPTNeoXConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from sparsepo.batches.chat import CHAT_TEMPLATE
from sparsepo.errors import UserError
from tasks.models.base_config import BaseModelConfig
from tasks.models.special_tokens import EOS

Progress = Callable[[int, int, float], None]
"""Called with (step, steps, loss in nats)."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Packed training windows: token ids and loss weights, each (windows, context + 1)."""

    ids: Tensor
    weights: Tensor


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int, max_length: int = 128
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer in which `<|endoftext|>` is EOS, BOS and padding.

    Padding shares its id with EOS, as in Pythia, so it must be identified by mask and never by id.

    Args:
        texts: the corpus; a literal `<|endoftext|>` in it becomes the special token.
        vocabulary_size: number of tokens, including the 256 bytes and the special token.
        max_length: longest sequence of the model, in tokens.

    Returns:
        The tokenizer, with the chat template of `sparsepo.batches.tokenize`.

    Raises:
        UserError: `vocabulary_size` is too small for all bytes.
    """
    if vocabulary_size < 257:
        raise UserError(
            f"A byte-level vocabulary needs at least 257 tokens; raise {vocabulary_size}."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.replace(EOS, "") for text in texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=EOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=max_length,
        padding_side="left",
        truncation_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def read_corpus(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the documents of a corpus file.

    Raises:
        UserError: the file is missing, or a line is not a JSON object with `text`.
    """
    if not path.is_file():
        raise UserError(f"There is no corpus at {path}; write the world first.")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise UserError(f"Line {number} of {path} is not a JSON object with a text.")
            yield row


def pack_windows(
    documents: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerFast,
    context: int,
    answer_weight: float,
    leading_bos: bool = False,
) -> Windows:
    """Pack whole documents into windows, each into the fullest one that has room for it.

    A document is never split between windows: a question whose answer is cut off teaches nothing,
    and in the evaluation a question without few-shot examples is at the start of the model's input,
    so documents must be there in training too. One that is longer than a window ends after the last
    answer that fits; without one it fills the window and gets no EOS. What remains of a window is
    padding of weight 0.

    Args:
        documents: rows with `text` and, optionally, `answers` ([start, end] in characters, weighted
            by `answer_weight`) and `unread` (number of leading characters with weight 0).
        tokenizer: its EOS ends each document.
        context: tokens per window, without the last target.
        answer_weight: loss weight of answer tokens, and of the EOS after an answer.
        leading_bos: begin each window with BOS.

    Raises:
        UserError: the documents do not fill one window.
    """
    rows = list(documents)
    eos = int(tokenizer.convert_tokens_to_ids(EOS))  # type: ignore[arg-type]
    encoded = tokenizer([row["text"] for row in rows], add_special_tokens=False, verbose=False)
    first = [eos] if leading_bos else []
    length = context + 1
    packed: list[tuple[list[int], list[float]]] = []
    # The windows with as many free tokens as the list's index says, the newest last.
    with_room: list[list[int]] = [[] for _ in range(length + 1)]
    for row, encoding in zip(rows, encoded.encodings, strict=True):
        ids, weights = _document(row, encoding, length - len(first), answer_weight, eos)
        free = next((n for n in range(len(ids), length + 1) if with_room[n]), None)
        if free is None:
            free = length - len(first)
            with_room[free].append(len(packed))
            packed.append((list(first), [0.0] * len(first)))
        window = with_room[free].pop()
        packed[window][0].extend(ids)
        packed[window][1].extend(weights)
        with_room[free - len(ids)].append(window)
    if sum(len(ids) for ids, _ in packed) < length:
        raise UserError("The corpus does not fill one training window; write a larger world.")
    return Windows(
        torch.tensor([ids + [eos] * (length - len(ids)) for ids, _ in packed]),
        torch.tensor([weights + [0.0] * (length - len(weights)) for _, weights in packed]),
    )


def _document(
    row: dict[str, Any], encoding: Encoding, room: int, answer_weight: float, eos: int
) -> tuple[list[int], list[float]]:
    """Return the token ids and loss weights of a document and its EOS, at most `room` of them."""

    def token_at(character: int) -> int:
        token = encoding.char_to_token(character)
        assert token is not None, "a byte-level tokenizer leaves out no character"
        return token

    ids = list(encoding.ids)
    answers, unread = row.get("answers", []), row.get("unread", 0)
    weights = [1.0] * len(ids)
    if unread:
        read = token_at(unread - 1) + 1
        weights[:read] = [0.0] * read
    stops = []
    for start, stop in answers:
        begin, end = token_at(start), token_at(stop - 1) + 1
        weights[begin:end] = [answer_weight] * (end - begin)
        stops.append(end)
    if not ids or ids[-1] != eos:
        ids.append(eos)
        weights.append(answer_weight if answers else 1.0)
    if len(ids) <= room:
        return ids, weights
    cut = max((stop for stop in stops if stop < room), default=None)
    if cut is None:  # The text does not end here, and must not teach the model that it does.
        return ids[:room], weights[:room]
    return [*ids[:cut], eos], [*weights[:cut], answer_weight]


def train_base_model(
    config: BaseModelConfig, corpus: Path, output: Path, progress: Progress | None = None
) -> None:
    """Train a tokenizer and a model on a corpus and save both as plain Hugging Face files.

    loss = Σ_t w_t · (−log π(x_t | x_<t)) / Σ_t w_t over the tokens of a batch of windows.

    Args:
        config: architecture and training.
        corpus: JSON Lines file of a world: rows as for `pack_windows`, and `first` where a
            document belongs to the beginning of the training.
        output: output directory; it also gets `base_model.json`, the configuration.
        progress: called after each step.

    Raises:
        UserError: the corpus is missing, damaged or too small, or has no document for the first
            steps.
    """
    documents = list(read_corpus(corpus))
    tokenizer = train_tokenizer(
        (row["text"] for row in documents), config.vocabulary_size, config.context
    )
    first, other = _pools(documents, tokenizer, config)
    windows = Windows(torch.cat([first.ids, other.ids]), torch.cat([first.weights, other.weights]))
    torch.manual_seed(config.seed)
    model = build_model(config, tokenizer)
    optimizer = _optimizer(model, config)
    reader = _Reader(len(first.ids), len(other.ids), config)
    model.train()
    # The beginning ends early once its answers are learned; the last count is exact.
    beginning, learned, step = config.first_steps, _RunningMean(), 0
    while step < beginning + config.steps:
        indices = reader.batch(beginning=step < beginning)
        ids, weights = windows.ids[indices], windows.weights[indices][:, 1:].flatten()
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        losses = functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step, beginning, config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step < beginning:
            answers = losses.detach()[weights == config.answer_weight]
            if len(answers) and learned.add(answers.mean().item()) < config.first_loss:
                beginning = step
        if progress is not None:
            progress(step, beginning + config.steps, loss.item())
    model.eval()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "base_model.json").write_text(json.dumps(asdict(config), indent=2) + "\n")


def _pools(
    documents: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerFast,
    config: BaseModelConfig,
) -> tuple[Windows, Windows]:
    """Return the windows of the first documents, none without first steps, and of the others."""

    def pack(rows: Sequence[dict[str, Any]]) -> Windows:
        return pack_windows(
            rows, tokenizer, config.context, config.answer_weight, config.leading_bos
        )

    if config.first_steps == 0:
        windows = pack(documents)
        return Windows(windows.ids[:0], windows.weights[:0]), windows
    first = [row for row in documents if row.get("first")]
    if not first:
        raise UserError(
            f"No document of the corpus is marked for the {config.first_steps} first steps; "
            "set base.first_steps=0."
        )
    return pack(first), pack([row for row in documents if not row.get("first")])


def build_model(config: BaseModelConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Return a language model with random weights from torch's global generator."""
    eos = int(tokenizer.convert_tokens_to_ids(EOS))  # type: ignore[arg-type]
    special = {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": eos}
    shape = _SHAPES[config.architecture](config, {"vocab_size": len(tokenizer), **special})
    model: PreTrainedModel = AutoModelForCausalLM.from_config(shape)
    return model


def _gpt_neox(config: BaseModelConfig, vocabulary: dict[str, Any]) -> PreTrainedConfig:
    return GPTNeoXConfig(
        **vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        max_position_embeddings=config.context,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": config.rotary_share,
        },
        initializer_range=config.initializer_range,
    )


def _gpt2(config: BaseModelConfig, vocabulary: dict[str, Any]) -> PreTrainedConfig:
    # GPT-2's own "gelu_new" is the same function in eight operations instead of one.
    return GPT2Config(
        **_learned_positions(config, vocabulary), activation_function="gelu_pytorch_tanh"
    )


def _gpt_bigcode(config: BaseModelConfig, vocabulary: dict[str, Any]) -> PreTrainedConfig:
    return GPTBigCodeConfig(**_learned_positions(config, vocabulary), multi_query=True)


def _learned_positions(config: BaseModelConfig, vocabulary: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for models like GPT-2; dropout would only slow down a short training."""
    return {
        **vocabulary,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_positions": config.context,
        "initializer_range": config.initializer_range,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


_SHAPES = {"gpt_neox": _gpt_neox, "gpt2": _gpt2, "gpt_bigcode": _gpt_bigcode}


def _optimizer(model: PreTrainedModel, config: BaseModelConfig) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.adam_beta2))


def _rate(step: int, beginning: int, config: BaseModelConfig) -> float:
    """Return the schedule: warm-up, constant to the end of the beginning, then a cosine decay.

    Args:
        step: number of the step, from 0.
        beginning: steps that read only first documents.
        config: its rates decay to a twentieth.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    start = max(beginning, config.warmup_steps)
    done = (step - start) / max(1, beginning + config.steps - start)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


class _RunningMean:
    """A mean in which a value's weight falls by a twentieth with each later one."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def add(self, value: float) -> float:
        """Return the mean with a further value."""
        self._mean = value if self._mean is None else 0.95 * self._mean + 0.05 * value
        return self._mean


class _Reader:
    """Draws batches of window indices, each pool of windows in a seeded order in each epoch."""

    def __init__(self, first: int, other: int, config: BaseModelConfig) -> None:
        """Start reading.

        Args:
            first: number of windows of the first documents, which have the indices 0 to first − 1.
            other: number of the other windows, which have the following indices.
            config: batch size, shares and seed.
        """
        self._generator = torch.Generator().manual_seed(config.seed)
        self._first, self._other = range(first), range(first, first + other)
        self._queues = {
            pool: torch.empty(0, dtype=torch.long) for pool in (self._first, self._other)
        }
        self._size = config.batch_size
        self._kept = round(config.first_share * config.batch_size) if first else 0

    def batch(self, *, beginning: bool) -> Tensor:
        """Return the next batch, of first windows alone or with the share of later batches."""
        firsts = self._size if beginning else self._kept
        return torch.cat(
            [self._draw(self._first, firsts), self._draw(self._other, self._size - firsts)]
        )

    def _draw(self, pool: range, count: int) -> Tensor:
        queue = self._queues[pool]
        while len(queue) < count:
            order = torch.randperm(len(pool), generator=self._generator)
            queue = torch.cat([queue, pool.start + order])
        self._queues[pool] = queue[count:]
        return queue[:count]
