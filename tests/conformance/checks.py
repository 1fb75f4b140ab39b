"""What every method has to keep, built in or plugged in: one function per promise.

Each takes a method's class and raises an AssertionError that says what it breaks. `CHECKS` lists
them; `test_conformance.py` runs them on whatever is registered. The author of a plug-in runs them
on a class of their own:

    @pytest.mark.parametrize("check", CHECKS)
    def test_conforms(check):
        check(MyMethod)
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsepo import LossOutput, Method, TokenStats, UserError, token_stats

MethodClass = type[Method]
PAIRS = 5
FIELDS = ("policy_logps", "ref_logps", "kl", "reward_mask", "kl_mask")
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def declared_fields(cls: MethodClass) -> set[str]:
    """Return the fields of TokenStats that a method's needs promise to it."""
    needs = cls.needs
    fields = {"policy_logps"}
    fields |= {"ref_logps"} if needs.ref_logps else set()
    fields |= {"kl"} if needs.kl else set()
    fields |= {"reward_mask"} if needs.mask != "none" else set()
    fields |= {"kl_mask"} if needs.mask == "learned-independent" else set()
    return fields


def random_stats(
    cls: MethodClass,
    seed: int,
    *,
    distance: float = 0.3,
    extra: bool = False,
    tokens: int = 7,
    pairs: int = PAIRS,
) -> TokenStats:
    """Return statistics with just the declared fields; padding holds zeros, masks no zeros.

    Args:
        cls: decides which fields are there.
        seed: of the draw.
        distance: how far the policy is from the reference; 0 is step 0.
        extra: fill the fields too that the method did not ask for.
        tokens: T.
        pairs: B.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.rand(pairs, tokens, generator=generator, dtype=torch.float64)

    # Lengths 2, 3, …: padding everywhere but in the longest, as the packed batch has it.
    lengths = 2 + (torch.arange(pairs) + seed) % (tokens - 1)
    inside = torch.arange(tokens) < lengths[:, None]
    ref = -3 * draw() - 0.1
    values = {
        "policy_logps": ref + distance * (draw() - 0.5),
        "ref_logps": ref,
        "kl": distance * (draw() + 0.1),
        "reward_mask": draw() + 0.1,
        "kl_mask": draw() + 0.1,
    }
    wanted = set(FIELDS) if extra else declared_fields(cls)
    fields: dict[str, Any] = {
        name: torch.where(inside, value, 0.0) if name in wanted else None
        for name, value in values.items()
    }
    return TokenStats(response_mask=inside, **fields)


def random_pair(cls: MethodClass, **options: Any) -> tuple[TokenStats, TokenStats]:
    """Return statistics of chosen and rejected responses."""
    return random_stats(cls, 1, **options), random_stats(cls, 2, **options)


def with_gradients(stats: TokenStats) -> tuple[TokenStats, dict[str, Tensor]]:
    """Return the statistics with every value a leaf that requires gradients, and the leaves."""
    leaves = {
        name: value.clone().requires_grad_()
        for name in FIELDS
        if (value := getattr(stats, name)) is not None
    }
    return dataclasses.replace(stats, **leaves), leaves


def select(stats: TokenStats, rows: Tensor) -> TokenStats:
    """Return the statistics of some of the pairs."""
    picked = {
        name: value[rows]
        for name in (*FIELDS, "response_mask")
        if (value := getattr(stats, name)) is not None
    }
    return dataclasses.replace(stats, **picked)


def results(output: LossOutput) -> dict[str, Tensor]:
    """Return everything that a method says of each pair."""
    found = {name: getattr(output, name) for name in ("per_pair", "chosen_rewards")}
    if output.rejected_rewards.isfinite().all():
        found["rejected_rewards"] = output.rejected_rewards
    return {**found, **output.metrics}


def same(ours: LossOutput, expected: LossOutput, rows: Tensor | slice = slice(None)) -> None:
    """Assert that two outputs agree, `expected` restricted to some rows."""
    wanted = results(expected)
    assert results(ours).keys() == wanted.keys()
    for name, value in results(ours).items():
        torch.testing.assert_close(
            value, wanted[name][rows], **TIGHT, check_dtype=False, msg=lambda m, n=name: f"{n}: {m}"
        )


# The promises


def check_describes_itself(cls: MethodClass) -> None:
    """Name, title, source, a docstring with the formula, defaults for every hyper-parameter."""
    assert cls.name == cls.name.strip().lower() and cls.name
    assert cls.title.strip() and len(cls.source.strip()) > 10
    assert cls.__doc__ and "L = " in cls.__doc__ and "Source" in cls.__doc__
    assert "__call__" in vars(inspect.getmro(cls)[0]) or inspect.getmro(cls)[1] is not Method
    assert sys.modules[cls.__module__].__doc__
    method = cls()
    fields = dataclasses.fields(method)
    assert dataclasses.asdict(method) == {field.name: field.default for field in fields}
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.name = "other"  # type: ignore[misc]


def check_output_form(cls: MethodClass) -> None:
    """One loss, the mean of one per pair; rewards and metrics per pair and without gradient."""
    chosen, _ = with_gradients(random_stats(cls, 1))
    rejected, _ = with_gradients(random_stats(cls, 2))
    output = cls()(chosen, rejected)
    assert output.loss.shape == ()
    torch.testing.assert_close(output.loss, output.per_pair.mean(), **TIGHT)
    assert output.loss.requires_grad and output.per_pair.requires_grad
    for name, value in results(output).items():
        assert value.shape == (PAIRS,), name
        assert value.dtype.is_floating_point and value.isfinite().all(), name
        assert name == "per_pair" or not value.requires_grad, f"{name} carries a gradient"
    assert output.rejected_rewards.shape == (PAIRS,)
    assert not output.rejected_rewards.requires_grad


def check_gradients_are_finite(cls: MethodClass) -> None:
    """They reach the policy, and nothing is NaN, near step 0, at it, and far from it."""
    for distance in (0.0, 0.3, 300.0):
        for side in range(2 if cls.needs.rejected else 1):
            stats = list(random_pair(cls, distance=distance))
            stats[side], leaves = with_gradients(stats[side])
            cls()(*stats).loss.backward()
            gradient = leaves["policy_logps"].grad
            assert gradient is not None
            if distance < 1:
                assert (gradient[stats[side].response_mask] != 0).all()
            for name, leaf in leaves.items():
                assert leaf.grad is None or leaf.grad.isfinite().all(), f"{name} at {distance}"


def check_needs_are_what_it_reads(cls: MethodClass) -> None:
    """Undeclared fields are not read; each declared one is missed when None and moves the loss."""
    chosen, rejected = random_pair(cls)
    plain = cls()(chosen, rejected)
    same(cls()(*random_pair(cls, extra=True)), plain)
    sides = (0, 1) if cls.needs.rejected else (0,)
    for name in declared_fields(cls):
        for side in sides:
            stats = [chosen, rejected]
            if name != "policy_logps":
                with pytest.raises((ValueError, TypeError, AttributeError)):
                    cls()(
                        *(dataclasses.replace(s, **{name: None}) if s is stats[side] else s
                          for s in stats)
                    )  # fmt: skip
            value = getattr(stats[side], name)
            moved = torch.where(stats[side].response_mask, value + 0.2, 0.0)
            stats[side] = dataclasses.replace(stats[side], **{name: moved})
            change = (cls()(*stats).per_pair - plain.per_pair).abs()
            assert (change > 1e-9).all(), f"{name} is declared and does not matter"
    if not cls.needs.rejected:
        alone = cls()(chosen, None)  # type: ignore[arg-type]
        assert torch.equal(alone.per_pair, plain.per_pair)


def check_padding_never_counts(cls: MethodClass) -> None:
    """Whatever stands on padding changes nothing, and no gradient flows to it."""
    clean, poisoned, gradients = random_pair(cls), [], []
    for stats in clean:
        noise = torch.linspace(-1e6, 1e6, stats.response_mask.numel(), dtype=torch.float64)
        changed = {
            name: torch.where(stats.response_mask, value, noise.view(value.shape))
            for name in FIELDS
            if (value := getattr(stats, name)) is not None
        }
        stats, leaves = with_gradients(dataclasses.replace(stats, **changed))
        poisoned.append(stats)
        gradients.append(leaves)
    output = cls()(*poisoned)
    same(output, cls()(*clean))
    output.loss.backward()
    for stats, leaves in zip(poisoned, gradients, strict=True):
        for name, leaf in leaves.items():
            if leaf.grad is not None:
                assert not leaf.grad[~stats.response_mask].any(), f"{name} on padding"


def check_padding_length_does_not_matter(cls: MethodClass) -> None:
    """More padding is the same batch; a mask of 0 and 1 is the same as one of booleans."""
    clean = random_pair(cls)
    longer = [
        dataclasses.replace(
            stats,
            **{
                name: torch.nn.functional.pad(value.double(), (0, 3))
                for name in (*FIELDS, "response_mask")
                if (value := getattr(stats, name)) is not None
            },
        )
        for stats in clean
    ]
    same(cls()(*longer), cls()(*clean))


def check_pairs_do_not_mix(cls: MethodClass) -> None:
    """A pair's values do not depend on its place in the batch or on its mates."""
    chosen, rejected = random_pair(cls)
    whole = cls()(chosen, rejected)
    order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(0))
    same(cls()(select(chosen, order), select(rejected, order)), whole, order)
    for index in range(PAIRS):
        row = torch.tensor([index])
        same(cls()(select(chosen, row), select(rejected, row)), whole, row)


