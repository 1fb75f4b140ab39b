"""What every method has to keep, built in or plugged in: one function per promise.

Each takes a method's class and raises an AssertionError that says what it breaks. `CHECKS` lists
them; `python -m sparsepo check FILE.py` runs them on the methods of a file, and so does a test:

    @pytest.mark.parametrize("check", CHECKS)
    def test_conforms(check):
        check(MyMethod)

Every message is written for the author of the method, who sees nothing else.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsepo.conformance.drawn import (
    MODEL_FIELDS,
    PAIRS,
    TOKEN_FIELDS,
    MethodClass,
    declared_fields,
    masked,
    random_pair,
    random_stats,
    results,
    select,
    sides_with,
    with_gradients,
)
from sparsepo.errors import UserError
from sparsepo.fused import token_stats
from sparsepo.methods.base import Method
from sparsepo.methods.masked import MaskedMethod
from sparsepo.types import LossOutput


def same(
    ours: LossOutput,
    expected: LossOutput,
    rows: Tensor | slice = slice(None),
    what: str = "two equal batches give different values",
) -> None:
    """Require that two outputs agree, `expected` restricted to some rows."""
    wanted = results(expected)
    _require(results(ours).keys() == wanted.keys(), f"{what}: other metrics are returned")
    for name, value in results(ours).items():
        _close(value, wanted[name][rows], f"{what}: {name} changes")


# The promises


def check_describes_itself(cls: MethodClass) -> None:
    """Name, title, source, a docstring with the formula, defaults for every hyper-parameter."""
    _require(
        bool(cls.name) and cls.name == cls.name.strip().lower(),
        f"name is {cls.name!r}; give it a name in lower case, without spaces around it",
    )
    _require(bool(cls.title.strip()), "title is empty; give it the name that tables show")
    _require(
        len(cls.source.strip()) > 10,
        "source is missing or too short; name the paper and the equation",
    )
    text = cls.__doc__ or ""
    for needed, remedy in (("L = ", 'write the loss as "L = …"'), ("Source", "name the source")):
        _require(needed in text, f"the docstring of {cls.__name__} has no {needed!r}; {remedy}")
    _require(
        "__call__" in vars(inspect.getmro(cls)[0]) or inspect.getmro(cls)[1] is not Method,
        "the class does not define __call__",
    )
    _require(
        bool(sys.modules[cls.__module__].__doc__), "the file has no docstring; begin it with one"
    )
    method = cls()
    fields = dataclasses.fields(method)
    _require(
        dataclasses.asdict(method) == {field.name: field.default for field in fields},
        "a hyper-parameter has no plain default; give each field one",
    )
    try:
        method.name = "other"  # type: ignore[misc]
    except dataclasses.FrozenInstanceError:
        return
    raise AssertionError("the class can be changed; decorate it with @dataclass(frozen=True)")


def check_output_form(cls: MethodClass) -> None:
    """One loss, the mean of one per pair; rewards and metrics per pair and without gradient."""
    chosen, _ = with_gradients(random_stats(cls, 1))
    rejected, _ = with_gradients(random_stats(cls, 2))
    output = cls()(chosen, rejected)
    _require(output.loss.shape == (), f"loss has the shape {tuple(output.loss.shape)}, not ()")
    _close(output.loss, output.per_pair.mean(), "loss is not the mean of per_pair")
    _require(
        output.loss.requires_grad and output.per_pair.requires_grad,
        "loss or per_pair carries no gradient; do not detach them",
    )
    for name, value in results(output).items():
        _require(
            value.shape == (PAIRS,),
            f"{name} has the shape {tuple(value.shape)} for {PAIRS} pairs; return one value each",
        )
        _require(value.dtype.is_floating_point, f"{name} is not of a floating-point type")
        _require(bool(value.isfinite().all()), f"{name} has values that are not finite")
        _require(
            name == "per_pair" or not value.requires_grad,
            f"{name} carries a gradient; detach it",
        )
    _require(output.rejected_rewards.shape == (PAIRS,), "rejected_rewards is not one per pair")
    _require(
        not output.rejected_rewards.requires_grad,
        "rejected_rewards carries a gradient; detach it",
    )


def check_gradients_are_finite(cls: MethodClass) -> None:
    """They reach the policy, and nothing is NaN, near step 0, at it, and far from it."""
    for distance in (0.0, 0.3, 300.0):
        for side in range(2 if cls.needs.rejected else 1):
            stats = list(random_pair(cls, distance=distance))
            stats[side], leaves = with_gradients(stats[side])
            cls()(*stats).loss.backward()
            gradient = leaves["policy_logps"].grad
            who = ("chosen", "rejected")[side]
            if gradient is None:
                raise AssertionError(f"no gradient reaches policy_logps of the {who} responses")
            if distance < 1:
                if not cls.ordered:
                    continue
                reached = gradient[stats[side].response_mask] != 0
                _require(
                    bool(reached.any() if _is_flat(cls) else reached.all()),
                    f"some tokens of the {who} responses get no gradient; a method that leaves "
                    "tokens out says so with flat = True",
                )
            for name, leaf in leaves.items():
                _require(
                    leaf.grad is None or bool(leaf.grad.isfinite().all()),
                    f"the gradient of {name} is not finite where policy and reference differ by up "
                    f"to {distance / 2:g} nats per token",
                )


def check_needs_are_what_it_reads(cls: MethodClass) -> None:
    """Undeclared fields are not read; each declared one is missed when None and moves the loss."""
    chosen, rejected = random_pair(cls)
    plain = cls()(chosen, rejected)
    same(
        cls()(*random_pair(cls, extra=True)),
        plain,
        what="it reads a field that needs does not declare",
    )
    for name in declared_fields(cls):
        for side in sides_with(cls, name):
            stats = [chosen, rejected]
            if name != "policy_logps":
                without = list(stats)
                missing: dict[str, Any] = {name: None}
                without[side] = dataclasses.replace(stats[side], **missing)
                _refused(
                    (ValueError, TypeError, AttributeError),
                    partial(cls(), *without),
                    f"{name} is declared in needs and is not read; leave it out of needs",
                )
            value = getattr(stats[side], name)
            moved = value + (0.2 if side == 0 else -0.2)
            if name in (*MODEL_FIELDS, "ref_logps", "hidden", "token_weights", "importance"):
                # The method may read only the order of these, or their differences.
                moved = (value - 1).square()
            moved = masked(moved, stats[side].response_mask)
            stats[side] = dataclasses.replace(stats[side], **{name: moved})
            change = (cls()(*stats).per_pair - plain.per_pair).abs()
            moves = change > 1e-9
            _require(
                bool(moves.any() if _is_flat(cls) else moves.all()),
                f"{name} is declared in needs and does not matter; leave it out of needs",
            )
    if not cls.needs.rejected:
        alone = cls()(chosen, None)  # type: ignore[arg-type]
        _require(
            torch.equal(alone.per_pair, plain.per_pair),
            "needs.rejected is False and the loss depends on the rejected responses",
        )


def check_padding_never_counts(cls: MethodClass) -> None:
    """Whatever stands on padding changes nothing, and no gradient flows to it."""
    clean, poisoned, gradients = random_pair(cls), [], []
    for stats in clean:
        noise = torch.linspace(-1e6, 1e6, stats.response_mask.numel(), dtype=torch.float64)
        noise = noise.view(stats.response_mask.shape)
        changed = {
            name: masked(value, stats.response_mask, noise if value.ndim == 2 else noise[..., None])
            for name in TOKEN_FIELDS
            if (value := getattr(stats, name)) is not None
        }
        stats, leaves = with_gradients(dataclasses.replace(stats, **changed))
        poisoned.append(stats)
        gradients.append(leaves)
    output = cls()(*poisoned)
    same(output, cls()(*clean), what="it reads positions outside of the responses")
    output.loss.backward()
    for stats, leaves in zip(poisoned, gradients, strict=True):
        for name, leaf in leaves.items():
            if leaf.grad is not None and name in TOKEN_FIELDS:
                _require(
                    not leaf.grad[~stats.response_mask].any(),
                    f"a gradient of {name} flows to positions outside of the responses",
                )


def check_padding_length_does_not_matter(cls: MethodClass) -> None:
    """More padding is the same batch; a mask of 0 and 1 is the same as one of booleans."""
    clean = random_pair(cls)
    longer = [
        dataclasses.replace(
            stats,
            **{
                name: torch.nn.functional.pad(
                    value.double(), (0, 3) if value.ndim == 2 else (0, 0, 0, 3)
                )
                for name in (*TOKEN_FIELDS, "response_mask")
                if (value := getattr(stats, name)) is not None
            },
        )
        for stats in clean
    ]
    same(cls()(*longer), cls()(*clean), what="it depends on how far a batch is padded")


def check_pairs_do_not_mix(cls: MethodClass) -> None:
    """A pair's values do not depend on its place in the batch or on its mates."""
    if cls.needs.whole_step:
        return
    chosen, rejected = random_pair(cls)
    whole = cls()(chosen, rejected)
    order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(0))
    what = "a pair's values depend on the other pairs of its batch"
    same(cls()(select(chosen, order), select(rejected, order)), whole, order, what)
    for index in range(PAIRS):
        row = torch.tensor([index])
        same(cls()(select(chosen, row), select(rejected, row)), whole, row, what)


