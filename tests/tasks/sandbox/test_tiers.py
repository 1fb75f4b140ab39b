"""The strongest isolation that works is taken, and nothing weaker without being asked for."""

from __future__ import annotations

import pytest

from sparsepo.errors import UserError
from tasks.sandbox import TIERS, UNPROTECTED, Program, choose_tier, run_programs, tiers


def trouble(working: set[str]) -> object:
    return lambda name: "" if name in working else f"{name} is not to be had"


@pytest.mark.parametrize("strongest", range(len(TIERS)))
def test_the_strongest_that_works_is_taken(monkeypatch: pytest.MonkeyPatch, strongest: int) -> None:
    monkeypatch.setattr(tiers, "_trouble", trouble(set(TIERS[strongest:])))
    assert choose_tier() == TIERS[strongest]
    assert choose_tier(TIERS[-1]) == TIERS[-1]


def test_where_none_works_the_refusal_says_why_and_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiers, "_trouble", trouble(set()))
    with pytest.raises(UserError) as refusal:
        run_programs([Program("p", "", "")])
    text = str(refusal.value)
    assert all(f"{name} is not to be had" in text for name in TIERS)
    assert "apt install bubblewrap" in text
    assert choose_tier(UNPROTECTED) == UNPROTECTED


def test_an_unknown_tier_is_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'namespaces'"):
        choose_tier("namespace")


def test_no_workers_are_too_few() -> None:
    with pytest.raises(UserError, match="At least one"):
        run_programs([], workers=0)


def test_a_tier_whose_isolation_does_not_hold_does_not_work() -> None:
    assert "does not hold" in tiers._trouble(UNPROTECTED)
