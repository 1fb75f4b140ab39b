"""The leaderboard: ranks, comparisons, costs, entries made elsewhere, and what is left out."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.cli import main
from harness.commands.leaderboard import leaderboard_json
from harness.commands.leaderboard.command import add_entry
from harness.commands.leaderboard.show import show
from harness.domains.common.spec import RowSpec
from sparsepo.errors import UserError
from sparsepo.methods import BUILT_IN
from tests.small_results import COST, FUNCTION, LEVELS, small_result, write_result

PLUGIN = {"ipo": 65.0}


def entry(board: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in board["entries"] if one["id"] == name)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two tasks: dialogue with cost, and code, in which SFT has no row."""
    folder = tmp_path / "results"
    slow = {**COST, "seconds": 28.0}
    write_result(folder, small_result(), {"dpo": [COST, COST], "mapo": [slow]})
    code = {row: level for row, level in LEVELS.items() if row != "sft"}
    write_result(folder, small_result("table2", code, chains=3, seed=1))
    return folder


def test_ranks_are_over_metrics_chains_and_tasks(results: Path) -> None:
    board = leaderboard_json(results, "tiny")
    assert [task["id"] for task in board["tasks"]] == ["dialogue", "code"]
    order = [one["id"] for one in board["entries"]]
    # SFT has one task alone, and stands after those with both.
    assert (order[0], order[-1]) == ("mapo", "sft")
    best, last = entry(board, "mapo"), entry(board, "sft")
    assert best["mean_rank"]["mean"] == 1.0
    assert (best["mean_rank"]["tasks"], last["mean_rank"]["tasks"]) == (2, 1)
    assert (best["ranks"]["dialogue"]["mean"], best["ranks"]["dialogue"]["chains"]) == (1.0, 5)
    assert last["ranks"]["dialogue"]["mean"] == 4.0
    # Three methods in code, ranked as if there were four: 1, 2.5, 4.
    assert entry(board, "dpo")["ranks"]["code"]["chains"] == 3
    assert sum(one["ranks"]["code"]["mean"] for one in board["entries"][:3]) == pytest.approx(7.5)
    for one in board["entries"]:
        low, high = one["mean_rank"]["ci95"]
        assert 1.0 <= low <= one["mean_rank"]["mean"] <= high <= 4.0
    ranked = {metric["key"] for metric in board["metrics"] if metric["ranked"]}
    # Neither the average of other metrics nor one without a direction.
    assert ranked == {"table1/bbh", "table1/musr", "table2/bbh", "table2/musr"}


def test_a_row_names_command_commit_and_configuration(results: Path) -> None:
    board = leaderboard_json(results, "tiny")
    runs = entry(board, "dpo")["runs"]
    assert [run["command"] for run in runs] == [
        "python -m harness run --table 1 --profile tiny",
        "python -m harness run --table 2 --profile tiny",
    ]
    assert runs[0]["commit"] == "0123456789abcdef"
    assert runs[0]["configuration"] != entry(board, "mapo")["runs"][0]["configuration"]
    changed = small_result()
    changed["provenance"]["settings"]["methods"]["mapo"] = {"beta": 0.2}
    write_result(results, changed)
    after = leaderboard_json(results, "tiny")
    # Another method's value is no part of a row's configuration.
    assert entry(after, "dpo")["runs"][0] == runs[0]
    own = [entry(one, "mapo")["runs"][0]["configuration"] for one in (board, after)]
    assert own[0] != own[1] and all(len(one) == 12 for one in own)


def test_comparisons_are_the_results_own_and_the_same_test_for_others(results: Path) -> None:
    held = small_result()
    against_dpo = entry(leaderboard_json(results, "tiny", "dpo"), "mapo")["against"]["table1/bbh"]
    own = next(
        one for one in held["significance"] if (one["row"], one["column"]) == ("mapo", "bbh")
    )
    assert against_dpo["difference"] == own["difference"]
    assert (against_dpo["p"], against_dpo["ci95"]) == (own["p"], own["ci95"])
    assert (against_dpo["mark"], against_dpo["significant"]) == ("▲", True)
    assert entry(leaderboard_json(results, "tiny", "dpo"), "dpo")["against"] == {}
    # Without the entry in the result, the values of the chains give the same.
    bare = copy.deepcopy(held)
    bare["significance"] = []
    write_result(results, bare)
    computed = entry(leaderboard_json(results, "tiny", "dpo"), "mapo")["against"]["table1/bbh"]
    assert computed.pop("ci95") == pytest.approx(against_dpo.pop("ci95"), abs=2e-6)
    assert computed == pytest.approx(against_dpo, abs=2e-6)
    reverse = entry(leaderboard_json(results, "tiny", "mapo"), "dpo")["against"]["table1/bbh"]
    assert reverse["difference"] == pytest.approx(-own["difference"])
    assert reverse["mark"] == "▼"
    length = entry(leaderboard_json(results, "tiny", "sft"), "mapo")["against"]["table1/length"]
    assert length["mark"] == "≠"


