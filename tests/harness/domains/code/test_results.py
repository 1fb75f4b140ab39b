from __future__ import annotations

from typing import Any

import pytest

from harness.config.assign import apply_assignments
from harness.domains.code import DOMAIN
from harness.domains.code.notes import notes
from harness.domains.code.profile import CodeProfile
from harness.domains.code.results import evaluation_facts, pass_cells
from harness.domains.code.work.tuning import best
from harness.render.table import blocks
from tasks.metrics.pass_at_k import pass_at_k


def profile(*assignments: str) -> CodeProfile:
    return apply_assignments(
        DOMAIN.get_profile("tiny"), ("statistics.replicates=200", *assignments)
    )


def report(passed: list[int], samples: int = 100, **verdicts: int) -> dict[str, Any]:
    one = {
        "problems": {str(number): [samples, count] for number, count in enumerate(passed)},
        "verdicts": {"passed": sum(passed), **verdicts},
        "suspected_forgeries": verdicts.get("suspect", 0),
    }
    return {"tier": "namespaces", "benchmarks": {"humaneval": one, "mbpp_test": one}}


def test_a_cell_is_the_mean_of_the_unbiased_estimate_over_problems_and_chains() -> None:
    reports = {"base": [report([10, 0, 50])], "dpo": [report([20, 1, 60]), report([30, 0, 70])]}
    cells = pass_cells(reports, profile())
    for k in (1, 10, 100):
        cell = cells["dpo"][f"humaneval_pass@{k}"]
        chains = ([20, 1, 60], [30, 0, 70])
        means = [sum(pass_at_k(100, c, k) for c in counts) / 3 for counts in chains]
        assert cell.mean == pytest.approx(100 * sum(means) / 2)
        assert (cell.n, cell.seeds) == (3, 2)
    assert cells["base"]["mbpp_pass@1"].mean == pytest.approx(20.0)


def test_columns_need_as_many_samples_as_their_k() -> None:
    cells = pass_cells({"base": [report([3, 5], samples=20)]}, profile("sampling.test_samples=20"))
    assert set(cells["base"]) == {
        f"{name}_pass@{k}" for name in ("humaneval", "mbpp") for k in (1, 10)
    }


def test_systems_on_other_problems_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different rows"):
        pass_cells({"base": [report([1, 2])], "dpo": [report([1, 2, 3])]}, profile())


def test_timeouts_are_counted_apart_from_failures() -> None:
    facts = evaluation_facts(
        {
            "base": [report([10], failed=80, timeout=10)],
            "dpo": [report([20], failed=75, timeout=5), report([20], failed=80)],
        }
    )
    assert facts["tiers"] == ["namespaces"]
    assert facts["verdicts"]["base"]["humaneval"] == {"failed": 80, "passed": 10, "timeout": 10}
    assert facts["verdicts"]["dpo"]["mbpp_test"] == {"failed": 155, "passed": 40, "timeout": 5}


def table(**changes: Any) -> dict[str, Any]:
    settings = {
        "sampling": {"test_samples": 100, "temperature": 0.6, "top_p": 1.0},
        "tuning": {"samples": 10, "problems": 10},
    }
    value = {"mean": 40.0, "ci95": [30.0, 50.0], "n": 40, "seeds": 3}
    kept = {"kept": 20, "prompts": 30}
    return {
        "profile": "tiny",
        "columns": ["humaneval_pass@1"],
        "column_labels": {"humaneval_pass@1": "HumanEval pass@1"},
        "rows": [
            {"method": name, "label": label, "values": {"humaneval_pass@1": value}}
            for name, label in (("base", "Base model"), ("dpo", "DPO"), ("mapo", "MaPO"))
        ],
        "missing": {},
        "baseline": "base",
        "significance": [
            {
                "column": "humaneval_pass@1",
                "method": method,
                "baseline": baseline,
                "difference": difference,
                "p_holm": 0.01,
                "significant": True,
            }
            for method, baseline, difference in (("mapo", "base", 5.0), ("mapo", "dpo", -2.0))
        ],
        "tuned": {"mapo": {"seed 42": {"hyper_parameters": {"beta": 0.8}}}},
        "provenance": {
            "settings": settings,
            "statistics": {"alpha": 0.05},
            "evaluation": evaluation_facts(
                {"base": [report([40, 40], failed=100, timeout=17, memory=3)]}
            ),
            "sampled": {
                "test problems": {"responses": 2400, "unfinished": 31, "truncated_prompts": 0},
                "training problems": {},
            },
            "data": {"seed 42": {"train": kept, "validation": kept}},
            "git_commit": "0" * 40,
            "git_dirty": False,
            "model": "tiny-bigcode",
            "hardware": "2 × CPU",
            "versions": {"torch": "2"},
        },
        **changes,
    }


def test_notes_tell_what_a_reader_has_to_know() -> None:
    text = "\n".join(notes(table()))
    assert "unbiased estimate from 100 samples" in text
    assert "better ▲ or worse ▼ than Base model" in text and "worse ▼ than DPO" in text
    assert "MaPO 0.8" in text
    # Both benchmarks: 2 · 200 programs.
    assert "Of 400 programs 160 passed; 34 out of time, 6 out of memory" in text
    assert (
        "Sampled responses: 2,400 to test problems (31 reached the longest length without an end, "
        "0 prompts lost their beginning to fit the context)." in text
    )
    assert "Isolation: namespaces" in text
    assert "20 of 30 training" in text
    assert "does not measure the paper's models" in text
    assert "Tiny profile" not in "\n".join(notes(table(profile="paper")))


def test_notes_without_choice_of_beta_and_without_timeouts() -> None:
    given = table(tuned={})
    # The base model alone needs no pairs.
    given["provenance"]["data"] = {}
    given["provenance"]["evaluation"] = evaluation_facts({"base": [report([1], failed=99)]})
    text = "\n".join(notes(given))
    assert "β chosen" not in text
    assert "none out of time or memory" in text


@pytest.mark.parametrize(
    ("scores", "default", "chosen"),
    [
        ({0.1: (0.5, 0.2), 0.8: (0.6, 0.1)}, None, 0.8),
        ({0.1: (0.6, 0.2), 0.8: (0.6, 0.1)}, 0.8, 0.1),
        ({0.1: (0.6, 0.2), 0.8: (0.6, 0.2)}, 0.8, 0.8),
        ({0.1: (0.6, 0.2), 0.4: (0.6, 0.2), 0.8: (0.6, 0.2)}, 3.0, 0.1),
    ],
)
def test_the_best_beta_and_what_breaks_ties(
    scores: dict[float, tuple[float, float]], default: float | None, chosen: float
) -> None:
    given = {beta: {"pass@k": k, "pass@1": one} for beta, (k, one) in scores.items()}
    assert best(given, default) == chosen


def test_marks_in_the_table_are_of_its_own_baseline() -> None:
    given = table(id="table2", title="Text-to-code")
    for row in given["rows"]:
        row["paper"] = None
    (block,) = blocks(given)
    marks = {label: cell.mark for label, _, (cell,) in block.rows if cell is not None}
    assert marks == {"Base model": "", "DPO": "", "MaPO": "▲"}
