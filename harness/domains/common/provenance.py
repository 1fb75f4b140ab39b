"""The provenance of a run: commit, versions, machine and settings, but nothing that varies."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.config.profiles import Profile
from harness.graph.files import content_hash
from harness.graph.hardware import hardware
from harness.graph.stages import library_version

_ROOT = Path(__file__).parents[3]
REHEARSAL = "SPARSEPO_REHEARSAL"
"""Environment variable of a run whose models and data are stand-ins; its result says so."""
_VERSIONS = ("sparsepo", "torch", "transformers", "tokenizers", "accelerate", "lm_eval", "numpy")


def provenance(profile: Profile, plugins: Mapping[str, Path]) -> dict[str, Any]:
    """Describe a run by everything that stays the same when it is repeated on this machine.

    Args:
        profile: the settings of the run.
        plugins: method → file.

    Returns:
        JSON data; times are stored elsewhere.
    """
    # Converted by JSON, which turns tuples into lists.
    settings = json.loads(json.dumps(asdict(profile)))
    settings["data"] = {name: _named(value) for name, value in settings["data"].items()}
    settings["model"] = {name: _named(value) for name, value in settings["model"].items()}
    if "judge" in settings:
        settings["judge"]["model"] = _named(settings["judge"]["model"])
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {name: library_version(name) for name in _VERSIONS},
        "python": platform.python_version(),
        "hardware": hardware(profile.device),
        "model": ", ".join(settings["model"].values()),
        "statistics": {
            **settings["statistics"],
            "method": "means over chains with Student's intervals, differences paired by chain "
            "with variances moderated within the column, items by bootstrap (docs/statistics.md)",
            "multiple_comparisons": "Holm, within each column, over the methods compared with "
            "the baseline",
        },
        "plugins": {name: content_hash(path)[:16] for name, path in sorted(plugins.items())},
        "settings": settings,
        **({"rehearsal": True} if os.environ.get(REHEARSAL) else {}),
    }


def _named(value: Any) -> Any:
    """Identify a local file by its name and content, not by its path on this machine."""
    if (isinstance(value, str) and "/" in value) or (isinstance(value, str) and "." in value):
        path = Path(value).expanduser()
        if path.exists():
            return f"{path.name} (sha256 {content_hash(path)[:16]})"
    return value


@lru_cache(maxsize=8)
def _git(*arguments: str) -> str | None:
    """Ask git, once for all results of a run, which are made by the code that was imported."""
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
