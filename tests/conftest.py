"""What tests share: one thread per process, no reaching for a model hub, a clean registry."""

import gc
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

# A loaded machine must not fail a test, and continuous integration tries the same examples twice.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")


def pytest_collection_finish() -> None:
    """Keep the libraries out of later collections of garbage, of which every training has some."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the methods that other tests and this one register."""
    from sparsepo import registry

    monkeypatch.setattr(registry, "_plugged_in", {})
    monkeypatch.setattr(registry, "_origins", {})
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()
    for name in [name for name in sys.modules if name.startswith("sparsepo_plugin_")]:
        del sys.modules[name]
