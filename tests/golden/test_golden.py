"""The methods' published implementations gave the golden values; every function here meets them.

Forward within 1e-6 in float64 and 1e-5 in float32. Gradients are held to plain autograd through
formulas that are written out here once more, from logits on, without the project's functions.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sparsepo
from sparsepo.masks import LearnedMask, activation_to_mask

FILES = ("token_losses_1.json", "token_losses_2.json")
DTYPES = {torch.float64: 1e-6, torch.float32: 1e-5}
SIDES = ("chosen", "rejected")

both_precisions = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


@functools.cache
def golden(file: str) -> Any:
    return json.loads(Path(__file__).with_name(file).read_text())


def cases(what: str) -> list[Any]:
    """One parameter per case of both files: (file, case)."""
    found = []
    for file in FILES:
        listed = golden(file)["losses"] if what == "losses" else golden(file)[what]["cases"]
        for case in listed:
            label = case.get("kind") or f"{case['method']} {case['hparams']}"
            found.append(pytest.param(file, case, id=f"{file[-6]}: {label}"))
    return found


def close(actual: Any, expected: Any, tolerance: float) -> None:
    actual = torch.as_tensor(actual, dtype=torch.float64)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def logits_of(file: str, side: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return policy logits, reference logits, (pairs, T, V) each, targets and response mask."""
    pairs = golden(file)["pairs"][side]
    policy, ref = (
        torch.tensor(pairs[name], dtype=dtype)[:, :-1] for name in ("policy_logits", "ref_logits")
    )
    # The states at t-1 predict token t; -100 marks what is no response token.
    labels = torch.tensor(pairs["labels"])[:, 1:]
    mask = torch.tensor(pairs["response_mask"]).bool()
    assert torch.equal(labels != -100, mask)
    return policy, ref, labels.clamp(min=0), mask


def fused(policy: Tensor, ref: Tensor, targets: Tensor, mask: Tensor) -> list[Tensor]:
    """Run token_stats on logits, through identity heads; zero outside the response."""
    vocabulary = policy.shape[-1]
    head = torch.eye(vocabulary, dtype=policy.dtype)
    result = sparsepo.token_stats(
        policy.reshape(-1, vocabulary),
        head,
        ref.reshape(-1, vocabulary),
        head,
        targets.flatten(),
        chunk_size=5,
    )
    shaped = []
    for values in result:
        assert values is not None
        shaped.append(torch.where(mask, values.view(mask.shape), 0.0))
    return shaped


def stats_of(
    file: str, side: str, dtype: torch.dtype, policy: Tensor | None = None
) -> sparsepo.TokenStats:
    """Build TokenStats from the golden logits and masks; `policy` may require gradients."""
    golden_policy, ref, targets, mask = logits_of(file, side, dtype)
    logps, ref_logps, kl = fused(golden_policy if policy is None else policy, ref, targets, mask)
    masks = golden(file)["pairs"][side]
    return sparsepo.TokenStats(
        policy_logps=logps,
        ref_logps=ref_logps,
        kl=kl,
        response_mask=mask,
        reward_mask=torch.tensor(masks["reward_mask"], dtype=dtype),
        kl_mask=torch.tensor(masks["kl_mask"], dtype=dtype),
    )


# Forward


@both_precisions
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("file", FILES)
def test_token_stats(file: str, side: str, dtype: torch.dtype) -> None:
    expected = golden(file)["pairs"][side]
    logps, ref_logps, kl = fused(*logits_of(file, side, dtype))
    assert logps.dtype == dtype
    close(logps, expected["policy_logps"], DTYPES[dtype])
    close(ref_logps, expected["ref_logps"], DTYPES[dtype])
    close(kl, expected["kl"], DTYPES[dtype])
    close((logps - ref_logps).sum(-1), expected["seq_margin"], DTYPES[dtype])
    close(kl.sum(-1), expected["seq_kl"], DTYPES[dtype])
    close(logps.sum(-1), expected["seq_policy_logps"], DTYPES[dtype])


