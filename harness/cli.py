"""The command line: ``python -m harness run | plan | draw | report | publish | list | …``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from harness.domains.common.spec import Experiment
from sparsepo.cli.console import hush_hints, say_error
from sparsepo.cli.options import OneLineParser
from sparsepo.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.config.request import RunRequest

RESULTS = Path("results")
"""Where results, and the store beside them, are by default."""

_PROFILES = "tiny (default), laptop, small or paper"

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143


class _Terminated(BaseException):
    """SIGTERM, raised as an exception so that workers are ended and folders closed on exit."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = OneLineParser(
        prog="python -m harness",
        description="Reproduce the experiments of the SparsePO paper.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", help="run experiments and write their tables")
    _add_request(run)
    run.add_argument("--out", type=Path, help=f"default: {RESULTS}")
    run.add_argument(
        "--allow-code-execution",
        action="store_true",
        help="allow model-generated programs to run on this machine (sandboxed)",
    )
    run.add_argument(
        "--yes", action="store_true", help="agree to the estimated cost of a judge at an endpoint"
    )
    run.add_argument(
        "--accept-terms",
        action="append",
        default=[],
        metavar="MODEL",
        help="agree to the terms of use of a packaged model, once for each store",
    )
    run.add_argument(
        "--rehearse",
        action="store_true",
        help="execute all stages on small stand-ins for the hub's models and data, in a temporary "
        "folder unless --out is given",
    )
    run.add_argument("--quiet", action="store_true", help="no progress, no printed result")
    _add_store(run)
    _add_plan(commands)
    draw = commands.add_parser("draw", help="write a result's files again from its JSON")
    draw.add_argument("files", type=Path, nargs="+", metavar="FILE.json")
    compare = commands.add_parser("compare", help="compare two results of one experiment")
    for name, shown in (("first", "A"), ("second", "B")):
        compare.add_argument(
            name, type=Path, metavar=shown, help="a JSON file, its folder, or a published run"
        )
    compare.add_argument("--out", type=Path, metavar="FILE.json", help="write the comparison")
    _add_claims(commands)
    _add_new_method(commands)
    _add_leaderboard(commands)
    _add_passk(commands)
    _add_report(commands)
    _add_publish(commands)
    listing = commands.add_parser("list", help="experiments, profiles, methods, engines")
    listing.add_argument("--plugin", action="append", default=[], metavar="FILE.py")
    listing.add_argument("--method", metavar="NAME", help="one method's hyper-parameters")
    doctor = commands.add_parser("doctor", help="check this machine")
    doctor.add_argument("--out", type=Path, default=RESULTS)
    _add_store(doctor)
    clean = commands.add_parser("clean", help="remove unfinished work and logs from the store")
    clean.add_argument("--all", action="store_true", help="remove finished artefacts too")
    clean.add_argument("--out", type=Path, default=RESULTS)
    _add_store(clean)
    return parser


def _add_request(run: argparse.ArgumentParser) -> None:
    """Add what says which experiments are run and how, for `run` and `plan`."""
    what = run.add_argument_group("what to run")
    what.add_argument(
        "--table",
        metavar="N",
        help="number of a table, such as 1, or a name, such as noise or winrate",
    )
    what.add_argument("--figure", metavar="N", help="number of a figure")
    what.add_argument("--all", action="store_true", help="all experiments")
    run.add_argument("--profile", default="tiny", help=_PROFILES)
    run.add_argument(
        "--methods",
        metavar="A,B",
        help="only these rows, by method or by row id; all: every method too",
    )
    run.add_argument(
        "--seeds", type=int, metavar="N", help="number of training seeds of each method"
    )
    run.add_argument(
        "--tune",
        nargs="?",
        type=int,
        const=True,
        metavar="N",
        help="add a tuned row for each method: the best of N trials on validation data "
        "(default: the profile's number)",
    )
    run.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the profile, such as data.hh_rlhf=FILE or po.epochs=2",
    )
    run.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE.py",
        help="load methods from a Python file; they become rows",
    )
    run.add_argument("--engine", default="local", help="local (default) or ray")
    run.add_argument("--workers", type=int, metavar="N", help="number of stages to run at once")
    cluster = run.add_argument_group("with --engine ray")
    cluster.add_argument(
        "--cpus-per-stage",
        type=float,
        metavar="N",
        help="cores that each stage reserves (default: its threads, at most what a node has)",
    )
    cluster.add_argument(
        "--gpus-per-stage",
        type=float,
        metavar="N",
        help="GPUs that each stage on a GPU reserves, at most 1; 0.5 lets two stages share one "
        "(default: 1)",
    )


