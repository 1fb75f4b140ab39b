"""Scaled masks: alive by construction, and moving alike in models of every width and depth."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsepo.masks import LearnedMask, relative_step, scale_mask
from sparsepo.masks.scaled import MEAN
from sparsepo.models.layers import layers_of
from sparsepo.training.policy import make_masks
from tests.small_models import small_model

TOKENS = 240


def states(
    layers: int, width: int, alike: float = 0.0, seed: int = 0, tokens: int = TOKENS
) -> list[Tensor]:
    """Return states of which a share `alike` of the squared length is the same for all tokens."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(layers):
        common = torch.randn(width, generator=generator)
        own = torch.randn(tokens, width, generator=generator)
        found.append(math.sqrt(alike) * common + math.sqrt(1 - alike) * own)
    return found


def new_mask(count: int, width: int, seed: int = 0, **options: Any) -> LearnedMask:
    torch.manual_seed(seed)
    return LearnedMask(count, width, **options)


def zeros(mask: LearnedMask, hidden: list[Tensor]) -> float:
    """Return the share of zeros without dropout, in percent."""
    with torch.no_grad():
        return 100 * float((mask.eval()(hidden) == 0).float().mean())


# Alive by construction


@settings(max_examples=60, deadline=None)
@given(
    layers=st.integers(1, 24), width=st.sampled_from([8, 64, 256]), seed=st.integers(0, 2**20),
    alike=st.sampled_from([0.0, 0.5, 0.95, 0.999]), kind=st.sampled_from(["all", "last"]),
    feed_forward=st.integers(1, 2), sparsity=st.floats(0, 100), scale=st.sampled_from([1.0, 40.0]),
)  # fmt: skip
# One token is above 0, by less than the rounding of a score's parts.
@example(layers=1, width=64, seed=1, alike=0.999, kind="all", feed_forward=1, sparsity=100.0,
         scale=1.0)  # fmt: skip
def test_a_scaled_mask_has_the_sparsity_asked_for_and_the_papers_mean(
    layers: int, width: int, seed: int, alike: float, kind: Any, feed_forward: Any,
    sparsity: float, scale: float,
) -> None:  # fmt: skip
    hidden = [scale * h for h in states(layers, width, alike, seed)]
    mask = new_mask(layers, width, seed, layers=kind, feed_forward=feed_forward)
    scale_mask(mask, hidden, sparsity)
    assert mask.training
    alive = TOKENS - round(zeros(mask, hidden) * TOKENS / 100)
    assert abs(alive - max(1, TOKENS - round(sparsity * TOKENS / 100))) <= 1
    assert alive > 0
    assert mask.eval()(hidden).mean().item() == pytest.approx(MEAN, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(layers=st.integers(1, 12), seed=st.integers(0, 2**20), sparsity=st.floats(0, 100))
@example(layers=4, seed=392, sparsity=0.0)  # A score near 0, whose rounding is not small beside it.
def test_tokens_with_equal_states_leave_a_mask_alive(
    layers: int, seed: int, sparsity: float
) -> None:
    hidden = [h.expand(5, -1) for h in states(layers, 16, seed=seed, tokens=1)]
    mask = new_mask(layers, 16, seed)
    scale_mask(mask, hidden, sparsity)
    assert torch.allclose(mask.eval()(hidden), torch.full((5,), MEAN), rtol=1e-3)


@pytest.mark.parametrize("width", [64, 256, 1024])
@pytest.mark.parametrize("layers", [2, 8, 24])
def test_the_sparsity_holds_on_tokens_that_were_not_seen(layers: int, width: int) -> None:
    """The same model's states of other texts: as many zeros, give or take ten percent."""
    both = [h.split(TOKENS) for h in states(layers, width, alike=0.9, tokens=2 * TOKENS)]
    mask = new_mask(layers, width)
    scale_mask(mask, [seen for seen, _ in both], 50.0)
    assert 35 < zeros(mask, [new for _, new in both]) < 65


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("layers", "width"), [(1, 64), (2, 64), (3, 64), (24, 64), (2, 1024)])
def test_every_layer_gets_a_gradient(layers: int, width: int, seed: int) -> None:
    hidden = states(layers, width, alike=0.9, seed=seed)
    mask = new_mask(layers, width, seed, dropout=0.0)
    scale_mask(mask, hidden, 50.0)
    mask(hidden).square().sum().backward()
    for name, parameter in mask.named_parameters():
        assert parameter.grad is not None
        if "w_per_layer" in name:
            assert parameter.grad.any(), name
        if name == "mixer.weight":
            assert parameter.grad.all()


def test_pytorchs_initialisation_is_often_dead_where_a_scaled_mask_is_not() -> None:
    """Two rectifiers in a row on states that are much alike: all tokens share one fate."""
    dead = 0
    for seed in range(20):
        hidden = states(4, 64, alike=0.9, seed=seed)
        mask = new_mask(4, 64, seed)
        dead += zeros(mask, hidden) > 99
        scale_mask(mask, hidden, 50.0)
        assert zeros(mask, hidden) == pytest.approx(50)
    assert dead >= 5