def check_step_zero(cls: MethodClass) -> None:
    """With log-ratio 0 and KL 0 a method with a reference says the same of every pair: reward 0.

    A method without a reference has no such value; its loss must be a function of the policy alone,
    which `check_needs_are_what_it_reads` holds.
    """
    if not cls.needs.ref_logps:
        return
    output = cls()(*random_pair(cls, distance=0.0))
    if not (cls.needs.from_outside or cls.needs.whole_step or cls.needs.log_sum_sq_probs):
        _close(
            output.per_pair,
            output.per_pair[:1].expand(PAIRS),
            "where the policy is the reference, pairs have different losses",
        )
    for name in ("chosen_rewards", "rejected_rewards"):
        _require(
            not cls.from_reference or not getattr(output, name).any(),
            f"where the policy is the reference, {name} is not 0",
        )


def check_rewards_are_what_the_loss_orders(cls: MethodClass) -> None:
    """What raises a chosen reward lowers the loss, what raises a rejected one raises it.

    By finite differences on the log-probabilities, and on the token KL where that is read: near
    step 0, where also a loss with a target (IPO) has not passed it.
    """
    base = random_pair(cls, distance=0.05)
    plain = cls()(*base)
    fields = ["policy_logps", *(["kl"] if cls.needs.kl else [])]
    for field in fields:
        for side in range(2 if cls.needs.rejected else 1):
            stats = list(base)
            value = getattr(stats[side], field)
            raised = torch.where(stats[side].response_mask, value + 0.01, value)
            stats[side] = dataclasses.replace(stats[side], **{field: raised})
            output = cls()(*stats)
            name = ("chosen_rewards", "rejected_rewards")
            gain = getattr(output, name[side]) - getattr(plain, name[side])
            loss_change = output.per_pair - plain.per_pair
            rises = gain > 0
            _require(
                bool(rises.any() and (gain >= 0).all() if _is_flat(cls) else rises.all()),
                f"{name[side]} does not rise with {field}",
            )
            if side == 1:
                loss_change = -loss_change
            ordered = loss_change <= 0 if cls.flat else loss_change < 0
            _require(
                not cls.ordered or bool(ordered[rises].all()),
                f"raising {field} raises {name[side]}, and the loss does not "
                f"{'fall' if side == 0 else 'rise'}; return the rewards that the loss orders",
            )
            if cls.needs.rejected:
                other = getattr(output, name[1 - side])
                _require(
                    torch.equal(other, getattr(plain, name[1 - side])),
                    f"{name[1 - side]} changes with the other response",
                )


