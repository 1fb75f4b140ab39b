"""``python -m harness passk``: score programs that a model has already generated."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from harness.commands.counting import Count, make_count
from harness.commands.journal import Journal, Record
from harness.graph.files import require_writable, sha256_file, write_files
from sparsepo.errors import UserError
from tasks.code.conventions import Convention, get_convention
from tasks.code.conventions.chat import has_fence
from tasks.code.judging import Judged, Measured, Result, RunPrograms, judge
from tasks.code.problems import printable, read_problems
from tasks.code.samples import SampleSet, read_samples
from tasks.code.scores import PassAtK, score, usable_ks
from tasks.sandbox import UNPROTECTED, Limits, Outcome, choose_tier, run_programs

PERMISSION: Final = (
    "passk runs model-generated programs, sandboxed away from your files and network; allow it "
    "with --allow-code-execution."
)
SECONDS: Final = (0.1, 3600.0)
"""Smallest and largest value of --seconds."""
UNPARSED: Final = ("SyntaxError", "IndentationError", "TabError")
"""First words of the detail of a program that is not valid Python."""
WORDS: Final[dict[Outcome, str]] = {
    "passed": "passed",
    "failed": "failed",
    "timeout": "out of time",
    "memory": "out of memory",
    "refused": "refused",
    "unsupported": "undecided",
}
"""Verdict → its displayed name, in the order shown."""
_MANY = 10


@dataclass(frozen=True, slots=True)
class PasskRequest:
    """The options of the command."""

    problems: Path
    samples: Path
    allowed: bool
    """Whether the user allowed model-generated programs to run."""
    ks: tuple[int, ...] | None = None
    """None for those of 1, 10 and 100 for which every problem has enough samples."""
    out: Path | None = None
    """The output file; with None nothing is saved, and a killed run cannot resume."""
    workers: int | None = None
    tier: str | None = None
    """Name of the isolation; None for the strongest that works on this machine."""
    convention: str = "as-given"
    seconds: float | None = None
    """Time limit of each program; None for the sandbox's default."""
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class PasskReport:
    """The results of the command."""

    tier: str
    scores: list[PassAtK]
    samples: SampleSet
    results: list[Result]
    """One result per sample, in the order of the samples' file."""
    judged: int
    """Number of samples judged in this run; the others were judged by an interrupted run."""
    programs: int
    """Number of programs run in this run; identical programs count once."""
    seconds: float
    """Duration of this run."""
    seconds_per_program: float | None = None
    """The requested time limit; None for the default."""
    hint: str | None = None
    """A hint for samples that do not parse."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON data: pass@k in [0, 1], samples numbered within their problem."""
        asked = self.seconds_per_program
        return {
            "tier": self.tier,
            **({} if asked is None else {"seconds_per_program": asked}),
            "pass@k": {
                str(one.k): {"mean": one.mean, "ci95": [one.low, one.high]} for one in self.scores
            },
            "results": [
                {
                    "task_id": sample.problem.task_id,
                    "sample": sample.number,
                    "verdict": result.verdict,
                    "detail": result.detail,
                    "seconds": round(result.seconds, 4),
                }
                for sample, result in zip(self.samples.samples, self.results, strict=True)
            ],
        }


