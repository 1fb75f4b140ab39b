"""Time and memory of the output head alone: the fused operation, torch.compile, and Liger.

From final hidden states and projections of policy and reference to DPO's loss, or to a loss of
log-ratios and KL as of TDPO and SparsePO, and back to the gradients of states and projection.
"""

from __future__ import annotations

import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.finding import Finding, Place
from benchmarks.measure import matmul_flops
from benchmarks.shapes import FULL, LAPTOP, Shape
from sparsepo.errors import first_line
from sparsepo.fused import token_stats

BETA = 0.1
WARM_UP, REPEATS = 3, 10
GRADIENTS = 0.05
"""Relative difference of a gradient's norm from the plain form's, in bfloat16."""

TIME_SHARE = 0.7
"""Share of the time after which no further form is begun; compiling one takes half a minute."""


@dataclass(frozen=True)
class _Head:
    hidden: Tensor
    weight: Tensor
    ref_hidden: Tensor
    ref_weight: Tensor
    targets: Tensor
    pairs: int

    def by_response(self, tensor: Tensor) -> Tensor:
        """Return values of tokens as (responses, tokens, …), chosen responses first."""
        responses: Tensor = tensor.unflatten(0, (2 * self.pairs, -1))
        return responses


Compute = Callable[[_Head], Tensor]


def head_speed(place: Place) -> Finding:
    """Median milliseconds and peak memory of each form at the shapes of the training runs."""
    started = time.perf_counter()
    dtype = "bfloat16" if place.cuda else "float32"
    figures: dict[str, Any] = {"matmul_flops": _matmul_flops(place, dtype)}
    texts = []
    for shape in shapes(place):
        for form, compute in forms(place).items():
            name = f"{shape.name}, {form}"
            if time.perf_counter() - started > TIME_SHARE * place.seconds:
                figures[name] = {"not run": "no time was left"}
                continue
            try:
                figures[name] = _measure(compute(), shape, place, getattr(torch, dtype))
            except Exception as error:
                if form.startswith("ours"):
                    raise
                figures[name] = {"not run": _why(error)}
            gc.collect()
            if place.cuda:
                torch.cuda.empty_cache()
        _check_gradients(shape, figures)
        texts.append(_sentence(shape, figures))
    return Finding("; ".join(texts), figures, verdict="measured")


def _check_gradients(shape: Shape, figures: dict[str, Any]) -> None:
    """Require that what is timed computes the same as the plain form."""
    for kind in ("DPO", "KL"):
        ours, plain = (figures[f"{shape.name}, {form}, {kind}"] for form in ("ours", "plain"))
        if "gradient" in ours and "gradient" in plain:
            ratio = ours["gradient"] / plain["gradient"]
            assert abs(ratio - 1) <= GRADIENTS, (
                f"{shape.title}, {kind}: the gradient has {ratio:.3f} of the plain form's norm"
            )


def shapes(place: Place) -> list[Shape]:
    """Return the shapes whose heads are measured."""
    full = [next(shape for shape in FULL if shape.name == "hh"), LAPTOP, FULL[2]]
    if not place.small:
        return full
    return [replace(shape, width=16, vocabulary=97, response=5, pairs=2) for shape in full[:1]]


def forms(place: Place) -> dict[str, Callable[[], Compute]]:
    """Return what is measured; each is made when its turn comes."""
    # A CPU needs a C++ compiler for inductor; the small run only tries the code.
    backend = "inductor" if place.cuda else "eager"

    def compiled(compute: Compute) -> Callable[[], Compute]:
        return lambda: torch.compile(compute, backend=backend, dynamic=False)

    return {
        "ours, DPO": lambda: fused_dpo,
        "ours, KL": lambda: fused_kl,
        "plain, DPO": lambda: plain_dpo,
        "plain, KL": lambda: plain_kl,
        "torch.compile, DPO": compiled(plain_dpo),
        "Liger, DPO": lambda: liger_dpo(place),
        "torch.compile, KL": compiled(plain_kl),
    }


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {first_line(error)}"


def _matmul_flops(place: Place, dtype: str) -> float:
    return 0.0 if place.small else matmul_flops(place.device, dtype, None)


# The forms


def dpo_loss(logps: Tensor, ref_logps: Tensor, head: _Head) -> Tensor:
    """Return DPO's mean loss from log-probabilities of tokens."""
    ratios = head.by_response(logps - ref_logps).sum(1)
    return -torch.nn.functional.logsigmoid(
        BETA * (ratios[: head.pairs] - ratios[head.pairs :])
    ).mean()


def fused_dpo(head: _Head) -> Tensor:
    """Return DPO's loss by the fused operation."""
    found = token_stats(
        head.hidden, head.weight, head.ref_hidden, head.ref_weight, head.targets, need_kl=False
    )
    assert found.ref_logps is not None
    return dpo_loss(found.policy_logps, found.ref_logps, head)


