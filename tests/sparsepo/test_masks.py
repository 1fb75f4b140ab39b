"""The three kinds of masks: what they are, how they learn, and where they stay in range."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparsepo.masks import (
    FeatureMean,
    LearnedMask,
    RandomMask,
    activation_to_mask,
    combine_activations,
    feature_mean,
)

LAYERS, WIDTH = 3, 6


def states(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, WIDTH, generator=generator).to(dtype) for _ in range(LAYERS)]


def learned(seed: int = 0, **options: object) -> LearnedMask:
    torch.manual_seed(seed)
    mask = LearnedMask(LAYERS, WIDTH, **options).double()  # type: ignore[arg-type]
    for parameter in mask.parameters():
        # Wide and mostly positive, so that neither rectifier is dead.
        nn.init.normal_(parameter, mean=0.2, std=0.5)
    return mask


every_shape = pytest.mark.parametrize(
    ("layers", "feed_forward"), [("all", 1), ("all", 2), ("last", 1), ("last", 2)]
)


# Learned masks


@every_shape
def test_a_learned_mask_is_its_formula(layers: str, feed_forward: int) -> None:
    """m_l = ReLU(w_l·LN(h_l) + b_l), m = ReLU(Σ_l o_l m_l), written out with plain operations."""
    mask = learned(layers=layers, feed_forward=feed_forward, eps=0.1).eval()
    hidden = states(4, 5)
    weights = mask.state_dict()

    def score(prefix: str, h: Tensor) -> Tensor:
        if feed_forward == 1:
            return h @ weights[f"{prefix}w.weight"][0] + weights[f"{prefix}w.bias"]
        inner = h @ weights[f"{prefix}ff1.weight"].T + weights[f"{prefix}ff1.bias"]
        return inner @ weights[f"{prefix}ff2.weight"][0] + weights[f"{prefix}ff2.bias"]

    if layers == "last":
        expected = score("", hidden[-1]).clamp(min=0)
    else:
        expected = torch.zeros(4, 5, dtype=torch.float64)
        for index, h in enumerate(hidden):
            centred = h - h.mean(-1, keepdim=True)
            normal = centred / (centred.square().mean(-1, keepdim=True) + 0.1).sqrt()
            normal = normal * weights["layer_norm.weight"] + weights["layer_norm.bias"]
            one = score(f"w_per_layer.{index}.", normal).clamp(min=0)
            expected += weights["mixer.weight"][0, index] * one
        expected = expected.clamp(min=0)
    ours = mask(hidden)
    torch.testing.assert_close(ours, expected)
    assert ours.shape == (4, 5)
    assert (ours > 0).any()
    flat = mask([h.flatten(0, 1) for h in hidden])
    torch.testing.assert_close(flat, ours.flatten())


def test_last_reads_the_last_layer_alone_and_has_neither_norm_nor_merger() -> None:
    mask = learned(layers="last").eval()
    assert {name for name, _ in mask.named_parameters()} == {"w.weight", "w.bias"}
    hidden = states(2, 3)
    other = [*states(2, 3, seed=1)[:2], hidden[-1]]
    assert torch.equal(mask(hidden), mask(other))


@every_shape
def test_every_parameter_learns(layers: str, feed_forward: int) -> None:
    mask = learned(layers=layers, feed_forward=feed_forward).eval()
    for name, parameter in mask.named_parameters():
        if name.endswith(("w.bias", "ff2.bias", "mixer.weight")):
            nn.init.ones_(parameter)  # No rectifier of any layer is shut for every token.
    mask(states(30)).sum().backward()
    for name, parameter in mask.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_two_feed_forward_layers_have_the_papers_size_and_nothing_between() -> None:
    mask = LearnedMask(LAYERS, WIDTH, layers="last", feed_forward=2).eval().double()
    assert mask.ff1.weight.shape == (200, WIDTH)
    # Without a non-linearity the scores are affine in the states.
    a, b = states(7), states(7, seed=1)
    middle = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
    mask.ff2.bias.data.fill_(100.0)
    torch.testing.assert_close(mask(middle), (mask(a) + mask(b)) / 2)


@pytest.mark.parametrize("layers", ["all", "last"])
def test_initialisation_is_pytorchs_own(layers: str) -> None:
    torch.manual_seed(3)
    mask = LearnedMask(LAYERS, WIDTH, layers=layers)  # type: ignore[arg-type]
    torch.manual_seed(3)
    if layers == "all":
        plain = [nn.Linear(WIDTH, 1) for _ in range(LAYERS)]
        ours = [score.w for score in mask.w_per_layer]
        assert torch.equal(mask.mixer.weight, nn.Linear(LAYERS, 1, bias=False).weight)
        assert mask.mixer.bias is None
    else:
        plain, ours = [nn.Linear(WIDTH, 1)], [mask.w]
    for expected, own in zip(plain, ours, strict=True):
        assert torch.equal(own.weight, expected.weight)
        assert torch.equal(own.bias, expected.bias)


# Dropout


@every_shape
def test_dropout_is_on_in_training_only(layers: str, feed_forward: int) -> None:
    mask = learned(layers=layers, feed_forward=feed_forward, dropout=0.5)
    hidden = states(400)
    assert torch.equal(mask.eval()(hidden), mask(hidden))
    kept = mask(hidden)
    mask.train()
    torch.manual_seed(0)
    first = mask(hidden)
    assert not torch.equal(first, mask(hidden))
    assert (first == 0).sum() > (kept == 0).sum() + 40
    torch.manual_seed(0)
    assert torch.equal(first, mask(hidden))


def test_dropout_keeps_the_expected_value() -> None:
    mask = learned(layers="last", dropout=0.3)
    hidden = [h[:1].expand(20_000, WIDTH) for h in states(1)]
    mean = mask.eval()(hidden).mean().item()
    assert mean > 0
    torch.manual_seed(0)
    assert mask.train()(hidden).mean().item() == pytest.approx(mean, rel=0.03)


def test_the_default_dropout_is_the_papers() -> None:
    assert LearnedMask(LAYERS, WIDTH).dropout == 0.01


# Binary masks


@pytest.mark.parametrize("layers", ["all", "last"])
def test_a_binary_mask_is_the_sign_and_learns_as_if_it_were_not(layers: str) -> None:
    """Forward 0 or 1; backward the gradient of the mask before the sign."""
    soft, hard = (learned(layers=layers, binary=binary).eval() for binary in (False, True))
    hidden = states(40)
    values, signs = soft(hidden), hard(hidden)
    assert set(signs.tolist()) == {0.0, 1.0}
    assert torch.equal(signs, (values > 0).double())
    weights = torch.linspace(-1, 1, 40).double()
    (values * weights).sum().backward()
    (signs * weights).sum().backward()
    for (name, expected), parameter in zip(soft.named_parameters(), hard.parameters(), strict=True):
        assert expected.grad is not None and expected.grad.any(), name
        assert torch.equal(parameter.grad, expected.grad), name  # type: ignore[arg-type]


def test_a_binary_mask_stays_binary_under_dropout() -> None:
    mask = learned(binary=True, dropout=0.4).train()
    assert set(mask(states(50)).tolist()) == {0.0, 1.0}


# Errors


@pytest.mark.parametrize("options", [{"layers": "first"}, {"feed_forward": 3}])
def test_what_does_not_exist_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="layers must be all or last and feed_forward 1 or 2"):
        LearnedMask(LAYERS, WIDTH, **options)  # type: ignore[arg-type]


def test_the_number_of_layers_has_to_fit() -> None:
    with pytest.raises(ValueError, match="2 hidden states for 3 layers"):
        learned()(states(4)[:2])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**20), st.sampled_from(["all", "last"]), st.integers(1, 2), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_a_learned_mask_is_never_negative(
    seed: int, layers: str, feed_forward: int, binary: bool, training: bool
) -> None:
    torch.manual_seed(seed)
    mask = LearnedMask(LAYERS, WIDTH, layers, feed_forward, binary, dropout=0.2)  # type: ignore[arg-type]
    values = mask.train(training)(states(9, seed=seed, dtype=torch.float32))
    assert values.shape == (9,)
    assert (values >= 0).all() and values.isfinite().all()
    if binary:
        assert ((values == 0) | (values == 1)).all()


@pytest.mark.parametrize("layers", ["all", "last"])
@pytest.mark.parametrize("binary", [False, True])
def test_a_straight_through_gradient_changes_no_value_and_reaches_zeros(
    layers: str, binary: bool
) -> None:
    """As if all rectifiers were open; a mask that is 0 everywhere has an exact gradient of 0."""
    torch.manual_seed(7)
    exact = LearnedMask(LAYERS, WIDTH, layers, binary=binary).eval().double()  # type: ignore[arg-type]
    through = copy.deepcopy(exact)
    through.gradient = "straight-through"
    hidden, slopes = states(40), torch.randn(40, dtype=torch.float64)
    assert torch.equal(exact(hidden), through(hidden))
    for mask in (exact, through):
        for network in mask.networks:
            network.output.bias.data.fill_(-100.0)
        assert not mask(hidden).any()
        (mask(hidden) * slopes).sum().backward()
    linear = copy.deepcopy(exact)
    linear.zero_grad()
    scores = torch.stack(list(linear.scores(hidden)), -1)
    merged = scores[..., 0] if layers == "last" else scores @ linear.mixer.weight[0]
    (merged * slopes).sum().backward()
    for own, dead, open_ in zip(through.networks, exact.networks, linear.networks, strict=True):
        assert not dead.output.weight.grad.any()
        torch.testing.assert_close(own.output.weight.grad, open_.output.weight.grad)
        assert own.output.weight.grad.any()


# Random masks


def test_random_masks_are_uniform() -> None:
    torch.manual_seed(0)
    values = RandomMask()(states(200, 100))
    assert values.shape == (200, 100)
    assert values.min() >= 0 and values.max() < 1
    # Mean 1/2, variance 1/12, each tenth a tenth of the values: at about six standard errors.
    assert values.mean().item() == pytest.approx(0.5, abs=0.0125)
    assert values.var().item() == pytest.approx(1 / 12, abs=0.0035)
    shares = values.histc(10, 0, 1) / values.numel()
    assert (shares - 0.1).abs().max() < 0.0130
    neighbours = torch.corrcoef(torch.stack([values[:, :-1].flatten(), values[:, 1:].flatten()]))
    assert neighbours[0, 1].abs() < 0.045


def test_random_masks_are_drawn_anew_and_by_the_seed() -> None:
    mask, hidden = RandomMask(), states(5)
    torch.manual_seed(4)
    first, second = mask(hidden), mask(hidden)
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert torch.equal(mask(hidden), first)
    assert mask([h.bfloat16() for h in hidden]).dtype == torch.float32


# Activation masks


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 2**20),
    st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(1, 5),
)  # fmt: skip
def test_an_activation_mask_is_in_range_and_knows_no_scale(
    lengths: list[int], seed: int, scale: float, shift: float, features: int
) -> None:
    """In [0, 1], 0 outside the response, its minimum 0 and maximum 1; a·x + b gives the same."""
    inside = torch.arange(9) < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(seed)
    activation = torch.randn(len(lengths), 9, features, generator=generator).double()
    mask = activation_to_mask(activation, inside)
    assert mask.shape == inside.shape
    assert ((mask >= 0) & (mask <= 1)).all()
    assert not mask[~inside].any()
    for row, response, means in zip(mask, inside, activation.mean(-1), strict=True):
        values = row[response]
        assert values.max() == 1
        assert values.min() == (0 if len(values) > 1 else 1)
        assert values.argmax() == means[response].argmax()
    moved = activation_to_mask(activation * scale + shift, inside)
    torch.testing.assert_close(moved, mask, rtol=0, atol=1e-7)
    elsewhere = torch.where(inside[..., None], activation, 1e9)
    assert torch.equal(activation_to_mask(elsewhere, inside), mask)


def test_features_are_averaged_whatever_their_shape() -> None:
    inside = torch.ones(2, 5, dtype=torch.bool)
    activation = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = activation_to_mask(activation.mean((2, 3)), inside)
    torch.testing.assert_close(activation_to_mask(activation, inside), expected)
    reduced = feature_mean(activation, (2, 3))
    torch.testing.assert_close(activation_to_mask(reduced, inside), expected)
    assert feature_mean(activation.bfloat16()).mean.dtype == torch.float32


@pytest.mark.parametrize("value", [0.0, 3.7, -1e8])
def test_constants_get_1(value: float) -> None:
    """Nothing tells their tokens apart, up to rounding; a response of one token is such a case."""
    inside = torch.tensor([[True, True, True, False], [False, True, False, False]])
    activation = torch.full((2, 4, 3), value)
    activation[0, 1] *= 1 + 1e-7
    mask = activation_to_mask(activation, inside)
    assert torch.equal(mask, inside.float())


def test_small_differences_are_no_rounding() -> None:
    inside = torch.ones(1, 3, dtype=torch.bool)
    mask = activation_to_mask(torch.tensor([[1.0, 1.0001, 1.0002]]), inside)
    torch.testing.assert_close(mask, torch.tensor([[0.0, 0.5, 1.0]]), rtol=0, atol=1e-2)


def test_an_empty_response_gives_zeros() -> None:
    mask = activation_to_mask(torch.randn(2, 4), torch.zeros(2, 4, dtype=torch.bool))
    assert torch.equal(mask, torch.zeros(2, 4))


def captures(*counts: int) -> dict[str, list[FeatureMean]]:
    generator = torch.Generator().manual_seed(1)

    def capture() -> FeatureMean:
        values = torch.randn(2, 6, generator=generator)
        return FeatureMean(values, values.abs())

    return {f"family{i}": [capture() for _ in range(count)] for i, count in enumerate(counts)}


def test_families_count_alike_however_many_captures_they_have() -> None:
    inside = torch.arange(6) < torch.tensor([[6], [4]])
    found = captures(3, 1)
    shares = {f: [activation_to_mask(t, inside) for t in tensors] for f, tensors in found.items()}
    expected = (sum(shares["family0"]) / 3 + shares["family1"][0]) / 2  # type: ignore[arg-type]
    torch.testing.assert_close(combine_activations(found, inside), expected)
    without = {**found, "empty": []}
    torch.testing.assert_close(combine_activations(without, inside), expected)


def test_mappings() -> None:
    inside = torch.arange(6) < torch.tensor([[6], [4]])
    plain = combine_activations(captures(2), inside)
    sigmoid = combine_activations(captures(2), inside, "sigmoid")
    torch.testing.assert_close(sigmoid, torch.sigmoid(plain) * inside)
    rescaled = combine_activations(captures(2), inside, "rescale")
    for row, source, response in zip(rescaled, plain, inside, strict=True):
        low, high = source[response].min(), source[response].max()
        torch.testing.assert_close(row[response], (source[response] - low) / (high - low))
        assert math.isclose(row.max().item(), 1, rel_tol=1e-6)
    assert not rescaled[~inside].any()


def test_no_captures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one captured activation"):
        combine_activations({"mlp": []}, torch.ones(1, 2, dtype=torch.bool))