def check_chunks_do_not_matter(cls: MethodClass) -> None:
    """Loss and gradients through the fused operation are the same for every chunk size."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    template = random_pair(cls)
    hidden, head = draw(2, PAIRS, 7, 6), draw(17, 6)
    ref_hidden, ref_head = draw(2, PAIRS, 7, 6), draw(17, 6)
    targets = torch.randint(17, (2, PAIRS, 7), generator=generator)

    def run(chunk_size: int, keep_bytes: int) -> list[Tensor]:
        leaves = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
        fused = token_stats(
            leaves[0].flatten(0, 2),
            leaves[1],
            ref_hidden.flatten(0, 2) if cls.needs.reference else None,
            ref_head if cls.needs.reference else None,
            targets.flatten(),
            chunk_size,
            need_kl=cls.needs.kl,
            keep_bytes=keep_bytes,
        )
        filled = []
        for side, stats in enumerate(template):
            fields = {
                name: torch.where(stats.response_mask, value.view(2, PAIRS, 7)[side], 0.0)
                for name in ("policy_logps", "ref_logps", "kl")
                if name in declared_fields(cls) and (value := getattr(fused, name)) is not None
            }
            filled.append(dataclasses.replace(stats, **fields))
        loss = cls()(*filled).loss
        return [loss, *torch.autograd.grad(loss, leaves)]

    whole = run(1000, 2**30)
    for chunk_size, keep_bytes in ((1, 0), (4, 0), (4, 2**30), (1000, 0)):
        for ours, expected in zip(run(chunk_size, keep_bytes), whole, strict=True):
            _close(ours, expected, "loss or gradient depends on the chunk size", rtol=1e-10)


def check_hyper_parameters_are_checked(cls: MethodClass) -> None:
    """NaN, infinity and text that is no choice are refused by name, as a user's error."""
    for field in dataclasses.fields(cls):
        for value in (float("nan"), float("inf"), "nonsense"):
            _refused(
                UserError,
                partial(cls, **{field.name: value}),
                f"{field.name}={value!r} is accepted; declare its values with hyper_parameter, or "
                "refuse it in __post_init__",
                field.name,
            )


