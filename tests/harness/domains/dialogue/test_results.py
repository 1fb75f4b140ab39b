from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.profiles import StatisticsSettings
from harness.domains.common.cells import compare_rows, mean_cells
from harness.domains.common.paper import paper_numbers
from harness.domains.common.spec import PERCENT
from harness.domains.dialogue.cells import leaderboard_cells
from harness.domains.dialogue.notes import one_answer_note
from harness.domains.dialogue.results import one_answer
from sparsepo.errors import UserError
from tasks.leaderboard_v2.scoring import columns_from_scores

SETTINGS = StatisticsSettings(replicates=500)


def board(navigate: list[float], gpqa: list[float], ids: str = "r") -> dict[str, Any]:
    """A leaderboard result of one BBH sub-task (chance 1/2), GPQA (1/4) and IFEval (0)."""
    tasks: dict[str, Any] = {
        "leaderboard_bbh_navigate": {"benchmark": "bbh", "chance": 0.5, "scores": navigate},
        "leaderboard_gpqa_main": {"benchmark": "gpqa", "chance": 0.25, "scores": gpqa},
        "leaderboard_ifeval": {
            "benchmark": "ifeval",
            "chance": 0.0,
            "scores": [1.0, 0.0],
            "instructions": {"correct": [3, 0], "total": [3, 1]},
        },
    }
    for task in tasks.values():
        task["row_ids"] = [f"{ids}{i}" for i in range(len(task["scores"]))]
    columns = {name: {"n": 0} for name in columns_from_scores(tasks)}
    return {"tasks": tasks, "columns": columns}


def test_means_are_those_of_the_leaderboards_own_rules_over_chains() -> None:
    first = board([1.0] * 9 + [0.0], [1.0] * 5 + [0.0] * 5)
    second = board([1.0] * 8 + [0.0] * 2, [0.0] * 10)
    cells = leaderboard_cells({"dpo": [first, second]}, SETTINGS)["dpo"]
    # BBH (0.9 − 0.5)/0.5 = 80 and 60; GPQA (0.5 − 0.25)/0.75 = 33.3 and, floored, 0.
    assert cells["bbh"].mean == pytest.approx(70.0)
    assert cells["gpqa"].mean == pytest.approx(100 / 6)
    assert cells["ifeval_inst"].mean == pytest.approx(75.0)
    assert cells["ifeval_prom"].mean == pytest.approx(50.0)
    assert cells["avg"].mean == pytest.approx((70 + 100 / 6 + 75 + 50) / 4)
    assert cells["bbh"].seeds == 2
    low, high = cells["bbh"].as_json()["ci95"]
    assert low < 70 < high


def test_a_floored_column_at_chance_is_not_taken_for_above_it() -> None:
    """Half right on two choices: floored replicates are never below 0, and that is no evidence."""
    chance = board([1.0, 0.0] * 20, [1.0] * 10)
    cells = leaderboard_cells({"sft": [chance]}, SETTINGS)["sft"]
    assert cells["bbh"].as_json(PERCENT)["ci95"][0] == 0.0
    assert cells["bbh"].above_chance is False
    assert cells["gpqa"].above_chance is True
    assert cells["avg"].above_chance is None
    # The score before flooring is on the column's scale.
    for column, cell in cells.items():
        if cell.unfloored is not None:
            assert max(0.0, cell.unfloored.mean) == pytest.approx(cell.mean), column


def test_different_rows_are_not_compared() -> None:
    boards = {"a": [board([1.0], [1.0])], "b": [board([1.0], [1.0], ids="q")]}
    with pytest.raises(ValueError, match="different rows"):
        leaderboard_cells(boards, SETTINGS)
    with pytest.raises(ValueError, match="different rows"):
        mean_cells({"a": [{"x": 1.0}], "b": [{"y": 1.0}]}, "win_rate", SETTINGS)


