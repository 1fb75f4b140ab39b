"""``python -m harness claims``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.commands.claims.evaluate import claims_json
from harness.commands.claims.show import show_claims
from harness.commands.profile_names import require_profile
from harness.graph.files import pretty_json, require_writable, write_files


def show_and_write(results: Path, profile: str, out: Path | None, quiet: bool) -> None:
    """Evaluate the claims, write the JSON, and print them.

    Args:
        results: the folder that holds the profiles.
        profile: which one.
        out: the file; by default beside the results.
        quiet: print nothing.

    Raises:
        UserError: the profile is unknown, or the file cannot be written.
    """
    require_profile(profile)
    out = out or results / profile / "claims.json"
    require_writable(out.parent)
    found = claims_json(results, profile)
    write_files(out.parent, {out.name: pretty_json(found)})
    if not quiet:
        console = Console()
        show_claims(found, console if console.is_terminal else Console(width=170))
        print(f"written: {out}")