def run_passk(request: PasskRequest, run: RunPrograms | None = None) -> PasskReport:
    """Run the samples that have no verdict yet, compute pass@k and write the results.

    Nothing is read without the user's permission, and nothing is written before the whole input has
    been checked and a working isolation has been found.

    Args:
        request: the options of the command.
        run: runs the programs; the sandbox by default.

    Raises:
        UserError: there is no permission, the input is invalid, no isolation works, or the results
            cannot be written.
    """
    if not request.allowed:
        raise UserError(PERMISSION)
    if request.workers is not None and request.workers < 1:
        raise UserError(f"--workers must be at least 1, not {request.workers}.")
    least, most = SECONDS
    if request.seconds is not None and not least <= request.seconds <= most:
        raise UserError(
            f"--seconds must be between {least:g} and {most:g}, not {request.seconds:g}."
        )
    if request.out is not None:
        _check_out(request, request.out)
    problems = read_problems(request.problems)
    samples = read_samples(request.samples, problems)
    ks = usable_ks(samples, request.ks)
    convention = _convention(request.convention, samples)
    tier = choose_tier(request.tier)
    limits = Limits() if request.seconds is None else Limits(seconds=request.seconds)
    if run is None:
        run = partial(run_programs, workers=request.workers, tier=tier, limits=limits)
    with ExitStack() as stack:
        records: list[Record] = []
        journal: Journal | None = None
        if request.out is not None:
            inputs = {
                "format": 2,
                "python": sys.version,
                "problems": sha256_file(request.problems),
                "samples": sha256_file(request.samples),
                "convention": request.convention,
                "tier": tier,
                "limits": asdict(limits),
            }
            journal = stack.enter_context(Journal(request.out, inputs))
            records = journal.records
        results, references = _replay(records, len(samples.samples))
        earlier = Counter(result.verdict for result in results.values())
        count = make_count(len(samples.samples), Counter(earlier), request.quiet)
        stack.callback(count.close)
        hint = _fence_hint(request, samples)
        _introduce(count, request, samples, tier, limits, ks, hint)
        events = judge(
            samples.samples, convention, run, results, references, seconds=limits.seconds
        )
        programs = _follow(events, count, results, journal)
        report = PasskReport(
            tier=tier,
            scores=score(samples, [results[i] for i in range(len(results))], ks),
            samples=samples,
            results=[results[i] for i in range(len(results))],
            judged=count.done - count.earlier,
            programs=programs,
            seconds=count.seconds(),
            seconds_per_program=request.seconds,
            hint=hint,
        )
        if request.out is not None and journal is not None:
            write_files(request.out.parent, {request.out.name: report_text(report)})
            journal.remove()
    return report


def report_text(report: PasskReport) -> str:
    """Return the report as JSON text, with one result per line."""
    whole = report.to_json()
    head = json.dumps({name: value for name, value in whole.items() if name != "results"})
    lines = ",\n".join(json.dumps(result) for result in whole["results"])
    return f'{head[:-1]}, "results": [\n{lines}\n]}}\n'


def summary(report: PasskReport) -> Iterator[str]:
    """Yield the lines of the printed summary."""
    problems, samples = len(report.samples.problems), len(report.results)
    yield f"{samples} samples of {problems} problems, isolation {report.tier}"
    for one in report.scores:
        yield f"pass@{one.k:<4} {one.mean:.4f}  95 % interval {one.low:.4f} to {one.high:.4f}"
    counts = Counter(result.verdict for result in report.results)
    yield ", ".join(
        f"{WORDS[word]} {counts[word]}"
        for word in WORDS
        if counts[word] or word in ("passed", "failed", "timeout")
    )
    if report.programs:
        pace = report.programs / max(report.seconds, 1e-9)
        ran = f"{report.programs} programs in {report.seconds:.1f} s, {pace:.1f} per second"
        if copies := report.judged - report.programs:
            ran += f"; {copies} samples were identical to others"
        earlier = samples - report.judged
        yield ran + (f"; {earlier} had been run before" if earlier else "")
    else:
        yield "all programs had been run before"
    if unparsed := sum(map(_is_unparsed, report.results)):
        more = f"; {report.hint}" if report.hint else ""
        yield f"{unparsed} of {samples} samples do not parse as Python{more}"
    yield from _listed(report, "suspected forgeries, counted as not passed", _suspects(report))
    undecided = [i for i, result in enumerate(report.results) if result.verdict == "unsupported"]
    yield from _listed(report, "undecided, counted as not passed", undecided)


def _is_unparsed(result: Result) -> bool:
    return result.verdict == "failed" and result.detail.startswith(UNPARSED)


def _suspects(report: PasskReport) -> list[int]:
    return [index for index, result in enumerate(report.results) if result.suspect]


def _listed(report: PasskReport, title: str, indices: Sequence[int]) -> Iterator[str]:
    if indices:
        yield f"{title}: {len(indices)}"
    for index in indices[:_MANY]:
        sample = report.samples.samples[index]
        # Error texts come from the programs; they must not contain terminal control sequences.
        name, detail = printable(sample.problem.task_id), printable(report.results[index].detail)
        yield f"  {name}, sample {sample.number}: {detail}"
    if len(indices) > _MANY:
        yield f"  and {len(indices) - _MANY} more"


