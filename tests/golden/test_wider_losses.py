"""The related work's own implementations gave these values; every method here meets them.

The files `wider_losses_*.json` say what was run. `CASES` has one row per entry: the method and its
hyper-parameters under the names of this library. Losses, gradients and implicit rewards are
compared, in both precisions.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sparsepo
from sparsepo.methods.rto import RTO
from sparsepo.methods.sampled import Samples
from sparsepo.types import LossOutput, TokenStats

FILES = ("wider_losses_11.json", "wider_losses_12.json")
SIDES = ("chosen", "rejected")
TOKEN_FIELDS = (
    "policy_logps",
    "ref_logps",
    "kl",
    "reverse_kl",
    "log_sum_sq_probs",
    "oracle_logps",
    "anti_logps",
    "history_logps",
    "token_weights",
    "hidden",
)
Entry = dict[str, Any]


def same(rewards: Tensor, entry: Entry) -> Tensor:
    """The code logs what its loss orders."""
    return rewards


def up_to_a_constant(rewards: Tensor, entry: Entry) -> Tensor:
    """The code logs β f′(u), from which f′(1) is subtracted here."""
    name, hyper_parameters = entry["name"], entry["hyper_parameters"]
    alpha = hyper_parameters.get("alpha", 1.0)
    shift = 0.0 if name in ("f-dpo-reverse-kl", "f-dpo-js") else -1 / alpha
    return rewards + hyper_parameters["beta"] * shift


@dataclass(frozen=True)
class Case:
    """How an entry is computed here."""

    method: str
    names: str = "beta"
    """Hyper-parameters that the file has too: `ours=theirs`, or a name that both have."""
    values: tuple[tuple[str, Any], ...] = ()
    """Further hyper-parameters."""
    logged: Callable[[Tensor, Entry], Tensor] | None = same
    """From implicit rewards to what that code logs; None if it logs something else."""


def case(
    method: str,
    names: str = "beta",
    logged: Callable[[Tensor, Entry], Tensor] | None = same,
    **values: Any,
) -> Case:
    return Case(method, names, tuple(values.items()), logged)


SMOOTHED = "beta epsilon=label_smoothing"
CASES: dict[str, Case] = {
    "dpo": case("dpo"),
    "simpo": case("simpo", "beta gamma=simpo_gamma"),
    "ipo-mean": case("ipo", logged=None),  # β Σ r, although the loss orders the mean
    "ipo-sum": case("ipo", reduction="sum"),
    "cdpo": case("cdpo", SMOOTHED),
    "cdpo-0.2": case("cdpo", SMOOTHED),
    "robust-dpo": case("robust-dpo", SMOOTHED),
    "slic-hinge-ref": case("hinge"),
    "slic-hinge-no-ref": case("slic", "beta lam=cpo_alpha"),
    "slic-hf": case("slic", "beta lam=cpo_alpha", nll="batch"),
    "exo-pair": case("exo", "beta epsilon"),
    "exo-pair-trl": case("exo", SMOOTHED),
    "exo-pref-authors": case("exo", "beta=beta_model", epsilon=math.exp(-10), targets="authors"),
    "nca-pair": case("nca"),
    "sppo-hard-trl": case("sppo"),
    "sppo-hard-authors": case("sppo", factor=0.5),
    "sppo-soft": case("sppo-soft"),
    "apo-zero": case("apo-zero"),
    "apo-down": case("apo-down"),
    "discopop": case("discopop", "beta tau=discopop_tau"),
    "discopop-wide": case("discopop", "beta tau=discopop_tau"),
    "f-dpo-reverse-kl": case("f-dpo", logged=up_to_a_constant, divergence="reverse-kl"),
    "f-dpo-forward-kl": case("f-dpo", logged=up_to_a_constant, divergence="forward-kl"),
    "f-dpo-js": case("f-dpo", logged=up_to_a_constant, divergence="js"),
    "f-dpo-alpha-0.3": case("f-dpo", "beta alpha", up_to_a_constant, divergence="alpha"),
    "f-dpo-alpha-0.5": case("f-dpo", "beta alpha", up_to_a_constant, divergence="alpha"),
    # TRL logs β Σ r, whatever the divergence; its coefficient is 1 − α.
    "f-dpo-forward-kl-trl": case("f-dpo", logged=None, divergence="forward-kl"),
    "f-dpo-js-trl": case("f-dpo", logged=None, divergence="js"),
    "f-dpo-alpha-trl": case("f-dpo", logged=None, divergence="alpha", alpha=0.3),
    "ln-dpo": case("ln-dpo", logged=None),  # β Σ r, although the loss orders the mean
    "ld-dpo": case("ld-dpo", "beta alpha=ld_alpha"),
    "ld-dpo-0": case("ld-dpo", "beta alpha=ld_alpha"),
    "cpo": case("cpo", "beta lam=cpo_alpha", nll="batch"),
    "orpo-trl": case("orpo", "lam=beta", None, nll="batch"),  # β times mean log π
    "orpo-per-pair": case("orpo", "lam=beta", None),
    "odpo": case("odpo", "beta alpha"),
    "simper": case("simper", "", lambda rewards, _: rewards.log()),
    "alphapo": case("alphapo", "beta alpha gamma=simpo_gamma"),
    "alphapo-negative": case("alphapo", "beta alpha gamma=simpo_gamma"),
    "cal-dpo": case("cal-dpo"),
    "repo": case("repo", "gamma=gamma_beta_ratio", lambda rewards, _: 2.5 * rewards),
    "confpo": case("confpo", "beta gamma"),
    "d2po": case("d2po", "beta gamma"),
    "kto": case("kto", "beta desirable_weight undesirable_weight"),
    "kto-clamped-weighted": case("kto", "beta desirable_weight undesirable_weight"),
    "kto-pair": case("kto-pair"),
    "bco-first-batch": case("bco"),
    "bco-running": case("bco"),
    "bco-pair-no-shift": case("bco-pair"),
    "aot": case("aot"),
    "aot-smoothed": case("aot", SMOOTHED),
    "aot-unpaired": case("aot", form="unpaired"),
    # The share of pairs left out decides how many are drawn; which ones is in the file.
    "beta-dpo-first-step": case("beta-dpo", "beta a momentum rho=mode_weight"),
    "beta-dpo-filtered": case("beta-dpo", "beta a momentum rho=mode_weight"),
    "wpo": case("wpo"),
    "sepo": case("sepo", "k"),
    "tgdpo": case("tgdpo", "beta alpha", None),  # β Σ r without the factors
    "tgdpo-strong": case("tgdpo", "beta alpha", None),
    "tis-dpo": case("tis-dpo"),
    "tis-dpo-kl": case("tis-dpo-kl", "beta alpha", None),  # without α
    "tis-dpo-binary": case("tis-dpo", "beta top_percent", transform="binary"),
    "weighted-dpo": case("weighted-dpo"),
    "twdpo": case("weighted-dpo", normalisation="attention"),
    "otpo": case("otpo", "beta reg reg_m", solver="released"),
    "inpo": case("inpo", "eta tau", None),
    "inpo-ref-only": case("inpo", "eta tau", None),
    "f-dpg-kl": case("f-dpg", divergence="kl"),
    "f-dpg-reverse-kl": case("f-dpg", divergence="reverse-kl"),
    "f-dpg-js": case("f-dpg", divergence="js"),
    "f-dpg-tv": case("f-dpg", divergence="tv"),
}
"""Entry → how it is computed here."""


@functools.cache
def golden(file: str) -> Any:
    return json.loads(Path(__file__).with_name(file).read_text())


def entries() -> list[Any]:
    """One parameter per entry of both files: (file, entry)."""
    return [
        pytest.param(file, entry, id=f"{file[-7:-5]}: {entry['name']}")
        for file in FILES
        for entry in golden(file)["losses"]
        if entry["name"] in CASES
    ]


def inputs(file: str, dtype: torch.dtype) -> tuple[TokenStats, TokenStats, list[Tensor]]:
    """Return both sides' statistics, and their policy_logps, which require gradients."""
    given = golden(file)["inputs"]
    batch = given["batch"]
    pairs = len(batch["win_probability"])
    sides, leaves = [], []
    for number, side in enumerate(SIDES):
        fields: dict[str, Any] = {
            name: torch.tensor(given[side][name], dtype=dtype) for name in TOKEN_FIELDS
        }
        fields["policy_logps"].requires_grad_()
        leaves.append(fields["policy_logps"])
        fields["scores"] = torch.tensor(batch[f"pair_reward_{side}"], dtype=dtype)
        win = torch.tensor(batch["win_probability"], dtype=dtype)
        fields["win_probability"] = win if number == 0 else 1 - win
        half = slice(number * pairs, (number + 1) * pairs)
        for model in ("policy", "ref"):
            values = batch[f"kto_mismatched_{model}"][half]
            fields[f"mismatched_{model}_logps"] = torch.tensor(values, dtype=dtype)
        mask = torch.tensor(given[side]["response_mask"]).bool()
        sides.append(TokenStats(response_mask=mask, **fields))
    return sides[0], sides[1], leaves


