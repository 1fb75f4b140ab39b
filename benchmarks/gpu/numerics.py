"""The fused operation, FlexAttention and packed rows: the same numbers as the plain forms.

The truth is computed in float64. A fast form may be as far from it as the plain form in the same
precision is, give or take: a fixed tolerance would be too wide for float32 or too narrow for
bfloat16.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._triton import has_triton

from benchmarks.gpu.finding import Finding, NotRunError, Place, relative_error
from benchmarks.gpu.models import cast, model_of, random_pairs, saved, shape_of, text_pairs
from benchmarks.shapes import Shape
from sparsepo import POConfig, POTrainer
from sparsepo.batches.attention import attention_mask_for, use_attention
from sparsepo.batches.pack import pack_pairs
from sparsepo.fused import LogitTransform, token_stats
from sparsepo.models.capture import run_body
from sparsepo.types import PackedBatch

MARGIN = 1.5
"""Error of a fast form over the plain form's, at most."""

FLOOR = {torch.float32: 1e-4, torch.bfloat16: 2e-3}
"""Relative error that is always allowed. TF32, which float32 must not be computed in, has more."""

CAP = 20.0

# The fused operation


@dataclass(frozen=True)
class _Inputs:
    hidden: Tensor
    head: Tensor
    ref_hidden: Tensor
    ref_head: Tensor
    bias: Tensor | None
    ref_bias: Tensor | None
    targets: Tensor
    factors: Tensor
    """What log π, KL(π_ref ‖ π) and KL(π ‖ π_ref) of each token count in the loss."""


def fused_operation(place: Place) -> Finding:
    """Values and gradients of the fused operation, kept, recomputed, in blocks and capped."""
    # A second chunk of tokens, and no size that is a multiple of anything.
    tokens, width, words = (77, 32, 331) if place.small else (2085, 2048, 50257)
    few = 1000 if place.small else 2**24
    forms: dict[str, dict[str, Any]] = {
        "kept": {"keep_bytes": 2**34},
        "in blocks, recomputed, with bias": {
            "block_elements": few,
            "keep_bytes": 0,
            "chunk_size": tokens // 3,
        },
        "capped": {"policy_transform": LogitTransform(1.0, CAP)},
    }
    worst: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for form, options in forms.items():
            given = _draw(tokens, width, words, place.device, dtype, bias="bias" in form)
            cap = CAP if form == "capped" else None
            names = ("log π", "KL", "reverse KL", "gradient of states", "gradient of head")
            truth, plain, ours = (
                _results(given, compute)
                for compute in (
                    lambda x, cap=cap: _plain(_double(x), cap),
                    lambda x, cap=cap: _plain(x, cap),
                    lambda x, options=options: _fused(x, options),
                )
            )
            for name, exact, expected, found in zip(names, truth, plain, ours, strict=True):
                error, allowed = relative_error(found, exact), relative_error(expected, exact)
                where = f"{_name(dtype)}, {form}: {name}"
                assert error <= max(FLOOR[dtype], MARGIN * allowed), (
                    f"{where} has a relative error of {error:.1e}, the plain form {allowed:.1e}"
                )
                worst[f"{where}"] = error
            del truth, plain, ours, given
    summary = {
        _name(dtype): max(value for name, value in worst.items() if name.startswith(_name(dtype)))
        for dtype in (torch.float32, torch.bfloat16)
    }
    text = "; ".join(f"{name} within {error:.0e}" for name, error in summary.items())
    return Finding(
        f"{tokens} tokens × {words} words: {text} of float64, values and gradients", worst
    )


def _draw(
    tokens: int, width: int, words: int, device: str, dtype: torch.dtype, *, bias: bool
) -> _Inputs:
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator, device=device)).to(dtype)

    hidden, head = normal(tokens, width), normal(words, width, scale=3 / width**0.5)
    factors = torch.randn(3, tokens, generator=generator, device=device)
    # Tokens that a sparse mask leaves out have no gradient.
    factors[:, torch.rand(tokens, generator=generator, device=device) < 0.3] = 0.0
    return _Inputs(
        hidden,
        head,
        hidden + normal(tokens, width, scale=0.3),
        head.clone(),
        normal(words) if bias else None,
        normal(words) if bias else None,
        torch.randint(words, (tokens,), generator=generator, device=device),
        factors,
    )


def _double(given: _Inputs) -> _Inputs:
    wide = {
        name: value.double()
        for name, value in vars(given).items()
        if value is not None and value.is_floating_point() and name != "factors"
    }
    return replace(given, **wide)


Values = tuple[Tensor, Tensor, Tensor]


