"""Choosing from final states in blocks: the same tokens as from logits, the same distribution."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from sparsepo.errors import DivergedError
from sparsepo.generation import Request, Sampling, TransformersBackend, sample_seeds
from sparsepo.generation import decode as decoding
from sparsepo.generation import head as heads
from sparsepo.generation.blocks import (
    block_width,
    drawn_in_blocks,
    greedy_in_blocks,
    level_sizes,
    runs_of,
)
from sparsepo.generation.cache import RoomyLayer, roomy_cache
from sparsepo.generation.choice import drawn_tokens, greedy_tokens, levels
from sparsepo.generation.head import Projection, find_projection
from sparsepo.generation.seeds import uniforms
from tests.small_models import VOCABULARY, small_model, small_tokenizer

WIDTHS = [2, 3, 8, 50, 4096]


def example(
    vocabulary: int, rows: int = 5, *, bias: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, Projection, torch.Tensor]:
    """States, projection and random numbers of a position."""
    torch.manual_seed(vocabulary)
    hidden, weight = torch.randn(rows, 16), torch.randn(vocabulary, 16) / 2
    seeds = np.array(sample_seeds(1, ["a prompt"], rows), dtype=np.uint64)
    numbers = torch.from_numpy(uniforms(seeds, 3, levels(vocabulary)))
    offsets = torch.randn(vocabulary).to(dtype) if bias else None
    return hidden.to(dtype), Projection(weight.to(dtype), offsets), numbers


# The tree


@pytest.mark.parametrize("vocabulary", [2, 3, 10, 37, 64, 1000, 1023])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_runs_are_the_words_below_each_node(vocabulary: int, width: int) -> None:
    sizes = level_sizes(vocabulary, width)
    runs = runs_of(sizes)
    words = [list(range(first, end)) for first, end in runs]
    assert sorted(word for run in words for word in run) == list(range(vocabulary))
    for node in range(sizes[-1]):
        # Level by level, a node's children are itself and its right neighbour's place.
        below = [node]
        for size, larger in reversed(list(zip(sizes[1:], sizes, strict=False))):
            below = [*below, *(word + size for word in below if word + size < larger)]
        assert sorted(below) == sorted(first + node for first, end in runs if first + node < end)


# The same tokens


@pytest.mark.parametrize(
    ("vocabulary", "width"),
    [*itertools.product([2, 3, 37, 64], WIDTHS), (1000, 8), (1000, 50), (4099, 50), (4099, 4096)],
)
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_draws_are_those_from_logits(vocabulary: int, width: int, bias: bool) -> None:
    hidden, projection, numbers = example(vocabulary, 200, bias=bias)
    logits = projection.logits(hidden, slice(None))
    for temperature in (1.0, 0.6):
        wanted = drawn_tokens(logits, numbers, temperature, 1.0)
        found = drawn_in_blocks(hidden, projection, numbers, temperature, width)
        assert found.tolist() == wanted.tolist()
    assert greedy_in_blocks(hidden, projection, width).tolist() == greedy_tokens(logits).tolist()


def test_every_probability_is_the_softmax() -> None:
    """Enumerated: the random numbers of all cells of a fine grid, each as likely as any other."""
    vocabulary = 7
    hidden, projection, _ = example(vocabulary, 1)
    steps = 64
    grid = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    numbers = torch.cartesian_prod(*[grid] * levels(vocabulary))
    found = drawn_in_blocks(hidden.expand(len(numbers), -1), projection, numbers, 1.0, 2)
    shares = torch.bincount(found, minlength=vocabulary) / len(numbers)
    wanted = projection.logits(hidden, slice(None)).double().softmax(-1)[0]
    # Each of the three decisions is off by at most half a cell.
    assert float((shares - wanted).abs().max()) <= 3 * 0.5 / steps


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_draws_have_the_softmax_distribution(temperature: float) -> None:
    draws = 40_000
    hidden, projection, _ = example(1000, 1, bias=True)
    seeds = np.array(sample_seeds(2, ["another prompt"], draws), dtype=np.uint64)
    numbers = torch.from_numpy(uniforms(seeds, 0, levels(1000)))
    found = drawn_in_blocks(hidden.expand(draws, -1), projection, numbers, temperature, 60)
    counts = np.bincount(found.numpy(), minlength=1000)
    logits = projection.logits(hidden, slice(None))[0].double()

    def p_value(heat: float) -> float:
        expected = draws * (logits / heat).softmax(-1).numpy()
        large = expected >= 10
        observed = np.append(counts[large], counts[~large].sum())
        wanted = np.append(expected[large], expected[~large].sum())
        return float(chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(wanted) - 1))

    assert p_value(temperature) > 0.001
    # The test can fail: the distribution of another temperature is told apart.
    assert p_value(1.2 * temperature) < 1e-6


def test_a_draw_depends_on_its_own_row_alone() -> None:
    hidden, projection, numbers = example(4099, 60)
    whole = drawn_in_blocks(hidden, projection, numbers, 1.0, 256)
    order = torch.randperm(60)
    shuffled = drawn_in_blocks(hidden[order], projection, numbers[order], 1.0, 256)
    assert shuffled.tolist() == whole[order].tolist()
    alone = [
        int(drawn_in_blocks(hidden[row, None], projection, numbers[row, None], 1.0, 64))
        for row in range(60)
    ]
    assert alone == whole.tolist()


def test_words_without_probability_are_never_chosen() -> None:
    hidden, projection, numbers = example(99, 300, bias=True)
    assert projection.bias is not None
    projection.bias.fill_(-torch.inf)
    projection.bias[[7, 55, 98]] = 0.0
    for width in (2, 10, 200):
        found = drawn_in_blocks(hidden, projection, numbers, 1.0, width)
        assert set(found.tolist()) == {7, 55, 98}
        assert set(greedy_in_blocks(hidden, projection, width).tolist()) <= {7, 55, 98}


def test_greedy_takes_the_first_of_equal_tokens() -> None:
    projection = Projection(torch.ones(30, 4), None)
    hidden = torch.ones(2, 4)
    assert greedy_in_blocks(hidden, projection, 8).tolist() == [0, 0]


def test_a_row_without_any_probability_is_an_error() -> None:
    hidden, projection, numbers = example(99, 3, bias=True)
    assert projection.bias is not None
    projection.bias.fill_(-torch.inf)
    with pytest.raises(DivergedError, match="not finite"):
        drawn_in_blocks(hidden, projection, numbers, 1.0, 10)
    with pytest.raises(DivergedError, match="not finite"):
        greedy_in_blocks(hidden, projection, 10)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("word", [0, 41, 98])
def test_probabilities_that_are_not_finite_are_an_error(bad: float, word: int) -> None:
    hidden, projection, numbers = example(99, 3, bias=True)
    assert projection.bias is not None
    projection.bias[word] = bad
    with pytest.raises(DivergedError, match="not finite"):
        drawn_in_blocks(hidden, projection, numbers, 1.0, 10)
    with pytest.raises(DivergedError, match="not finite"):
        greedy_in_blocks(hidden, projection, 10)


def test_no_tensor_is_as_large_as_the_logits() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    hidden, projection, numbers = example(20_000, 50)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.data_ptr() != projection.weight.data_ptr():
                largest = max(largest, out.untyped_storage().nbytes() // 4)
            return out

    weights = projection.weight.numel()
    with Watch():
        drawn_in_blocks(hidden, projection, numbers, 1.0, 1000)
    assert largest <= 50 * 1000 or largest == weights
    assert largest < 50 * 20_000


def test_blocks_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr("sparsepo.fused.cache_bytes", lambda: 2**25)
    assert block_width(262_144, 64, cpu) == 2**20 // 64
    assert block_width(1000, 64, cpu) == 1000
    assert block_width(262_144, 2**20, cpu) == 256
    assert block_width(262_144, 64, torch.device("meta")) == 262_144


# Whole models


def backend(model: Any, size: int) -> TransformersBackend:
    return TransformersBackend(model, small_tokenizer(), size)


def responses(model: Any, size: int, sampling: Sampling, samples: int = 3) -> list[tuple[int, ...]]:
    """The responses to prompts of several lengths, several of each."""
    prompts = [(5, 9, 2), (7,) * 12, (30, 31, 32, 33, 34, 35), (8, 1)]
    seeds = sample_seeds(3, [str(p) for p in prompts], samples)
    requests = [
        Request(prompt, seeds[samples * place + number])
        for place, prompt in enumerate(prompts)
        for number in range(samples)
    ]
    found: dict[int, tuple[int, ...]] = {}
    for batch in backend(model, size).sample(requests, sampling):
        found |= {place: response.ids for place, response in batch}
    return [found[place] for place in range(len(requests))]


def wide_words(monkeypatch: pytest.MonkeyPatch, words: int = VOCABULARY) -> None:
    """Treat small vocabularies as large ones, and let them need several blocks."""
    monkeypatch.setattr(heads, "LARGE", words)
    monkeypatch.setattr("sparsepo.fused.cache_bytes", lambda: 0)
    monkeypatch.setattr("sparsepo.generation.blocks._NARROWEST", 20)


ARCHITECTURES = ["gpt2", "gpt_neox", "gptj", "gpt_bigcode", "llama", "mistral"]


@pytest.mark.parametrize("temperature", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_give_the_same_samples_in_blocks(
    architecture: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(architecture).eval()
    sampling = Sampling(12, temperature=temperature)
    assert find_projection(model) is None
    plain = responses(model, 64, sampling)
    wide_words(monkeypatch)
    # GPT-J's projection has a bias.
    assert find_projection(model) is not None
    for size in (1, 5, 64):
        assert responses(model, size, sampling) == plain


def test_a_nucleus_is_computed_from_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama").eval()
    sampling = Sampling(8, temperature=1.0, top_p=0.5)
    plain = responses(model, 64, sampling)
    wide_words(monkeypatch)
    monkeypatch.setattr(decoding, "find_projection", lambda _model: pytest.fail("not needed"))
    assert responses(model, 64, sampling) == plain


def test_adapters_are_part_of_the_states(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsepo.models.adapters import add_adapters

    model: Any = add_adapters(small_model("llama"), 4).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    sampling = Sampling(12, temperature=1.0)
    plain = responses(model, 64, sampling)
    wide_words(monkeypatch)
    assert find_projection(model) is not None
    assert responses(model, 5, sampling) == plain
    with model.disable_adapter():
        assert responses(model, 5, sampling) != plain


def test_models_that_do_more_than_project_use_their_own_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide_words(monkeypatch)
    model = small_model("llama").eval()
    own = model.get_output_embeddings()

    class Capped(torch.nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return torch.tanh(super().forward(states))

    capped = Capped(own.in_features, own.out_features, bias=False)
    capped.weight = own.weight
    model.set_output_embeddings(capped)
    assert find_projection(model) is None
    model.set_output_embeddings(own)
    assert find_projection(model) is not None
    whole = type(model).forward

    def cut(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = whole(self, *args, **kwargs)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output

    monkeypatch.setattr(type(model), "forward", cut)
    assert find_projection(model) is None
    sampling = Sampling(6, temperature=1.0)
    assert len(responses(model, 64, sampling)) == 12


def test_the_projection_is_restored_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama").eval()
    with pytest.raises(RuntimeError, match="in the middle"), heads.states_for_logits(model):
        raise RuntimeError("in the middle")
    ids = torch.tensor([[1, 2, 3]])
    assert model(input_ids=ids).logits.shape == (1, 3, VOCABULARY)


# One prompt, many samples


def test_samples_of_one_prompt_share_its_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt runs once for all of its samples; each is as if it had been drawn alone."""
    wide_words(monkeypatch)
    model = small_model("llama").eval()
    prompt = tuple(range(3, 23))
    seeds = sample_seeds(1, ["shared"], 10)
    requests = [Request(prompt, seed) for seed in seeds]
    shapes: list[tuple[int, ...]] = []
    body = type(model.base_model)
    whole = body.forward

    def watch(self: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(body, "forward", watch)
    sampling = Sampling(6, temperature=1.0)
    (batch,) = backend(model, 64).sample(requests, sampling)
    together = [response.ids for _, response in sorted(batch, key=lambda item: item[0])]
    assert [shape for shape in shapes if shape[1] == len(prompt)] == [(1, len(prompt))]
    alone = []
    for request in requests:
        ((_, response),) = next(iter(backend(model, 1).sample([request], sampling)))
        alone.append(response.ids)
    assert together == alone
    assert len(set(together)) > 5


# The cache


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "mistral"])
def test_a_cache_with_room_gives_the_same_logits(architecture: str) -> None:
    from transformers import DynamicCache

    torch.manual_seed(0)
    model = small_model(architecture).eval()
    config: Any = model.config
    ids = torch.randint(1, VOCABULARY, (4, 20))
    keep = torch.tensor([2, 0, 0])
    found = []
    for cache in (DynamicCache(config=config), roomy_cache(config, 8, 3)):
        with torch.no_grad():
            logits = [model(input_ids=ids[:, :8], past_key_values=cache).logits]
            cache.batch_select_indices(keep)
            # More tokens than there is room for: it grows.
            for token in range(8, 20):
                step = model(input_ids=ids[keep, token, None], past_key_values=cache)
                logits.append(step.logits)
        found.append(torch.cat([part[-1] for part in logits]))
        assert cache.get_seq_length() == 20
    assert any(type(layer) is RoomyLayer for layer in roomy_cache(config, 8, 3).layers)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_a_window_that_is_reached_keeps_its_own_layer() -> None:
    config: Any = small_model("mistral").config
    config.sliding_window = 16
    config.layer_types = ["sliding_attention", "full_attention"]
    short, long = (roomy_cache(config, 8, room).layers for room in (7, 8))
    assert [type(layer) is RoomyLayer for layer in short] == [True, True]
    assert [type(layer) is RoomyLayer for layer in long] == [False, True]
    assert [layer.is_sliding for layer in short] == [True, False]
