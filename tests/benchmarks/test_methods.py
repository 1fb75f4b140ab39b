"""The comparison of methods' step times, on a model of a few thousand weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import methods
from benchmarks.methods import ON_PAIRS, Record, main, markdown, measure
from benchmarks.passes import explanation, facts_of_passes
from benchmarks.shapes import NARROW
from sparsepo.errors import UserError
from sparsepo.methods import BUILT_IN

SMALL = replace(NARROW[1], layers=1, width=8, heads=2, vocabulary=64, prompt=4, response=5, pairs=3)
FACTS: dict[str, Any] = {
    "date": "d",
    "command": "c",
    "machine": "m",
    "load": "l",
    "shape": "s",
    "pairs": 3,
    "methods": ["simpo", "kto", "ipo"],
    "passes": {name: facts_of_passes(BUILT_IN[name], SMALL, 2**28) for name in ON_PAIRS},
}


def test_methods_are_measured_in_turn_with_dpo() -> None:
    names = ["simpo", "kto", "tgdpo", "weighted-dpo", "odpo"]
    saved: list[int] = []
    record = measure(
        names, SMALL, runs=2, steps=2, save=lambda found: saved.append(len(found.costs()))
    )
    costs = record.costs()
    assert [cost.method for cost in costs] == names
    assert all(len(cost.ratios) == 4 and min(cost.ratios) > 0 for cost in costs)
    # Saved after every group of each round.
    assert saved == [4, 5, 5, 5]
    card = markdown({**FACTS, "methods": names}, record)
    assert all(f"| {name} | 4 |" in card for name in names)


def test_what_a_method_computes_beyond_dpo_is_said() -> None:
    assert explanation(BUILT_IN["dpo"]) == ""
    assert "no reference" in explanation(BUILT_IN["orpo"])
    assert "other prompts" in explanation(BUILT_IN["kto"])


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Make up every step's time, and a clock that advances by it; return the groups that ran."""
    run: list[list[str]] = []
    clock = [0.0]

    def steps(group: Sequence[str], model: Path, pairs: object, count: int) -> Any:
        run.append(list(group))
        taken = [name for name in group if name != "kto"]
        clock[0] += 10.0 * (1 + len(taken))
        failures = {"kto": RuntimeError("out of paper\nand ink")} if "kto" in group else {}
        return (
            {name: [6.0] * count for name in taken},
            {name: [1.5] * count for name in taken},
            failures,
        )

    monkeypatch.setattr(methods, "steps_in_turn", steps)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(methods, "_SHAPES", {"hh": SMALL})
    return run


def test_a_method_that_fails_leaves_the_others_measured(timed: list[list[str]]) -> None:
    record = measure(["simpo", "kto", "ipo"], SMALL, runs=2, steps=3)
    assert {name: len(values) for name, values in record.seconds.items()} == {"simpo": 6, "ipo": 6}
    assert timed == [["simpo", "kto", "ipo"], ["simpo", "ipo"]]
    card = markdown(FACTS, record)
    assert "kto was not measured: RuntimeError: out of paper." in card


def test_the_card_says_what_passes_explain() -> None:
    record = Record(
        seconds={"ipo": [1.0], "tdpo1": [1.4], "simpo": [1.1]},
        ratios={"ipo": [1.04], "tdpo1": [1.4], "simpo": [1.1]},
    )
    card = markdown(FACTS, record)
    # Of DPO's passes it lacks those of the reference, and has no others.
    assert "| simpo | 1 | 1.100 | 1.10 [1.10, 1.10] | 0.75 | 1 + 1 | 0 | 3, 5 |" in card
    assert "| tdpo1 | 1 | 1.400 | 1.40 [1.40, 1.40] | 1.44 | 1 + 1 | 1 | 4, 13 |" in card
    assert "Allowing 5 % for the machine, above what their passes explain: simpo." in card
    del record.seconds["simpo"]
    assert "no method is above what its passes explain." in markdown(FACTS, record)


def test_what_the_time_does_not_allow_is_left_out(timed: list[list[str]]) -> None:
    names = ["simpo", "ipo", "cpo", "orpo", "hinge", "nca", "sppo"]
    # The first group takes 50 s, which the second would too.
    record = measure(names, SMALL, runs=1, steps=1, seconds=90)
    assert list(record.seconds) == names[:4]
    card = markdown({**FACTS, "methods": names}, record)
    assert "Not reached in the time: hinge, nca, sppo." in card


def test_a_card_is_resumed(
    timed: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--methods", "simpo,ipo,cpo,orpo,hinge", "--steps", "1", "--name", "card"]
    assert main([*arguments, "--minutes", "0.9"], tmp_path) == 0
    assert "Not reached in the time: hinge." in (tmp_path / "card.md").read_text()
    del timed[:]
    assert main([*arguments, "--resume"], tmp_path) == 0
    assert timed == [["hinge"]]
    page = (tmp_path / "card.md").read_text()
    assert "Not reached" not in page
    assert page.count("| 1 | 6.000 |") == 5
    assert page in capsys.readouterr().out
    main(["--methods", "nca", "--steps", "1", "--name", "card", "--resume"], tmp_path)
    page = (tmp_path / "card.md").read_text()
    assert page.count("python -m benchmarks.methods") == 3
    assert page.count("| 1 | 6.000 |") == 6
    with pytest.raises(UserError, match="was measured with steps 1, not 4"):
        main([*arguments, "--resume", "--steps", "4"], tmp_path)


def test_an_interruption_keeps_the_card(
    timed: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = methods.steps_in_turn

    def interrupted(group: Sequence[str], *rest: Any) -> Any:
        if "hinge" in group:
            raise KeyboardInterrupt
        return own(group, *rest)

    monkeypatch.setattr(methods, "steps_in_turn", interrupted)
    arguments = ["--methods", "simpo,ipo,cpo,orpo,hinge", "--steps", "1", "--name", "card"]
    assert main(arguments, tmp_path) == 130
    record = Record(**json.loads((tmp_path / "card.json").read_text())["record"])
    assert list(record.seconds) == ["simpo", "ipo", "cpo", "orpo"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "dpo,grpo"], "'grpo' is no method that trains on pairs"),
        (["--resume"], "--resume needs --name"),
        (["--resume", "--name", "no-such"], "no-such.json is no card that can be resumed"),
    ],
)
def test_what_cannot_be_done_is_a_users_error(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments, tmp_path)


def test_a_failure_is_the_exit_code(timed: list[list[str]], tmp_path: Path) -> None:
    assert main(["--methods", "simpo,kto", "--runs", "1"], tmp_path) == 1
