"""Win rates of dialogue from nothing to files, by the rules and by an endpoint that is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.commands.draw import redraw
from harness.commands.run import prepare, run_experiment, split_request
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS, get_experiments
from harness.domains.dialogue.experiments import TABLE1, WINRATE
from harness.graph.stages import topological
from harness.graph.store import Store
from sparsepo.errors import UserError
from tests.endpoint_server import Body, Reply, chat_reply, endpoint
from tests.small_table import SMALL

KEY = "sk-a-key-that-nobody-has"
ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SPARSEPO_ENDPOINT_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    # Whoever commits while the test runs must not change what is compared.
    monkeypatch.setattr("harness.domains.common.provenance._git", lambda *arguments: "0" * 40)


def request(folder: Path, *assignments: str, **options: Any) -> RunRequest:
    return RunRequest(
        **{
            "methods": ("sft", "dpo"),
            "seeds": 1,
            "workers": 1,
            "assignments": (*SMALL, "judge.label_pairs=4", *assignments),
            "out": folder / "out",
            "store": folder / "store",
            **options,
        }
    )


def at(url: str, *more: str) -> tuple[str, ...]:
    return ("judge.kind=endpoint", f"judge.url={url}", "judge.model=judge", *more)


def by_length(path: str, body: Body) -> Reply:
    """Prefer the longer question's half, so that both orders agree, but for equal halves."""
    text = body["messages"][0]["content"]
    first = text.index("response A]\n")
    second = text.index("response B]\n")
    end = text.index("end]", second)
    lengths = text.index("end]", first) - first, end - second
    better = "tie" if lengths[0] == lengths[1] else "A" if lengths[0] > lengths[1] else "B"
    return chat_reply(f"One is longer.\nBetter: {better}")


def test_the_group_runs_the_tables_of_all_domains() -> None:
    group = get_experiments("table", "winrate")
    assert WINRATE in group
    assert all(one.group == "winrate" and one.judged for one in group)
    assert get_experiments("table", "winrate-dialogue") == [WINRATE]
    assert get_experiments("table", "1") == [TABLE1]
    with pytest.raises(UserError, match="Did you mean 'winrate'"):
        get_experiments("table", "winrates")
    with pytest.raises(UserError, match="Unknown figure"):
        get_experiments("figure", "winrates")


def test_models_and_responses_are_those_of_table_1(tmp_path: Path) -> None:
    def functions(name: str, ending: str) -> set[str]:
        graph = prepare(EXPERIMENTS[name], request(tmp_path, "judge.label_pairs=4")).graph
        return {s.address for s in topological(graph.targets) if s.function.endswith(ending)}

    for ending in (":train_policy", ":generate"):
        own = functions("winrate-dialogue", ending)
        plain = RunRequest(
            methods=("sft", "dpo"), seeds=1, assignments=SMALL, out=tmp_path, store=tmp_path
        )
        stages = topological(prepare(TABLE1, plain).graph.targets)
        assert own == {s.address for s in stages if s.function.endswith(ending)}
        assert len(own) == 2


@pytest.mark.parametrize(
    ("experiment", "assignments", "options", "words"),
    [
        (TABLE1, ("judge.kind=rules",), {}, "judge.kind has no effect on table1"),
        (TABLE1, (), {"yes": True}, "asks no judge at an endpoint; leave --yes out"),
        (WINRATE, (), {"yes": True}, "costs nothing; leave --yes out"),
        (WINRATE, ("judge.url=http://localhost/v1",), {}, "judge.url has no effect"),
        (WINRATE, ("judge.kind=reward", "judge.model=./nowhere"), {}, "does not exist"),
        (WINRATE, (), {"profile": "small"}, "needs judge.model"),
        (WINRATE, ("judge.kind=rules",), {"profile": "small"}, "embedded world's prompts only"),
    ],
)
def test_mistakes_are_found_before_the_first_stage(
    experiment: Any,
    assignments: tuple[str, ...],
    options: dict[str, Any],
    words: str,
    tmp_path: Path,
) -> None:
    own = RunRequest(assignments=assignments, out=tmp_path, store=tmp_path / "store", **options)
    with pytest.raises(UserError, match=words):
        prepare(experiment, own)


def test_of_several_experiments_only_the_judged_ones_get_the_judge() -> None:
    own = RunRequest(assignments=("judge.label_pairs=4", "po.epochs=2"), yes=True)
    split = split_request([TABLE1, WINRATE], own)
    assert [(one.assignments, one.yes) for _, one in split] == [
        (("po.epochs=2",), False),
        (own.assignments, True),
    ]


