"""The command that runs an experiment."""

from __future__ import annotations

import re


def command_of(id: str, profile: str = "tiny") -> str:
    """Return the command that makes the result of an experiment.

    Args:
        id: the experiment's.
        profile: named in the command unless it is the default one.
    """
    found = re.fullmatch(r"(table|figure)(\d+)", id)
    what = f"--{found[1]} {found[2]}" if found else f"--table {id}"
    named = "" if profile == "tiny" else f" --profile {profile}"
    return f"python -m harness run {what}{named}"
