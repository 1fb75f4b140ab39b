"""Runs an experiment: settings, stages, numbers, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.commands.judging import check_judge_options, require_agreement
from harness.commands.made_by import command_of, stage_codes
from harness.commands.plan.expected import expected_seconds
from harness.commands.terms import require_terms
from harness.config.assign import assigned_keys, has_key, parse_assignment
from harness.config.profiles import Profile, needs_tune
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.common.costs import training_costs
from harness.domains.common.domain import Graph
from harness.domains.common.finished import FinishedRun
from harness.domains.common.provenance import provenance
from harness.domains.common.samples import SampleSet, samples_file, samples_name
from harness.domains.common.spec import DynamicsSpec, Experiment, RowSpec
from harness.domains.common.stages import not_provided
from harness.domains.common.tuning import with_tuned_rows
from harness.graph.engines import Engine, Share, get_engine, make_all
from harness.graph.files import pretty_json, require_writable, write_files
from harness.graph.progress import Display, make_display
from harness.graph.stages import Stage, topological
from harness.graph.store import Store
from harness.render.columns import TUNED
from sparsepo.errors import UserError, did_you_mean
from sparsepo.methods.base import Method
from sparsepo.registry import available_methods, load_plugin, method_origin

ALL = "all"
"""In place of rows: those of the experiment, and every other method."""


@dataclass(frozen=True)
class Prepared:
    """An experiment whose request has been checked and is ready to run."""

    experiment: Experiment
    request: RunRequest
    profile: Profile
    rows: tuple[RowSpec, ...]
    plugins: Mapping[str, Path]
    graph: Any
    """The domain's graph of stages."""
    engine: Engine

    @property
    def targets(self) -> list[Stage]:
        """The stages whose results its numbers and samples are computed from."""
        graph = self.graph
        return [*graph.targets, *get_domain(self.experiment.domain).sample_stages(graph)]

    def expect(self, stages: Sequence[Stage]) -> dict[str, float]:
        """Return the seconds that stages will take; see `expected_seconds`."""
        return expected_seconds(stages, self.profile.name, self.profile.device)

    @property
    def left_out(self) -> str:
        """Which methods `--methods all` does not add, and why; empty without it."""
        return left_out(self.experiment, self.rows) if _all(self.request.methods) else ""

    @property
    def folder(self) -> Path:
        """The folder for its files; one with tuned rows, or a variant, does not replace another."""
        end = self.experiment.variant + ("" if self.request.tune is None else TUNED)
        return self.request.out / self.profile.name / f"{self.experiment.id}{end}"


def prepare(experiment: Experiment, request: RunRequest) -> Prepared:
    """Check everything that the user can get wrong, before the first stage.

    Args:
        experiment: the table or figure.
        request: what the user asked for.

    Raises:
        UserError: a mistake that the user can fix.
    """
    prepared = describe(experiment, request)
    require_writable(prepared.folder)
    require_agreement(prepared.graph, request)
    require_terms(prepared.targets, request)
    return prepared


def describe(experiment: Experiment, request: RunRequest) -> Prepared:
    """Return an experiment's stages; unlike `prepare`, ask nothing of the disk or of a judge.

    Args:
        experiment: the table or figure.
        request: what the user asked for.

    Raises:
        UserError: a mistake in the request.
    """
    domain = get_domain(experiment.domain)
    plugins: dict[str, Path] = {}
    for file in request.plugins:
        for name in load_plugin(file):
            plugins[name] = Path(file).resolve()
    profile = domain.resolve_profile(request)
    experiment = domain.variant(experiment, profile, request)
    if request.allow_code_execution and not domain.runs_code:
        raise UserError(
            f"{experiment.id} runs no model-generated programs; leave --allow-code-execution out."
        )
    check_judge_options(experiment, request)
    if request.tune is not None and not experiment.tunable:
        raise UserError(f"{experiment.id} has no tuned rows; leave --tune out.")
    rows = select_rows(experiment, request.methods, plugins)
    if request.tune is not None:
        rows = with_tuned_rows(experiment, rows)
    for key in assigned_keys(request.assignments):
        if set_by_rows(rows, key):
            raise UserError(
                f"{key} has no effect, because the rows of {experiment.id} set it themselves; "
                "leave it out."
            )
    graph = domain.build(experiment, profile, rows, plugins, request)
    engine = _engine(request, profile)
    return Prepared(experiment, request, profile, rows, plugins, graph, engine)


def run_experiment(
    experiment: Experiment, request: RunRequest, display: Display | None = None
) -> dict[str, Any]:
    """Prepare an experiment and run it; see `prepare` and `run_prepared`."""
    return run_prepared(prepare(experiment, request), display)


