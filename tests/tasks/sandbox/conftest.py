"""Tiers that work on this machine, and running as an ordinary user."""

from __future__ import annotations

import os

import pytest

from tasks.sandbox import TIERS, available_tiers


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    """Each tier in turn; one that this machine does not allow is skipped, with the reason."""
    name: str = request.param
    if trouble := available_tiers()[name]:
        pytest.skip(f"{name}: {trouble}")
    return name


@pytest.fixture
def root() -> None:
    """For tests that have to drop a privilege."""
    if os.geteuid() != 0:
        pytest.skip("not run by root: the other runs are an ordinary user's already")