def close(actual: Tensor, expected: Any, tolerance: float) -> None:
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach().double(), wanted, rtol=tolerance, atol=tolerance)


def state_before(entry: Entry) -> dict[str, Tensor]:
    """Return the running state before the batch, under the names of this library."""
    names = {"running_mean_before": "mean", "count_before": "count"}
    names |= {"gap_mean_before": "gap_mean", "gap_std_before": "gap_std"}
    given = entry["hyper_parameters"]
    return {ours: torch.tensor(given[name]) for name, ours in names.items() if name in given}


def computed(
    entry: Entry, file: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> tuple[LossOutput, list[Tensor]]:
    how = CASES[entry["name"]]
    named = (item.partition("=") for item in how.names.split())
    theirs = {ours: entry["hyper_parameters"][name or ours] for ours, _, name in named}
    method = sparsepo.get_method(how.method, **theirs, **dict(how.values))
    chosen, rejected, leaves = inputs(file, dtype)
    state = state_before(entry)
    if entry["name"] == "kto-clamped-weighted":
        # The note says so: then z is clamped at 0.
        chosen, rejected = (
            replace(
                stats,
                mismatched_policy_logps=stats.mismatched_ref_logps,
                mismatched_ref_logps=stats.mismatched_policy_logps,
            )
            for stats in (chosen, rejected)
        )
    if "kept" in entry:
        kept = torch.tensor(entry["kept"], dtype=dtype)
        monkeypatch.setattr(type(method), "_kept", lambda *_: kept)
    if state:
        state = {**method.initial_state(), **state}
    if method.needs.rollout:
        chosen, rejected = drawn_from_the_reference(chosen, rejected, entry, file)
    output = method(chosen, rejected, state) if state else method(chosen, rejected)  # type: ignore[call-arg]
    output.loss.backward()
    return output, leaves


def drawn_from_the_reference(
    chosen: TokenStats, rejected: TokenStats, entry: Entry, file: str
) -> tuple[TokenStats, TokenStats]:
    """As the notes of f-DPG's entries say: with sequence rewards and a given Z."""
    batch = golden(file)["inputs"]["batch"]
    found = []
    for side, stats in zip(SIDES, (chosen, rejected), strict=True):
        scores = torch.tensor(batch[f"sequence_reward_{side}"], dtype=stats.policy_logps.dtype)
        found.append(
            replace(
                stats,
                scores=scores,
                sampling_logps=stats.ref_logps,
                log_z=torch.full_like(scores, math.log(entry["hyper_parameters"]["z"])),
                baseline=torch.zeros_like(scores),
            )
        )
    return found[0], found[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("file", "entry"), entries())
def test_losses_gradients_and_rewards(
    file: str, entry: Entry, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, leaves = computed(entry, file, dtype, monkeypatch)
    rounded = "float32" in entry["precision"] or "float32" in (entry.get("note") or "")
    tolerance = 1e-5 if dtype is torch.float32 else 1e-6 if rounded else 1e-8
    close(output.loss, entry["loss"], tolerance)
    for side, leaf in zip(SIDES, leaves, strict=True):
        assert leaf.grad is not None
        close(leaf.grad, entry[f"grad_{side}"], tolerance)
    if entry["per_pair"] is not None and not entry.get("loss_is_not_the_mean"):
        close(output.per_pair, entry["per_pair"], tolerance)
    logged = CASES[entry["name"]].logged
    if logged is not None and entry["chosen_rewards"] is not None:
        for side in SIDES:
            close(
                logged(getattr(output, f"{side}_rewards"), entry),
                entry[f"{side}_rewards"],
                tolerance,
            )


def test_tokens_that_confpo_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in FILES:
        entry = next(item for item in golden(file)["losses"] if item["name"] == "confpo")
        output, _ = computed(entry, file, torch.float64, monkeypatch)
        for side in SIDES:
            selected = torch.tensor(entry[f"selected_{side}"]).double()
            mask = torch.tensor(golden(file)["inputs"][side]["response_mask"]).double()
            expected = 100 * (selected * mask).sum(-1) / mask.sum(-1)
            close(output.metrics[f"confpo/selected/{side}"], expected, 1e-9)


def test_every_entry_is_met() -> None:
    names = {entry["name"] for file in FILES for entry in golden(file)["losses"]}
    assert names == set(CASES)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("file", FILES)
def test_token_rewards_of_rto(file: str, side: str) -> None:
    """The authors' code clips, weighs and adds the response's reward at its last token."""
    (entry,) = golden(file)["token_rewards"]
    given, batch = golden(file)["inputs"][side], golden(file)["inputs"]["batch"]
    mask = torch.tensor(given["response_mask"]).bool()

    def values(name: str) -> Tensor:
        return torch.where(mask, torch.tensor(given[name], dtype=torch.float64), 0.0)

    samples = Samples(
        scores=torch.tensor(batch[f"sequence_reward_{side}"], dtype=torch.float64),
        group_size=2,
        logps=values("policy_logps"),
        response_mask=mask,
        ref_logps=values("ref_logps"),
        oracle_logps=values("oracle_logps"),
    )
    theirs = entry["hyper_parameters"]
    method = RTO(
        beta=theirs["dpo_reward_scale"],
        limit=theirs["dpo_reward_clip"],
        kl_weight=theirs["kl_coef"],
    )
    close(method.token_rewards(samples), entry[f"token_rewards_{side}"], 1e-9)
