"""Tiers that work on this machine, and running as an ordinary user."""

from __future__ import annotations

import os

import pytest

from tasks.sandbox import TIERS, available_tiers
from tests.tasks.sandbox.ordinary import closed_folder


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    """Each tier in turn; one that this machine does not allow is skipped, with the reason."""
    name: str = request.param
    if trouble := available_tiers()[name]:
        pytest.skip(f"{name}: {trouble}")
    if name == "bubblewrap" and os.geteuid() == 0 and (folder := closed_folder()):
        pytest.skip(f"started by root it gives root up, and {folder} is closed to other users")
    return name


@pytest.fixture
def root() -> None:
    """For tests that have to drop a privilege."""
    if os.geteuid() != 0:
        pytest.skip("not run by root: the other runs are an ordinary user's already")
    if folder := closed_folder():
        pytest.skip(f"{folder} is closed to ordinary users")
