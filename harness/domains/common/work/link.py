"""Shared by the stages that keep one of several runs: its files once more, without their bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.graph.store import RECORD


def link_artefact(source: Path, target: Path) -> None:
    """Write an artefact's files into a folder, as links where the file system has them.

    Args:
        source: the artefact's folder.
        target: an existing folder.
    """
    for item in source.iterdir():
        if item.name == RECORD:
            continue
        if item.is_dir():
            shutil.copytree(item, target / item.name, copy_function=_link)
        else:
            _link(item, target / item.name)


def _link(source: str | Path, target: str | Path) -> None:
    # Artefacts are never changed, so that two may share a file.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
