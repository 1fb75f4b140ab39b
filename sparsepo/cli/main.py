"""The parser of `python -m sparsepo`, and the exit codes of its commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sparsepo.cli import check, inspect, train
from sparsepo.cli.console import hush_hints, say, say_error
from sparsepo.cli.options import OneLineParser
from sparsepo.errors import UserError

DESCRIPTION = (
    "Train a model on your preference pairs, inspect it token by token, check a method of your own."
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m sparsepo`."""
    parser = OneLineParser(prog="python -m sparsepo", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    train.add_parser(commands)
    inspect.add_parser(commands)
    check.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    stopped = "Stopped; run the same command again to resume from the last checkpoint."
    hush_hints()
    try:
        arguments = build_parser().parse_args(argv)
        if arguments.command == "inspect":
            stopped = "Stopped; nothing was written."
            inspect.inspect(arguments, say)
        elif arguments.command == "check":
            stopped = "Stopped."
            check.check(arguments)
        else:
            train.train(arguments)
    except UserError as error:
        say_error(str(error))
        return 2
    except KeyboardInterrupt:
        say(stopped)
        return 130
    except OSError as error:
        # The disk may fill up, or a mount vanish, in the middle of a checkpoint.
        say_error(
            f"Writing or reading failed ({error}); free some space or fix the path and run the "
            "same command again."
        )
        return 2
    return 0