def run_prepared(prepared: Prepared, display: Display | None = None) -> dict[str, Any]:
    """Make a table or figure: run missing stages, compute its numbers, write its files.

    Args:
        prepared: the table or figure.
        display: shows the progress; by default bars in a terminal and lines elsewhere.

    Returns:
        Its JSON, as written to `<id>.json` in the experiment's folder.

    Raises:
        UserError: a mistake that the user can fix.
        StageError: a stage failed for another reason.
    """
    store = Store(prepared.request.store)
    shown = display or make_display(prepared.request.quiet)
    try:
        if note := prepared.left_out:
            shown.note(note)
        make_all(prepared.targets, store, prepared.engine, shown, prepared.expect)
    finally:
        shown.close()
    result, files = compute_result(prepared, store)
    write_files(prepared.folder, files)
    return result


def compute_result(
    prepared: Prepared, store: Store
) -> tuple[dict[str, Any], dict[str, str | bytes]]:
    """Compute the numbers of an experiment whose stages are all in the store.

    Args:
        prepared: the table or figure.
        store: the artefacts.

    Returns:
        Its JSON, and all of its files, name → content; the file of samples is absent if it is there
        already.

    Raises:
        UserError: a mistake that the user can fix.
    """
    experiment, graph = prepared.experiment, prepared.graph
    domain = get_domain(experiment.domain)
    finished = FinishedRun(
        experiment, prepared.profile, graph, store, prepared.rows, made_by(prepared)
    )
    result = domain.result(finished)
    files = {
        f"{experiment.id}.json": pretty_json(result),
        **domain.files(experiment, result),
        "timings.json": pretty_json(timings(graph, store)),
        **_samples(prepared, domain.samples(finished)),
    }
    return result, files


def made_by(prepared: Prepared) -> dict[str, Any]:
    """Return the provenance of an experiment's result."""
    return {
        **provenance(prepared.profile, prepared.plugins),
        "command": command_of(prepared.experiment, prepared.request),
        "stages": stage_codes(prepared.graph.targets),
    }


def _samples(prepared: Prepared, samples: SampleSet | None) -> dict[str, bytes]:
    """Return the file of samples, unless there are none or it is there already."""
    if samples is None:
        return {}
    name = samples_name(prepared.experiment.id)
    content = samples_file(prepared.experiment.id, samples, prepared.folder / name)
    return {} if content is None else {name: content}


def split_request(
    experiments: Sequence[Experiment], request: RunRequest
) -> list[tuple[Experiment, RunRequest]]:
    """Give each of several experiments those of the user's changes that it knows.

    Args:
        experiments: the experiments to run; a single one gets the request unchanged.
        request: what the user asked for.

    Returns:
        Each experiment with its own request.

    Raises:
        UserError: no experiment knows a changed value, or the user allowed code execution and no
            experiment runs model-generated programs.
    """
    if len(experiments) == 1:
        return [(experiments[0], request)]
    split = []
    unknown = set(request.assignments)
    for experiment in experiments:
        domain = get_domain(experiment.domain)
        profile = domain.get_profile(request.profile)
        own = tuple(
            text
            for text, key in ((text, parse_assignment(text)[0]) for text in request.assignments)
            if has_key(profile, key)
            and not set_by_rows(experiment.rows, key)
            and (experiment.tunable or not needs_tune(profile, key))
            and (experiment.judged or key.partition(".")[0] != "judge")
            and (isinstance(experiment, DynamicsSpec) or key.partition(".")[0] != "dynamics")
            and not (experiment.one_chain and key == "seeds")
        )
        unknown -= set(own)
        changed = replace(
            request,
            assignments=own,
            seeds=None if experiment.one_chain else request.seeds,
            allow_code_execution=request.allow_code_execution and domain.runs_code,
            tune=request.tune if experiment.tunable else None,
            yes=request.yes and experiment.judged,
        )
        split.append((experiment, changed))
    if unknown:
        raise UserError(
            f"--set {sorted(unknown)[0]}: no experiment has this setting; leave it out."
        )
    if request.allow_code_execution and not any(own.allow_code_execution for _, own in split):
        raise UserError(
            "No experiment runs model-generated programs; leave --allow-code-execution out."
        )
    return split


def further_methods(
    rows: Sequence[RowSpec], varied: str | None
) -> Iterator[tuple[str, type[Method]]]:
    """Yield the methods that `--methods all` adds to rows: all that an experiment can provide for.

    Args:
        rows: the rows that are shown anyway.
        varied: a hyper-parameter that every row must have, if the experiment varies one.
    """
    shown = {row.method for row in rows}
    for name, cls in available_methods().items():
        if name not in shown and _lacks(cls, varied) is None:
            yield name, cls


