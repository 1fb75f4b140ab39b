"""Trials: drawn before anything runs, the same for the same chain, the first as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.methods import method_settings
from harness.config.profiles import Profile
from harness.config.search import draw_trials, published, search_space
from harness.domains.dialogue import DOMAIN
from sparsepo.errors import UserError
from sparsepo.methods import BUILT_IN
from sparsepo.methods.dpo import DPO
from sparsepo.methods.search_space import Choice, Range
from sparsepo.registry import get_method

TUNED = [name for name in BUILT_IN if name != "sft"]


def profile(trials: int, seed: int = 42) -> Profile:
    """Return the tiny profile at a rate of its own, for which the values below are written."""
    tiny: Profile = DOMAIN.get_profile("tiny")
    return replace(
        tiny,
        seed=seed,
        tuning=replace(tiny.tuning, trials=trials),
        po=replace(tiny.po, learning_rate=1.5e-4),
    )


def settings(
    method: str, trials: int, seed: int = 42, own: Mapping[str, Any] | None = None
) -> list[Any]:
    return [dict(trial.settings) for trial in draw_trials(profile(trials, seed), method, own or {})]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register a method with a search space."""

    def register(space: Any) -> str:
        @dataclass(frozen=True)
        class Plugged(DPO):
            name: ClassVar[str] = "plugged"
            search_space: ClassVar[Any] = space

        monkeypatch.setattr("sparsepo.registry._plugged_in", {"plugged": Plugged})
        return "plugged"

    return register


@given(method=st.sampled_from(TUNED), trials=st.integers(1, 20), seed=st.integers(0, 2**31 - 1))
def test_trials_are_deterministic_possible_and_keep_the_earlier_ones(
    method: str, trials: int, seed: int
) -> None:
    found = settings(method, trials, seed)
    assert found == settings(method, trials, seed)
    assert settings(method, trials + 1, seed)[:trials] == found
    assert found[0] == {}
    assert len(found) == trials
    space = BUILT_IN[method].search_space
    for values in found[1:]:
        assert list(values) == list(space)
        hyper_parameters, training = method_settings(profile(1), method, values)
        get_method(method, **hyper_parameters)
        assert 5e-5 <= training.learning_rate <= 4.5e-4


def test_chains_try_different_settings() -> None:
    assert settings("dpo", 4, 42)[1:] != settings("dpo", 4, 43)[1:]


def test_methods_try_the_same_values_of_what_they_share() -> None:
    for name in ("tdpo1", "tdpo2", "dpop", "mapo", "sparsepo-common", "sparsepo-independent"):
        shared = ("learning_rate", "beta")
        for one, other in zip(settings("dpo", 9)[1:], settings(name, 9)[1:], strict=True):
            assert [one[key] for key in shared] == [other[key] for key in shared]


def test_the_trials_cover_every_quarter_of_a_range() -> None:
    betas = [values["beta"] for values in settings("dpo", 9)[1:]]
    quarters = {int(4 * share) for share in map(_share_of_beta, betas)}
    assert quarters == {0, 1, 2, 3}


def _share_of_beta(value: float) -> float:
    import math

    return math.log(value / 0.01) / math.log(5.0 / 0.01)


def test_what_a_row_sets_is_not_varied() -> None:
    assert "beta" not in settings("dpo", 3, own={"beta": 0.7})[1]
    own = published(profile(1), "dpo", {"beta": 0.7}, search_space("dpo"))
    assert own == {"learning_rate": 1.5e-4, "beta": 0.7}


def test_the_rate_is_relative_to_the_methods_own() -> None:
    tiny = profile(5)
    slower = replace(tiny, methods={**tiny.methods, "dpo": {"beta": 0.1, "learning_rate": 1.5e-6}})
    for trial, other in zip(
        draw_trials(tiny, "dpo", {})[1:], draw_trials(slower, "dpo", {})[1:], strict=True
    ):
        ratio = trial.settings["learning_rate"] / other.settings["learning_rate"]
        assert ratio == pytest.approx(100, rel=0.01)


def test_a_method_without_ranges_is_one_plain_sentence(plugged: Any) -> None:
    with pytest.raises(UserError, match=r"^Method 'plugged' declares no search_space .*\.$"):
        search_space(plugged({}))
    with pytest.raises(UserError, match=r"^Method 'sft' declares no search_space"):
        search_space("sft")


def test_a_method_whose_ranges_are_all_fixed_is_one_plain_sentence(plugged: Any) -> None:
    method = plugged({"beta": Range(0.1, 1.0)})
    with pytest.raises(UserError, match="has nothing left to vary here"):
        search_space(method, {"beta": 0.8})


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"beta": Range(1.0, 0.1)}, "'beta' begins at 1, which is not below its end, 0.1"),
        ({"beta": Range(0.0, 1.0)}, "must begin above 0"),
        ({"beta": (0.1, 1.0)}, "give a Range or a Choice"),
        ({"betta": Range(0.1, 1.0)}, "names 'betta'.*Did you mean 'beta'"),
        ({"max_length": Choice((64, 128))}, "names 'max_length', which is neither"),
        ([("beta", Range(0.1, 1.0))], "must be a mapping"),
        ({"beta": Range(-1.0, 1.0, "linear")}, "values that are impossible: beta must be"),
        ({"beta": Choice((0.1, "high"))}, "values that are impossible: beta must be"),
    ],
)
def test_an_impossible_range_is_one_plain_sentence(plugged: Any, space: Any, words: str) -> None:
    method = plugged(space)
    with pytest.raises(UserError, match=words) as error:
        draw_trials(profile(3), method, {})
    assert "\n" not in str(error.value)
    assert str(error.value).endswith((".", "?"))


def test_a_relative_range_needs_a_number_to_multiply(plugged: Any) -> None:
    from sparsepo.methods.sparsepo import SparsePOCommon

    space = {"mask_learning_rate": Range(0.1, 10.0, relative=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparsePOCommon, "search_space", space)
        with pytest.raises(UserError, match="the profile's value is 'auto'"):
            draw_trials(profile(3), "sparsepo-common", {})
