from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sparsepo.errors import UserError
from tasks.leaderboard_v2.rows import (
    describe_missing,
    evenly_spaced,
    read_benchmark,
)
from tasks.leaderboard_v2.sources import REQUIRED_FIELDS, fingerprint_source

from .conftest import ROWS, write_jsonl


def test_evenly_spaced() -> None:
    assert evenly_spaced(5, None) == [0, 1, 2, 3, 4]
    assert evenly_spaced(3, 9) == [0, 1, 2]
    assert evenly_spaced(10, 3) == [0, 3, 6]
    assert evenly_spaced(0, 3) == []


def test_rows_go_to_their_leaf_tasks(data: dict[str, Path]) -> None:
    bbh = read_benchmark("bbh", data["bbh"])
    assert {leaf: len(part.rows) for leaf, part in bbh.leaves.items()} == {
        "leaderboard_bbh_boolean_expressions": 4,
        "leaderboard_bbh_ruin_names": 2,
        "leaderboard_bbh_tracking_shuffled_objects_three_objects": 4,
    }
    assert bbh.skipped == {"'word_sorting' is not part of the leaderboard": 1}
    math = read_benchmark("math_hard", data["math_hard"])
    assert {leaf: len(part.rows) for leaf, part in math.leaves.items()} == {
        "leaderboard_math_algebra_hard": 2,
        "leaderboard_math_counting_and_prob_hard": 1,
    }
    assert math.skipped == {
        "not level 5, the only level that MATH-hard uses": 1,
        "solution without a boxed answer": 1,
    }
    gpqa = read_benchmark("gpqa", data["gpqa"])
    assert {leaf: len(part.rows) for leaf, part in gpqa.leaves.items()} == {
        "leaderboard_gpqa_main": 5,
        "leaderboard_gpqa_diamond": 1,
    }
    assert len(read_benchmark("musr", data["musr"]).leaves) == 3


def test_row_ids_are_the_rows_own_or_their_position(data: dict[str, Path]) -> None:
    ifeval = read_benchmark("ifeval", data["ifeval"]).leaves["leaderboard_ifeval"]
    assert ifeval.row_ids == ["1000", "1001", "1002", "1003"]
    math = read_benchmark("math_hard", data["math_hard"]).leaves
    assert math["leaderboard_math_algebra_hard"].row_ids == ["0", "2"]


def test_equal_ids_are_told_apart(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "ifeval.jsonl", [ROWS["ifeval"][0]] * 2)
    assert read_benchmark("ifeval", path).leaves["leaderboard_ifeval"].row_ids == ["1000", "1000@1"]


def test_limit_counts_for_each_leaf(data: dict[str, Path]) -> None:
    leaves = read_benchmark("bbh", data["bbh"], limit=2).leaves
    boolean = leaves["leaderboard_bbh_boolean_expressions"]
    assert boolean.row_ids == ["0", "2"]
    assert boolean.available == 4
    assert len(leaves["leaderboard_bbh_ruin_names"].rows) == 2
    with pytest.raises(UserError, match="at least 1"):
        read_benchmark("bbh", data["bbh"], limit=0)


def test_mmlu_pro_without_validation_holds_rows_out(data: dict[str, Path]) -> None:
    part = read_benchmark("mmlu_pro", data["mmlu_pro"], limit=3).leaves["leaderboard_mmlu_pro"]
    assert [row["question_id"] for row in part.examples] == [70, 71, 72, 73, 74]
    assert part.available == 4
    assert not {row["question_id"] for row in part.rows} & {70, 71, 72, 73, 74}
    assert part.examples_from == "first 5 test rows, not evaluated"


def test_mmlu_pro_with_validation_evaluates_every_test_row(tmp_path: Path) -> None:
    rows = [
        dict(row, split="validation" if n >= 6 else "test")
        for n, row in enumerate(ROWS["mmlu_pro"])
    ]
    part = read_benchmark("mmlu_pro", write_jsonl(tmp_path / "m.jsonl", rows)).leaves[
        "leaderboard_mmlu_pro"
    ]
    assert [row["question_id"] for row in part.examples] == [76, 77, 78]
    assert len(part.rows) == 6
    assert part.examples_from == "validation rows"


