"""`python -m harness passk`: the contract, resuming, and one plain line per mistake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.commands.passk import PasskRequest, run_passk, summary
from sparsepo.errors import UserError
from tasks.sandbox import Program, Verdict
from tests.tasks.code.rows import HUMANEVAL, MBPP, PLAIN, write_rows
from tests.tiny_disk import read_only

REPOSITORY = str(Path(__file__).parents[3])
ALLOWED = "--allow-code-execution"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(samples: Iterable[tuple[Any, str]]) -> list[dict[str, Any]]:
    return [{"task_id": task_id, "completion": completion} for task_id, completion in samples]


def files(
    problems: list[dict[str, Any]], samples: Iterable[tuple[Any, str]], suffix: str = ".jsonl"
) -> list[str]:
    """The two files, as arguments."""
    write_rows(Path("problems" + suffix), problems)
    write_rows(Path("samples" + suffix), rows_of(samples))
    return ["--problems", "problems" + suffix, "--samples", "samples" + suffix]


def judged_by_word(programs: Iterable[Program]) -> Iterator[Verdict]:
    """No program runs: the completion is its own verdict."""
    for program in programs:
        outcome = program.completion
        yield Verdict(program.id, outcome, "why", "fake", seconds=0.5, cpu_seconds=3.0)  # type: ignore[arg-type]


def request(out: Path | None = Path("out.json"), **changes: Any) -> PasskRequest:
    return PasskRequest(
        problems=Path("problems.jsonl"),
        samples=Path("samples.jsonl"),
        allowed=True,
        out=out,
        quiet=True,
        **changes,
    )


WORDS = [("add", "passed"), ("neg", "failed"), ("add", "timeout"), ("neg", "memory")]
WORDS += [("add", "refused"), ("neg", "passed"), ("neg", "unsupported")]
PLAINEST = [row | {"prompt": "", "reference": None} for row in PLAIN]


def test_the_real_sandbox_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    samples = [
        ("add", "    return a + b\n"),
        ("add", "    return a - b\n"),
        ("add", "    while True:\n        pass\n"),
        ("neg", "def neg(x):\n    return -x\n"),
        ("neg", "def neg(x:\n"),
        ("neg", "import os\nos._exit(0)\n"),
    ]
    arguments = ["passk", *files(PLAIN, samples, ".jsonl.gz"), ALLOWED, "--out", "made/out.json"]
    assert main([*arguments, "--k", "1,3", "--workers", "1"]) == 0
    shown = capsys.readouterr()
    written = json.loads(Path("made/out.json").read_text())
    assert set(written) == {"tier", "pass@k", "results"}
    assert written["pass@k"]["1"]["mean"] == pytest.approx(1 / 3)
    assert written["pass@k"]["3"] == {"mean": 1.0, "ci95": [1.0, 1.0]}
    results = written["results"]
    assert all(set(r) == {"task_id", "sample", "verdict", "detail", "seconds"} for r in results)
    assert [(r["task_id"], r["sample"], r["verdict"]) for r in results] == [
        ("add", 0, "passed"),
        ("add", 1, "failed"),
        ("add", 2, "timeout"),
        ("neg", 0, "passed"),
        ("neg", 1, "failed"),
        ("neg", 2, "failed"),
    ]
    assert "SyntaxError" in results[4]["detail"]
    assert results[2]["seconds"] >= 3.0
    assert [path.name for path in Path("made").iterdir()] == ["out.json"]
    assert "passed 2, failed 3, out of time 1" in shown.out
    assert "per second" in shown.out
    assert f"isolation: {written['tier']}" in shown.err


@pytest.mark.parametrize(
    ("problems", "samples"),
    [
        (HUMANEVAL, [(r["task_id"], r["canonical_solution"]) for r in HUMANEVAL]),
        (MBPP, [(r["task_id"], r["code"]) for r in MBPP]),
    ],
    ids=["humaneval", "mbpp"],
)
def test_references_pass_and_standard_output_is_the_default(
    problems: list[dict[str, Any]],
    samples: list[tuple[Any, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["passk", *files(problems, samples), ALLOWED, "--workers", "1"]) == 0
    shown = capsys.readouterr()
    written = json.loads(shown.out)
    assert written["pass@k"] == {"1": {"mean": 1.0, "ci95": [1.0, 1.0]}}
    assert [r["task_id"] for r in written["results"]] == [row["task_id"] for row in problems]
    assert "pass@1" in shown.err
    assert {path.name for path in Path().iterdir()} == {"problems.jsonl", "samples.jsonl"}


def test_verdicts_intervals_and_what_is_shown() -> None:
    files(PLAINEST, WORDS)
    report = run_passk(request(ks=(1, 3)), judged_by_word)
    first, third = report.scores
    assert first.mean == (1 / 3 + 1 / 4) / 2
    assert third.mean == (1 + 3 / 4) / 2
    assert first.low <= first.mean <= first.high
    written = json.loads(Path("out.json").read_text())
    assert written["pass@k"]["1"] == {"mean": first.mean, "ci95": [first.low, first.high]}
    assert [r["verdict"] for r in written["results"]] == [word for _, word in WORDS]
    assert written["results"][0]["detail"] == "why"
    text = "\n".join(summary(report))
    assert "passed 2, failed 1, out of time 1, out of memory 1, refused 1, undecided 1" in text
    assert "7 programs in" in text
    assert "undecided, counted as not passed: 1\n  neg, sample 3: why" in text


def test_identical_programs_run_once_and_the_report_says_so() -> None:
    files(PLAINEST, [("add", "passed"), ("add", "failed"), ("neg", "passed")] * 200)
    report = run_passk(request(), judged_by_word)
    assert (report.judged, report.programs) == (600, 3)
    assert report.scores[0].mean == (1 / 2 + 1) / 2
    text = "\n".join(summary(report))
    assert "600 samples of 2 problems" in text
    assert "3 programs in" in text
    assert "597 samples were identical to others" in text


def test_suspected_forgeries_are_listed() -> None:
    def suspicious(programs: Iterable[Program]) -> Iterator[Verdict]:
        for program in programs:
            yield Verdict(program.id, "failed", "forged?", "fake", suspected_forgery=True)

    files(PLAINEST, [("add", "x")] * 12 + [("neg", "x")])
    text = "\n".join(summary(run_passk(request(), suspicious)))
    assert "suspected forgeries, counted as not passed: 13\n  add, sample 0: forged?" in text
    assert "and 3 more" in text


def test_what_programs_write_does_not_steer_the_terminal() -> None:
    def shouting(programs: Iterable[Program]) -> Iterator[Verdict]:
        for program in programs:
            yield Verdict(program.id, "unsupported", "a\nb\x1b[2J\ud800é", "fake")

    files([PLAINEST[0] | {"task_id": "x\x07"}], [("x\x07", "?")])
    lines = list(summary(run_passk(request(), shouting)))
    assert lines[-1] == r"  x\x07, sample 0: a\nb\x1b[2J\ud800é"
    written = json.loads(Path("out.json").read_text())
    assert written["results"][0]["detail"] == "a\nb\x1b[2J\ud800é"


@pytest.mark.parametrize("stop", range(8))
def test_a_stopped_run_goes_on_and_counts_nothing_twice(stop: int) -> None:
    files(PLAINEST, WORDS)
    ran: list[str] = []

    def until(last: int) -> Callable[[Iterable[Program]], Iterator[Verdict]]:
        def run(programs: Iterable[Program]) -> Iterator[Verdict]:
            for number, verdict in enumerate(judged_by_word(programs)):
                if number == last:
                    raise KeyboardInterrupt
                ran.append(verdict.id)
                yield verdict

        return run

    if stop < len(WORDS):
        with pytest.raises(KeyboardInterrupt):
            run_passk(request(), until(stop))
        assert not Path("out.json").exists()
        left = [path for path in Path().iterdir() if path.suffix == ".partial"]
        assert len(left) == (stop > 0)
    report = run_passk(request(), until(-1))
    assert ran == [str(index) for index in range(len(WORDS))]
    assert report.programs == len(WORDS) - stop % len(WORDS)
    assert [result.verdict for result in report.results] == [word for _, word in WORDS]
    names = {path.name for path in Path().iterdir()}
    assert names == {"problems.jsonl", "samples.jsonl", "out.json"}


def test_another_input_does_not_find_the_journal() -> None:
    def one(programs: Iterable[Program]) -> Iterator[Verdict]:
        yield next(judged_by_word(programs))
        raise KeyboardInterrupt

    files(PLAINEST, WORDS)
    with pytest.raises(KeyboardInterrupt):
        run_passk(request(), one)
    files(PLAINEST, [(task_id, "failed") for task_id, _ in WORDS])
    report = run_passk(request(), judged_by_word)
    assert report.judged == len(WORDS)
    assert {result.verdict for result in report.results} == {"failed"}
    files(PLAINEST, WORDS)
    assert run_passk(request(), judged_by_word).programs == len(WORDS) - 1
    assert not [path for path in Path().iterdir() if path.suffix == ".partial"]


def test_a_killed_process_goes_on(tmp_path: Path) -> None:
    samples = [("add", f"    return a + b  # {n}\n") for n in range(6)]
    samples += [("add", "    while True: pass\n")] * 2
    samples += [("neg", "def neg(x): return -x\n")]
    arguments = [*files(PLAIN, samples), ALLOWED, "--out", "out.json", "--workers", "1"]
    command = [sys.executable, "-m", "harness", "passk"]
    full = [*command, *(str(tmp_path / a) if Path(a).exists() else a for a in arguments)]
    full[full.index("out.json")] = str(tmp_path / "out.json")
    process = subprocess.Popen(full, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        journals = list(tmp_path.glob("out.json.*.partial"))
        if journals and journals[0].read_bytes().count(b"\n") >= 4:
            break
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "out.json").exists()
    done = subprocess.run(full, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [r["verdict"] for r in results] == ["passed"] * 6 + ["timeout"] * 2 + ["passed"]
    assert [r["sample"] for r in results] == [*range(8), 0]
    assert "had been run before" in done.stdout
    assert "resuming after" in done.stderr
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_without_out_says_that_nothing_was_kept(
    number: signal.Signals, tmp_path: Path
) -> None:
    arguments = files(PLAIN, [("add", "    while True: pass\n")] * 50 + [("neg", "x")])
    full = [sys.executable, "-m", "harness", "passk", ALLOWED, "--workers", "1"]
    full += [str(tmp_path / a) if Path(a).exists() else a for a in arguments]
    process = subprocess.Popen(
        full,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("isolation"):
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert out == ""
    assert err == "Stopped; without --out nothing was saved.\n"


GOOD = [("add", "    return a + b\n"), ("neg", "def neg(x): return -x")]


@pytest.mark.parametrize(
    ("samples", "arguments", "message"),
    [
        (GOOD, "", "--allow-code-execution"),
        ([*GOOD, ("ad", "x")], ALLOWED, "row 3: there is no problem 'ad'. Did you mean 'add'?"),
        (GOOD[:1], ALLOWED, "no sample of the problem neg"),
        ([], ALLOWED, "contains no samples"),
        (GOOD, f"{ALLOWED} --k 1,10", "pass@10 needs 10 samples of each problem, but add has 1"),
        (GOOD, f"{ALLOWED} --k 0", "--k must be positive whole numbers"),
        (GOOD, f"{ALLOWED} --k 1,,2", "--k must be positive whole numbers"),
        (GOOD, f"{ALLOWED} --k one", "--k must be positive whole numbers"),
        (GOOD, f"{ALLOWED} --workers 0", "--workers must be at least 1, not 0."),
        (GOOD, f"{ALLOWED} --seconds 0", "--seconds must be between 0.1 and 3600, not 0."),
        (GOOD, f"{ALLOWED} --seconds 1e9", "--seconds must be between 0.1 and 3600, not 1e+09."),
        (GOOD, f"{ALLOWED} --seconds nan", "--seconds must be between 0.1 and 3600, not nan."),
        (GOOD, f"{ALLOWED} --seconds soon", "Argument --seconds: invalid float value: 'soon'"),
        (GOOD, f"{ALLOWED} --samples mixed.json", "item 1 is a list; samples are objects"),
        (GOOD, f"{ALLOWED} --tier namespace", "Did you mean 'namespaces'?"),
        (GOOD, f"{ALLOWED} --convention bigcodes", "Did you mean 'bigcode'?"),
        (GOOD, f"{ALLOWED} --convention bigcode_eval", "all HumanEval's or all MBPP's"),
        (GOOD, f"{ALLOWED} --out samples.jsonl", "--out is the file of --samples"),
        (GOOD, f"{ALLOWED} --out samples.jsonl/out.json", " is a file; "),
        (GOOD, f"{ALLOWED} --out .", "is a folder"),
        (GOOD, f"{ALLOWED} --out /dev/null", "is not a regular file"),
        (GOOD, f"{ALLOWED} --output x", "Unknown option --output. Did you mean '--out'?"),
        (GOOD, f"{ALLOWED} --problems nothing.jsonl", "nothing.jsonl does not exist"),
        (GOOD, f"{ALLOWED} --samples cut.jsonl.gz", "truncated gzip"),
        (GOOD, f"{ALLOWED} --problems empty.jsonl", "contains no problems"),
        (GOOD, f"{ALLOWED} --samples columns.jsonl", "no column 'completion'"),
    ],
)
def test_mistakes(
    samples: list[tuple[Any, str]],
    arguments: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = files(PLAIN, samples)
    packed = write_rows(Path("whole.jsonl.gz"), rows_of(GOOD * 50))
    Path("cut.jsonl.gz").write_bytes(packed.read_bytes()[:-30])
    Path("empty.jsonl").write_text("")
    Path("mixed.json").write_text(json.dumps([rows_of(GOOD)[0], ["x"]]))
    write_rows(Path("columns.jsonl"), [{"task_id": "add", "code": "x"}])
    before = {path: path.read_bytes() for path in Path().iterdir()}
    extra = [] if "--out " in arguments else ["--out", "out.json"]
    assert main(["passk", *given, *extra, *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith("Error: ")
    assert shown.err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_permission_is_asked_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passk", "--problems", "no.jsonl", "--samples", "no.jsonl", "--out", "x"]) == 2
    shown = capsys.readouterr().err
    assert ALLOWED in shown
    assert "no.jsonl" not in shown
    assert not any(Path().iterdir())


def test_a_folder_that_may_not_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with read_only(Path("closed")):
        assert main(["passk", *files(PLAIN, GOOD), ALLOWED, "--out", "closed/out.json"]) == 2
    assert "No permission to write" in capsys.readouterr().err


def test_no_isolation_means_nothing_is_run_or_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str | None = None) -> str:
        raise UserError("no isolation works here")

    monkeypatch.setattr("harness.commands.passk.choose_tier", refuse)
    files(PLAINEST, WORDS)
    with pytest.raises(UserError, match="no isolation"):
        run_passk(request())
    assert {path.name for path in Path().iterdir()} == {"problems.jsonl", "samples.jsonl"}


def test_a_results_disk_that_is_full_keeps_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, files: dict[str, str]) -> None:
        raise UserError("No space left.")

    files(PLAINEST, WORDS)
    with monkeypatch.context() as patch:
        patch.setattr("harness.commands.passk.write_files", full)
        with pytest.raises(UserError, match="No space"):
            run_passk(request(), judged_by_word)
    report = run_passk(request(), judged_by_word)
    assert report.programs == 0
    assert "all programs had been run before" in list(summary(report))


def test_notes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [MBPP[0] | {"task_id": number} for number in range(1, 512)]
    files(rows, [(number, "passed") for number in range(11, 511)])
    plain = PasskRequest(Path("problems.jsonl"), Path("samples.jsonl"), allowed=True)
    assert len(run_passk(plain, judged_by_word).results) == 500
    shown = capsys.readouterr().err
    assert "MBPP's test split: 500 problems; the other 11 have no samples" in shown
    assert "pass@k for k up to 1" in shown


# --- the forms of samples, and chat models' answers ---------------------------------------------

ADD, NEG = "def add(a, b):\n    return a + b\n", "def neg(x):\n    return -x\n"
WRONG = "def neg(x):\n    return x\n"
FORMS: dict[str, Any] = {
    "evalplus": [
        {"task_id": "add", "solution": ADD},
        {"task_id": "add", "solution": ADD.replace("+", "-")},
        {"task_id": "neg", "solution": NEG},
        {"task_id": "neg", "solution": WRONG},
    ],
    "bigcode": [[ADD, ADD.replace("+", "-")], [NEG, WRONG]],
    "one row": [
        {"task_id": "add", "completion": ["    return a + b\n", "    return a - b\n"]},
        {"task_id": "neg", "completion": [NEG, WRONG]},
    ],
    "chat": [
        {"task_id": "add", "completion": f"Sure:\n```python\n{ADD}```\nDone."},
        {"task_id": "add", "completion": "```python\n    return a - b\n```"},
        {"task_id": "neg", "completion": f"Here is the code:\n\n{NEG}\nIt negates."},
        {"task_id": "neg", "completion": f"~~~py\n{WRONG}"},
    ],
}
SAID = {
    "evalplus": "samples: whole programs under 'solution'",
    "bigcode": "samples: BigCode's generations, 2 lists of whole programs in the problems' order",
    "one row": "samples: completions under 'completion', several in a row",
    "chat": None,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_four_answers_in_every_form_have_the_same_score(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(Path("problems.jsonl"), PLAIN)
    Path("samples.json").write_text(json.dumps(FORMS[form]))
    arguments = ["--problems", "problems.jsonl", "--samples", "samples.json", "--workers", "1"]
    chosen = ["--convention", "chat"] if form == "chat" else []
    assert main(["passk", *arguments, ALLOWED, *chosen]) == 0
    shown = capsys.readouterr()
    written = json.loads(shown.out)
    assert written["pass@k"]["1"]["mean"] == 0.5
    assert [r["verdict"] for r in written["results"]] == ["passed", "failed"] * 2
    assert [(r["task_id"], r["sample"]) for r in written["results"]] == [
        ("add", 0), ("add", 1), ("neg", 0), ("neg", 1)
    ]  # fmt: skip
    said = [line for line in shown.err.splitlines() if line.startswith("samples: ")]
    assert said == ([SAID[form]] if SAID[form] else [])


def failing_to_parse(programs: Iterable[Program]) -> Iterator[Verdict]:
    """Judge by the first character: a fence does not parse."""
    for program in programs:
        fenced = program.completion.startswith("```")
        outcome, detail = ("failed", "SyntaxError: invalid syntax") if fenced else ("passed", "")
        yield Verdict(program.id, outcome, detail, "fake")  # type: ignore[arg-type]


def test_samples_that_do_not_parse_are_counted_and_the_remedy_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fenced = [("add", f"```python\n{ADD}```"), ("neg", f"```\n{NEG}```"), ("neg", NEG)]
    files(PLAIN, fenced)
    plain = PasskRequest(Path("problems.jsonl"), Path("samples.jsonl"), allowed=True)
    hint = "2 of 3 samples contain Markdown fences; --convention chat extracts the code from them"
    report = run_passk(plain, failing_to_parse)
    assert hint in capsys.readouterr().err.splitlines()
    assert f"2 of 3 samples do not parse as Python; {hint}" in list(summary(report))
    assert report.scores[0].mean == 0.25


def test_nothing_is_said_of_fences_where_they_are_known_or_few(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = [("add", f"```python\n{ADD}```"), ("neg", NEG), ("neg", "def neg(x:")]
    files(PLAIN, few)
    plain = PasskRequest(Path("problems.jsonl"), Path("samples.jsonl"), allowed=True)
    report = run_passk(plain, failing_to_parse)
    assert "1 of 3 samples do not parse as Python" in list(summary(report))
    files(PLAIN, few[:1] * 2 + few[1:2])
    chat = PasskRequest(plain.problems, plain.samples, allowed=True, convention="chat")
    assert not any("parse" in line for line in summary(run_passk(chat, failing_to_parse)))
    assert "fences" not in capsys.readouterr().err


def test_a_time_limit_of_ones_own_reaches_the_programs_and_the_results() -> None:
    limits: list[float | None] = []

    def noting(programs: Iterable[Program]) -> Iterator[Verdict]:
        for program in programs:
            limits.append(program.seconds)
            yield Verdict(program.id, "passed", "", "fake")

    files(PLAINEST, [("add", "x"), ("neg", "x")])
    report = run_passk(request(seconds=0.5), noting)
    assert limits == [0.5, 0.5]
    assert json.loads(Path("out.json").read_text())["seconds_per_program"] == 0.5
    assert report.to_json()["seconds_per_program"] == 0.5
    run_passk(request(), noting)
    assert limits[2:] == [3.0, 3.0]
    assert "seconds_per_program" not in json.loads(Path("out.json").read_text())


def test_a_time_limit_of_ones_own_decides(capsys: pytest.CaptureFixture[str]) -> None:
    slow = "import time\ndef neg(x):\n    time.sleep(0.8)\n    return -x\n"
    given = files(PLAIN, [("add", "    return a + b\n"), ("neg", slow)])
    command = ["passk", *given, ALLOWED, "--workers", "1"]
    verdicts = []
    for seconds in ("0.3", "60"):
        assert main([*command, "--seconds", seconds]) == 0
        verdicts.append(json.loads(capsys.readouterr().out)["results"][1]["verdict"])
    assert verdicts == ["timeout", "passed"]
