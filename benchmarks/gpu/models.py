"""Models of random weights, and pairs, for the checks."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.finding import Place
from benchmarks.shapes import Shape, model_in_memory, write_model
from sparsepo.types import PreferencePair, TokenizedPair

SPREAD = 3.0
"""Factor on the initial weights: the usual ones give even attention, which hides a wrong mask."""


def shape_of(
    architecture: str, *, layers: int = 2, width: int = 64, heads: int = 4, **changes: Any
) -> Shape:
    """Return a small shape; heads of 16 features are the smallest that FlexAttention takes."""
    shape = Shape(architecture, architecture, architecture, layers, width, heads, 512, 12, 10)
    return replace(shape, **changes)


@contextmanager
def saved(shape: Shape, *, weights: bool) -> Iterator[Path]:
    """Save a model's configuration and tokenizer, and its weights if wanted, in a folder."""
    with tempfile.TemporaryDirectory() as name:
        write_model(shape, Path(name), weights=weights)
        yield Path(name)


def model_of(shape: Shape, device: str, dtype: torch.dtype = torch.float32) -> Any:
    """Return a model on a device, with weights drawn wide enough for its attention to matter.

    The weights are drawn in float32 on the CPU: they are the same on every device.
    """
    with saved(shape, weights=False) as folder:
        model = model_in_memory(folder, "cpu", "float32")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(SPREAD)
    return cast(model.to(device), dtype).eval()


def cast(model: Any, dtype: torch.dtype) -> Any:
    """Cast a model's weights in place, but not its tables of positions, as from_pretrained does."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def random_pairs(
    count: int, lengths: tuple[tuple[int, int], tuple[int, int]], words: int, seed: int = 0
) -> list[TokenizedPair]:
    """Return pairs of random token ids.

    Args:
        count: number of pairs.
        lengths: the smallest and the largest number of tokens of a prompt, and of a response.
        words: size of the vocabulary.
        seed: of the draw.
    """
    draw = random.Random(seed)

    def ids(span: tuple[int, int]) -> list[int]:
        return [draw.randrange(1, words) for _ in range(draw.randint(*span))]

    prompt, response = lengths
    return [
        TokenizedPair(f"pair-{number}", ids(prompt), ids(response), ids(response))
        for number in range(count)
    ]


def text_pairs(count: int, shape: Shape, seed: int = 0) -> list[PreferencePair]:
    """Return pairs in the words of a shape's tokenizer, of varied lengths up to the shape's."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        number = draw.randint(max(1, most // 2), most)
        return " ".join(f"w{draw.randrange(shape.vocabulary - 1)}" for _ in range(number))

    return [
        PreferencePair(
            f"pair-{number}",
            words(shape.prompt),
            f" {words(shape.response - 1)}",
            f" {words(shape.response - 1)}",
        )
        for number in range(count)
    ]


def training_shape(place: Place) -> Shape:
    """Return the model that the training checks train: Llama, which FlexAttention supports."""
    if place.small:
        return shape_of("llama", kv_heads=2, feed_forward=128, tied=True)
    return shape_of(
        "llama",
        width=256,
        kv_heads=2,
        feed_forward=512,
        tied=True,
        vocabulary=2048,
        # Rows of more than one block of FlexAttention.
        prompt=80,
        response=50,
    )
