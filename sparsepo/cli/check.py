"""``python -m sparsepo check``: does a method of your own keep what the trainer relies on?"""

from __future__ import annotations

import argparse
from typing import Any

from sparsepo.errors import UserError


def add_parser(commands: Any) -> None:
    """Add the command's options."""
    parser = commands.add_parser("check", help="check the methods of a Python file")
    parser.add_argument("files", nargs="+", metavar="FILE.py", help="files with methods")


def check(arguments: argparse.Namespace) -> None:
    """Print one verdict per check and method.

    Raises:
        UserError: a file cannot be loaded, or a check failed.
    """
    from sparsepo.conformance import check_method
    from sparsepo.registry import load_plugin, method_class

    failed: list[str] = []
    for file in arguments.files:
        for name in load_plugin(file):
            cls = method_class(name)
            print(f"{name} ({cls.title}), {file}")
            broken = 0
            for verdict in check_method(cls):
                print(f"  {verdict}", flush=True)
                broken += verdict.problem is not None
            if broken:
                failed.append(f"{name} ({broken})")
    if failed:
        raise UserError(
            f"Checks failed: {', '.join(failed)}; fix what is said above and check again."
        )
    print("All checks passed; add --plugin FILE.py to a run to train with it.")
