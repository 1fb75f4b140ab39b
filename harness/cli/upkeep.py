"""The commands that need no results: list, new-method, doctor, clean."""

from __future__ import annotations

import argparse
import sys

from harness.cli.common import RESULTS, store_of
from sparsepo.errors import UserError


def listing(options: argparse.Namespace) -> int:
    """List what there is, or one method's hyper-parameters."""
    from harness.domains import DOMAINS, get_domain
    from harness.domains.catalogue import EXPERIMENTS
    from harness.graph.engines import ENGINES
    from sparsepo.registry import available_methods, load_plugin, method_origin

    for file in options.plugin:
        load_plugin(file)
    if options.method is not None:
        from harness.commands.list_method import method_text

        print(method_text(options.method))
        return 0
    print("experiments")
    for name, spec in EXPERIMENTS.items():
        print(f"  {name:<28}{spec.title}")
    print("profiles")
    for domain in DOMAINS:
        for name, make in get_domain(domain).profiles.items():
            print(f"  {name + ', ' + domain:<28}{make().description}")
    print("methods")
    for name, cls in available_methods().items():
        print(f"  {name:<28}{cls.title} ({method_origin(name)})")
    print("engines")
    for name in ENGINES:
        print(f"  {name}")
    _list_published()
    return 0


def _list_published() -> None:
    from harness.commands.publish.record import FOLDER, find_published

    runs, problems = find_published(RESULTS / FOLDER)
    if runs:
        print("published runs")
    for run in runs:
        print(f"  {run.name:<28}{run.record['heading']}")
    for problem in problems:
        print(problem, file=sys.stderr)


def new_method(options: argparse.Namespace) -> int:
    """Write a method's file and its test."""
    from harness.commands.new_method import next_steps, write_method

    print(next_steps(write_method(options.name, options.folder, options.mask)))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Check this machine."""
    from harness.commands.doctor import diagnose

    failed = []
    for check in diagnose(store_of(options)):
        mark = "ok" if check.ok else "FAIL" if check.required else "--"
        print(f"{mark:<5}{check.name:<32}{check.text}")
        if check.required and not check.ok:
            failed.append(check.name)
    if failed:
        raise UserError(f"Not ready: {', '.join(failed)}; see above for fixes.")
    print("ready")
    return 0


def clean(options: argparse.Namespace) -> int:
    """Remove what the store no longer needs."""
    from harness.graph.store import Store

    place = store_of(options)
    if not place.is_dir():
        print(f"nothing to clean: {place} does not exist")
        return 0
    removed, freed = Store(place).clean(everything=options.all)
    print(f"removed {removed} folders and logs, {freed / 1e6:.1f} MB, from {place}")
    return 0