@both_precisions
@pytest.mark.parametrize(("file", "case"), cases("losses"))
def test_losses(file: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    method = sparsepo.get_method(case["method"], **case["hparams"])
    out = method(*(stats_of(file, side, dtype) for side in SIDES))
    tolerance = DTYPES[dtype]
    close(out.per_pair, case["loss_per_pair"], tolerance)
    close(out.loss, sum(case["loss_per_pair"]) / len(case["loss_per_pair"]), tolerance)
    assert out.loss.dtype == dtype
    for side in SIDES:
        if f"{side}_rewards" in case:
            close(getattr(out, f"{side}_rewards"), case[f"{side}_rewards"], tolerance)
        for kind in ("reward", "kl"):
            if f"{kind}_sparsity_{side}_pct" in case:
                measured = out.metrics[f"sparsity/{kind}/{side}"]
                close(measured, case[f"{kind}_sparsity_{side}_pct"], tolerance)


@both_precisions
@pytest.mark.parametrize(("file", "case"), cases("learned_masks"))
def test_learned_masks(file: str, case: dict[str, Any], dtype: torch.dtype) -> None:
    states = torch.tensor(golden(file)["learned_masks"]["hidden_states_per_layer"], dtype=dtype)
    mask = LearnedMask(
        len(states),
        states.shape[-1],
        layers="last" if "last layer" in case["kind"] else "all",
        feed_forward=2 if "2 FF" in case["kind"] else 1,
        binary=case["kind"].startswith("binary"),
    ).to(dtype)
    weights = {name: torch.tensor(value, dtype=dtype) for name, value in case["weights"].items()}
    mask.load_state_dict(weights)
    # The golden networks ran in float32, so that float64 can meet them to float32's rounding only.
    close(mask.eval()(list(states)).detach(), case["mask"], 1e-5)


@both_precisions
@pytest.mark.parametrize("file", FILES)
def test_activation_mask(file: str, dtype: torch.dtype) -> None:
    case = golden(file)["activation_mask"]
    activation = torch.tensor(case["activation"], dtype=dtype)
    mask = activation_to_mask(activation, torch.tensor(case["response_mask"]))
    # Computed in float32 too.
    close(mask, case["mask_of_this_activation"], 1e-5)


# Gradients against plain autograd


def plain_token_values(
    policy: Tensor, ref: Tensor, targets: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    log_pi, log_ref = policy.log_softmax(-1), ref.log_softmax(-1)
    logps = log_pi.gather(-1, targets[..., None])[..., 0] * mask
    ref_logps = log_ref.gather(-1, targets[..., None])[..., 0] * mask
    kl = (log_ref.exp() * (log_ref - log_pi)).sum(-1) * mask
    return logps, logps - ref_logps, kl


def plain_loss(name: str, h: dict[str, float], w: Any, l: Any) -> Tensor:  # noqa: E741
    """Write the table of docs/methods.md out; w and l hold logps, r, k, m_u, m_d, mask."""
    sums = torch.Tensor.sum
    if name == "sft":
        return -(sums(w["logps"], -1) / w["mask"].sum(-1))
    beta = h["beta"]
    ratio = sums(w["r"], -1) - sums(l["r"], -1)
    if name == "dpo":
        inner = beta * ratio
    elif name == "dpop":
        inner = beta * (ratio - h["lam"] * torch.clamp(-sums(w["r"], -1), min=0))
    elif name == "simpo":
        means = [sums(side["logps"], -1) / side["mask"].sum(-1) for side in (w, l)]
        inner = beta * means[0] - beta * means[1] - h["gamma"]
    elif name == "tdpo1":
        inner = beta * (ratio - (sums(l["k"], -1) - sums(w["k"], -1)))
    elif name == "tdpo2":
        inner = beta * (ratio - h["alpha"] * (sums(l["k"], -1) - sums(w["k"], -1).detach()))
    else:
        on_kl = "m_d" if name == "sparsepo-independent" else "m_u"
        ratio = sums(w["m_u"] * w["r"], -1) - sums(l["m_u"] * l["r"], -1)
        inner = beta * (ratio - (sums(l[on_kl] * l["k"], -1) - sums(w[on_kl] * w["k"], -1)))
    loss = -torch.log(torch.sigmoid(inner))
    norms = {
        m: sum(torch.norm(side[m] * side["mask"], p=1, dim=-1) for side in (w, l))
        for m in ("m_u", "m_d")
    }
    if name == "sparsepo-common":
        loss = loss + (h["l1_reward"] + h["l1_kl"]) / 2 * norms["m_u"]
    if name == "sparsepo-independent":
        loss = loss + h["l1_reward"] * norms["m_u"] + h["l1_kl"] * norms["m_d"]
    return loss


GRADIENT_CASES = [
    ("sft", {}),
    ("dpo", {"beta": 0.3}),
    ("dpop", {"beta": 0.3, "lam": 5.0}),
    ("simpo", {"beta": 2.0, "gamma": 0.7}),
    ("tdpo1", {"beta": 0.3}),
    ("tdpo2", {"beta": 0.3, "alpha": 0.4}),
    ("mapo", {"beta": 0.3}),
    ("sparsepo-common", {"beta": 0.3, "l1_reward": 0.01, "l1_kl": 0.03}),
    ("sparsepo-independent", {"beta": 0.3, "l1_reward": 0.01, "l1_kl": 0.03}),
]


def test_every_built_in_method_has_a_gradient_case() -> None:
    from sparsepo.methods import PAPER

    assert {name for name, _ in GRADIENT_CASES} == set(PAPER)


@both_precisions
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("name", "hyper_parameters"), GRADIENT_CASES)
def test_gradients_equal_plain_autograd(
    name: str, hyper_parameters: dict[str, float], file: str, dtype: torch.dtype
) -> None:
    """With respect to the policy's logits and to both masks, on both responses."""
    stats, plain, ours, theirs = [], [], [], []
    for side in SIDES:
        policy, ref, targets, mask = logits_of(file, side, dtype)
        built = stats_of(file, side, dtype)
        assert built.reward_mask is not None and built.kl_mask is not None
        leaves = [
            (policy.clone().requires_grad_(), built.reward_mask.clone().requires_grad_(),
             built.kl_mask.clone().requires_grad_())
            for _ in range(2)
        ]  # fmt: skip
        ours += leaves[0]
        theirs += leaves[1]
        logps, ref_logps, kl = fused(leaves[0][0], ref, targets, mask)
        stats.append(sparsepo.TokenStats(logps, ref_logps, kl, mask, leaves[0][1], leaves[0][2]))
        logps, ratios, kl = plain_token_values(leaves[1][0], ref, targets, mask)
        plain.append({"logps": logps, "r": ratios, "k": kl, "mask": mask, "m_u": leaves[1][1],
                      "m_d": leaves[1][2]})  # fmt: skip
    out = sparsepo.get_method(name, **hyper_parameters)(*stats)
    expected = plain_loss(name, hyper_parameters, *plain)
    close(out.per_pair.detach(), expected.detach(), DTYPES[dtype])
    gradients = torch.autograd.grad(out.loss, ours, allow_unused=True)
    expected_gradients = torch.autograd.grad(expected.mean(), theirs, allow_unused=True)
    assert gradients[0] is not None and gradients[0].abs().max() > 1e-3
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert (gradient is None) == (wanted is None)
        if gradient is not None:
            close(gradient, wanted, DTYPES[dtype])


# Mask 1 is TDPO v1


@both_precisions
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", ["mapo", "sparsepo-common", "sparsepo-independent"])
def test_with_mask_1_the_masked_methods_are_tdpo1(name: str, file: str, dtype: torch.dtype) -> None:
    """Exactly: loss, rewards and gradients, bit for bit."""
    results = []
    for method, mask_value in ((name, 1.0), ("tdpo1", None)):
        leaves, stats = [], []
        for side in SIDES:
            policy, ref, targets, mask = logits_of(file, side, dtype)
            leaves.append(policy.clone().requires_grad_())
            logps, ref_logps, kl = fused(leaves[-1], ref, targets, mask)
            ones = None if mask_value is None else torch.ones_like(logps)
            stats.append(sparsepo.TokenStats(logps, ref_logps, kl, mask, ones, ones))
        out = sparsepo.get_method(method, beta=0.7)(*stats)
        results.append([out.per_pair, out.loss, out.chosen_rewards, out.rejected_rewards,
                        *torch.autograd.grad(out.loss, leaves)])  # fmt: skip
    for masked, plain in zip(*results, strict=True):
        assert torch.equal(masked, plain)