def test_the_mean_is_that_of_pytorchs_initialisation() -> None:
    """Of draws on unlike tokens and many layers, whose merged value is about normal."""
    means = [new_mask(48, 64, seed).eval()(states(48, 64, seed=seed)).mean() for seed in range(30)]
    assert torch.stack(means).mean().item() == pytest.approx(MEAN, rel=0.35)


def test_the_draw_keeps_its_directions_and_half_of_its_layers_raise_the_mask() -> None:
    mask = new_mask(7, 32, 5)
    drawn = [network.w.weight.clone() for network in mask.networks]
    order = mask.mixer.weight[0].argsort(descending=True)
    scale_mask(mask, states(7, 32), 30.0)
    for network, weight in zip(mask.networks, drawn, strict=True):
        assert torch.cosine_similarity(network.w.weight, weight).item() == pytest.approx(1)
    assert (mask.mixer.weight[0, order[:4]] > 0).all()
    assert (mask.mixer.weight[0, order[4:]] < 0).all()


def test_a_half_precision_models_states_do_for_scaling() -> None:
    hidden = [h.bfloat16().float() for h in states(3, 64, alike=0.9)]
    mask = new_mask(3, 64)
    scale_mask(mask, hidden, 75.0)
    assert zeros(mask, hidden) == pytest.approx(75, abs=1)


# Moving alike


def relative_movement(layers: int, width: int, seed: int, steps: int = 30) -> tuple[float, float]:
    """Train a scaled mask to weight tokens of one direction; return its change and rate.

    The change is that of the value before the last rectifier, relative to its spread at the start.
    """
    hidden = states(layers, width, alike=0.5, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    wanted = torch.randn(TOKENS, generator=generator)
    for h in hidden:
        direction = torch.randn(width, generator=generator) / math.sqrt(width)
        h += wanted[:, None] * direction * math.sqrt(width) / 3
    mask = new_mask(layers, width, seed, dropout=0.0)
    scale_mask(mask, hidden, 50.0)
    rate = 4 * relative_step(mask) / steps
    optimizer = torch.optim.AdamW(mask.parameters(), lr=rate, weight_decay=0.01)
    with torch.no_grad():
        start = mask.merge(mask.scores(hidden))
    for _ in range(steps):
        optimizer.zero_grad()
        (-(mask(hidden) * wanted).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        end = mask.merge(mask.scores(hidden))
    return float((end - start).square().mean().sqrt() / start.std()), rate


SIZES = [(2, 64), (2, 256), (2, 1024), (6, 64), (24, 64), (24, 256)]


def test_movement_does_not_depend_on_width_and_depth() -> None:
    """At the rate of the rule; the rates themselves differ by more than a hundred."""
    moved, rates = {}, {}
    for layers, width in SIZES:
        found = [relative_movement(layers, width, seed) for seed in range(3)]
        moved[layers, width] = sum(change for change, _ in found) / 3
        rates[layers, width] = sum(rate for _, rate in found) / 3
    assert all(0.5 < change < 4 for change in moved.values()), moved
    assert max(moved.values()) < 2.5 * min(moved.values()), moved
    assert rates[2, 64] > 12 * rates[2, 1024]
    assert rates[2, 64] > 3 * rates[24, 64]


@pytest.mark.parametrize("feed_forward", [1, 2])
@pytest.mark.parametrize("kind", ["all", "last"])
def test_the_relative_step_is_the_size_of_the_weights_over_the_root_of_their_number(
    kind: Any, feed_forward: Any
) -> None:
    mask = new_mask(3, 16, layers=kind, feed_forward=feed_forward)
    for network in mask.networks:
        nn.init.constant_(network.input.weight, -0.5)
    weights = (1 if kind == "last" else 3) * 16 * (1 if feed_forward == 1 else 200)
    assert relative_step(mask) == pytest.approx(0.5 / math.sqrt(weights))


@pytest.mark.parametrize("width", [64, 256, 1024])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_models_of_every_width_give_living_masks(architecture: str, width: int) -> None:
    sizes = {"gpt2": {"n_embd": width}, "llama": {"hidden_size": width, "head_dim": width // 4}}
    model = small_model(architecture, spread=1.0, **sizes[architecture])
    from sparsepo import get_method

    (mask,) = make_masks(get_method("sparsepo-common"), model).values()
    ids = torch.randint(1, 160, (4, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = [h.flatten(0, 1) for h in model(ids, output_hidden_states=True).hidden_states[1:]]
    assert len(hidden) == len(layers_of(model).blocks)
    scale_mask(mask, hidden, 50.0)
    assert zeros(mask, hidden) == pytest.approx(50, abs=1)