def _check_out(request: PasskRequest, out: Path) -> None:
    try:
        if out.is_dir():
            raise UserError(f"{out} is a folder; name a file, such as --out {out / 'passk.json'}.")
        if out.exists() and not out.is_file():
            raise UserError(f"{out} is not a regular file; choose another --out.")
        for name, path in (("--problems", request.problems), ("--samples", request.samples)):
            if out.exists() and path.exists() and out.samefile(path):
                raise UserError(
                    f"--out is the file of {name}, which it would replace; choose another."
                )
        require_writable(out.parent)
    except OSError as error:
        raise UserError(f"{error.filename or out} cannot be reached: {error.strerror}.") from None
    if out.exists() and not os.access(out, os.W_OK):
        raise UserError(
            f"No permission to write {out}; change its permissions, or choose another --out."
        )


def _convention(name: str, samples: SampleSet) -> Convention:
    convention = get_convention(name, samples.problems)
    completions = [sample for sample in samples.samples if not sample.whole]
    mistake = convention.mistake(
        [sample.problem for sample in completions], [sample.completion for sample in completions]
    )
    if mistake is not None:
        raise UserError(mistake)
    return convention


def _introduce(
    count: Count,
    request: PasskRequest,
    samples: SampleSet,
    tier: str,
    limits: Limits,
    ks: tuple[int, ...],
    hint: str | None,
) -> None:
    if samples.form:
        count.note(f"samples: {samples.form}")
    if hint is not None:
        count.note(hint)
    if samples.left_out:
        count.note(
            f"MBPP's test split: {len(samples.problems)} problems; the other "
            f"{samples.left_out} have no samples and are skipped"
        )
    textual = sum(p.kind == "plain" and p.prompt != p.prefix for p in samples.problems)
    if textual and request.convention != "bigcode_eval":
        count.note(f"{textual} prompts are not Python; their completions are run without them")
    if request.ks is None and len(ks) < 3:
        fewest = min(samples.per_problem().values())
        count.note(f"pass@k for k up to {fewest}, the smallest number of samples of a problem")
    guard = "NONE, programs can do anything you can" if tier == UNPROTECTED else tier
    megabytes = limits.memory_bytes >> 20
    count.note(f"isolation: {guard}; {limits.seconds:g} s and {megabytes} MiB per program")
    if count.earlier:
        count.note(f"resuming after {count.earlier} of {count.total} samples")


def _fence_hint(request: PasskRequest, samples: SampleSet) -> str | None:
    """Return a hint if most samples are Markdown and the convention does not extract code."""
    fenced = sum(has_fence(sample.completion) for sample in samples.samples)
    if request.convention == "chat" or 2 * fenced <= len(samples.samples):
        return None
    return (
        f"{fenced} of {len(samples.samples)} samples contain Markdown fences; --convention chat "
        "extracts the code from them"
    )


def _follow(
    events: Iterable[Judged | Measured],
    count: Count,
    results: dict[int, Result],
    journal: Journal | None,
) -> int:
    """Record events, on disk first; return the number of different programs that were run."""
    measured = programs = 0
    for event in events:
        if journal is not None:
            journal.append(_record(event))
        if isinstance(event, Measured):
            measured += 1
            if measured == 1:
                count.note("some programs ran out of time; measuring their reference solutions")
        elif event.index in results:
            count.replace(results[event.index].verdict, event.result.verdict)
            results[event.index] = event.result
        else:
            count.add(event.result.verdict)
            results[event.index] = event.result
            programs += not event.copied
    return programs


def _record(event: Judged | Measured) -> Record:
    if isinstance(event, Measured):
        return {"reference": event.key, "seconds": event.seconds}
    return {"index": event.index, **asdict(event.result)}


def _replay(
    records: Iterable[Mapping[str, Any]], samples: int
) -> tuple[dict[int, Result], dict[str, float | None]]:
    """Return results by position, and reference times by problem, of an interrupted run."""
    results: dict[int, Result] = {}
    references: dict[str, float | None] = {}
    for record in records:
        if "reference" in record:
            references[record["reference"]] = record["seconds"]
        elif 0 <= record["index"] < samples:
            fields = {name: value for name, value in record.items() if name != "index"}
            results[record["index"]] = Result(**fields)
    return results, references
