"""Every registered method keeps the same promises; a new one is tested without a line here."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sparsepo
from sparsepo.conformance import checks
from sparsepo.conformance.checks import CHECKS, random_pair, random_stats
from sparsepo.methods import BUILT_IN, PAPER
from sparsepo.methods.hyper_parameters import declared

METHODS = sparsepo.available_methods()
REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "tests" / "plugin_pkg" / "sparsepo_squared"
every_method = pytest.mark.parametrize("name", METHODS)


@every_method
@pytest.mark.parametrize("check", CHECKS)
def test_conforms(check: Callable[[Any], None], name: str) -> None:
    check(METHODS[name])


@every_method
def test_is_registered_under_its_own_name(name: str) -> None:
    assert METHODS[name].name == name
    assert type(sparsepo.get_method(name)) is METHODS[name]


@every_method
def test_unknown_hyper_parameters_are_a_users_error(name: str) -> None:
    with pytest.raises(sparsepo.UserError, match=f"'{name}' does not use .*'no_such'"):
        sparsepo.get_method(name, no_such=1)


@every_method
def test_hyper_parameters_of_other_methods_are_a_users_error(name: str) -> None:
    """An option that a method does not use is never ignored."""
    own = {field.name for field in dataclasses.fields(METHODS[name])}
    others = {f.name: f.default for m in METHODS.values() for f in dataclasses.fields(m)}
    foreign = {parameter: value for parameter, value in others.items() if parameter not in own}
    assert foreign
    for parameter, value in foreign.items():
        with pytest.raises(sparsepo.UserError, match=f"does not use .*'{parameter}'"):
            sparsepo.get_method(name, **{parameter: value})


# What holds for the methods of the paper alone

BAD_VALUES = {
    "beta": (0, -0.1),
    "gamma": (-1,),
    "lam": (-1,),
    "alpha": (-0.5,),
    "l1_reward": (-1e-9,),
    "l1_kl": (-1e-9,),
    "l1_limit": ("preferences", 0.5, None),
    "mask_weight_decay": (-0.01,),
    "mask_learning_rate": (-0.001, "fast", math.nan, True),
    "mask_dropout": (-0.1, 1.0),
    "mask_layers": ("first", 1),
    "mask_feed_forward": (0, 3),
    "mask_kind": ("sparse",),
    "mask_init": ("pytorch", None),
    "mask_initial_sparsity": (-1, 100.5, "high"),
    "mask_gradient": ("leaky", None),
    "mask_families": ("", "mlp,attention", "mlp+"),
    "mask_mapping": ("linear",),
}


@pytest.mark.parametrize("name", PAPER)
def test_values_out_of_range_are_refused(name: str) -> None:
    for field in dataclasses.fields(PAPER[name]):
        for value in BAD_VALUES[field.name]:
            with pytest.raises(sparsepo.UserError, match=field.name):
                sparsepo.get_method(name, **{field.name: value})


@pytest.mark.parametrize("name", BUILT_IN)
def test_values_at_and_beyond_the_declared_ends(name: str) -> None:
    for field, declaration in declared(BUILT_IN[name]):
        if declaration is None or not declaration.is_number:
            continue
        ends = ((declaration.low, declaration.open_low), (declaration.high, declaration.open_high))
        for end, is_open in ends:
            if end is None:
                continue
            outside = math.nextafter(end, -math.inf if end == declaration.low else math.inf)
            refused = [outside, True, *([end] if is_open else [])]
            for value in refused:
                with pytest.raises(sparsepo.UserError, match=f"{field.name} must be"):
                    sparsepo.get_method(name, **{field.name: value})
            if not is_open:
                assert getattr(sparsepo.get_method(name, **{field.name: end}), field.name) == end


@pytest.mark.parametrize("name", PAPER)
def test_step_zero_is_log_2(name: str) -> None:
    """−log σ(0) with a reference; SimPO and SFT have none, and equal responses take its place."""
    cls = PAPER[name]
    if cls.needs.ref_logps:
        output = cls()(*random_pair(cls, distance=0.0))
        expected = torch.full_like(output.per_pair, math.log(2))
    else:
        stats = random_stats(cls, 1)
        output = cls()(stats, stats)
        mean = stats.policy_logps.sum(-1) / stats.response_mask.sum(-1)
        # SimPO: −log σ(−γ), its rewards differing by 0; SFT: the mean negative log-likelihood.
        expected = -mean if name == "sft" else torch.full_like(mean, math.log(1 + math.exp(1.0)))
    torch.testing.assert_close(output.per_pair, expected)


@pytest.mark.parametrize("name", PAPER)
def test_has_a_golden_vector(name: str) -> None:
    """Published values, or for SFT and MaPO, which have none, an identity with one that has."""
    folder = REPOSITORY / "tests" / "golden"
    golden = [json.loads(file.read_text()) for file in sorted(folder.glob("token_losses_*.json"))]
    assert len(golden) == 2
    for vectors in golden:
        case = {"mapo": "sparsepo-common"}.get(name, name)
        losses = [
            c
            for c in vectors["losses"]
            if c["method"] == case and not any(c["hparams"].get(k) for k in ("l1_reward", "l1_kl"))
        ]
        stats = []
        for side in ("chosen", "rejected"):
            values = {k: torch.tensor(v) for k, v in vectors["pairs"][side].items()}
            fields = {k: values[k].double() for k in checks.TOKEN_FIELDS if k in values}
            stats.append(
                sparsepo.TokenStats(response_mask=values["response_mask"].bool(), **fields)
            )
        if name == "sft":
            sums = torch.tensor(vectors["pairs"]["chosen"]["seq_policy_logps"])
            means = sums / stats[0].response_mask.sum(-1)
            losses = [{"hparams": {}, "loss_per_pair": (-means).tolist()}]
        assert losses
        for found in losses:
            hyper_parameters = {k: v for k, v in found["hparams"].items() if not k.startswith("l1")}
            output = sparsepo.get_method(name, **hyper_parameters)(*stats)
            expected = torch.tensor(found["loss_per_pair"], dtype=torch.float64)
            torch.testing.assert_close(output.per_pair, expected, rtol=1e-5, atol=1e-5)


# The suite itself


def load_plugin_class() -> Any:
    spec = importlib.util.spec_from_file_location("conformance_squared", PLUGIN / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.SquaredMargin


@pytest.mark.parametrize("check", CHECKS)
def test_the_example_plugin_conforms(check: Callable[[Any], None]) -> None:
    check(load_plugin_class())


def broken(**changes: Any) -> Any:
    """DPO with one promise broken."""
    dpo = BUILT_IN["dpo"]
    return dataclasses.dataclass(frozen=True)(
        type("Broken", (dpo,), {"__doc__": dpo.__doc__, **changes})
    )


def call_with(change: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    def call(self: Any, chosen: Any, rejected: Any) -> Any:
        return change(BUILT_IN["dpo"].__call__(self, chosen, rejected), chosen, rejected)

    return call


def per_pair_from(function: Callable[[Any, Any, Any], Any]) -> dict[str, Any]:
    def change(output: Any, chosen: Any, rejected: Any) -> Any:
        per_pair = function(output, chosen, rejected)
        return dataclasses.replace(output, per_pair=per_pair, loss=per_pair.mean())

    return {"__call__": call_with(change)}


BROKEN: list[tuple[Callable[..., None], dict[str, Any]]] = [
    (checks.check_describes_itself, {"__doc__": "No formula."}),
    (checks.check_describes_itself, {"title": " "}),
    (
        checks.check_output_form,
        {"__call__": call_with(lambda o, c, r: dataclasses.replace(o, loss=o.per_pair.sum()))},
    ),
    (
        checks.check_output_form,
        {"__call__": call_with(lambda o, c, r: dataclasses.replace(o, chosen_rewards=o.per_pair))},
    ),
    (
        checks.check_gradients_are_finite,
        per_pair_from(
            lambda o, c, r: o.per_pair + (c.policy_logps - c.ref_logps).abs().sum(-1).sqrt()
        ),
    ),
    (checks.check_needs_are_what_it_reads, {"needs": sparsepo.Needs(kl=True)}),
    (
        checks.check_needs_are_what_it_reads,
        per_pair_from(lambda o, c, r: o.per_pair + (0 if c.kl is None else c.kl.sum(-1))),
    ),
    (
        checks.check_padding_never_counts,
        per_pair_from(lambda o, c, r: o.per_pair + c.policy_logps.sum(-1)),
    ),
    (
        checks.check_padding_length_does_not_matter,
        per_pair_from(lambda o, c, r: o.per_pair + c.policy_logps.mean(-1)),
    ),
    (
        checks.check_pairs_do_not_mix,
        per_pair_from(lambda o, c, r: o.per_pair - o.per_pair.mean().detach()),
    ),
    (
        checks.check_step_zero,
        per_pair_from(lambda o, c, r: o.per_pair + c.response_mask.sum(-1)),
    ),
    (
        checks.check_rewards_are_what_the_loss_orders,
        {
            "__call__": call_with(
                lambda o, c, r: dataclasses.replace(
                    o, chosen_rewards=o.rejected_rewards, rejected_rewards=o.chosen_rewards
                )
            )
        },
    ),
    (checks.check_rewards_are_what_the_loss_orders, per_pair_from(lambda o, c, r: -o.per_pair)),
    (checks.check_hyper_parameters_are_checked, {"__post_init__": lambda self: None}),
]  # fmt: skip


@pytest.mark.parametrize(("check", "changes"), BROKEN)
def test_each_check_can_fail(check: Callable[[Any], None], changes: dict[str, Any]) -> None:
    check(broken())
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(broken(**changes))


def test_an_installed_plugin_is_picked_up(tmp_path: Path) -> None:
    """The suite runs on an installed package's method by itself."""
    shutil.copytree(PLUGIN, tmp_path / "sparsepo_squared")
    # What pip leaves of an installed package; it is installed for real in test_plugins.py.
    information = tmp_path / "sparsepo_squared-0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: sparsepo-squared\nVersion: 0.1\n"
    )
    (information / "entry_points.txt").write_text(
        "[sparsepo.methods]\nsquared-margin = sparsepo_squared:SquaredMargin\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         "-k", "squared and not golden", str(Path(__file__))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(CHECKS) + 3} passed" in result.stdout