def _plain(given: _Inputs, cap: float | None) -> Values:
    def log_probs(hidden: Tensor, head: Tensor, bias: Tensor | None, cap: float | None) -> Tensor:
        logits = torch.nn.functional.linear(hidden, head, bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (logits if cap is None else cap * (logits / cap).tanh()).log_softmax(-1)

    policy = log_probs(given.hidden, given.head, given.bias, cap)
    ref = log_probs(given.ref_hidden, given.ref_head, given.ref_bias, None)
    logps = policy.gather(1, given.targets[:, None])[:, 0]
    kl = (ref.exp() * (ref - policy)).sum(-1)
    reverse = (policy.exp() * (policy - ref)).sum(-1)
    return logps, kl, reverse


def _fused(given: _Inputs, options: dict[str, Any]) -> Values:
    reverse: list[Tensor] = []
    found = token_stats(
        given.hidden,
        given.head,
        given.ref_hidden,
        given.ref_head,
        given.targets,
        policy_bias=given.bias,
        ref_bias=given.ref_bias,
        reverse_kl=reverse,
        **options,
    )
    assert found.kl is not None
    return found.policy_logps, found.kl, reverse[0]


def _results(given: _Inputs, compute: Callable[[_Inputs], Values]) -> list[Tensor]:
    leaves = [value.detach().clone().requires_grad_() for value in (given.hidden, given.head)]
    values = compute(replace(given, hidden=leaves[0], head=leaves[1]))
    loss = sum((value * factor).sum() for value, factor in zip(values, given.factors, strict=True))
    gradients = torch.autograd.grad(loss, leaves)
    return [*(value.detach() for value in values), *gradients]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# FlexAttention

LAYOUTS: dict[str, tuple[int, tuple[tuple[int, int], tuple[int, int]], int | None]] = {
    "a pair per row": (12, ((90, 130), (80, 125)), None),
    "rows below a block": (6, ((20, 50), (10, 35)), None),
    "a row of many": (12, ((40, 130), (10, 125)), 4096),
}
"""Name → pairs, lengths of prompts and responses, tokens_per_row."""

SMALL_LAYOUTS: dict[str, tuple[int, tuple[tuple[int, int], tuple[int, int]], int | None]] = {
    "a pair per row": (3, ((9, 20), (5, 9)), None),
    "a row of many": (3, ((60, 90), (5, 60)), 500),
}


def flex_attention(place: Place) -> Finding:
    """States and gradients of FlexAttention against SDPA's, and how often it compiles."""
    if place.cuda and not has_triton():
        raise NotRunError("FlexAttention needs Triton, which is not installed")
    cases = _flex_cases(place)
    worst: dict[str, float] = {}
    try:
        with _kernels(place):
            for shape, dtype in cases:
                worst |= _against_sdpa(shape, dtype, place)
            graphs, seconds = _further_shapes(*cases[-1], place)
    finally:
        # The graphs of this check must not count towards the limit of the next ones.
        torch.compiler.reset()
    text = "states and gradients" if place.cuda else "states (a CPU has no gradients for it)"
    for dtype in dict.fromkeys(dtype for _, dtype in cases):
        errors = [error for name, error in worst.items() if _name(dtype) in name]
        text += f"; {_name(dtype)} within {max(errors):.0e}"
    text += f"; five further shapes of rows compiled {graphs} graphs and took {seconds:.0f} s"
    return Finding(text, {**worst, "further graphs": graphs, "further seconds": seconds})


def _flex_cases(place: Place) -> list[tuple[Shape, torch.dtype]]:
    if place.small:
        # On a CPU it has no gradients, and half precision is another kernel anyway.
        dtypes = (torch.float32, torch.bfloat16) if place.cuda else (torch.float32,)
        shapes = (shape_of("gpt_neox"), shape_of("llama", kv_heads=2))
        return [(shape, dtype) for shape in shapes for dtype in dtypes]
    pythia = shape_of("gpt_neox", width=2048, heads=16)
    smollm2 = shape_of("llama", width=576, heads=9, kv_heads=3, feed_forward=1536)
    # Four heads share a key, as in Llama 3; SmolLM2's number of heads is no power of two.
    grouped = shape_of("llama", width=1024, heads=16, kv_heads=4, feed_forward=2048)
    return [
        (pythia, torch.float32),
        (pythia, torch.bfloat16),
        (grouped, torch.bfloat16),
        (smollm2, torch.bfloat16),
    ]


@contextlib.contextmanager
def _kernels(place: Place) -> Iterator[None]:
    """Compile on a GPU; on a CPU run the same operations uncompiled."""
    with contextlib.nullcontext() if place.cuda else torch.compiler.set_stance("force_eager"):
        yield


def _against_sdpa(shape: Shape, dtype: torch.dtype, place: Place) -> dict[str, float]:
    sdpa = model_of(shape, place.device, dtype)
    sdpa.set_attn_implementation("sdpa")
    flex, exact = copy.deepcopy(sdpa), cast(copy.deepcopy(sdpa), torch.float64)
    use_attention(flex, "flex_attention", torch.device(place.device), trained=place.cuda)
    found: dict[str, float] = {}
    layouts = SMALL_LAYOUTS if place.small else LAYOUTS
    for layout, (count, lengths, tokens_per_row) in layouts.items():
        pairs = random_pairs(count, lengths, shape.vocabulary, seed=count)
        batch = pack_pairs(pairs, tokens_per_row=tokens_per_row).to(place.device)
        truth, expected, ours = (
            _states_and_gradients(model, batch, place) for model in (exact, sdpa, flex)
        )
        where = f"{shape.architecture}, {_name(dtype)}, {layout}"
        for name, value in ours.items():
            error = relative_error(value, truth[name])
            allowed = relative_error(expected[name], truth[name])
            assert error <= max(FLOOR[dtype], MARGIN * allowed), (
                f"{where}: the {name} have a relative error of {error:.1e}, SDPA's {allowed:.1e}"
            )
            found[f"{where}: {name}"] = error
    return found


def _states_and_gradients(model: Any, batch: PackedBatch, place: Place) -> dict[str, Tensor]:
    """Return final states, with and without gradients, and all gradients as one vector."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        # As the reference runs.
        alone = run_body(model.eval(), batch, attention_mask_for(model, batch))
    found = {"states without gradients": alone}
    if not place.cuda:
        return found
    hidden = run_body(model.train(), batch, attention_mask_for(model, batch))
    direction = torch.randn(hidden.shape, generator=generator).to(hidden)
    trained = [weight for weight in model.base_model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad((hidden * direction).sum(), trained)
    found["states"] = hidden.detach()
    found["gradients"] = torch.cat([gradient.double().flatten() for gradient in gradients])
    return found


def _further_shapes(shape: Shape, dtype: torch.dtype, place: Place) -> tuple[int, float]:
    """Return the graphs that steps on rows of new shapes compile, and the seconds they take."""
    from torch._dynamo.utils import counters

    model = model_of(shape, place.device, dtype)
    use_attention(model, "flex_attention", torch.device(place.device), trained=place.cuda)
    place.synchronize()
    before, started = counters["stats"]["unique_graphs"], time.perf_counter()
    for number in range(5):
        pairs = random_pairs(
            4 + 2 * number,
            ((20, 60 + 30 * number), (9, 50 + 20 * number)),
            shape.vocabulary,
            number,
        )
        _states_and_gradients(model, pack_pairs(pairs).to(place.device), place)
    place.synchronize()
    return counters["stats"]["unique_graphs"] - before, time.perf_counter() - started


# Packed rows

ARCHITECTURES = ("gpt_neox", "llama", "gpt2", "gptj", "gpt_bigcode")
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
"""Relative, in float32: between kernels that sum in another order."""


def packed_is_plain(place: Place) -> Finding:
    """Loss and gradients of SparsePO in packed rows against the reference implementation's."""
    figures: dict[str, float] = {}
    for architecture in ARCHITECTURES:
        shape = shape_of(architecture)
        (ours, mine), (expected, wanted) = (
            _loss_and_gradients(shape, computation, place) for computation in ("packed", "plain")
        )
        loss = abs(ours - expected) / abs(expected)
        assert loss <= LOSS_TOLERANCE, (
            f"{architecture}: the packed loss is {ours:.6f}, the plain one {expected:.6f}"
        )
        for part in ("policy", "masks"):
            error = relative_error(mine[part], wanted[part])
            assert error <= GRADIENT_TOLERANCE, (
                f"{architecture}: gradients of the {part} differ by {error:.1e} of their norm"
            )
            figures[f"{architecture}, {part}"] = error
    worst = max(figures.values())
    return Finding(f"{', '.join(ARCHITECTURES)}: gradients within {worst:.0e} in float32", figures)


def _loss_and_gradients(
    shape: Shape, computation: Any, place: Place
) -> tuple[float, dict[str, Tensor]]:
    """Return SparsePO's loss some way from the reference, and its gradients by part."""
    policy, reference = model_of(shape, "cpu"), model_of(shape, "cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=generator)
    with saved(shape, weights=False) as folder, tempfile.TemporaryDirectory() as output:
        from transformers import AutoTokenizer

        trainer = POTrainer(
            policy,
            ref_model=reference,
            args=POConfig(
                output_dir=output,
                method="sparsepo-common",
                computation=computation,
                mask_dropout=0.0,
                check_reference=False,
                report_to="none",
                disable_tqdm=True,
                use_cpu=not place.cuda,
            ),
            train_dataset=text_pairs(6, shape),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        model: Any = trainer.model
        tokenized: Any = trainer.train_dataset
        batch = pack_pairs(tokenized, share_prompt=computation == "packed").to(place.device)
        model.train()
        loss = trainer.compute_loss(model, vars(batch))
        loss.backward()
    gradients: dict[str, list[Tensor]] = {"policy": [], "masks": []}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            gradients[name.partition(".")[0]].append(weight.grad.double().flatten())
    return loss.item(), {part: torch.cat(found) for part, found in gradients.items()}
