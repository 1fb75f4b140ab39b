"""What doctor says of the isolation that this machine can give."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands import doctor
from tasks.sandbox import TIERS, available_tiers


def isolation(monkeypatch: pytest.MonkeyPatch, working: tuple[str, ...]) -> doctor.Check:
    tiers = {name: "" if name in working else f"{name} is not to be had" for name in TIERS}
    monkeypatch.setattr(doctor, "available_tiers", lambda: tiers)
    (check,) = [c for c in doctor.diagnose(Path("store")) if c.name == "isolation of programs"]
    return check


def test_the_tiers_that_work_are_named() -> None:
    working = [name for name, trouble in available_tiers().items() if not trouble]
    (check,) = [c for c in doctor.diagnose(Path("store")) if c.name == "isolation of programs"]
    assert check.ok == bool(working)
    assert all(name in check.text for name in working)


def test_all_tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    check = isolation(monkeypatch, TIERS)
    assert (check.ok, check.text) == (True, "namespaces, bubblewrap, landlock")


def test_a_weak_one_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    check = isolation(monkeypatch, ("landlock",))
    assert check.ok
    assert "apt install bubblewrap" in check.text


def test_none_is_a_failure_of_no_other_run(monkeypatch: pytest.MonkeyPatch) -> None:
    check = isolation(monkeypatch, ())
    assert (check.ok, check.required) == (False, False)
    assert all(f"{name} is not to be had" in check.text for name in TIERS)
    assert "apt install bubblewrap" in check.text
