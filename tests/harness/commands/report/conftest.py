from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser, require_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(require_browser(), tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, from the package that carries it."""
    from importlib.resources import files

    package = pytest.importorskip("axe_playwright_python")
    source: str = (files(package) / "axe.min.js").read_text(encoding="utf-8")
    return source


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"
