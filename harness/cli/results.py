"""The commands that read results or samples: draw, compare, claims, leaderboard and others."""

from __future__ import annotations

import argparse
import sys

from harness.cli.common import (
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    RESULTS,
    Terminated,
    console,
    names_of,
    tell_written,
)
from sparsepo.errors import UserError


def draw(options: argparse.Namespace) -> int:
    """Write the files of results again."""
    from harness.commands.draw import redraw

    for file in options.files:
        experiment = redraw(file)
        tell_written(file.parent, experiment.id)
    return 0


def compare(options: argparse.Namespace) -> int:
    """Compare two results."""
    from harness.commands.compare import compare_results, report_lines
    from harness.commands.publish.record import FOLDER as PUBLISHED
    from harness.commands.publish.record import result_named
    from harness.graph.files import pretty_json, write_files

    place = RESULTS / PUBLISHED
    first, second = (result_named(one, place) for one in (options.first, options.second))
    found = compare_results(first, second)
    if options.out is not None:
        write_files(options.out.parent, {options.out.name: pretty_json(found.as_json())})
    for line in report_lines(found):
        print(line)
    if options.out is not None:
        print(f"written: {options.out}")
    return 0


def claims(options: argparse.Namespace) -> int:
    """Say what results say of the paper's claims."""
    from harness.commands.claims.command import show_and_write

    show_and_write(options.results, options.profile, options.out, options.quiet)
    return 0


def leaderboard(options: argparse.Namespace) -> int:
    """Show the leaderboard, or add an entry to it."""
    from harness.commands.leaderboard.command import add_entry, run_leaderboard

    if options.action == "add":
        for file in options.files:
            add_entry(file, options.results)
        return 0
    run_leaderboard(options.results, options.profile, options.against, options.out, console())
    return 0


def report(options: argparse.Namespace) -> int:
    """Make the site."""
    from harness.commands.report import make_report

    profiles = names_of(options.profile, "profiles, such as --profile tiny,small")
    made = make_report(options.results, profiles, options.out, options.published)
    for problem in made.left_out:
        print(problem, file=sys.stderr)
    if made.missing:
        print(f"not run yet: {made.missing} experiments; the index has their commands")
    published = f", {len(made.published)} published" if made.published else ""
    print(f"written: {made.index} ({len(made.shown)} results{published})")
    return 0


def publish(options: argparse.Namespace) -> int:
    """Copy a result into the repository."""
    from harness.commands.publish.command import PublishRequest
    from harness.commands.publish.command import publish as publish_run
    from harness.commands.publish.record import FOLDER

    made = publish_run(
        PublishRequest(
            result=options.result,
            name=options.name,
            limits=options.limits,
            place=options.results / FOLDER,
            note=options.note,
            samples=not options.without_samples,
            replace=options.replace,
        )
    )
    for remark in made.remarks:
        print(f"{options.name}: {remark}")
    state = "unchanged" if made.unchanged else "written"
    print(f"{state}: {made.folder} ({made.size / 1e6:.1f} MB)")
    return 0


def passk(options: argparse.Namespace) -> int:
    """Score programs that a model has written."""
    from harness.commands.passk import PasskRequest, report_text, run_passk, summary

    request = PasskRequest(
        problems=options.problems,
        samples=options.samples,
        allowed=options.allow_code_execution,
        ks=_numbers(options.k),
        out=options.out,
        workers=options.workers,
        tier=options.tier,
        convention=options.convention,
        seconds=options.seconds,
        quiet=options.quiet,
    )
    try:
        scored = run_passk(request)
    except (KeyboardInterrupt, Terminated) as stop:
        if options.out is not None:
            raise
        print("Stopped; without --out nothing was saved.", file=sys.stderr)
        return EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
    if options.out is None:
        print(report_text(scored), end="")
    if not options.quiet:
        # Without a file, standard output contains the results.
        stream = sys.stderr if options.out is None else sys.stdout
        for line in summary(scored):
            print(line, file=stream)
        if options.out is not None:
            print(f"written: {options.out}")
    return 0


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--k must be positive whole numbers separated by commas, not '{text}'.")
    return tuple(sorted({int(part) for part in parts}))