def left_out(experiment: Experiment, rows: Sequence[RowSpec]) -> str:
    """Say which methods have no row although all were asked for, and why.

    Args:
        experiment: the table or figure.
        rows: those that `--methods all` selects.

    Returns:
        One sentence, empty if nothing is left out.
    """
    shown = {row.method for row in rows}
    reasons: dict[str, list[str]] = {}
    for name, cls in available_methods().items():
        if name not in shown and (lacks := _lacks(cls, experiment.varied)) is not None:
            reasons.setdefault(lacks, []).append(name)
    if not reasons:
        return ""
    listed = "; ".join(f"{lacks}: {', '.join(names)}" for lacks, names in reasons.items())
    return f"Methods left out of {experiment.id}: {listed}."


def _all(methods: Sequence[str] | None) -> bool:
    return methods is not None and tuple(methods) == (ALL,)


def _lacks(cls: type[Method], varied: str | None) -> str | None:
    """Return why `--methods all` leaves a method out, or None if it does not."""
    if not_provided(cls) is not None:
        return "needing what it does not provide (`list --method NAME` says what)"
    if varied is not None and varied not in {item.name for item in fields(cls)}:
        return f"without {varied}, which it varies"
    return None


def select_rows(
    experiment: Experiment, names: Sequence[str] | None, plugins: Mapping[str, Path]
) -> tuple[RowSpec, ...]:
    """Return the rows to show: those of the experiment in its order, then plug-in methods.

    Args:
        experiment: the table or figure.
        names: ids of rows, or methods, which select all of their rows; None for all rows but the
            optional ones; "all" alone for these and every other method that can be trained here.
        plugins: methods that were loaded with --plugin.

    Raises:
        UserError: a name is neither a row nor a method.
    """
    known = available_methods()
    rows = list(experiment.rows)
    shown = {row.method for row in rows}
    for name, cls in known.items():
        if name not in shown and (name in plugins or method_origin(name) != "built in"):
            rows.append(RowSpec(name, name, cls.title))
    if names is None:
        return tuple(rows)
    if _all(names):
        added = further_methods(rows, experiment.varied)
        return (*rows, *(RowSpec(name, name, cls.title) for name, cls in added))
    rows = [*experiment.optional, *rows]
    for name in names:
        if any(name in (row.id, row.method) for row in rows):
            continue
        if name not in known:
            choices = list(dict.fromkeys([*(row.id for row in rows), *known]))
            raise UserError(
                f"Unknown row or method '{name}'.{did_you_mean(name, choices)} "
                f"Choose from: {', '.join(choices)}."
            )
        rows.append(RowSpec(name, name, known[name].title))
    return tuple(row for row in rows if row.id in names or row.method in names)


def set_by_rows(rows: Sequence[RowSpec], key: str) -> bool:
    """Return whether all rows of a method override a value of the profile.

    Args:
        rows: the rows to show.
        key: a dotted name of the profile, such as "methods.dpo.beta".
    """
    group, _, rest = key.partition(".")
    method, _, name = rest.partition(".")
    own = [row for row in rows if row.method == method]
    return group == "methods" and bool(own) and all(name in row.settings for row in own)


def timings(graph: Graph, store: Store) -> dict[str, Any]:
    """Return what differs from run to run, including stages made by earlier runs.

    Args:
        graph: the stages.
        store: where they are.

    Returns:
        The duration of each stage in seconds, when the last one ended, and the cost of each row's
        training runs.
    """
    made = [
        stage.address
        for stage in topological(graph.targets)
        if store.folder(stage.address).is_dir()
    ]
    records = [store.record(address) for address in made]
    return {
        "seconds": {record["name"]: record["seconds"] for record in records},
        "total_seconds": round(sum(record["seconds"] for record in records), 3),
        "finished": max(map(store.made_at, made), default=None),
        "training": training_costs(graph, store),
    }


def _engine(request: RunRequest, profile: Profile) -> Engine:
    if request.engine == "ray":
        # The profile's number of workers is for one machine; a cluster has its own limits.
        gpus = 1.0 if request.gpus_per_stage is None else request.gpus_per_stage
        return get_engine("ray", request.workers, share=Share(request.cpus_per_stage, gpus))
    return get_engine(request.engine, request.workers or profile.workers, _gpus(profile))


def _gpus(profile: Profile) -> int:
    if profile.device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()
