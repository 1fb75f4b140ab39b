"""`python -m benchmarks.sampling`: tokens per second of the generation engine and `model.generate`.

Both sample the same prompts with the same random-weight model in batches of 64, in turn, and the
median of the rounds' ratios is printed. `--exact` counts instead how often the batch size changes a
token. `--name` writes a card.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.card import hardware, library_versions, spread
from benchmarks.shapes import FULL, NARROW, Shape, write_model
from tasks.models.generation import sample_ids

CARDS = Path(__file__).parent / "cards"
BATCH = 64
SIZES = (1, 8, 64)
CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}
END_SHARE = 0.025
"""Share of the vocabulary that counts as end of sequence where responses end by themselves; models
with random weights spread their probability over all of it."""


@dataclass(frozen=True)
class Workload:
    """What is sampled."""

    title: str
    shape: str
    prompts: int
    samples: int
    temperature: float
    top_p: float
    ends: bool
    """Whether responses end by themselves."""


WORKLOADS = (
    Workload("reviews, one length, none ends early", "imdb", 64, 1, 1.0, 1.0, False),
    Workload("reviews, greedy", "imdb", 64, 1, 0.0, 1.0, False),
    Workload("dialogues of all lengths, responses end", "hh", 128, 1, 1.0, 1.0, True),
    Workload("summaries, 5 samples, nucleus 0.5", "tldr", 12, 5, 0.75, 0.5, False),
    Workload("programs, 16 samples, responses end", "mbpp", 4, 16, 0.6, 1.0, True),
)


@dataclass
class Comparison:
    """The engine and its peer on the same work, round by round."""

    workload: Workload
    model: str
    ours: list[float] = field(default_factory=list)
    """Response tokens per second."""
    theirs: list[float] = field(default_factory=list)
    tokens: tuple[int, int] = (0, 0)
    """Response tokens, ours and theirs, in the last round."""

    @property
    def ratios(self) -> list[float]:
        """Speed of the engine relative to the peer, by round."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


@dataclass
class Exactness:
    """How often the batch size changed a token."""

    architecture: str
    temperature: float
    tokens: int = 0
    """Tokens that were compared between two batch sizes."""
    changed: int = 0
    """Responses' first tokens that differ; what follows them is another response."""


def main() -> None:
    """Measure, print and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: seconds of this process's processor time, for a machine that others use",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--full", action="store_true", help="models of the paper's own width")
    parser.add_argument("--exact", action="store_true", help="compare batch sizes, not speeds")
    parser.add_argument("--tokens", type=int, default=4000, help="of each model, with --exact")
    parser.add_argument("--name", help="of the card to write to benchmarks/cards")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    before = os.getloadavg()[0]
    found: list[Any] = []
    if options.exact:
        for one in compare_sizes(options.tokens, options.device):
            print(exact_row(one), flush=True)
            found.append(one)
    else:
        shapes = {shape.name: shape for shape in (FULL if options.full else NARROW)}
        for workload in WORKLOADS:
            whole = compare(
                workload, shapes[workload.shape], options.rounds, options.device, options.clock
            )
            print(speed_row(whole), flush=True)
            found.append(whole)
    if options.name:
        card = {
            "date": datetime.now(UTC).date().isoformat(),
            "command": " ".join(["python -m benchmarks.sampling", *sys.argv[1:]]),
            "hardware": hardware(options.device, options.threads),
            "versions": library_versions(),
            "clock": options.clock,
            "load": [before, os.getloadavg()[0]],
            "exact" if options.exact else "comparisons": [asdict(one) for one in found],
        }
        CARDS.mkdir(parents=True, exist_ok=True)
        (CARDS / f"{options.name}.json").write_text(json.dumps(card, indent=1) + "\n")
        (CARDS / f"{options.name}.md").write_text(page(card, found))


def compare(
    workload: Workload, shape: Shape, rounds: int, device: str, clock: str = "wall"
) -> Comparison:
    """Run the engine and the peer in turn."""
    seconds = CLOCKS[clock]
    model, tokenizer = load(shape, device)
    generator = random.Random(0)
    lengths = [
        shape.prompt if workload.shape == "imdb" else generator.randint(shape.prompt // 3, 350)
        for _ in range(workload.prompts)
    ]
    prompts = [
        [generator.randrange(1, shape.vocabulary) for _ in range(length)]
        for length in lengths
        for _ in range(workload.samples)
    ]
    ends = list(range(1, int(shape.vocabulary * END_SHARE))) if workload.ends else []
    model.generation_config.eos_token_id = [*ends, tokenizer.eos_token_id]
    whole = Comparison(workload, shape.title)
    drawing: dict[str, Any] = {"temperature": workload.temperature, "top_p": workload.top_p}
    # To warm up.
    sample_ids(model, prompts[:BATCH], tokenizer, max_new_tokens=2)
    generate(model, prompts[:BATCH], 2, 0, **drawing)
    for round_ in range(rounds):
        start = seconds()
        ours = sample_ids(
            model,
            prompts,
            tokenizer,
            max_new_tokens=shape.response,
            batch_size=BATCH,
            seed=round_,
            **drawing,
        ).ids
        middle = seconds()
        theirs = generate(model, prompts, shape.response, round_, **drawing)
        end = seconds()
        whole.tokens = sum(map(len, ours)), sum(map(len, theirs))
        whole.ours.append(whole.tokens[0] / (middle - start))
        whole.theirs.append(whole.tokens[1] / (end - middle))
    return whole


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    seed: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = BATCH,
) -> list[list[int]]:
    """Sample with `model.generate`, in the given order, in batches padded on the left.

    Args:
        model: a causal language model.
        prompts: token ids.
        new_tokens: most tokens of a response.
        seed: of the whole call.
        temperature: 0 takes the most probable token.
        top_p: the nucleus' share.
        batch_size: prompts in a batch.

    Returns:
        The tokens of each response, up to the first end of sequence.
    """
    torch.manual_seed(seed)
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    listed = model.generation_config.eos_token_id
    ends = set(listed if isinstance(listed, list) else [listed])
    found = []
    for start in range(0, len(prompts), batch_size):
        ids, mask = padded_left(prompts[start : start + batch_size])
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=new_tokens,
            pad_token_id=0,
            **sampling,
        )
        for row in output[:, ids.shape[1] :].tolist():
            end = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
            found.append(row[: end + 1])
    return found


def padded_left(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return prompts as one batch, padded on the left with 0, and its attention mask."""
    length = max(map(len, prompts))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        mask[row, length - len(prompt) :] = 1
    return ids, mask


