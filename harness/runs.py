"""One run of a table: settings, stages, numbers, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.engines import get_engine, make_all
from harness.experiments.spec import TableSpec
from harness.files import pretty_json, require_writable, write_files
from harness.pipeline import BENCHMARKS, build_graph, resolve_device
from harness.profiles import (
    TINY_REAL_LIMITS,
    TINY_REAL_TEST_PAIRS,
    TINY_REAL_TRAIN_PAIRS,
    WORLD,
    Profile,
    get_profile,
)
from harness.progress import Display, make_display
from harness.provenance import provenance
from harness.settings import apply_assignments, parse_assignment
from harness.stages import topological
from harness.store import Store
from sparsepo.errors import UserError, did_you_mean
from sparsepo.registry import available_methods, load_plugin, method_origin


@dataclass(frozen=True)
class RunRequest:
    """What the user asked for."""

    profile: str = "tiny"
    methods: tuple[str, ...] | None = None
    seeds: int | None = None
    assignments: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    engine: str = "local"
    workers: int | None = None
    out: Path = Path("results")
    store: Path = Path("results/.store")
    quiet: bool = False


def run_table(
    spec: TableSpec, request: RunRequest, display: Display | None = None
) -> dict[str, Any]:
    """Make a table: run what is missing, compute its numbers, write its files.

    Everything that the user may have got wrong is looked at before the first stage.

    Args:
        spec: the table.
        request: what the user asked for.
        display: shows the progress; the one that fits by default.

    Returns:
        The table's JSON, as it was written to `<out>/<profile>/<table>/<table>.json`.

    Raises:
        UserError: for a mistake that the user can mend.
        StageError: if a stage failed otherwise.
    """
    plugins: dict[str, Path] = {}
    for file in request.plugins:
        for name in load_plugin(file):
            plugins[name] = Path(file).resolve()
    profile = settle(request)
    labels = rows(spec, request.methods, plugins)
    given = user_benchmarks(request.assignments)
    graph = build_graph(profile, list(labels), plugins, given)
    require_writable(request.out / profile.name / spec.id)
    engine = get_engine(request.engine, request.workers or profile.workers, _gpus(profile))
    store = Store(request.store)
    shown = display or make_display(request.quiet)
    try:
        make_all(graph.targets, store, engine, shown)
    finally:
        shown.close()
    table = build_table(spec, profile, graph, store, labels, plugins)
    write_table(table, graph, store, request.out)
    return table


def settle(request: RunRequest) -> Profile:
    """Return the profile with the user's changes made.

    The tiny profile caps real rows, unless the user sets these caps: see TINY_REAL_* in
    harness.profiles.

    Raises:
        UserError: for an unknown profile or key, or a value of the wrong type.
    """
    profile = apply_assignments(get_profile(request.profile), request.assignments)
    if request.seeds is not None:
        if request.seeds < 1:
            raise UserError(f"--seeds {request.seeds}: at least one seed is needed")
        profile = replace(profile, seeds=request.seeds)
    if request.workers is not None and request.workers < 1:
        raise UserError(f"--workers {request.workers}: at least one is needed")
    if profile.name != "tiny":
        return profile
    keys = {parse_assignment(text)[0] for text in request.assignments}
    data, evaluation = profile.data, profile.evaluation
    if data.hh_rlhf != WORLD:
        if "data.train_pairs" not in keys:
            data = replace(data, train_pairs=TINY_REAL_TRAIN_PAIRS)
        if "data.test_pairs" not in keys:
            data = replace(data, test_pairs=TINY_REAL_TEST_PAIRS)
    capped = any(key.startswith("evaluation.limit") for key in keys)
    if user_benchmarks(request.assignments) and not capped:
        evaluation = replace(evaluation, limits=TINY_REAL_LIMITS)
    return replace(profile, data=data, evaluation=evaluation)


def user_benchmarks(assignments: Sequence[str]) -> list[str]:
    """Return the benchmarks whose rows the user named."""
    keys = {parse_assignment(text)[0] for text in assignments}
    return [name for name in BENCHMARKS if f"data.{name}" in keys]


def rows(
    spec: TableSpec, methods: Sequence[str] | None, plugins: Mapping[str, Path]
) -> dict[str, str]:
    """Return method → label: the table's rows in its order, then plugged-in methods.

    Args:
        spec: the table.
        methods: only these; None for all.
        plugins: methods that were loaded with --plugin.

    Raises:
        UserError: for an unknown method.
    """
    known = available_methods()
    labels = {row.method: row.label for row in spec.rows}
    for name, cls in known.items():
        if name in plugins or method_origin(name) != "built in":
            labels.setdefault(name, cls.title)
    if methods is None:
        return labels
    for name in methods:
        if name not in known:
            raise UserError(
                f"unknown method '{name}'.{did_you_mean(name, known)} Methods: {', '.join(known)}"
            )
        labels.setdefault(name, known[name].title)
    return {name: label for name, label in labels.items() if name in methods}


def build_table(
    spec: TableSpec,
    profile: Profile,
    graph: Any,
    store: Store,
    labels: Mapping[str, str],
    plugins: Mapping[str, Path],
) -> dict[str, Any]:
    """Compute a table's JSON from its artefacts; see harness.results."""
    from harness.results import table_json

    return table_json(spec, profile, graph, store, labels, provenance(profile, plugins))


def write_table(table: Mapping[str, Any], graph: Any, store: Store, out: Path) -> None:
    """Write a table in every form, and apart from it how long its stages took.

    Args:
        table: its JSON.
        graph: its stages.
        store: where their records are.
        out: `<out>/<profile>/<id>/` receives the files.

    Raises:
        UserError: if the disk is full or may not be written.
    """
    from harness.render.figure import trade_off_png
    from harness.render.table import to_csv, to_latex, to_markdown

    name = table["id"]
    records = [
        store.record(stage.address)
        for stage in topological(graph.targets)
        if store.folder(stage.address).is_dir()
    ]
    timings = {
        "seconds": {record["name"]: record["seconds"] for record in records},
        "total_seconds": round(sum(record["seconds"] for record in records), 3),
    }
    write_files(
        out / table["profile"] / name,
        {
            f"{name}.json": pretty_json(table),
            f"{name}.md": to_markdown(table),
            f"{name}.csv": to_csv(table),
            f"{name}.tex": to_latex(table),
            f"{name}.png": trade_off_png(table),
            "timings.json": pretty_json(timings),
        },
    )


def _gpus(profile: Profile) -> int:
    if resolve_device(profile) != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()