def test_items_that_chains_may_share_make_a_comparison_less_sure(results: Path) -> None:
    shared = small_result()
    shared["provenance"]["settings"]["data"]["hh_rlhf"] = "pairs.jsonl (sha256 0)"
    own = entry(leaderboard_json(results, "tiny", "simpo"), "dpo")["against"]["table1/bbh"]
    write_result(results, shared)
    wide = entry(leaderboard_json(results, "tiny", "simpo"), "dpo")["against"]["table1/bbh"]
    assert wide["difference"] == own["difference"]
    assert wide["ci95"][0] < own["ci95"][0] and wide["p"] > own["p"]


def test_one_chain_has_no_p_value(tmp_path: Path) -> None:
    write_result(tmp_path, small_result(chains=1))
    board = leaderboard_json(tmp_path, "tiny", "sft")
    compared = entry(board, "mapo")["against"]["table1/bbh"]
    assert compared["p"] is None and compared["mark"] == ""
    assert compared["ci95"][0] < compared["difference"] < compared["ci95"][1]
    assert entry(board, "mapo")["mean_rank"]["ci95"] is None
    assert any("One chain" in note for note in board["notes"])


def test_cost_stands_beside_quality(results: Path) -> None:
    board = leaderboard_json(results, "tiny")
    cost = entry(board, "dpo")["cost"]["table1"]
    assert cost == {
        "seconds": 10.0,
        "peak_memory_bytes": 512 * 2**20,
        "memory_of": "process",
        "tokens_per_second": 5000.0,
        "trained_parameters": 480_000,
        "hardware": "2 × CPU",
        "threads": 1,
        "runs": 2,
    }
    assert entry(board, "mapo")["relative_seconds"] == 3.0
    assert entry(board, "mapo")["cost"]["table1"]["tokens_per_second"] == round(40_000 / 28, 1)
    assert entry(board, "simpo")["cost"] == {}
    assert entry(board, "simpo")["relative_seconds"] is None


def test_a_damaged_cost_is_a_dash_and_not_an_error(results: Path) -> None:
    file = results / "tiny/table1/timings.json"
    for content in ("{", "[]", '{"training": {"dpo": [{"seconds": NaN}]}}'):
        file.write_text(content)
        assert entry(leaderboard_json(results, "tiny"), "dpo")["cost"] == {}


def test_command_prints_and_writes(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--results", str(results), "--against", "dpo"]) == 0
    shown = capsys.readouterr().out
    assert "Leaderboard (tiny profile, against dpo)" in shown
    assert "▲" in shown and "MAPO" in shown and "512" in shown and "480K" in shown
    folder = results / "tiny/leaderboard"
    board = json.loads((folder / "leaderboard.json").read_text())
    assert board == leaderboard_json(results, "tiny", "dpo")
    lines = list(csv.DictReader((folder / "leaderboard.csv").open()))
    assert len(lines) == sum(len(one["values"]) for one in board["entries"])
    first = next(line for line in lines if (line["entry"], line["column"]) == ("mapo", "bbh"))
    assert (first["significant"], first["seconds"]) == ("True", "30.0")
    # The folder it has written is no result, and a second time changes nothing.
    before = (folder / "leaderboard.json").read_bytes()
    assert main(["leaderboard", "--results", str(results), "--against", "dpo"]) == 0
    assert (folder / "leaderboard.json").read_bytes() == before


def test_the_terminal_shows_no_markup_of_a_result(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = small_result()
    odd["rows"][1]["label"] = "[red]D\x1b[31mPO[/]"
    write_result(results, odd)
    assert main(["leaderboard", "--results", str(results)]) == 0
    shown = capsys.readouterr().out
    assert "[red]D[31mPO[/]" in shown and "\x1b[31m" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "dpoo"], "Did you mean 'dpo'?"),
        (["--profile", "small"], "No result of the profile small"),
    ],
)
def test_mistakes_are_one_line(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["leaderboard", "--results", str(results), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def truncated(text: str) -> str:
    return text[: len(text) // 2]


def not_a_number(text: str) -> str:
    return text.replace('"mean": ', '"mean": NaN, "was": ', 1)


def infinite(text: str) -> str:
    return text.replace('"mean": ', '"mean": 1e999, "was": ', 1)


def other_schema(text: str) -> str:
    return text.replace('"columns"', '"spalten"')


def other_experiment(text: str) -> str:
    return text.replace('"id": "table2"', '"id": "table99"')


def without_chains(text: str) -> str:
    return text.replace("per_chain", "per_seed")


def nested(text: str) -> str:
    return "[" * 100_000


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncated, "is not valid JSON"),
        (not_a_number, "holds NaN, which is no value"),
        (infinite, "holds 1e999, which is no value"),
        (other_schema, "was not written by this version"),
        (other_experiment, "table99 is no experiment of this version"),
        (without_chains, "without the values of each chain"),
        (nested, "is not valid JSON"),
    ],
)
def test_a_bad_result_is_left_out_in_one_line(
    results: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[str], str],
    reason: str,
) -> None:
    file = results / "tiny/table2/table2.json"
    file.write_text(damage(file.read_text()))
    assert main(["leaderboard", "--results", str(results)]) == 0
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "table2 is left out: " in shown and reason in " ".join(shown.split())
    board = leaderboard_json(results, "tiny")
    assert [task["id"] for task in board["tasks"]] == ["dialogue"]
    assert [one["name"] for one in board["left_out"]] == ["table2"]