def test_the_cost_is_agreed_to_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with endpoint(by_length) as server:
        prices = ("judge.price_in=1", "judge.price_out=2")
        with pytest.raises(UserError, match=r"at most 44 times .* Agree with --yes") as raised:
            prepare(WINRATE, request(tmp_path, *at(server.url, *prices)))
        assert "at the given prices" in str(raised.value)
        assert "\n" not in str(raised.value)
        for options in ({"yes": True}, {"quiet": True, "yes": True}):
            prepare(WINRATE, request(tmp_path, *at(server.url), **options))
        assert capsys.readouterr().err.count("Judging asks judge at") == 1
        prepare(WINRATE, request(tmp_path, *at(server.url, "judge.agree=true")))
        prepare(
            WINRATE, request(tmp_path, *at(server.url, "judge.price_in=0", "judge.price_out=0"))
        )
        for answer, agreed in (("y\n", True), ("\n", False), ("no\n", False)):
            monkeypatch.setattr("sys.stdin", Terminal(answer))
            monkeypatch.setattr("sys.stderr", Terminal())
            if agreed:
                prepare(WINRATE, request(tmp_path, *at(server.url)))
                continue
            with pytest.raises(UserError, match="Nothing was run"):
                prepare(WINRATE, request(tmp_path, *at(server.url)))
        assert server.requests == []


def test_an_endpoint_that_cannot_judge_is_found_before_anything_is_run(tmp_path: Path) -> None:
    with endpoint(by_length, ["other"]) as server:
        own = request(tmp_path, *at(server.url), yes=True)
        with pytest.raises(UserError, match="does not serve 'judge'"):
            prepare(WINRATE, own)
    with pytest.raises(UserError, match="cannot be reached"):
        prepare(WINRATE, request(tmp_path, *at(server.url), yes=True))


@pytest.mark.slow
def test_by_the_rules_then_by_an_endpoint_that_is_killed(tmp_path: Path, recorder: Any) -> None:
    def run(*assignments: str, **options: Any) -> dict[str, Any]:
        recorder.made_stages.clear()
        return run_experiment(WINRATE, request(tmp_path, *assignments, **options), recorder)

    table = run()
    folder = tmp_path / "out" / "tiny" / "winrate-dialogue"
    kinds = ("json", "md", "csv", "tex", "samples.jsonl.gz")
    files = {f"winrate-dialogue.{kind}" for kind in kinds} | {"timings.json"}
    assert {path.name for path in folder.iterdir()} == files
    written = (folder / "winrate-dialogue.json").read_bytes()
    assert json.loads(written) == table
    assert table["missing"] == {} and table["missing_cells"] == []
    sft, dpo = table["rows"]
    assert dpo["values"]["win_dpo"]["ci95"] == [50.0, 50.0]
    assert sft["values"]["win_chosen"]["n"] == 6
    assert sft["values"]["first_shown"]["mean"] == 50.0
    assert table["judge"]["kind"] == "rules" and "kappa_rules" not in table["judge"]
    assert -1 <= table["judge"]["kappa"]["mean"] <= 1
    assert run() == table
    assert recorder.made_stages == []
    shown = (folder / "winrate-dialogue.md").read_text()
    (folder / "winrate-dialogue.md").unlink()
    assert redraw(folder / "winrate-dialogue.json") == WINRATE
    assert (folder / "winrate-dialogue.md").read_text() == shown

    # Another judge: no policy is trained and nothing is sampled again.
    table = run("judge.kind=reward", "judge.model=trained")
    assert len(recorder.made_stages) == 5
    assert "reward model, dialogue seed 42" in recorder.made_stages
    assert "a reward model trained on each chain's pairs" in " ".join(table["notes"])
    assert -1 <= table["judge"]["kappa_rules"]["mean"] <= 1
    assert str(tmp_path) not in json.dumps(table)

    killed: list[int] = []

    def answer(path: str, body: Body) -> Reply:
        if killed and len(server.requests) == 9:
            os.killpg(killed.pop(), signal.SIGKILL)
        return by_length(path, body)

    with endpoint(answer) as server:
        own = at(server.url, "judge.agree=true", "judge.concurrency=1")
        command = [sys.executable, "-m", "harness", "run", "--table", "winrate-dialogue"]
        command += ["--methods", "sft,dpo", "--seeds", "1", "--workers", "1", "--quiet"]
        command += ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--set"]
        child = subprocess.Popen(
            [*command, *SMALL, "judge.label_pairs=4", *own],
            start_new_session=True,
            cwd=ROOT,
        )
        killed.append(child.pid)
        assert child.wait() == -signal.SIGKILL
        (journal,) = (tmp_path / "store" / "verdicts").glob("*.jsonl")
        assert journal.read_text().count('"key"') == 8
        resumed = run(*own)
        assert all(name.startswith("verdicts on") for name in recorder.made_stages)
        asked = Counter(json.dumps(body, sort_keys=True) for _, body in server.requests)
        # The one that was on its way was asked once more.
        assert sorted(asked.values())[-2:] == [1, 2]
        total = len(server.requests)
        assert run(*own) == resumed
        # Verdicts outlive the stages that asked for them, and all others.
        store = Store(tmp_path / "store")
        for address in store.addresses():
            if store.record(address)["name"].startswith("verdicts on"):
                store.remove(address)
        assert run(*own) == resumed
        assert len(recorder.made_stages) == 4
        assert len(server.requests) == total
        store.clean(everything=True)
        assert journal.is_file()
    assert resumed["judge"]["model"] == "judge"
    assert -1 <= resumed["judge"]["kappa_rules"]["mean"] <= 1
    for file in [p for p in tmp_path.rglob("*") if p.is_file()]:
        assert KEY.encode() not in file.read_bytes(), file
