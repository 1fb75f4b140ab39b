"""The fused operation: exact, chunked, and small in memory whatever the number of tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparsepo import fused, machine
from sparsepo.fused import FusedStats, LogitTransform, token_stats

KEEPS = pytest.mark.parametrize("keep_bytes", [0, 2**30], ids=["recomputed", "kept"])


def example(
    tokens: int = 7,
    vocabulary: int = 11,
    width: int = 5,
    ref_width: int = 3,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "policy_hidden": draw(tokens, width),
        "policy_head": draw(vocabulary, width),
        "ref_hidden": draw(tokens, ref_width),
        "ref_head": draw(vocabulary, ref_width),
        "targets": torch.randint(vocabulary, (tokens,), generator=generator),
        "policy_bias": draw(vocabulary),
        "ref_bias": draw(vocabulary),
    }


def plain(x: dict[str, Any]) -> FusedStats:
    """The definition, with all logits at once."""
    dtype = torch.promote_types(x["policy_hidden"].dtype, torch.float32)
    logits = torch.nn.functional.linear(x["policy_hidden"], x["policy_head"], x["policy_bias"])
    ref_logits = torch.nn.functional.linear(x["ref_hidden"], x["ref_head"], x["ref_bias"])
    policy, ref = logits.to(dtype).log_softmax(-1), ref_logits.to(dtype).log_softmax(-1)
    at = x["targets"][:, None]
    kl = torch.nn.functional.kl_div(policy, ref, reduction="none", log_target=True).sum(-1)
    return FusedStats(policy.gather(-1, at)[:, 0], ref.gather(-1, at)[:, 0], kl)


def close(ours: FusedStats, expected: FusedStats, tolerance: float = 1e-12) -> None:
    for name, value, wanted in zip(ours._fields, ours, expected, strict=True):
        assert value is not None and wanted is not None, name
        torch.testing.assert_close(value, wanted, rtol=tolerance, atol=tolerance)


def gradients(
    x: dict[str, Any], weights: tuple[Tensor, Tensor], function: Any, **options: Any
) -> tuple[Tensor, ...]:
    names = [
        name for name in ("policy_hidden", "policy_head", "policy_bias") if x[name] is not None
    ]
    leaves = {name: x[name].clone().requires_grad_() for name in names}
    out = function({**x, **leaves}, **options)
    loss = (out.policy_logps * weights[0]).sum() + (out.kl * weights[1]).sum()
    return torch.autograd.grad(loss, list(leaves.values()))


# Values and gradients


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_forward_is_the_definition(bias: bool, chunk_size: int) -> None:
    x: dict[str, Any] = example()
    if not bias:
        x["policy_bias"] = x["ref_bias"] = None
    close(token_stats(**x, chunk_size=chunk_size), plain(x))


@KEEPS
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
@pytest.mark.parametrize("ref_width", [5, 3])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_gradcheck(bias: bool, ref_width: int, chunk_size: int, keep_bytes: int) -> None:
    x: dict[str, Any] = example(ref_width=ref_width)
    if not bias:
        x["policy_bias"] = x["ref_bias"] = None
    names = [
        name for name in ("policy_hidden", "policy_head", "policy_bias") if x[name] is not None
    ]

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        given_values = {**x, **dict(zip(names, leaves, strict=True))}
        out = token_stats(**given_values, chunk_size=chunk_size, keep_bytes=keep_bytes)
        assert out.kl is not None
        return out.policy_logps, out.kl

    leaves = [x[name].requires_grad_() for name in names]
    # A second backward pass over the same graph computes again what the first one had kept.
    assert torch.autograd.gradcheck(function, leaves, nondet_tol=1e-12)


@KEEPS
@pytest.mark.parametrize("need_kl", [True, False])
def test_gradcheck_without_reference_or_without_kl(need_kl: bool, keep_bytes: int) -> None:
    x: dict[str, Any] = example()
    if need_kl:
        x["ref_hidden"] = x["ref_head"] = x["ref_bias"] = None

    def function(hidden: Tensor, head: Tensor) -> Tensor:
        given_values = {**x, "policy_hidden": hidden, "policy_head": head}
        out = token_stats(**given_values, chunk_size=2, keep_bytes=keep_bytes, need_kl=need_kl)
        assert out.kl is None
        assert (out.ref_logps is None) == need_kl
        return out.policy_logps

    leaves = [x["policy_hidden"].requires_grad_(), x["policy_head"].requires_grad_()]
    # A second backward pass over the same graph computes again what the first one had kept.
    assert torch.autograd.gradcheck(function, leaves, nondet_tol=1e-12)


@KEEPS
def test_only_what_requires_gradients_gets_them(keep_bytes: int) -> None:
    """A frozen head (adapters) or a frozen body gets None, the other the same gradient."""
    x = example()
    weights = (torch.linspace(-1, 1, 7).double(), torch.linspace(1, 2, 7).double())
    whole = gradients(x, weights, lambda y: token_stats(**y, keep_bytes=keep_bytes))
    for index, name in enumerate(("policy_hidden", "policy_head", "policy_bias")):
        leaf = x[name].clone().requires_grad_()
        out = token_stats(**{**x, name: leaf}, keep_bytes=keep_bytes)  # type: ignore[arg-type]
        assert out.kl is not None
        ((out.policy_logps * weights[0]).sum() + (out.kl * weights[1]).sum()).backward()
        torch.testing.assert_close(leaf.grad, whole[index], rtol=1e-12, atol=1e-12)


def test_the_reference_gets_no_gradient() -> None:
    x = example()
    x["ref_hidden"].requires_grad_()
    x["policy_hidden"].requires_grad_()
    out = token_stats(**x)  # type: ignore[arg-type]
    assert out.ref_logps is not None and not out.ref_logps.requires_grad
    assert out.kl is not None
    out.kl.sum().backward()
    assert x["ref_hidden"].grad is None
    assert x["policy_hidden"].grad is not None


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(0, 12),
    vocabulary=st.integers(1, 20),
    width=st.integers(1, 6),
    chunk_size=st.integers(1, 15),
    keep=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_chunks_do_not_matter(
    tokens: int, vocabulary: int, width: int, chunk_size: int, keep: bool, bias: bool, seed: int
) -> None:
    """Neither their size nor whether the log-probabilities are kept, forward and backward."""
    x: dict[str, Any] = example(tokens, vocabulary, width, width + 1, seed=seed)
    if not bias:
        x["policy_bias"] = x["ref_bias"] = None
    options = {"chunk_size": chunk_size, "keep_bytes": 2**30 if keep else 0}
    ours = token_stats(**x, **options)
    close(ours, plain(x), 1e-10)
    assert ours.kl is not None
    assert (ours.kl >= 0).all()
    weights = (torch.arange(tokens).double() - 1, torch.arange(tokens).double() / 3)
    mine = gradients(x, weights, lambda y: token_stats(**y, **options))
    for gradient, wanted in zip(mine, gradients(x, weights, plain), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


# What a model does to its logits

TRANSFORMS = {
    "scale": LogitTransform(0.3),
    "cap": LogitTransform(cap=2.0),
    "scaled cap": LogitTransform(1.7, 1.5),
    "cap far away": LogitTransform(cap=1e4),
}


def transformed(x: dict[str, Any]) -> FusedStats:
    """The definition once more, each model's logits scaled or capped."""

    def log_probs(which: str) -> Tensor:
        logits = torch.nn.functional.linear(
            x[f"{which}_hidden"], x[f"{which}_head"], x[f"{which}_bias"]
        )
        scale, cap = x[f"{which}_transform"]
        logits = logits * scale
        return (logits if cap is None else cap * (logits / cap).tanh()).log_softmax(-1)

    policy, ref = log_probs("policy"), log_probs("ref")
    at = x["targets"][:, None]
    kl = torch.nn.functional.kl_div(policy, ref, reduction="none", log_target=True).sum(-1)
    return FusedStats(policy.gather(-1, at)[:, 0], ref.gather(-1, at)[:, 0], kl)


