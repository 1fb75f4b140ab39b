"""`python -m harness publish`: what is copied, what is refused, and what is said of it."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.commands.draw import redraw
from harness.commands.publish import checks, command
from harness.commands.publish.record import read_published, statements
from harness.commands.publish.samples import thinned
from harness.domains import get_domain
from harness.domains.common.provenance import REHEARSAL, provenance
from harness.domains.common.samples import read_samples_file
from sparsepo.errors import UserError
from tests.harness.commands.publish.runs import publishable, write_limits, write_run
from tests.harness.commands.report.folder import samples, write_samples_of

RESULT = "results/tiny/table1"
KINDS = ("csv", "json", "md", "png", "samples.jsonl.gz", "tex")
NAMES = {"README.md", "run.json", "timings.json", *(f"table1.{kind}" for kind in KINDS)}


def publish(*options: str, result: str = RESULT, name: str = "tiny-table1") -> int:
    return main(["publish", result, "--as", name, "--limits", "limits.md", *options])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(capsys: pytest.CaptureFixture[str], message: str, *options: str) -> None:
    """Publish, and see that nothing is written but one line."""
    assert publish(*options) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not list(Path("results").glob("published/*"))


def test_a_run_is_copied_with_its_description(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone / RESULT / "mine.txt").write_text("notes of my own")
    assert publish() == 0
    assert "written: results/published/tiny-table1 (" in capsys.readouterr().out
    run = read_published(clone / "results/published/tiny-table1")
    found = content(run.folder)
    assert set(found) == NAMES
    for name in NAMES - {"README.md", "run.json"}:
        assert found[name] == (clone / RESULT / name).read_bytes()
    record = run.record
    assert record["limits"] == [
        "The models have half a million parameters.",
        "Three chains: differences below two points cannot be seen.",
        "The data are synthetic.",
    ]
    assert (record["chains"], record["stages"], record["seconds"]) == (3, 2, 112.5)
    assert record["finished"] == "2026-01-31T12:00:00Z"
    assert record["samples"] == {"kept": 12, "of": 12}
    readme = found["README.md"].decode()
    for text in ("cannot be seen.", "(table1.png)", "2, together 1 min 52 s", record["command"]):
        assert text in readme
    assert "python -m harness compare tiny-table1 results/tiny/table1" in readme


def test_publishing_twice_gives_the_same_bytes(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish() == 0
    first = content(clone / "results/published/tiny-table1")
    assert publish() == 0
    assert "unchanged: " in capsys.readouterr().out
    assert publish("--results", "elsewhere") == 0
    assert content(clone / "elsewhere/published/tiny-table1") == first


def test_another_run_of_a_name_is_replaced_only_if_asked_for(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish() == 0
    folder = clone / "results/published/tiny-table1"
    before = content(folder)
    write_limits(clone, "Nothing at all.")
    assert publish() == 2
    assert "add --replace" in capsys.readouterr().err and content(folder) == before
    assert publish("--replace") == 0
    assert read_published(folder).record["limits"] == ["Nothing at all."]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny-table1"]


def test_the_text_of_a_published_run_can_be_changed_without_the_result(clone: Path) -> None:
    assert publish() == 0
    folder = clone / "results/published/tiny-table1"
    before = read_published(folder).record
    (clone / "note.md").write_text("DPO gains most.")
    options = ("--note", "note.md", "--replace")
    assert publish(*options, result="results/published/tiny-table1") == 0
    after = read_published(folder).record
    assert after["note"] == ["DPO gains most."]
    kept = set(before) - {"note", "files"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_a_result_that_does_not_say_when_has_the_date_of_its_file(clone: Path) -> None:
    timings = {"seconds": {}, "training": {}}
    (clone / RESULT / "timings.json").write_text(json.dumps(timings))
    assert publish() == 0
    record = read_published(clone / "results/published/tiny-table1").record
    assert record["finished"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"git_dirty": True}, "not committed"),
        ({"git_commit": None}, "of which commit"),
        ({"rehearsal": True}, "is of a rehearsal"),
        ({"hardware": ""}, "does not say its hardware"),
    ],
)
def test_results_that_nobody_can_repeat_are_refused(
    made: Mapping[str, Any], message: str, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(clone / "results", publishable(**made))
    refused(capsys, message)


def test_a_rehearsal_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = get_domain("dialogue").get_profile("tiny")
    assert "rehearsal" not in provenance(profile, {})
    monkeypatch.setenv(REHEARSAL, "1")
    assert provenance(profile, {})["rehearsal"] is True


@pytest.mark.parametrize("name", ["table1.png", "timings.json", "table1.md"])
def test_incomplete_results_are_refused(
    name: str, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone / RESULT / name).unlink()
    refused(capsys, f"is incomplete: {name} cannot be read")


def test_the_files_of_a_run_are_those_that_its_domain_draws(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "get_domain", get_domain)
    redraw(clone / RESULT / "table1.json")
    assert publish() == 0
    assert set(content(clone / "results/published/tiny-table1")) == NAMES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("table1.json", '{"id": "table1", "profile": "ti', "not valid JSON"),
        ("table1.json", '{"id": "table1", "profile": "tiny", "provenance": {"a": NaN}}', "NaN"),
        ("table1.json", '{"id": "table9", "profile": "tiny", "provenance": {}}', "by this version"),
        ("timings.json", '{"seconds": {"a": Infinity}}', "Infinity"),
        ("timings.json", '{"seconds": {"a": 1e999}}', "1e999"),
        ("timings.json", "[]", "has no durations"),
        ("timings.json", '{"seconds": {"a": "1"}}', "has no durations"),
        ("table1.samples.jsonl.gz", "damaged", "is damaged"),
    ],
)
def test_damaged_results_are_refused(
    name: str, text: str, message: str, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone / RESULT / name).write_text(text)
    refused(capsys, message)


PLACES = (
    "/data/pairs.jsonl",
    "python -m harness run --set data.bbh=/scratch",
    "see /opt/models/gpt2",
    "file:///srv/a/b",
    "(/mnt/disk/x)",
    "/home/jane",
    "at /Users/jane/x",
    "~/models/gpt2",
    r"C:\Users\jane\x",
    r"\\server\share",
    "http://localhost:8000/v1",
    "http://10.0.0.5/v1",
    "http://gpu01:8000/v1",
    "https://key:secret@example.org/v1",
)


@pytest.mark.parametrize("text", PLACES)
def test_places_on_a_machine_are_refused(
    text: str, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(clone / "results", publishable(model=text))
    refused(capsys, "names a place on a machine")
    write_run(clone / "results")
    write_limits(clone, text)
    refused(capsys, "names a place on a machine")


@pytest.mark.parametrize(
    "text",
    [
        "reward / KL", "10/10 and his/her", "<br /><br />", "</b></i>", "openai/gpt2", "tokens/s",
        "https://example.org/a/b", "docs/statistics.md", "±0.5 %/s", "a: b/c", "~3 points", "C:\\x",
        "/10", "and/or", "1.5e-3/2", "see [docs](../docs/a.md)",
    ],
)  # fmt: skip
def test_other_texts_are_not_places(text: str, clone: Path) -> None:
    write_run(clone / "results", publishable(model=text))
    write_limits(clone, text)
    assert publish() == 0


def test_what_models_wrote_may_name_paths_but_no_home(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = clone / RESULT / "table1.samples.jsonl.gz"
    file.unlink()
    write_samples_of(clone / RESULT, "table1", samples(4, "open('/etc/x/hosts')"))
    assert publish() == 0
    file.unlink()
    write_samples_of(clone / RESULT, "table1", samples(4, "open('/home/jane/x')"))
    assert publish("--replace") == 2
    error = capsys.readouterr().err
    assert "/home/jane" in error and "--without-samples" in error
    assert publish("--replace", "--without-samples") == 0
    folder = clone / "results/published/tiny-table1"
    assert set(content(folder)) == NAMES - {file.name}
    assert read_published(folder).record["samples"] is None


def test_a_folder_of_this_machine_is_found_in_any_file(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = clone / RESULT / "table1.png"
    picture.write_bytes(picture.read_bytes() + f"tEXt{clone.resolve() / RESULT}".encode())
    refused(capsys, "table1.png names a place on a machine")


@pytest.mark.parametrize(
    ("limit", "name"), [("LARGEST_FILE", "table1.json"), ("LARGEST_RUN", "The run")]
)
def test_large_results_are_refused(
    limit: str,
    name: str,
    clone: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, limit, 5000)
    refused(capsys, f"{name} has ")


def test_many_samples_are_thinned_out_evenly(
    clone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(clone / "results", count=400)
    size = (clone / RESULT / "table1.samples.jsonl.gz").stat().st_size
    monkeypatch.setattr(command, "LARGEST_SAMPLES", size // 3)
    monkeypatch.setattr(checks, "LARGEST_SAMPLES", size // 3)
    assert publish() == 0
    folder = clone / "results/published/tiny-table1"
    head, lines = read_samples_file(folder / "table1.samples.jsonl.gz")
    places = [int(sample["id"].partition(":")[2]) for sample in lines]
    assert 60 < len(places) == head["kept"] < 140 and head["samples"] == 400
    steps = {after - before for before, after in pairwise(places)}
    assert places[0] == 0 and max(steps) - min(steps) <= 1
    assert f"{len(places)} of 400 samples, evenly spaced" in capsys.readouterr().out


def test_samples_of_which_not_even_one_fits_are_left_out(tmp_path: Path) -> None:
    file = write_samples_of(tmp_path, "table1", samples(3))
    assert thinned(file, 10) is None


def test_texts_of_real_data_are_named(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"imdb": "stanfordnlp/imdb", "bbh": "none", "pairs": None, "train_prompts": 256}
    settings = {"data": data}
    write_run(clone / "results", publishable(settings=settings))
    assert publish() == 0
    assert "may hold texts of stanfordnlp/imdb; check that their licence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results/tiny", "--as", "a"], "has no results of experiments"),
        (["results/nowhere.json", "--as", "a"], "cannot be read"),
        ([RESULT, "--as", "../a"], "is not a name"),
        ([RESULT, "--as", "A"], "is not a name"),
        ([RESULT, "--as", "a", "--note", "nowhere.md"], "--note nowhere.md cannot be read"),
        ([RESULT, "--as", "a", "--note", "empty.md"], "is empty"),
        ([RESULT, "--as", "a", "--note", "long.md"], "be shorter than"),
        ([RESULT, "--as", "a", "--note", "binary.md"], "not a text in UTF-8"),
    ],
)
def test_mistakes_are_one_plain_line(
    arguments: list[str], message: str, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.md").write_text("\n\n")
    Path("long.md").write_text("word " * 1000)
    Path("binary.md").write_bytes(b"\xff\xfe")
    assert main(["publish", *arguments, "--limits", "limits.md"]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (clone / "results/published").exists()


def test_limits_are_required(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", RESULT, "--as", "a"]) == 2
    assert "--limits" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_one_plain_line(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone / "results/published").mkdir()
    (clone / "results/published").chmod(0o500)
    assert publish() == 2
    assert "No permission" in capsys.readouterr().err


def test_statements_are_paragraphs_and_items() -> None:
    assert statements("# Limits\nOne\nline.\n\n- a\n  b\n* c\nd\n\n\n-e\n") == [
        "One line.",
        "a b",
        "c d",
        "-e",
    ]
    assert statements(" \n") == []


def test_the_checks_read_compressed_samples() -> None:
    text = json.dumps({"text": "in /Users/jane/x"}) + "\n"
    with pytest.raises(UserError, match="place on a machine"):
        checks.check_contents({"a.samples.jsonl.gz": gzip.compress(text.encode())})