def test_one_mmlu_pro_row_is_evaluated_without_examples(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "m.jsonl", ROWS["mmlu_pro"][:1])
    part = read_benchmark("mmlu_pro", path).leaves["leaderboard_mmlu_pro"]
    assert (len(part.rows), part.examples) == (1, [])


@pytest.mark.parametrize(
    ("benchmark", "change", "reason"),
    [
        ("gpqa", {"Question": None}, "question or answer is not a string"),
        ("musr", {"choices": "['a'"}, "choices are not a string that contains a Python list"),
        ("musr", {"choices": "[]"}, "choices are not a list of non-empty strings"),
        ("mmlu_pro", {"options": ["one"]}, "options are not a list of 2 to 26 entries"),
        ("mmlu_pro", {"answer": "K"}, "answer is not the letter of an option"),
        ("ifeval", {"kwargs": []}, "instruction_id_list and kwargs differ in length"),
        ("ifeval", {"instruction_id_list": ["x:y"], "kwargs": [{}]}, "unknown instruction"),
        ("ifeval", {"instruction_id_list": [], "kwargs": []}, "no instruction"),
        ("ifeval", {"kwargs": [{"words": 3}]}, "kwargs are invalid for their instruction"),
        ("ifeval", {"kwargs": ["none"]}, "kwargs are invalid for their instruction"),
    ],
)
def test_rows_that_lm_eval_cannot_evaluate_are_counted(
    tmp_path: Path, benchmark: Any, change: dict[str, Any], reason: str
) -> None:
    rows = [dict(ROWS[benchmark][0], **change), ROWS[benchmark][0]]
    found = read_benchmark(benchmark, write_jsonl(tmp_path / "rows.jsonl", rows))
    assert found.skipped == {reason: 1}
    assert sum(len(part.rows) for part in found.leaves.values()) == 1
    only_bad = read_benchmark(benchmark, write_jsonl(tmp_path / "bad.jsonl", rows[:1]))
    assert only_bad.missing == f"no usable row: {reason} (1)"


