from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.publish import command
from tests.harness.commands.publish.runs import Drawing, write_limits, write_run


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a result and a text of limits, which is the working directory."""
    monkeypatch.setattr(command, "get_domain", lambda name: Drawing())
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "results")
    write_limits(tmp_path)
    return tmp_path
