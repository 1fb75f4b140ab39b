"""Finds the command, and turns its errors into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from harness.cli import experiments, results, upkeep
from harness.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_USER, Terminated
from harness.cli.parser import build_parser
from sparsepo.cli.console import hush_hints, say_error
from sparsepo.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line; those of the process by default.

    Returns:
        0, 1 if a stage failed, 2 for a user's error, 130 or 143 when interrupted or terminated.
    """
    from harness.graph.engines.worker import StageError

    hush_hints()
    previous = _on_terminate()
    try:
        return _dispatch(sys.argv[1:] if arguments is None else list(arguments))
    except UserError as error:
        say_error(str(error))
        return EXIT_USER
    except StageError as error:
        say_error(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("Interrupted; run the same command again to continue from here.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Terminated:
        print("Terminated; run the same command again to continue from here.", file=sys.stderr)
        return EXIT_TERMINATED
    except BrokenPipeError:
        # The reader of the output has closed it; all files have been written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _dispatch(arguments: list[str]) -> int:
    parser = build_parser()
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    handlers = {
        "run": experiments.run,
        "plan": experiments.plan,
        "draw": results.draw,
        "compare": results.compare,
        "claims": results.claims,
        "new-method": upkeep.new_method,
        "leaderboard": results.leaderboard,
        "passk": results.passk,
        "report": results.report,
        "publish": results.publish,
        "list": upkeep.listing,
        "doctor": upkeep.doctor,
        "clean": upkeep.clean,
    }
    return handlers[options.command](options)


def _on_terminate() -> signal.Handlers | None:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        previous = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread
        return None
    return previous  # type: ignore[return-value]
