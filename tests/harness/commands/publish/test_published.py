"""Published runs: those of this repository, damaged ones, and where they are shown."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.commands.publish.checks import check_contents
from harness.commands.publish.record import (
    FOLDER,
    find_published,
    published_folders,
    read_published,
    result_named,
)
from harness.commands.report.make import make_report
from sparsepo.errors import UserError
from tests.harness.commands.publish.runs import publishable, write_limits, write_run
from tests.harness.commands.report.folder import HOSTILE

RESULTS = Path(__file__).parents[4] / "results"
NAME = "tiny-table1"


@pytest.fixture
def published(clone: Path) -> Path:
    """A published run, in the working directory."""
    arguments = ["results/tiny/table1", "--as", NAME, "--limits", "limits.md"]
    assert main(["publish", *arguments]) == 0
    return clone / "results" / FOLDER / NAME


def test_every_published_run_of_this_repository_is_whole() -> None:
    place = RESULTS / FOLDER
    folders = published_folders(place)
    for folder in folders:
        run = read_published(folder)
        assert run.record["name"] == folder.name
        check_contents({path.name: path.read_bytes() for path in folder.iterdir()})
    assert {path.name for path in place.iterdir() if path.is_file()} == {"README.md"}


def test_every_published_run_of_this_repository_is_shown(tmp_path: Path) -> None:
    names = [folder.name for folder in published_folders(RESULTS / FOLDER)]
    if not names:
        pytest.skip("nothing has been published yet")
    empty = tmp_path / "results"
    empty.mkdir()
    report = make_report(empty, None, tmp_path / "site", RESULTS / FOLDER)
    assert report.published == names and not report.left_out


def damage(folder: Path, kind: str) -> None:
    """Change a published run as a bad copy or an edit by hand does."""
    result, record = folder / "table1.json", folder / "run.json"
    if kind == "truncated":
        result.write_bytes(result.read_bytes()[:-100])
    elif kind == "altered":
        result.write_text(result.read_text().replace("30.0", "31.0"))
    elif kind == "missing":
        (folder / "table1.png").unlink()
    elif kind == "more":
        (folder / "mine.txt").write_text("mine")
    elif kind == "no record":
        record.unlink()
    elif kind == "half a record":
        record.write_bytes(record.read_bytes()[:-100])
    else:
        changed = json.loads(record.read_text())
        if kind == "another version":
            changed["schema"] = "sparsepo-published-0"
        elif kind == "no limits":
            changed["limits"] = []
        elif kind == "outside":
            changed["files"]["../../x"] = "0"
        elif kind == "another commit":
            changed["git_commit"] = "f" * 40
        elif kind == "no command":
            del changed["command"]
        record.write_text(json.dumps(changed))


DAMAGED = {
    "truncated": "table1.json is truncated or altered",
    "altered": "table1.json is truncated or altered",
    "missing": "table1.png is missing",
    "more": "mine.txt is not among its files",
    "no record": "run.json is missing",
    "half a record": "run.json is truncated or damaged",
    "another version": "run.json is of another version",
    "no limits": "does not say what the run cannot show",
    "outside": "names files outside its folder",
    "another commit": "name another git_commit",
    "no command": "run.json has no command",
}


@pytest.mark.parametrize("kind", list(DAMAGED))
def test_a_damaged_run_is_one_plain_line(
    kind: str, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(published, kind)
    runs, (problem,) = find_published(published.parent)
    assert not runs and problem.name == f"published/{NAME}"
    assert DAMAGED[kind] in problem.reason and "\n" not in problem.reason
    capsys.readouterr()
    assert main(["compare", NAME, "results/tiny/table1"]) == 2
    error = capsys.readouterr().err
    assert DAMAGED[kind] in error and len(error.splitlines()) == 1


def test_a_damaged_run_leaves_the_rest_of_the_report(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = ["publish", "results/tiny/table1", "--as", "whole", "--limits", "limits.md"]
    assert main(write) == 0
    damage(published, "truncated")
    capsys.readouterr()
    assert main(["report"]) == 0
    out = capsys.readouterr()
    assert "(1 results, 1 published)" in out.out
    (line,) = out.err.splitlines()
    assert line.startswith(f"published/{NAME} is left out: ")
    index = Path("site/index.html").read_text()
    assert f"published/{NAME}" in index and Path("site/published/whole.html").is_file()
    assert not Path(f"site/published/{NAME}.html").exists()


def test_the_report_shows_published_runs_apart_from_the_users_own(published: Path) -> None:
    report = make_report(Path("results"), None, Path("site"))
    assert (report.shown, report.published, report.left_out) == (["tiny/table1"], [NAME], [])
    index = Path("site/index.html").read_text()
    own, _, theirs = index.partition("Published runs")
    assert "tiny/table1.html" in own and f"published/{NAME}.html" not in own
    for text in (f"published/{NAME}.html", "CPU_with_underscore", "0123456789abcdef", "2026-01-31"):
        assert text in theirs
    assert "The data are synthetic." in theirs
    page = Path(f"site/published/{NAME}.html").read_text()
    for text in ("not made on this machine", "What it cannot show", "cannot be seen", "TDPO v1"):
        assert text in page
    for text in ("What was run: 2 stages", "world seed 42", f"compare {NAME} results/tiny/table1"):
        assert text in page
    # The user's own result is the same, and is compared with it.
    assert "../tiny/table1.html" in page and "100.0 % of means lie in the other" in page
    for name in ("run.json", "timings.json", "table1.png", "README.md"):
        assert Path(f"site/published/files/{NAME}/{name}").is_file()
    assert "A published run" not in Path("site/tiny/table1.html").read_text()
    assert Path(f"site/published/{NAME}.samples.html").is_file()


def test_published_runs_are_shown_without_results_of_ones_own(published: Path) -> None:
    report = make_report(Path("elsewhere"), None, Path("site"), published.parent)
    assert (report.shown, report.published) == ([], [NAME])
    page = Path(f"site/published/{NAME}.html").read_text()
    assert "There is no result of this machine." in page
    only = make_report(Path("results"), ["tiny"], Path("site"))
    assert only.published == [NAME]
    with pytest.raises(UserError, match="no results of the profile small"):
        make_report(Path("results"), ["small"], Path("site"))


def test_text_of_a_published_run_that_is_markup_stays_text(clone: Path) -> None:
    write_run(clone / "results", publishable(model=HOSTILE))
    write_limits(clone, HOSTILE)
    arguments = ["results/tiny/table1", "--as", NAME, "--limits", "limits.md", "--note"]
    assert main(["publish", *arguments, "limits.md"]) == 0
    make_report(Path("results"), None, Path("site"))
    for page in ("index.html", f"published/{NAME}.html"):
        text = Path("site", page).read_text()
        assert "<b>" not in text and '<img src="http' not in text
        assert HOSTILE in html.unescape(text)


def test_compare_takes_names_folders_and_files(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first in (NAME, str(published), f"{published}/table1.json"):
        for second in ("results/tiny/table1", "results/tiny/table1/table1.json"):
            assert main(["compare", first, second]) == 0
            assert "100.0 % of means" in capsys.readouterr().out
    assert main(["compare", "tiny-table", "results/tiny/table1"]) == 2
    assert f"Did you mean '{NAME}'?" in capsys.readouterr().err
    assert main(["compare", NAME, "results/tiny"]) == 2
    assert "has no results of experiments" in capsys.readouterr().err
    assert result_named(Path("no/such.json"), published.parent) == Path("no/such.json")


def test_list_names_published_runs_and_damaged_ones(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    assert f"  {NAME}  " in capsys.readouterr().out
    damage(published, "altered")
    assert main(["list"]) == 0
    out = capsys.readouterr()
    assert NAME not in out.out and "is truncated or altered" in out.err


def test_no_place_without_published_runs_is_a_problem(tmp_path: Path) -> None:
    assert find_published(tmp_path / "nowhere") == ([], [])