@KEEPS
@pytest.mark.parametrize("chunk_size", [3, 100])
@pytest.mark.parametrize("reference", TRANSFORMS)
@pytest.mark.parametrize("policy", TRANSFORMS)
def test_transformed_logits_are_the_definition(
    policy: str, reference: str, chunk_size: int, keep_bytes: int
) -> None:
    """Policy and reference each with its own transform: values, KL and every gradient."""
    x: dict[str, Any] = example()
    x |= {"policy_transform": TRANSFORMS[policy], "ref_transform": TRANSFORMS[reference]}
    options = {"chunk_size": chunk_size, "keep_bytes": keep_bytes, "block_elements": 12}
    close(token_stats(**x, **options), transformed(x))
    # A token that no gradient reaches is left out of the backward pass.
    weights = (torch.tensor([1.0, 0, -2, 3, 0, 1, 1]), torch.tensor([0.5, 0, 1, 0, 2, 1, -1]))
    mine = gradients(x, weights, lambda y: token_stats(**y, **options))
    for gradient, wanted in zip(mine, gradients(x, weights, transformed), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


@KEEPS
@pytest.mark.parametrize("transform", [TRANSFORMS["scale"], TRANSFORMS["scaled cap"]], ids=str)
def test_gradcheck_of_transformed_logits(transform: LogitTransform, keep_bytes: int) -> None:
    x: dict[str, Any] = example(tokens=4, vocabulary=5)
    names = ("policy_hidden", "policy_head", "policy_bias")

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        values = {**x, **dict(zip(names, leaves, strict=True))}
        out = token_stats(
            **values,
            chunk_size=3,
            keep_bytes=keep_bytes,
            policy_transform=transform,
            ref_transform=TRANSFORMS["cap"],
        )
        assert out.kl is not None
        return out.policy_logps, out.kl

    leaves = [x[name].requires_grad_() for name in names]
    # A second backward pass recomputes the blocks that the first one found kept.
    assert torch.autograd.gradcheck(function, leaves, nondet_tol=1e-12)


def test_a_cap_that_saturates_passes_no_gradient() -> None:
    """Far beyond the cap every logit is the cap: uniform probabilities, and slopes of 0."""
    x: dict[str, Any] = example(dtype=torch.float32)
    x["policy_bias"] = torch.full_like(x["policy_bias"], 1e4)
    x["policy_hidden"].requires_grad_()
    out = token_stats(**x, policy_transform=LogitTransform(cap=5.0))
    torch.testing.assert_close(out.policy_logps, torch.full((7,), -math.log(11)))
    out.policy_logps.sum().backward()
    assert not x["policy_hidden"].grad.any()


# Numerical properties


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_models_have_log_ratio_and_kl_zero(dtype: torch.dtype) -> None:
    x = example(tokens=200, vocabulary=50, ref_width=5, dtype=dtype)
    for name in ("hidden", "head", "bias"):
        x[f"ref_{name}"] = x[f"policy_{name}"]
    out = token_stats(**x, chunk_size=64)  # type: ignore[arg-type]
    assert torch.equal(out.policy_logps, out.ref_logps)  # type: ignore[arg-type]
    assert torch.equal(out.kl, torch.zeros_like(out.policy_logps))  # type: ignore[arg-type]


def test_nearly_equal_models_never_have_a_negative_kl() -> None:
    x = example(tokens=500, vocabulary=300, ref_width=5, dtype=torch.float32)
    for name in ("hidden", "head", "bias"):
        x[f"ref_{name}"] = x[f"policy_{name}"] + 1e-6
    out = token_stats(**x)  # type: ignore[arg-type]
    assert out.kl is not None
    assert (out.kl >= 0).all()
    assert out.kl.max() < 1e-5


@KEEPS
def test_tokens_that_the_reference_rules_out_add_nothing(keep_bytes: int) -> None:
    """A -inf logit of the reference: 0 · log 0 = 0, and no NaN in the gradient."""
    x = example()
    x["ref_bias"][2] = -torch.inf
    x["targets"] = torch.where(x["targets"] == 2, 3, x["targets"])
    x["policy_hidden"].requires_grad_()
    out = token_stats(**x, chunk_size=3, keep_bytes=keep_bytes)  # type: ignore[arg-type]
    assert out.kl is not None
    rest = torch.arange(11) != 2
    log_policy = (x["policy_hidden"] @ x["policy_head"].T + x["policy_bias"]).log_softmax(-1)
    log_ref = (x["ref_hidden"] @ x["ref_head"].T + x["ref_bias"])[:, rest].log_softmax(-1)
    expected = (log_ref.exp() * (log_ref - log_policy[:, rest])).sum(-1)
    torch.testing.assert_close(out.kl, expected)
    (gradient,) = torch.autograd.grad(out.kl.sum(), x["policy_hidden"], retain_graph=True)
    (wanted,) = torch.autograd.grad(expected.sum(), x["policy_hidden"])
    torch.testing.assert_close(gradient, wanted)


def test_large_logits_do_not_overflow() -> None:
    x = example(dtype=torch.float32)
    x["policy_hidden"] *= 1e4
    out = token_stats(**x)  # type: ignore[arg-type]
    assert out.policy_logps.isfinite().all()
    assert out.kl is not None and out.kl.isfinite().all()


@KEEPS
def test_bfloat16_inputs_are_reduced_in_float32(keep_bytes: int) -> None:
    """Only the projection is bfloat16: softmax, sums and the head's gradient sum are float32."""
    x: dict[str, Any] = example(tokens=64, vocabulary=512, width=16, ref_width=8)
    x = {n: v.bfloat16() if v.is_floating_point() else v for n, v in x.items()}
    out = token_stats(**x, chunk_size=7, keep_bytes=keep_bytes)
    assert {value.dtype for value in out if value is not None} == {torch.float32}
    close(out, plain(x), 1e-5)
    # With 512 words a bfloat16 softmax would be off by 1e-2 where this is exact to 1e-5.
    logits = torch.nn.functional.linear(x["policy_hidden"], x["policy_head"], x["policy_bias"])
    crude = logits.log_softmax(-1).gather(-1, x["targets"][:, None])[:, 0].float()
    assert (crude - out.policy_logps).abs().max() > 1e-3
    weights = (torch.ones(64), torch.ones(64))
    ours = gradients(x, weights, lambda y: token_stats(**y, chunk_size=1, keep_bytes=keep_bytes))
    wide = {n: v.float() if v.is_floating_point() else v for n, v in x.items()}
    exact = gradients(wide, weights, plain)
    for gradient, wanted in zip(ours, exact, strict=True):
        assert gradient.dtype == torch.bfloat16
        error = (gradient.float() - wanted).norm() / wanted.norm()
        # 64 chunks summed in bfloat16 would lose about ten times as much.
        assert error < 0.01


# Memory


class Allocations(TorchDispatchMode):
    """Counts the bytes of every tensor that an operation makes, and the largest of them."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.largest = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf.untyped_storage())
        return out

    def add(self, storage: Any) -> None:
        import weakref

        address, size = storage.data_ptr(), storage.nbytes()
        if address in self.live or not size:
            return
        self.live[address] = size
        self.largest = max(self.largest, size)
        self.peak = max(self.peak, sum(self.live.values()))
        weakref.finalize(storage, self.live.pop, address, None)


def allocated(
    tokens: int, vocabulary: int, chunk_size: int, *, reverse: bool = False, **options: Any
) -> Allocations:
    """Count what log-probabilities and a KL take, the forward one or the reverse one."""
    x = example(tokens, vocabulary, 4, 4, dtype=torch.float32)
    x["policy_hidden"].requires_grad_()
    x["policy_head"].requires_grad_()
    found: list[Tensor] = []
    if reverse:
        options |= {"need_kl": False, "reverse_kl": found}
    with Allocations() as allocations:
        out = token_stats(**x, chunk_size=chunk_size, **options)  # type: ignore[arg-type]
        kl = found[0] if reverse else out.kl
        assert kl is not None
        (out.policy_logps + kl).sum().backward()
    return allocations


def test_the_counter_sees_a_plain_computation_of_all_logits() -> None:
    x = example(512, 1000, 4, 4, dtype=torch.float32)
    with Allocations() as allocations:
        plain(x)
    assert allocations.largest >= 512 * 1000 * 4
    assert allocations.peak >= 2 * allocations.largest


def test_peak_memory_does_not_grow_with_tokens_times_vocabulary() -> None:
    """Eight times the tokens: the largest tensor stays a block, the peak grows by O(tokens · d)."""
    vocabulary, chunk = 1000, 32
    few, many = (allocated(tokens, vocabulary, chunk, keep_bytes=0) for tokens in (128, 1024))
    assert few.largest == many.largest == chunk * vocabulary * 4
    assert many.peak - few.peak < 1024 * 4 * 4 * 8  # a few vectors and states per token
    assert many.peak < 1024 * vocabulary * 4 / 2


def test_peak_memory_does_not_grow_with_the_vocabulary_beyond_the_heads_gradient() -> None:
    """Eight times the words: blocks stay as they are; what grows is O(words · d)."""
    tokens, options = 128, {"keep_bytes": 0, "block_elements": 2**14}
    few, many = (allocated(tokens, words, tokens, **options) for words in (2000, 16000))
    assert few.largest <= many.largest == max(2**14 * 4, 16000 * 4 * 4)
    head = 14000 * 4 * 4
    sums = 14000 / (2**14 / tokens) * tokens * 4 * 8  # a few numbers per token and block
    assert many.peak - few.peak < 2 * head + sums
    assert many.peak < tokens * 16000 * 4 / 2


def test_what_is_kept_for_the_backward_pass_stays_within_the_budget() -> None:
    tokens, vocabulary = 256, 1000
    whole = tokens * vocabulary * 4 * 2
    recomputed, half, kept = (
        allocated(tokens, vocabulary, 32, keep_bytes=budget) for budget in (0, whole // 2, whole)
    )
    assert recomputed.peak < whole / 2
    assert recomputed.peak + whole / 4 < half.peak < recomputed.peak + 0.55 * whole
    assert whole <= kept.peak < recomputed.peak + whole


class Products(TorchDispatchMode):
    """Counts the multiplications of every matrix product, by its number of output elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            left, right = args[-2:]
            self.elements += left.shape[0] * left.shape[1] * right.shape[1]
        return func(*args, **(kwargs or {}))


@KEEPS
def test_tokens_without_gradient_cost_no_backward_pass(keep_bytes: int) -> None:
    """What a sparse mask removes from the loss is removed from the work, and changes nothing."""
    x: dict[str, Any] = example(tokens=64, vocabulary=300, width=16, ref_width=8)
    mask = (torch.arange(64) % 4 == 0).double()

    def work(weights: tuple[Tensor, Tensor]) -> tuple[int, list[Tensor]]:
        with Products() as products:
            grads = gradients(
                x, weights, lambda y: token_stats(**y, chunk_size=16, keep_bytes=keep_bytes)
            )
        return products.elements, list(grads)

    forward = Products()
    with forward, torch.no_grad():
        token_stats(**x, chunk_size=16)
    dense, _ = work((torch.ones(64).double(), torch.ones(64).double()))
    sparse, grads = work((mask, mask))
    assert sparse - forward.elements == (dense - forward.elements) / 4
    for gradient, wanted in zip(grads, gradients(x, (mask, mask), plain), strict=True):
        torch.testing.assert_close(gradient, wanted)
    nothing, grads = work((0 * mask, 0 * mask))
    assert nothing == forward.elements
    assert all(not gradient.any() for gradient in grads)


def test_nothing_is_kept_where_no_gradient_is_asked_for() -> None:
    x = example(1024, 1000, 4, 4, dtype=torch.float32)
    with Allocations() as allocations:
        token_stats(**x, chunk_size=32, keep_bytes=2**30)  # type: ignore[arg-type]
    assert allocations.peak < 1024 * 1000 * 4 / 2


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ref_head": None}, "given together"),
        ({"ref_hidden": None}, "given together"),
        ({"ref_head": torch.zeros(10, 3)}, "different vocabularies: 11 and 10"),
        ({"targets": torch.zeros(6, dtype=torch.long)}, "7 hidden states for 6 targets"),
        ({"chunk_size": 0}, "chunk_size"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_stats(**{**example(), **changes})  # type: ignore[arg-type]


def test_a_second_derivative_is_refused() -> None:
    """It would be silently wrong: the backward pass is not differentiable."""
    x = example()
    x["policy_hidden"].requires_grad_()
    out = token_stats(**x)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(
        out.policy_logps.square().sum(), x["policy_hidden"], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# A frozen projection


def hidden_gradient(
    x: dict[str, Any], weights: Tensor, function: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """Return log π and the gradient of its weighted sum; nothing but the states has one."""
    hidden = x["policy_hidden"].clone().requires_grad_()
    out = function({**x, "policy_hidden": hidden}, **options)
    (gradient,) = torch.autograd.grad((out.policy_logps * weights).sum(), hidden)
    return out.policy_logps.detach(), gradient


@pytest.mark.parametrize("reference", [True, False], ids=["reference", "no reference"])
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
@pytest.mark.parametrize("block_elements", [1, 12, 2**20])
@pytest.mark.parametrize("policy", [None, *TRANSFORMS])
def test_a_frozen_projection_needs_no_blocks_in_the_backward_pass(
    policy: str | None, block_elements: int, chunk_size: int, reference: bool
) -> None:
    """W_y − Σ π W comes from the forward pass, whatever the blocks and the model's transform."""
    x: dict[str, Any] = example()
    x["policy_bias"][4] = -torch.inf
    x["targets"] = torch.where(x["targets"] == 4, 3, x["targets"])
    x |= {"policy_transform": LogitTransform() if policy is None else TRANSFORMS[policy]}
    if policy is not None and TRANSFORMS[policy].cap is not None:
        x["policy_bias"][4] = 0.0  # capped, it is a logit like any other
    x["ref_transform"] = LogitTransform()
    weights = torch.tensor([1.0, 0, -2, 3, 0, 1, 1], dtype=torch.float64)
    wanted = hidden_gradient(x, weights, transformed)
    mine = dict(x)
    if not reference:
        mine["ref_hidden"] = mine["ref_head"] = mine["ref_bias"] = None
    options = {"chunk_size": chunk_size, "block_elements": block_elements, "need_kl": False}
    found = hidden_gradient(mine, weights, lambda y, **o: token_stats(**y, **o), **options)
    for value, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-11)


class Projections(TorchDispatchMode):
    """Counts the products with more than one word of the vocabulary."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words = words
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.rstrip("_") in ("mm", "addmm", "bmm"):
            shapes = [arg.shape for arg in args if isinstance(arg, Tensor)]
            self.count += any(self.words in shape for shape in shapes)
        return func(*args, **(kwargs or {}))


def test_a_frozen_projection_costs_one_product_beside_the_logits_and_keeps_no_block() -> None:
    tokens, vocabulary = 64, 4000
    x = example(tokens, vocabulary, 4, 4, dtype=torch.float32)
    x["policy_hidden"].requires_grad_()
    options: dict[str, Any] = {"need_kl": False, "block_elements": 2**30, "keep_bytes": 2**30}
    with Projections(vocabulary) as forward:
        out = token_stats(**x, **options)  # type: ignore[arg-type]
    with Projections(vocabulary) as backward:
        out.policy_logps.sum().backward()
    # Two for the logits of policy and reference, one for the expectation.
    assert (forward.count, backward.count) == (3, 0)
    x["policy_hidden"].grad = None
    with Allocations() as allocations:
        token_stats(**x, need_kl=False, block_elements=2**12).policy_logps.sum().backward()  # type: ignore[arg-type]
    # The heads themselves and a few numbers per token and block are counted too.
    assert allocations.peak < tokens * vocabulary * 4 / 2
    # A head that is trained takes the other way: its gradient needs every block once more.
    x["policy_head"].requires_grad_()
    with Projections(vocabulary) as trained:
        token_stats(**x, **options).policy_logps.sum().backward()  # type: ignore[arg-type]
    assert trained.count > 3


def test_bfloat16_states_of_a_frozen_projection() -> None:
    x: dict[str, Any] = example(tokens=64, vocabulary=512, width=16, ref_width=8)
    x = {n: v.bfloat16() if v.is_floating_point() else v for n, v in x.items()}
    weights = torch.ones(64)
    options = {"chunk_size": 7, "block_elements": 700, "need_kl": False}
    _, ours = hidden_gradient(x, weights, lambda y, **o: token_stats(**y, **o), **options)
    wide = {n: v.float() if v.is_floating_point() else v for n, v in x.items()}
    _, exact = hidden_gradient(wide, weights, plain)
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - exact).norm() / exact.norm() < 0.01


# What the machine decides


def test_blocks_fit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    sizes = {"cache": 2**25, "memory": 2**34}
    monkeypatch.setattr(fused, "cache_bytes", lambda: sizes["cache"])
    monkeypatch.setattr(fused, "memory_bytes", lambda: sizes["memory"])
    monkeypatch.setattr(fused, "device_bytes", lambda _device: sizes["memory"])
    assert fused.block_elements_on(cpu) == 2**20  # 4 of 32 MB
    assert fused.keep_bytes_on(cpu) == 2**28
    sizes |= {"cache": 2**23, "memory": 2**37}
    assert fused.block_elements_on(cpu) == 2**18
    assert fused.keep_bytes_on(cpu) == 2**31
    # Small vocabularies are one block everywhere: their results do not depend on the machine.
    assert fused.block_elements_on(cpu, whole=512 * 2048) == 2**20
    assert fused.block_elements_on(cpu, whole=512 * 2048 + 1) == 2**18
    sizes["cache"] = 2**30
    assert fused.block_elements_on(cpu) == 2**22
    assert fused.block_elements_on(cuda) == 2**27
    assert fused.keep_bytes_on(cuda) == 2**30
    sizes["memory"] = 2**33  # a graphics card of 8 GB
    assert fused.block_elements_on(cuda) == 2**25
    assert fused.keep_bytes_on(cuda) == 2**27
    assert fused.block_elements_on(torch.device("meta")) == 2**27


def test_the_machine_says_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate(
        [
            (1, "Data", "48K"),
            (1, "Instruction", "32K"),
            (2, "Unified", "1024K"),
            (3, "Unified", "16M"),
        ]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    monkeypatch.setattr(machine, "_LIMITS", (limit,))
    cache, memory = machine.cache_bytes.__wrapped__, machine.memory_bytes.__wrapped__
    assert cache() == 2**24
    limit.write_text("max\n")
    whole = memory()
    assert whole > 2**20
    limit.write_text(f"{2**20}\n")
    assert memory() == 2**20
    monkeypatch.setattr(machine, "_CACHES", tmp_path / "none")
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "none")
    monkeypatch.setattr(machine, "_LIMITS", ())
    assert (cache(), memory()) == (2**25, 2**34)
    assert machine.device_bytes(torch.device("cpu")) == machine.memory_bytes()
