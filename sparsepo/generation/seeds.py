"""The random numbers of a sample: a pure function of its seed, the position and a counter.

There is no generator whose state could carry over from one sample to another, or depend on the
batch that a sample is drawn in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsepo.types import Message

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_PER_POSITION = 64
"""Numbers that a position can have: one per level of a tree over the vocabulary."""


def content_id(content: str | Sequence[Message] | Sequence[int]) -> str:
    """Return an id of a prompt: a hash of its text, messages or token ids."""
    data = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(data.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def sample_seeds(seed: int, prompt_ids: Sequence[str], samples: int) -> list[int]:
    """Return the seeds of all samples: of the first prompt's, then of the second's, and so on.

    The seed of a sample is a hash of `seed`, its prompt's id and its number. If an id occurs more
    than once, the numbers of its later occurrences continue those of the earlier ones.

    Args:
        seed: of the whole run.
        prompt_ids: one id per prompt.
        samples: samples per prompt.

    Returns:
        `len(prompt_ids) * samples` integers of 64 bits.
    """
    before: dict[str, int] = {}
    seeds = []
    for prompt_id in prompt_ids:
        first = before.get(prompt_id, 0)
        before[prompt_id] = first + samples
        seeds += [sample_seed(seed, prompt_id, first + number) for number in range(samples)]
    return seeds


def sample_seed(seed: int, prompt_id: str, number: int) -> int:
    """Return the seed of one sample, an integer of 64 bits.

    Args:
        seed: of the whole run.
        prompt_id: of its prompt.
        number: of the sample among those of its prompt, from 0.
    """
    data = f"{seed}\0{number}\0{prompt_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def uniforms(seeds: NDArray[np.uint64], position: int, count: int) -> NDArray[np.float64]:
    """Return random numbers in [0, 1) of several samples at one position.

    They are the outputs of SplitMix64 at the states seed + (64·position + i + 1)·γ, of which the
    upper 53 bits are used.

    Args:
        seeds: of the samples, (rows,).
        position: tokens of the response so far.
        count: numbers per sample, at most 64.

    Returns:
        (rows, count).

    Source: Steele, Lea and Flood, *Fast splittable pseudorandom number generators* (2014).
    """
    if count > _PER_POSITION:
        raise ValueError(f"a position has at most {_PER_POSITION} random numbers, not {count}")
    counters = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(_PER_POSITION * position)
    state: NDArray[Any] = seeds[:, None] + counters * _STEP
    state = (state ^ (state >> np.uint64(30))) * _FACTORS[0]
    state = (state ^ (state >> np.uint64(27))) * _FACTORS[1]
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