def _is_flat(cls: MethodClass) -> bool:
    """Whether a method may leave tokens out, and even all tokens of a response."""
    return cls.flat or issubclass(cls, MaskedMethod)


def _require(condition: bool, message: str) -> None:
    # Not an assert statement, which python -O leaves out.
    if not condition:
        raise AssertionError(message)


def _close(ours: Tensor, expected: Tensor, message: str, rtol: float = 1e-12) -> None:
    try:
        torch.testing.assert_close(ours, expected, rtol=rtol, atol=1e-12, check_dtype=False)
    except AssertionError:
        gap = float((ours.detach() - expected.detach()).abs().max())
        raise AssertionError(f"{message} (by up to {gap:.3g})") from None


def _refused(
    errors: type[Exception] | tuple[type[Exception], ...],
    call: Callable[[], object],
    message: str,
    name: str = "",
) -> None:
    """Require that a call raises one of some errors, whose text has a name."""
    try:
        call()
    except errors as error:
        _require(
            re.search(re.escape(name), str(error)) is not None,
            f"{message}; the error does not name {name}",
        )
        return
    except Exception as error:
        raise AssertionError(f"{message} ({type(error).__name__} is raised)") from error
    raise AssertionError(message)


CHECKS: tuple[Callable[[MethodClass], None], ...] = (
    check_describes_itself,
    check_output_form,
    check_gradients_are_finite,
    check_needs_are_what_it_reads,
    check_padding_never_counts,
    check_padding_length_does_not_matter,
    check_pairs_do_not_mix,
    check_step_zero,
    check_rewards_are_what_the_loss_orders,
    check_chunks_do_not_matter,
    check_hyper_parameters_are_checked,
)