def _add_plan(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    plan = commands.add_parser("plan", help="what a run will take, without running it")
    _add_request(plan)
    plan.add_argument("--out", type=Path, metavar="FILE.json", help="write the plan")
    plan.add_argument(
        "--utilisation",
        type=float,
        metavar="SHARE",
        help="share of a GPU's peak FLOP/s that training reaches (default: 0.35)",
    )
    plan.add_argument(
        "--bandwidth-utilisation",
        type=float,
        metavar="SHARE",
        help="share of a GPU's memory bandwidth that sampling reaches (default: 0.25)",
    )
    plan.add_argument("--quiet", action="store_true", help="write the file, print nothing")
    plan.add_argument(
        "--results", type=Path, default=RESULTS, help=f"folder of the run (default: {RESULTS})"
    )
    _add_store(plan)


def _add_new_method(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    new = commands.add_parser("new-method", help="write a method's file and its test")
    new.add_argument("name", metavar="NAME", help="in lower case, such as my-method")
    new.add_argument("--mask", action="store_true", help="begin with a mask instead of a loss")
    new.add_argument("--folder", type=Path, default=Path(), help="default: here")


def _add_claims(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    claims = commands.add_parser("claims", help="what the results say of the paper's claims")
    claims.add_argument("--profile", default="tiny", help=_PROFILES)
    claims.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    claims.add_argument(
        "--out", type=Path, metavar="FILE.json", help="default: claims.json beside them"
    )
    claims.add_argument("--quiet", action="store_true", help="write the file, print nothing")


def _add_leaderboard(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    board = commands.add_parser("leaderboard", help="all methods with results, over all tasks")
    board.add_argument("--profile", default="tiny", help=_PROFILES)
    board.add_argument("--against", metavar="METHOD", help="compare every method with this one")
    board.add_argument("--results", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    board.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="for leaderboard.json and .csv (default: beside them)",
    )
    actions = board.add_subparsers(dest="action", metavar="ACTION")
    add = actions.add_parser("add", help="add a result that was made elsewhere")
    add.add_argument("files", type=Path, nargs="+", metavar="FILE.json")
    add.add_argument("--results", type=Path, default=argparse.SUPPRESS, help=f"default: {RESULTS}")


def _add_passk(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    passk = commands.add_parser("passk", help="score programs that a model has written: pass@k")
    passk.add_argument(
        "--problems",
        type=Path,
        required=True,
        metavar="FILE",
        help="rows of HumanEval, of MBPP, or with task_id, prompt, tests; JSONL, gzip or not",
    )
    passk.add_argument(
        "--samples",
        type=Path,
        required=True,
        metavar="FILE",
        help="rows with task_id and completion or solution, several per problem; or BigCode's "
        "generations.json",
    )
    passk.add_argument(
        "--allow-code-execution",
        action="store_true",
        help="allow model-generated programs to run on this machine (sandboxed)",
    )
    passk.add_argument(
        "--k",
        metavar="1,10,100",
        help="values of k (default: those that every problem has samples for)",
    )
    passk.add_argument(
        "--out", type=Path, metavar="FILE.json", help="default: standard output, not resumable"
    )
    passk.add_argument("--workers", type=int, metavar="N", help="number of programs to run at once")
    passk.add_argument(
        "--tier", metavar="NAME", help="isolation by name (default: the strongest that works)"
    )
    passk.add_argument(
        "--convention",
        default="as-given",
        metavar="NAME",
        help="as-given (default), bigcode, bigcode-unstripped, bigcode_eval or chat",
    )
    passk.add_argument(
        "--seconds", type=float, metavar="S", help="time limit of each program (default: 3)"
    )
    passk.add_argument("--quiet", action="store_true", help="no progress, no printed summary")


def _add_report(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    report = commands.add_parser("report", help="make a static site of all results")
    report.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help=f"default: {RESULTS}"
    )
    report.add_argument(
        "--profile", metavar="A,B", help="only these profiles (default: all that have results)"
    )
    report.add_argument(
        "--published",
        type=Path,
        metavar="DIR",
        help="folder of published runs (default: published in --results)",
    )
    report.add_argument("--out", type=Path, default=Path("site"), help="default: site")


def _add_publish(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    publish = commands.add_parser(
        "publish", help="copy a result into the repository, with what it cannot show"
    )
    publish.add_argument(
        "result", type=Path, metavar="RESULT", help="a folder that run wrote, or its JSON"
    )
    publish.add_argument(
        "--as", dest="name", required=True, metavar="NAME", help="such as laptop-figure2"
    )
    publish.add_argument(
        "--limits",
        type=Path,
        required=True,
        metavar="FILE.md",
        help="what the run cannot show: a few sentences, or a list",
    )
    publish.add_argument("--note", type=Path, metavar="FILE.md", help="what the run shows")
    publish.add_argument(
        "--without-samples", action="store_true", help="leave out what the models wrote"
    )
    publish.add_argument(
        "--replace", action="store_true", help="replace a published run of the same name"
    )
    publish.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help=f"folder that holds the folder of published runs (default: {RESULTS})",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        type=Path,
        help="folder for artefacts (default: SPARSEPO_STORE, or .store in --out)",
    )


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
    except _Terminated:
        print("Terminated; run the same command again to continue from here.", file=sys.stderr)
        return EXIT_TERMINATED
    except BrokenPipeError:
        # The reader of the output has closed it; all files have been written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _on_terminate() -> signal.Handlers | None:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    try:
        previous = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread
        return None
    return previous  # type: ignore[return-value]


def _dispatch(arguments: list[str]) -> int:
    parser = build_parser()
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    handlers = {
        "run": _run,
        "plan": _plan,
        "draw": _draw,
        "compare": _compare,
        "claims": _claims,
        "new-method": _new_method,
        "leaderboard": _leaderboard,
        "passk": _passk,
        "report": _report,
        "publish": _publish,
        "list": _list,
        "doctor": _doctor,
        "clean": _clean,
    }
    return handlers[options.command](options)


def _run(options: argparse.Namespace) -> int:
    from harness.commands.profile_names import with_profile
    from harness.commands.run import prepare, run_prepared, split_request
    from harness.commands.terms import check_accepted

    request = _request(
        options,
        out=RESULTS if options.out is None else options.out,
        allow_code_execution=options.allow_code_execution,
        yes=options.yes,
        accept_terms=tuple(options.accept_terms),
        quiet=options.quiet,
    )
    experiments = _experiments(options)
    if options.rehearse:
        return _rehearse(experiments, request, options)
    if options.all:
        _hint_at_store(request.store, options.quiet)
        return _run_all(experiments, request)
    experiments, left_out = with_profile(experiments, request.profile)
    for id, reason in left_out.items():
        print(f"{id} is left out: {reason}", file=sys.stderr)
    wanted = [prepare(*each) for each in split_request(experiments, request)]
    check_accepted((stage for one in wanted for stage in one.targets), request.accept_terms)
    _hint_at_store(request.store, options.quiet)
    for prepared in wanted:
        result = run_prepared(prepared)
        if not options.quiet:
            _show(prepared.experiment, result, prepared.folder)
    return 0


def _rehearse(
    experiments: Sequence[Experiment], request: RunRequest, options: argparse.Namespace
) -> int:
    from harness.commands.rehearse import rehearse

    if options.store is not None:
        raise UserError("A rehearsal has a store of its own; leave --store out.")
    return rehearse(experiments, request, options.out)


def _request(options: argparse.Namespace, out: Path, **more: Any) -> RunRequest:
    """Return the request of `run` or `plan`; `more` has the options that `run` alone has."""
    from harness.config.request import RunRequest

    return RunRequest(
        profile=options.profile,
        methods=_names(options.methods),
        seeds=options.seeds,
        # argparse would read a text here as a number that the user has given.
        tune="profile" if options.tune is True else options.tune,
        assignments=tuple(options.set),
        plugins=tuple(options.plugin),
        engine=options.engine,
        workers=options.workers,
        cpus_per_stage=options.cpus_per_stage,
        gpus_per_stage=options.gpus_per_stage,
        out=out,
        store=_store(options, out),
        **more,
    )


def _plan(options: argparse.Namespace) -> int:
    from harness.commands.plan import PlanOptions, make_plan_of, show_plan
    from harness.commands.plan.cost_model import Utilisation
    from harness.graph.files import pretty_json, write_files

    given = {"compute": options.utilisation, "bandwidth": options.bandwidth_utilisation}
    reached = Utilisation(**{name: share for name, share in given.items() if share is not None})
    request = _request(options, out=options.results)
    plan = make_plan_of(_experiments(options), request, PlanOptions(reached))
    if options.out is not None:
        write_files(options.out.parent, {options.out.name: pretty_json(plan.as_json())})
    if not options.quiet:
        show_plan(plan)
        if options.out is not None:
            print(f"written: {options.out}")
    return 0


def _run_all(experiments: Sequence[Experiment], request: RunRequest) -> int:
    from harness.commands.run_all import FAILED, MISSING, run_all, show_summary

    outcomes = run_all(experiments, request)
    if not request.quiet:
        show_summary(outcomes, request, _console())
    states = {outcome.state for outcome in outcomes}
    return EXIT_FAILED if FAILED in states else EXIT_USER if MISSING in states else 0


def _hint_at_store(store: Path, quiet: bool) -> None:
    usual = _store_beside(RESULTS)
    if not quiet and not store.exists() and usual.is_dir():
        print(
            f"There is nothing in the store {store} yet; to use what {usual} holds, add "
            f"--store {usual}.",
            file=sys.stderr,
        )


def _show(experiment: Experiment, result: Mapping[str, Any], folder: Path) -> None:
    from harness.domains import get_domain

    get_domain(experiment.domain).show(experiment, result, _console())
    _tell_written(folder, experiment.id)


def _console() -> Console:
    from rich.console import Console

    console = Console()
    # A pipe has no width; a table must not be wrapped at 80 columns.
    return console if console.is_terminal else Console(width=170)


def _tell_written(folder: Path, name: str) -> None:
    suffixes = ",".join(sorted(path.suffix[1:] for path in folder.glob(f"{name}.*")))
    print(f"written: {folder / name}.{{{suffixes}}}")


def _draw(options: argparse.Namespace) -> int:
    from harness.commands.draw import redraw

    for file in options.files:
        experiment = redraw(file)
        _tell_written(file.parent, experiment.id)
    return 0


def _compare(options: argparse.Namespace) -> int:
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


def _new_method(options: argparse.Namespace) -> int:
    from harness.commands.new_method import next_steps, write_method

    print(next_steps(write_method(options.name, options.folder, options.mask)))
    return 0


def _claims(options: argparse.Namespace) -> int:
    from harness.commands.claims.command import show_and_write

    show_and_write(options.results, options.profile, options.out, options.quiet)
    return 0


def _leaderboard(options: argparse.Namespace) -> int:
    from harness.commands.leaderboard.command import add_entry, run_leaderboard

    if options.action == "add":
        for file in options.files:
            add_entry(file, options.results)
        return 0
    run_leaderboard(options.results, options.profile, options.against, options.out, _console())
    return 0


def _passk(options: argparse.Namespace) -> int:
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
        report = run_passk(request)
    except (KeyboardInterrupt, _Terminated) as stop:
        if options.out is not None:
            raise
        print("Stopped; without --out nothing was saved.", file=sys.stderr)
        return EXIT_TERMINATED if isinstance(stop, _Terminated) else EXIT_INTERRUPTED
    if options.out is None:
        print(report_text(report), end="")
    if not options.quiet:
        # Without a file, standard output contains the results.
        stream = sys.stderr if options.out is None else sys.stdout
        for line in summary(report):
            print(line, file=stream)
        if options.out is not None:
            print(f"written: {options.out}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from harness.commands.report import make_report

    profiles = _names(options.profile, "profiles, such as --profile tiny,small")
    report = make_report(options.results, profiles, options.out, options.published)
    for problem in report.left_out:
        print(problem, file=sys.stderr)
    if report.missing:
        print(f"not run yet: {report.missing} experiments; the index has their commands")
    published = f", {len(report.published)} published" if report.published else ""
    print(f"written: {report.index} ({len(report.shown)} results{published})")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from harness.commands.publish.command import PublishRequest, publish
    from harness.commands.publish.record import FOLDER

    made = publish(
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


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--k must be positive whole numbers separated by commas, not '{text}'.")
    return tuple(sorted({int(part) for part in parts}))


def _experiments(options: argparse.Namespace) -> list[Experiment]:
    from harness.domains.catalogue import EXPERIMENTS, get_experiments

    chosen = [name for name in ("table", "figure") if getattr(options, name) is not None]
    if len(chosen) + bool(options.all) != 1:
        raise UserError("Give one of --table N, --figure N or --all.")
    if options.all:
        return list(EXPERIMENTS.values())
    return get_experiments(chosen[0], getattr(options, chosen[0]))


def _names(
    text: str | None, example: str = "methods, such as --methods sft,dpo"
) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        option = example.partition("--")[2].split()[0]
        raise UserError(f"--{option} is empty; name {example}.")
    return names


def _store(options: argparse.Namespace, out: Path | None = None) -> Path:
    if options.store is not None:
        return Path(options.store)
    variable = os.environ.get("SPARSEPO_STORE")
    return Path(variable) if variable else _store_beside(options.out if out is None else out)


def _store_beside(results: Path) -> Path:
    return results / ".store"


def _list(options: argparse.Namespace) -> int:
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


def _doctor(options: argparse.Namespace) -> int:
    from harness.commands.doctor import diagnose

    failed = []
    for check in diagnose(_store(options)):
        mark = "ok" if check.ok else "FAIL" if check.required else "--"
        print(f"{mark:<5}{check.name:<32}{check.text}")
        if check.required and not check.ok:
            failed.append(check.name)
    if failed:
        raise UserError(f"Not ready: {', '.join(failed)}; see above for fixes.")
    print("ready")
    return 0


def _clean(options: argparse.Namespace) -> int:
    from harness.graph.store import Store

    place = _store(options)
    if not place.is_dir():
        print(f"nothing to clean: {place} does not exist")
        return 0
    removed, freed = Store(place).clean(everything=options.all)
    print(f"removed {removed} folders and logs, {freed / 1e6:.1f} MB, from {place}")
    return 0
