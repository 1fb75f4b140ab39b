"""The options of every command."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.common import RESULTS
from sparsepo.cli.options import OneLineParser

_PROFILES = "tiny (default), laptop, small or paper"


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
    _add_permission(run)
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
    _add_permission(passk)
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


def _add_permission(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-code-execution",
        action="store_true",
        help="allow model-generated programs to run on this machine (sandboxed)",
    )