def fused_kl(head: _Head) -> Tensor:
    """Return a loss of log-ratios and KL by the fused operation."""
    found = token_stats(head.hidden, head.weight, head.ref_hidden, head.ref_weight, head.targets)
    assert found.ref_logps is not None and found.kl is not None
    return dpo_loss(found.policy_logps - found.kl, found.ref_logps, head)


def _log_probs(hidden: Tensor, weight: Tensor) -> Tensor:
    return torch.nn.functional.linear(hidden, weight).float().log_softmax(-1)


def plain_dpo(head: _Head) -> Tensor:
    """Return DPO's loss from whole distributions."""
    policy = _log_probs(head.hidden, head.weight)
    with torch.no_grad():
        ref = _log_probs(head.ref_hidden, head.ref_weight)
    at = head.targets[:, None]
    return dpo_loss(policy.gather(1, at)[:, 0], ref.gather(1, at)[:, 0], head)


def plain_kl(head: _Head) -> Tensor:
    """Return a loss of log-ratios and KL from whole distributions."""
    policy = _log_probs(head.hidden, head.weight)
    with torch.no_grad():
        ref = _log_probs(head.ref_hidden, head.ref_weight)
    at = head.targets[:, None]
    kl = (ref.exp() * (ref - policy)).sum(-1)
    return dpo_loss(policy.gather(1, at)[:, 0] - kl, ref.gather(1, at)[:, 0], head)


def liger_dpo(place: Place) -> Compute:
    """Return DPO's loss by liger-kernel's chunked operation."""
    if importlib.util.find_spec("liger_kernel") is None:
        raise ModuleNotFoundError("No module named 'liger_kernel'", name="liger-kernel")
    chunked: Any = importlib.import_module("liger_kernel.chunked_loss")
    loss = chunked.LigerFusedLinearDPOLoss(beta=BETA, use_ref_model=True, compiled=place.cuda)

    def compute(head: _Head) -> Tensor:
        found = loss(
            head.weight,
            head.by_response(head.hidden),
            head.by_response(head.targets),
            None,
            head.by_response(head.ref_hidden),
            head.ref_weight,
        )
        value: Tensor = found[0] if isinstance(found, tuple) else found
        return value

    return compute


# Measuring


def draw(shape: Shape, place: Place, dtype: torch.dtype) -> _Head:
    """Return random states and projections of a shape."""
    generator = torch.Generator(place.device).manual_seed(0)

    def normal(*size: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*size, generator=generator, device=place.device)
        return (scale * values).to(dtype)

    tokens = 2 * shape.pairs * shape.response
    hidden = normal(tokens, shape.width)
    weight = normal(shape.vocabulary, shape.width, scale=shape.width**-0.5)
    targets = torch.randint(shape.vocabulary, (tokens,), generator=generator, device=place.device)
    ref_hidden = hidden + normal(tokens, shape.width, scale=0.1)
    return _Head(
        hidden.requires_grad_(),
        weight.requires_grad_(),
        ref_hidden.detach(),
        weight.detach().clone(),
        targets,
        shape.pairs,
    )


def _measure(compute: Compute, shape: Shape, place: Place, dtype: torch.dtype) -> dict[str, float]:
    head = draw(shape, place, dtype)
    before = 0
    if place.cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    seconds = []
    repeats = 2 if place.small else REPEATS
    for _ in range((1 if place.small else WARM_UP) + repeats):
        head.hidden.grad = head.weight.grad = None
        place.synchronize()
        started = time.perf_counter()
        loss = compute(head)
        loss.backward()
        place.synchronize()
        seconds.append(time.perf_counter() - started)
    assert head.hidden.grad is not None and head.weight.grad is not None
    taken = seconds[-repeats:]
    found = {
        "milliseconds": 1e3 * statistics.median(taken),
        "fastest": 1e3 * min(taken),
        "slowest": 1e3 * max(taken),
        "loss": float(loss.detach()),
        "gradient": float(head.hidden.grad.double().norm()),
    }
    if place.cuda:
        found["megabytes"] = (torch.cuda.max_memory_allocated() - before) / 1e6
    return found


def _sentence(shape: Shape, figures: dict[str, Any]) -> str:
    parts = []
    for kind in ("DPO", "KL"):
        cells = []
        for form in ("ours", "torch.compile", "Liger", "plain"):
            found = figures.get(f"{shape.name}, {form}, {kind}")
            if found is None:
                continue
            if "not run" in found:
                cells.append(f"{form} not run ({found['not run']})")
            else:
                memory = f" and {found['megabytes']:.0f} MB" if "megabytes" in found else ""
                cells.append(f"{form} {found['milliseconds']:.2f} ms{memory}")
        parts.append(f"{kind}: {', '.join(cells)}")
    return f"{shape.title}: {'; '.join(parts)}"