def compare_sizes(tokens: int, device: str) -> list[Exactness]:
    """Sample with every batch size, greedily and at temperature 0.75, in float32."""
    found = []
    for shape in (*FULL, replace(FULL[1], name="llama", architecture="llama", vocabulary=32000)):
        # Narrow, because batches of one take long, with the paper's vocabularies.
        narrow = replace(shape, layers=4, width=64, heads=4, response=40)
        model, tokenizer = load(narrow, device)
        generator = random.Random(0)
        prompts = [
            [generator.randrange(1, shape.vocabulary) for _ in range(generator.randint(1, 60))]
            for _ in range(tokens // narrow.response)
        ]
        for temperature in (0.0, 0.75):
            one = Exactness(shape.architecture, temperature)
            sampled = [
                sample_ids(
                    model,
                    prompts,
                    tokenizer,
                    max_new_tokens=narrow.response,
                    temperature=temperature,
                    batch_size=size,
                ).ids
                for size in SIZES
            ]
            for other in sampled[:-1]:
                for first, second in zip(sampled[-1], other, strict=True):
                    same = [a == b for a, b in zip(first, second, strict=False)]
                    one.tokens += len(same) if all(same) else same.index(False) + 1
                    one.changed += not all(same)
            found.append(one)
    return found


def load(shape: Shape, device: str) -> tuple[Any, Any]:
    """Return a random-weight model and its tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(shape, Path(folder))
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        return model.to(device).eval(), AutoTokenizer.from_pretrained(folder)


def speed_row(one: Comparison) -> str:
    """Return a comparison as a row of the card's table."""
    return (
        f"| {one.workload.title} | {one.model} | {one.tokens[0]:,} / {one.tokens[1]:,} "
        f"| {statistics.median(one.ours):,.0f} | {statistics.median(one.theirs):,.0f} "
        f"| {spread(one.ratios)} |"
    )


def exact_row(one: Exactness) -> str:
    """Return a count as a row of the card's table."""
    return f"| {one.architecture} | {one.temperature:g} | {one.tokens:,} | {one.changed} |"


def page(card: dict[str, Any], found: Sequence[Any]) -> str:
    """Return the card as a page."""
    machine = card["hardware"]
    if "exact" in card:
        text = (
            "Tokens of the same prompts, sampled in batches of 64 and compared with batches of 1 "
            "and 8, in float32; models of 4 layers and width 64 with random weights and the "
            "paper's vocabularies. Changed: responses that begin to differ."
        )
        head = ["| architecture | temperature | tokens compared | changed |", "|---|---|---|---|"]
        rows = [exact_row(one) for one in found]
    else:
        text = (
            f"The generation engine against `model.generate`, both in batches of {BATCH} of the "
            "same prompts, in turn. Per second: response tokens, median over rounds. Ratio: median "
            "of the rounds' ratios [smallest, largest]."
        )
        head = [
            "| workload | model | tokens, ours / generate | ours/s | generate/s | ratio |",
            "|---|---|---|---|---|---|",
        ]
        rows = [speed_row(one) for one in found]
    facts = "; ".join(f"{name} {value}" for name, value in {**machine, **card["versions"]}.items())
    return "\n".join(
        [
            f"# Sampling benchmark, {card['date']}",
            "",
            "```",
            str(card["command"]),
            "```",
            "",
            f"{facts}; {card['clock']} clock; load average {card['load'][0]:.1f} at the start and "
            f"{card['load'][1]:.1f} at the end.",
            "",
            text,
            "",
            *head,
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