def test_a_folder_without_rights_is_left_out(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Path.read_text

    def refuse(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name == "table2.json":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    # As root, no folder is forbidden.
    monkeypatch.setattr(Path, "read_text", refuse)
    assert main(["leaderboard", "--results", str(results)]) == 0
    assert "Permission denied" in capsys.readouterr().out

    def closed(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    assert main(["leaderboard", "--results", str(results)]) == 2
    told = capsys.readouterr()
    assert "cannot be read: Permission denied" in told.out
    assert told.err.count("\n") == 1


def test_a_result_of_another_commit_is_named(results: Path) -> None:
    assert not any("another version" in n for n in leaderboard_json(results, "tiny")["notes"])
    old = small_result("table2", chains=3)
    old["provenance"].update(git_commit="fedcba9876543210", stages={FUNCTION: "0" * 16})
    write_result(results, old)
    board = leaderboard_json(results, "tiny")
    assert any("Commits 0123456, fedcba9" in note for note in board["notes"])
    assert any("another version of the code" in n and "table2." in n for n in board["notes"])
    assert entry(board, "mapo")["mean_rank"]["tasks"] == 2


def test_tables_of_variants_are_not_ranked(results: Path) -> None:
    rows = [RowSpec(name, "dpo", name, {"beta": 1.0}) for name in ("a", "b")]
    write_result(results, small_result("table3", {"a": 1.0, "b": 2.0}, rows=rows))
    board = leaderboard_json(results, "tiny")
    assert {one["id"] for one in board["entries"]} == set(LEVELS)
    assert board["left_out"] == []


def test_tuned_rows_are_entries_of_their_own(results: Path) -> None:
    levels = {**LEVELS, "mapo-tuned": 70.0}
    rows = [RowSpec(row, row, row.upper()) for row in LEVELS]
    rows.append(RowSpec("mapo-tuned", "mapo", "MAPO, tuned", tuned=True))
    write_result(results, small_result(levels=levels, rows=rows), name="table1-tuned")
    board = leaderboard_json(results, "tiny", "dpo")
    tuned = entry(board, "mapo-tuned")
    assert tuned["method"] == "mapo" and tuned["runs"][0]["file"].startswith("tiny/table1-tuned/")
    assert entry(board, "mapo")["runs"][0]["file"] == "tiny/table1/table1.json"
    assert tuned["against"]["table1/bbh"]["difference"] > 15.0


# Entries made elsewhere


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A result with a plug-in's row, made by the same stages."""
    levels = {"dpo": LEVELS["dpo"], **PLUGIN}
    return write_result(tmp_path / "elsewhere", small_result(levels=levels), {"ipo": [COST]})


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    result = json.loads(file.read_text())
    edit(result)
    file.write_text(json.dumps(result))


def test_a_result_made_elsewhere_is_added(
    results: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "add", str(elsewhere), "--results", str(results)]) == 0
    assert "added ipo of table1" in capsys.readouterr().out
    board = leaderboard_json(results, "tiny", "dpo")
    added = entry(board, "ipo")
    assert (added["origin"], entry(board, "dpo")["origin"]) == ("added", "run")
    assert added["ranks"]["dialogue"]["mean"] == 1.0
    assert added["against"]["table1/bbh"]["mark"] == "▲"
    assert added["cost"]["table1"]["seconds"] == 10.0
    assert any("Made elsewhere" in note and "IPO" in note for note in board["notes"])
    # Once more, there is nothing new in it.
    assert main(["leaderboard", "add", str(elsewhere), "--results", str(results)]) == 2
    assert "already" in capsys.readouterr().err


def other_code(result: dict[str, Any]) -> None:
    result["provenance"]["stages"] = {FUNCTION: "0" * 16}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda r: r["provenance"]["versions"].update(lm_eval="0.3"), "lm_eval 0.3"),
        (lambda r: r["provenance"]["statistics"].update(replicates=9), "statistics.replicates 9"),
        (other_code, "The code of its stage"),
        (lambda r: r["provenance"].pop("stages"), "does not name the code of its stages"),
        (lambda r: r["provenance"]["settings"]["po"].update(epochs=9), "po.epochs 9"),
        (lambda r: r["provenance"]["settings"].update(seeds=7), "seeds 7"),
        (lambda r: r["provenance"].pop("settings"), "with which settings it was made"),
        (lambda r: r["higher_is_better"].update(bbh=False), "another direction"),
        (lambda r: r.pop("column_labels"), "another schema"),
        (lambda r: r.update(profile=3), "another schema"),
        (lambda r: r["rows"][0]["values"]["bbh"].pop("per_chain"), "values of each chain"),
        (lambda r: r["rows"][1].update(id="ipo-variant"), "variants of methods"),
        (lambda r: r.update(id="table77"), "no experiment of this version"),
    ],
)
def test_a_result_that_cannot_be_compared_is_refused(
    results: Path,
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[dict[str, Any]], object],
    reason: str,
) -> None:
    change(elsewhere, edit)
    assert main(["leaderboard", "add", str(elsewhere), "--results", str(results)]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert not (results / "tiny/leaderboard").exists()


@pytest.mark.parametrize("damage", [truncated, not_a_number, nested])
def test_a_damaged_file_is_refused(
    results: Path,
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[str], str],
) -> None:
    elsewhere.write_text(damage(elsewhere.read_text()))
    assert main(["leaderboard", "add", str(elsewhere), "--results", str(results)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UserError, match="cannot be read"):
        add_entry(elsewhere.parent / "missing.json", results)


def test_other_chains_are_refused(results: Path, tmp_path: Path) -> None:
    result = small_result(levels={"dpo": 50.0, **PLUGIN}, chains=3)
    result["provenance"]["settings"]["seeds"] = 5
    with pytest.raises(UserError, match="It has 3 chains, the leaderboard 5"):
        add_entry(write_result(tmp_path / "other", result), results)


def test_without_results_here_the_code_here_decides(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_entry(elsewhere, tmp_path / "empty")
    assert "no result of table1 here" in capsys.readouterr().out
    change(elsewhere, other_code)
    with pytest.raises(UserError, match="make it with this version"):
        add_entry(elsewhere, tmp_path / "none")
    change(elsewhere, lambda r: r["provenance"].update(stages={"harness.none:f": "0" * 16}))
    with pytest.raises(UserError, match="unknown here"):
        add_entry(elsewhere, tmp_path / "none")


def test_added_entries_are_checked_again_when_shown(
    results: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = add_entry(elsewhere, results)
    changed = small_result()
    changed["provenance"]["settings"]["po"]["epochs"] = 2
    write_result(results, changed)
    board = leaderboard_json(results, "tiny")
    assert "ipo" not in {one["id"] for one in board["entries"]}
    (left,) = board["left_out"]
    assert left["name"] == kept.name and "po.epochs 1" in left["reason"]
    kept.write_text(truncated(kept.read_text()))
    (left,) = leaderboard_json(results, "tiny")["left_out"]
    assert "not valid JSON" in left["reason"]
    kept.write_text(json.dumps({"format": 9, "result": {}}))
    (left,) = leaderboard_json(results, "tiny")["left_out"]
    assert "of another version" in left["reason"]


@pytest.mark.parametrize("width", [80, 120, 170])
def test_all_methods_at_once_are_legible_in_a_terminal_of_any_width(
    tmp_path: Path, width: int
) -> None:
    """What `run --methods all` gives: no value is cut off or broken over lines."""
    rows = [RowSpec(name, name, cls.title) for name, cls in BUILT_IN.items()]
    levels = {row.id: 40.0 + place / 3 for place, row in enumerate(rows)}
    costs = {row.id: [COST] for row in rows}
    write_result(tmp_path, small_result("table1", levels, chains=3, rows=rows), costs)
    write_result(tmp_path, small_result("table2", levels, chains=3, seed=1, rows=rows), costs)
    board = leaderboard_json(tmp_path, "tiny", "dpo")
    console = Console(file=io.StringIO(), width=width)
    show(board, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    in_tables = [line for line in lines if line.startswith("│")]
    assert "…" not in "".join(in_tables)
    tables = sum(line.startswith("└") for line in lines)
    # Each row of each table is one line, which begins with its method.
    titles = [line.strip("│ ").partition("│")[0].strip() for line in in_tables]
    assert sorted(titles) == sorted([row.label for row in rows] * tables)
    shown = "\n".join(in_tables)
    for entry in board["entries"]:
        low, high = entry["mean_rank"]["ci95"]
        assert f"{entry['mean_rank']['mean']:.1f} [{low:.1f}, {high:.1f}]" in shown
