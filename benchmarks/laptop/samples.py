"""The generation engine against `model.generate`."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.laptop.found import Found, Samples
from benchmarks.laptop.models import LaptopModel
from benchmarks.progress import say

BATCH = 48


@dataclass(frozen=True)
class Prompts:
    """What is sampled."""

    title: str
    prompts: int
    samples: int
    lengths: tuple[int, int]
    new_tokens: int


WORK = (
    Prompts("dialogues of all lengths", 48, 1, (20, 220), 48),
    Prompts("summaries, 8 samples of each post", 6, 8, (350, 350), 40),
)


def measure_samples(
    model: LaptopModel, folder: Path, found: Found, *, rounds: int, threads: int
) -> None:
    """Sample with the engine and `model.generate` in turn.

    Args:
        model: the model.
        folder: its folder.
        found: takes the result, round by round.
        rounds: measured rounds.
        threads: CPU threads.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from benchmarks.sampling import generate
    from tasks.models.generation import sample_ids

    torch.set_num_threads(threads)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    draw = random.Random(0)
    for work in WORK:
        prompts = [
            [draw.randrange(1, model.vocabulary - 1) for _ in range(draw.randint(*work.lengths))]
            for _ in range(work.prompts)
        ]
        repeated = [prompt for prompt in prompts for _ in range(work.samples)]
        samples = Samples(model.title, work.title)
        found.samples.append(samples)
        for round_ in range(-1, rounds):
            say(f"{model.title}, {work.title}: round {max(0, round_) + 1} of {rounds}")
            new_tokens = work.new_tokens if round_ >= 0 else 2
            started = time.monotonic()
            ours = sample_ids(
                loaded,
                repeated,
                tokenizer,
                max_new_tokens=new_tokens,
                batch_size=BATCH,
                seed=round_ + 1,
            ).ids
            middle = time.monotonic()
            theirs = generate(loaded, repeated, new_tokens, round_ + 1, batch_size=BATCH)
            ended = time.monotonic()
            if round_ >= 0:  # the first one warms up
                samples.ours.append(sum(map(len, ours)) / (middle - started))
                samples.theirs.append(sum(map(len, theirs)) / (ended - middle))
