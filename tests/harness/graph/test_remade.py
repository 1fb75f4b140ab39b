"""What a run says when an update makes it begin again."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.graph import stages as stages_module
from harness.graph.closure import code_version, find_module
from harness.graph.engines import make_all, make_plan
from harness.graph.engines.local import LocalEngine
from harness.graph.remade import remade_note
from harness.graph.stages import Stage
from harness.graph.store import RECORD, Store

UNTRACED = {"trace": os.devnull}

pytestmark = pytest.mark.usefixtures("toy")


def graph(value: int = 1, **changes: Any) -> Stage:
    first = Stage("first", "toy_stages:number", {"value": value, **UNTRACED}, **changes)
    return Stage("total", "toy_stages:add", UNTRACED, {"first": first})


def note_of(target: Stage, store: Store, display: Any) -> str:
    return remade_note(make_plan([target], store, display).missing, store)


def change_code(toy: Path) -> None:
    with (toy / "toy_stages.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    code_version.cache_clear()


@pytest.fixture(autouse=True)
def _of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget where the toy module of the test before was."""
    monkeypatch.delitem(sys.modules, "toy_stages", raising=False)
    find_module.cache_clear()
    code_version.cache_clear()


@pytest.fixture
def made(store: Store, recorder: Any) -> Store:
    make_all([graph()], store, LocalEngine(1), recorder)
    return store


def test_nothing_is_said_of_a_first_run_or_of_another_setting(store: Store, recorder: Any) -> None:
    assert note_of(graph(), store, recorder) == ""
    make_all([graph()], store, LocalEngine(1), recorder)
    assert note_of(graph(), store, recorder) == ""
    # "total" has the same settings in both, and another input.
    assert note_of(graph(2), store, recorder) == ""
    assert note_of(graph(threads=2), store, recorder) == ""


def test_changed_code_is_named_and_reaches_what_follows(
    made: Store, recorder: Any, toy: Path
) -> None:
    change_code(toy)
    note = note_of(graph(), made, recorder)
    assert note.startswith("2 of the stages to run were made before"), note
    assert note.endswith("this has changed since: code."), note


def test_a_changed_library_is_named_with_both_versions(
    store: Store, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for versions in ({"torch": "1.0"}, {"torch": "2.0"}):
        monkeypatch.setattr(stages_module, "library_version", versions.__getitem__)
        note = note_of(graph(libraries=("torch",)), store, recorder)
        make_all([graph(libraries=("torch",))], store, LocalEngine(1), recorder)
    assert note.startswith("2 of the stages"), note
    assert note.endswith("since: torch 1.0 → 2.0."), note
    assert note in recorder.notes


def test_a_new_setting_is_a_change_and_another_value_is_not(made: Store, recorder: Any) -> None:
    first = graph().inputs["first"]
    for config, expected in (
        ({**first.config, "new": 3}, "2 of the stages"),
        ({**first.config, "value": 3, "new": 3}, ""),
    ):
        changed = Stage(
            "total", "toy_stages:add", UNTRACED, {"first": replace(first, config=config)}
        )
        note = note_of(changed, made, recorder)
        assert note.startswith(expected) and bool(note) == bool(expected)
        assert not note or note.endswith("since: which settings there are."), note


def test_files_are_what_the_user_asks_for(made: Store, recorder: Any, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a")
    with_file = replace(graph().inputs["first"], files={"text": text})
    assert (
        note_of(Stage("total", "toy_stages:add", UNTRACED, {"first": with_file}), made, recorder)
        == ""
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": {}}', '{"stage": {"format": 1}}'])
def test_records_that_cannot_be_read_are_skipped(
    made: Store, recorder: Any, toy: Path, content: str
) -> None:
    for address in made.addresses():
        record = json.loads((made.folder(address) / RECORD).read_text())
        if record["name"] == "total":
            (made.folder(address) / RECORD).write_text(content)
    change_code(toy)
    note = remade_note([graph(), graph().inputs["first"]], made)
    assert note.startswith("1 of the stages") and note.endswith("since: code."), note