def check_step_zero(cls: MethodClass) -> None:
    """With log-ratio 0 and KL 0 a method with a reference says the same of every pair: reward 0.

    A method without a reference has no such value; its loss must be a function of the policy alone,
    which `check_needs_are_what_it_reads` holds.
    """
    if not cls.needs.ref_logps:
        return
    output = cls()(*random_pair(cls, distance=0.0))
    torch.testing.assert_close(output.per_pair, output.per_pair[:1].expand(PAIRS), **TIGHT)
    assert not output.chosen_rewards.any()
    assert not output.rejected_rewards.any()


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
            assert (gain > 0).all(), f"{name[side]} does not rise with {field}"
            assert ((loss_change < 0) if side == 0 else (loss_change > 0)).all(), (
                f"raising {field} raises {name[side]}, and the loss does not order it so"
            )
            if cls.needs.rejected:
                other = getattr(output, name[1 - side])
                assert torch.equal(other, getattr(plain, name[1 - side]))


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
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def check_hyper_parameters_are_checked(cls: MethodClass) -> None:
    """NaN, infinity and text that is no choice are refused by name, as a user's error."""
    for field in dataclasses.fields(cls):
        for value in (float("nan"), float("inf"), "nonsense"):
            with pytest.raises(UserError, match=field.name):
                cls(**{field.name: value})


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