def test_every_chain_may_have_rows_of_its_own() -> None:
    """What two systems of a chain have in common is enough to compare them."""
    chains = [board([1.0, 0.0] * 10, [1.0, 0.0], ids=name) for name in "abc"]
    cells = leaderboard_cells({"dpo": chains, "tdpo1": chains}, SETTINGS)
    assert not cells["dpo"]["bbh"].sample.crossed
    assert leaderboard_cells({"dpo": chains[:1] * 3}, SETTINGS)["dpo"]["bbh"].sample.crossed
    with pytest.raises(ValueError, match="different rows"):
        leaderboard_cells({"dpo": chains, "tdpo1": chains[::-1]}, SETTINGS)


def test_tasks_whose_answers_are_all_at_one_place_are_found_and_named() -> None:
    given = board([1.0, 0.0, 1.0], [1.0] * 3)
    places = {"leaderboard_bbh_navigate": [0, 0, 0], "leaderboard_gpqa_main": [0, 0, 1]}
    for leaf, task in given["tasks"].items():
        task["n"] = 3
        if leaf in places:
            task["right_options"] = places[leaf]
    assert one_answer({"sft": [given], "dpo": [given]}) == {"leaderboard_bbh_navigate": 3}
    note = one_answer_note({"leaderboard_bbh_navigate": 3, "leaderboard_musr_murder_mysteries": 5})
    assert note.startswith("In bbh_navigate (3 rows), musr_murder_mysteries (5 rows) the right")
    assert one_answer_note({}) == ""
    # One row is no pattern.
    given["tasks"]["leaderboard_bbh_navigate"] |= {"n": 1, "right_options": [0]}
    assert one_answer({"sft": [given]}) == {}


def test_mean_cells_are_percentages() -> None:
    cells = mean_cells({"dpo": [{"x": 1.0, "y": 0.5}, {"x": 0.0, "y": 0.5}]}, "w", SETTINGS)
    assert cells["dpo"]["w"].mean == pytest.approx(50.0)
    assert (cells["dpo"]["w"].n, cells["dpo"]["w"].seeds) == (2, 2)


def test_comparisons_find_a_real_difference_and_no_other() -> None:
    generator = np.random.default_rng(0)

    def system(p: float) -> list[dict[str, float]]:
        return [
            {f"{chain}{i}": float(generator.random() < p) for i in range(300)} for chain in "abc"
        ]

    cells = mean_cells(
        {"dpo": system(0.5), "better": system(0.8), "same": system(0.5)}, "w", SETTINGS
    )
    entries = {e["method"]: e for e in compare_rows(cells, "dpo", ["w"], SETTINGS).entries}
    assert set(entries) == {"better", "same"}
    assert entries["better"]["significant"] is True
    assert entries["same"]["significant"] is False
    assert entries["better"]["p_holm"] >= entries["better"]["p"]
    low, high = entries["better"]["ci95"]
    assert low < entries["better"]["difference"] < high


def test_no_baseline_no_comparisons() -> None:
    cells = mean_cells({"sft": [{"x": 1.0}]}, "w", SETTINGS)
    assert compare_rows(cells, "dpo", ["w"], SETTINGS).entries == []


def test_equal_input_gives_equal_numbers() -> None:
    one = leaderboard_cells({"dpo": [board([1.0, 0.0, 1.0], [1.0, 0.0])]}, SETTINGS)
    two = leaderboard_cells({"dpo": [board([1.0, 0.0, 1.0], [1.0, 0.0])]}, SETTINGS)
    assert {c: v.as_json() for c, v in one["dpo"].items()} == {
        c: v.as_json() for c, v in two["dpo"].items()
    }


def test_papers_numbers() -> None:
    numbers = paper_numbers("table1")
    assert numbers["sft"]["avg"] == 7.22
    assert list(numbers)[-2:] == ["sparsepo-common", "sparsepo-independent"]
    with pytest.raises(UserError, match="missing"):
        paper_numbers("table99")


@pytest.mark.parametrize("content", ['{"rows": [', '{"rows": [{"id": 1}]}', "[]", "\xff"])
def test_a_damaged_file_of_the_papers_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "table3.json").write_bytes(content.encode("latin-1"))
    monkeypatch.setattr("harness.domains.common.paper.PAPER", tmp_path)
    with pytest.raises(UserError, match=r"table3\.json .* cannot be read; restore it"):
        paper_numbers("table3")
