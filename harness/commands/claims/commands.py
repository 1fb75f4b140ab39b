"""The command that runs an experiment."""

from __future__ import annotations

from harness.commands.made_by import selector


def command_of(id: str, profile: str = "tiny") -> str:
    """Return the command that makes the result of an experiment.

    Args:
        id: the experiment's.
        profile: named in the command unless it is the default one.
    """
    named = [] if profile == "tiny" else ["--profile", profile]
    return " ".join(["python", "-m", "harness", "run", *selector(id), *named])
