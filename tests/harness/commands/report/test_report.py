"""`python -m harness report`: what is on the site, and what is left out."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.commands.report import boards, make
from harness.commands.report.make import make_report
from harness.commands.report.samples import prompt_start
from harness.commands.report.templates import number, span
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common import samples as samples_module
from harness.domains.common.samples import read_samples_file
from sparsepo.errors import UserError
from tests.harness.commands.report.folder import (
    CLAIM,
    CLAIMS,
    HOSTILE,
    map_figure,
    samples,
    small_table,
    write_result,
    write_results,
    write_samples_of,
)


def pages(site: Path) -> dict[str, str]:
    return {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8")
        for path in site.rglob("*.html")
    }


def board(value: Any, name: str = "claims") -> boards.Board:
    def made(results: Path, profile: str) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return boards.Board(name, "The paper's claims", f"{name}.html", made)


def test_every_result_has_its_pages_and_the_rest_its_command(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(results, 12)
    site = tmp_path / "site"
    assert main(["report", "--results", str(results), "--out", str(site)]) == 0
    out = capsys.readouterr()
    assert f"written: {site / 'index.html'} (2 results)" in out.out
    assert f"not run yet: {len(EXPERIMENTS) - 2} experiments" in out.out and not out.err
    found = pages(site)
    assert {"index.html", "tiny/table1.html", "tiny/table1.samples.html"} <= set(found)
    assert {"tiny/figure4.html", "tiny/figure4.samples.html"} <= set(found)
    index = found["index.html"]
    assert "Table 1 (tiny profile)" in index
    assert "python -m harness run --table 2<" in index
    assert "python -m harness run --figure 2<" in index
    assert "run --table 1<" not in index
    table = found["tiny/table1.html"]
    for text in ("SparsePO", "DPO", "Pythia 1.4B", "0123456789abcdef", "punkt", "CPU_with_"):
        assert (text in table) == (text != "SparsePO")
    # What differs significantly, with both p-values and the reason for a missing column.
    assert "▲" in table and "0.002" in table and "no rows given (data.gpqa)" in table
    assert (site / "tiny/files/table1/table1.png").is_file()
    assert "timings.json" not in table


def test_pages_hold_no_inline_code_and_name_only_files_of_the_site(
    results: Path, tmp_path: Path
) -> None:
    write_results(results, 12)
    site = tmp_path / "site"
    make_report(results, None, site)
    for place, text in pages(site).items():
        assert "script-src 'self'" in html.unescape(text) and "unsafe" not in text
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text)
        for target in re.findall(r'(?:src|href)="([^"#]+)"', text):
            assert (site / place).parent.joinpath(target).resolve().is_file(), (place, target)


def test_text_that_is_markup_stays_text(results: Path, tmp_path: Path) -> None:
    result = small_table(title=HOSTILE)
    result["rows"][0]["label"] = HOSTILE
    result["column_labels"]["bbh"] = HOSTILE
    result["provenance"]["model"] = HOSTILE
    result["notes"] = [HOSTILE]
    result["more_notes"] = [HOSTILE]
    folder = write_result(results, "table1", result)
    hostile = dict.fromkeys(("sft", "dpo", "tdpo1"), HOSTILE)
    write_samples_of(folder, "table1", samples(4, HOSTILE), rows=hostile, scores={"win": HOSTILE})
    site = tmp_path / "site"
    report = make_report(results, None, site)
    assert report.shown == ["tiny/table1"]
    for place, text in pages(site).items():
        assert "<b>" not in text and '<img src="http' not in text and "<script>" not in text
        assert HOSTILE in html.unescape(text), place
    for script in (site / "tiny/samples").rglob("*.js"):
        assert re.fullmatch(r'sparsepoSamples\.(index|page)\(".*"\);\n', script.read_text("ascii"))


def test_the_same_results_give_the_same_site(results: Path, tmp_path: Path) -> None:
    write_results(results, 12)

    def content(site: Path) -> dict[str, bytes]:
        make_report(results, None, site)
        return {
            path.relative_to(site).as_posix(): path.read_bytes()
            for path in site.rglob("*")
            if path.is_file()
        }

    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_newer_site_replaces_the_older_one_and_nothing_else(
    results: Path, tmp_path: Path
) -> None:
    write_results(results, 12)
    site = tmp_path / "site"
    make_report(results, None, site)
    (results / "tiny/figure4/figure4.json").unlink()
    make_report(results, None, site)
    assert "tiny/figure4.html" not in pages(site)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="files that are not of a site"):
        make_report(results, None, other)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match="is a file"):
        make_report(results, None, other / "notes.txt")


BROKEN = {
    "truncated": ('{"id": "table2", "profile": "tiny", "rows": [', "not valid JSON"),
    "NaN": (json.dumps({**small_table(id="table2"), "average": float("nan")}), "NaN"),
    "another file": ('{"a": 1}', "not the result of an experiment"),
    "another profile": (json.dumps({**small_table(id="table2"), "profile": "small"}), "small"),
    "another schema": (
        json.dumps({**small_table(id="table2"), "significance": None}),
        "not written by this version",
    ),
    "no title": (
        json.dumps({k: v for k, v in map_figure().items() if k != "title"} | {"id": "table2"}),
        "not written by this version",
    ),
}


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_broken_result_is_named_and_the_rest_is_made(
    kind: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(results, 12)
    text, reason = BROKEN[kind]
    (results / "tiny/table2").mkdir()
    (results / "tiny/table2/table2.json").write_text(text)
    site = tmp_path / "site"
    assert main(["report", "--results", str(results), "--out", str(site)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("tiny/table2 is left out: ")] and all(
        line.endswith(".") for line in lines
    )
    assert any(reason in line for line in lines)
    found = pages(site)
    assert "tiny/table2.html" not in found and "tiny/table1.html" in found
    assert "tiny/table2" in found["index.html"] and "Left out" in found["index.html"]
    # What makes it again is said like that of every missing experiment.
    assert "python -m harness run --table 2<" in found["index.html"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not gzip", "damaged"),
        (None, "damaged"),
        ("another version", "another version"),
        ("without fields", "does not have the fields"),
    ],
)
def test_broken_samples_leave_the_result(
    content: Any, reason: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_result(results, "table1", small_table())
    if content == "another version":
        monkeypatch.setattr(samples_module, "SCHEMA", "sparsepo-samples-0")
    file = write_samples_of(folder, "table1", samples(40))
    monkeypatch.undo()
    if content == "without fields":
        import gzip

        head, _ = read_samples_file(file)
        file.write_bytes(gzip.compress(f'{json.dumps(head)}\n{{"id": "x"}}\n'.encode()))
    elif content is None:
        file.write_bytes(file.read_bytes()[:-60])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    report = make_report(results, None, tmp_path / "site")
    assert report.shown == ["tiny/table1"]
    assert any("samples" in one.name and reason in one.reason for one in report.left_out)
    assert "tiny/table1.samples.html" not in pages(tmp_path / "site")


def test_a_result_that_may_not_be_read_is_one_line(
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Root may read everything, so the system's answer is made up."""
    write_results(results, 12)
    write_result(results, "table2", small_table(id="table2"))
    real = Path.read_text

    def refuse(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "table2.json":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    site = tmp_path / "site"
    assert main(["report", "--results", str(results), "--out", str(site)]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "table2" in line]
    assert [line for line in lines if line.startswith("tiny/table2 is left out: ")]
    assert all("Permission denied" in line for line in lines)
    found = pages(site)
    assert "tiny/table2.html" not in found and "tiny/table1.html" in found
    assert "Permission denied" in found["index.html"]


def test_files_that_vanish_or_cannot_be_copied_leave_one_result_out(
    results: Path, tmp_path: Path
) -> None:
    write_results(results, 12)
    (results / "tiny/figure4/figure4.png").symlink_to(tmp_path / "nowhere")
    report = make_report(results, None, tmp_path / "site")
    assert report.shown == ["tiny/table1", "tiny/figure4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "nowhere"], "does not exist"),
        (["--results", "empty"], "has no results"),
        (["--results", "results", "--profile", "huge"], "no results of the profile huge"),
        (["--results", "results", "--profile", ","], "--profile is empty"),
    ],
)
def test_mistakes_are_one_plain_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_results(tmp_path / "results", 12)
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "site").exists()