def test_missing_data_has_a_reason(data: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert describe_missing({**data, "musr": empty, "gpqa": None, "bbh": "hub"}) == {
        "gpqa": "no data given",
        "musr": "no usable row",
    }


def test_unreachable_hub_is_missing_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach 'Idavidrein/gpqa' on the Hub\nand more")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    found = read_benchmark("gpqa", "hub")
    assert found.leaves == {}
    assert found.missing == "not readable from the hub: Couldn't reach 'Idavidrein/gpqa' on the Hub"


@pytest.mark.parametrize(
    ("benchmark", "repository"),
    [
        ("bbh", "SaylorTwift/bbh"),
        ("gpqa", "Idavidrein/gpqa"),
        ("math_hard", "DigitalLearningGmbH/MATH-lighteval"),
        ("musr", "TAUR-Lab/MuSR"),
        ("mmlu_pro", "TIGER-Lab/MMLU-Pro"),
        ("ifeval", "wis-k/instruction-following-eval"),
    ],
)
def test_hub_rows_come_from_lm_evals_repository(
    monkeypatch: pytest.MonkeyPatch, benchmark: Any, repository: str
) -> None:
    asked = []

    def load(path: str, name: str | None, split: str) -> list[dict[str, Any]]:
        asked.append((path, name, split))
        return [dict(ROWS[benchmark][0])]

    monkeypatch.setattr("datasets.load_dataset", load)
    found = read_benchmark(benchmark, "hub")
    expected = {"bbh": 24, "math_hard": 7, "gpqa": 3, "musr": 3, "mmlu_pro": 1, "ifeval": 1}
    assert {path for path, _, _ in asked} == {repository}
    assert len(found.leaves) == expected[benchmark]
    assert found.missing is None


def test_gzip_parquet_and_folder_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [dict(row, split="test") for row in ROWS["mmlu_pro"]]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    zipped = read_benchmark("mmlu_pro", tmp_path / "rows.jsonl.gz").leaves["leaderboard_mmlu_pro"]
    columns = read_benchmark("mmlu_pro", tmp_path / "rows.parquet").leaves["leaderboard_mmlu_pro"]
    assert zipped == columns

    hub = tmp_path / "musr"
    hub.mkdir()
    for row in ROWS["musr"]:
        with (hub / f"{row['split']}.jsonl").open("a") as file:
            file.write(json.dumps({k: v for k, v in row.items() if k != "split"}) + "\n")
    splits = sorted({row["split"] for row in ROWS["musr"]})
    files = "".join(f"  - split: {s}\n    path: {s}.jsonl\n" for s in splits)
    (hub / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
    )
    folder = read_benchmark("musr", hub)
    single = read_benchmark("musr", write_jsonl(tmp_path / "musr.jsonl", ROWS["musr"]))
    assert list(folder.leaves) == list(single.leaves)
    for leaf, part in folder.leaves.items():
        theirs = [
            {k: v for k, v in row.items() if k != "split"} for row in single.leaves[leaf].rows
        ]
        assert part.rows == theirs

    (hub / "murder_mysteries.jsonl").write_text(json.dumps(part.rows[0]) + "\n")
    changed = read_benchmark("musr", hub)
    assert changed.fingerprint != folder.fingerprint
    assert len(changed.leaves["leaderboard_musr_murder_mysteries"].rows) == 1


def test_a_folder_that_is_not_the_hubs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UserError, match="does not have the layout of the hub repository of bbh"):
        read_benchmark("bbh", tmp_path)


def test_folders_with_other_columns_or_broken_files_are_refused(tmp_path: Path) -> None:
    for name in ("validation", "test"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"question": "?", "answer": "A"}])
    with pytest.raises(UserError, match="lacks the column 'options'"):
        read_benchmark("mmlu_pro", tmp_path)
    (tmp_path / "test.jsonl").write_text('{"question": "?"}\n{"question": \n')
    with pytest.raises(UserError, match="cannot be read"):
        read_benchmark("mmlu_pro", tmp_path)


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS["bbh"])
    first = fingerprint_source(path)
    assert fingerprint_source(path) == first
    write_jsonl(path, ROWS["bbh"][:-1])
    assert fingerprint_source(path) != first
    copied = write_jsonl(tmp_path / "copy.jsonl", ROWS["bbh"])
    assert fingerprint_source(copied) == first  # the content counts, not where it lies
    assert fingerprint_source("hub") == "hub"


def test_a_cut_file_is_named_with_its_line(tmp_path: Path) -> None:
    """Every other damage is tested where files are read, in tests/sparsepo/test_data.py."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        gzip.compress(b'{"subset": "navigate", "input": "a", "target": "Yes"}\n' * 9000)[:-20]
    )
    with pytest.raises(UserError, match="truncated gzip file: it ends after line"):
        read_benchmark("bbh", path)


@pytest.mark.parametrize("benchmark", ROWS)
def test_missing_column_is_named(tmp_path: Path, benchmark: Any) -> None:
    for name in REQUIRED_FIELDS[benchmark]:
        row = {key: value for key, value in ROWS[benchmark][0].items() if key != name}
        path = write_jsonl(tmp_path / "rows.jsonl", [row])
        with pytest.raises(UserError, match=f"lacks the column '{name}'"):
            read_benchmark(benchmark, path)


def test_unknown_names_and_files_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown benchmark 'mussr'.*Did you mean 'musr'\?"):
        describe_missing({"mussr": None})
    with pytest.raises(UserError, match="does not exist"):
        read_benchmark("bbh", tmp_path / "absent.jsonl")