def test_only_the_chosen_profiles_are_shown(results: Path, tmp_path: Path) -> None:
    write_results(results, 12)
    write_result(results.parent / "results", "table1", small_table())
    small = {**small_table(), "profile": "small"}
    (results / "small/table1").mkdir(parents=True)
    (results / "small/table1/table1.json").write_text(json.dumps(small))
    both = make_report(results, None, tmp_path / "both")
    assert both.shown == ["small/table1", "tiny/table1", "tiny/figure4"]
    one = make_report(results, ["small"], tmp_path / "one")
    assert one.shown == ["small/table1"]
    assert "--table 2 --profile small" in pages(tmp_path / "one")["index.html"]


def test_a_variant_of_a_figure_has_a_page_of_its_own(results: Path, tmp_path: Path) -> None:
    write_results(results, 12)
    for name, content in (("common", json.dumps(map_figure())), ("broken", "{")):
        (results / f"tiny/figure4-{name}").mkdir()
        (results / f"tiny/figure4-{name}/figure4.json").write_text(content)
    report = make_report(results, None, tmp_path / "site")
    assert report.shown == ["tiny/table1", "tiny/figure4", "tiny/figure4-common"]
    assert [one.name for one in report.left_out] == ["tiny/figure4-broken"]


def test_claims_are_a_page(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(results, 12)
    monkeypatch.setattr(make, "BOARDS", (board(CLAIMS),))
    make_report(results, None, tmp_path / "site")
    text = pages(tmp_path / "site")["tiny/claims.html"]
    assert "1 supported, 0 contradicted, 1 undecided, 1 not run, of 3." in text
    assert "[−0.5, 3.50]" in text and "python -m harness run --figure 2" in text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (UserError("The claims cannot be read."), "cannot be read"),
        (KeyError("rows"), "does not have the fields"),
        ({**CLAIMS, "claims": [{**CLAIM, "ci95": [1]}]}, "does not have the fields"),
        ({}, "does not have the fields"),
    ],
)
def test_a_page_that_cannot_be_computed_is_left_out(
    value: Any, reason: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(results, 12)
    monkeypatch.setattr(make, "BOARDS", (board(value),))
    report = make_report(results, None, tmp_path / "site")
    assert report.shown == ["tiny/table1", "tiny/figure4"]
    assert [one.name for one in report.left_out if reason in one.reason] == ["tiny/claims"]
    assert "claims.html" not in pages(tmp_path / "site")["index.html"]


def test_the_leaderboard_and_the_claims_of_these_results_are_pages(
    results: Path, tmp_path: Path
) -> None:
    write_results(results, 12)
    report = make_report(results, None, tmp_path / "site")
    assert not report.left_out
    assert "python -m harness run --figure 2" in pages(tmp_path / "site")["tiny/claims.html"]
    text = pages(tmp_path / "site")["tiny/leaderboard.html"]
    assert "TDPO v1" in text and "mean rank" in text and "0123456789ab" in text


def scripts(site: Path) -> Mapping[str, Any]:
    found = {}
    for file in sorted((site / "tiny/samples/table1").glob("*.js")):
        text = file.read_text("ascii")
        found[file.name] = json.loads(json.loads(text[text.index("(") + 1 : text.rindex(")")]))
    return found


def test_samples_are_paged_and_none_is_lost(results: Path, tmp_path: Path) -> None:
    write_results(results, 260)
    make_report(results, None, tmp_path / "site")
    found = dict(scripts(tmp_path / "site"))
    index = found.pop("index.js")
    assert list(found) == ["0001.js", "0002.js", "0003.js"]
    ids = [sample["id"] for page in found.values() for sample in page["samples"]]
    assert ids == index["ids"] == [f"pair:{number}" for number in range(260)]
    assert index["pages"] == [1] * 100 + [2] * 100 + [3] * 60
    assert index["groups"]["names"] == ["first half", "second half"]
    assert index["values"]["dpo win"][:3] == [0.0, -1.0, -2.0]
    # Scores that are missing everywhere order nothing.
    assert "sft win" not in index["values"]
    text = pages(tmp_path / "site")["tiny/table1.samples.html"]
    assert "passed 87, failed 43" in text or "passed 86, failed 44" in text
    assert "−64.50" in text


def test_long_samples_fill_pages_by_their_size(results: Path, tmp_path: Path) -> None:
    folder = write_result(results, "table1", small_table())
    write_samples_of(folder, "table1", samples(30, "long " * 8000))
    make_report(results, None, tmp_path / "site")
    sizes = [path.stat().st_size for path in (tmp_path / "site/tiny/samples/table1").glob("0*.js")]
    assert len(sizes) > 10 and max(sizes) < 700_000


def test_many_samples_are_thinned_out_evenly(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "MOST", 50)
    folder = write_result(results, "table1", small_table())
    write_samples_of(folder, "table1", samples(200))
    make_report(results, None, tmp_path / "site")
    assert scripts(tmp_path / "site")["index.js"]["ids"][:3] == ["pair:0", "pair:4", "pair:8"]
    assert "50 of 200 samples" in pages(tmp_path / "site")["tiny/table1.samples.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.0, "0"), (-1.5, "−1.50"), (12.345, "12.35"), (0.000012345, "1.23e−05"),
        (3, "3"), ("a word", "a word"), (True, "True"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: Any, text: str) -> None:
    assert number(value) == text


def test_intervals_and_beginnings() -> None:
    assert span(None) == "" and span([-1.0, 2.0]) == "[−1.00, 2.00]"
    assert prompt_start("a\n b") == "a b" and prompt_start([]) == ""
    assert prompt_start([{"content": "first"}, {"content": "x" * 200}]) == "x" * 99 + "…"
