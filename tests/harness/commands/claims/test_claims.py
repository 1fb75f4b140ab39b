"""Verdicts on claims: known truths, equality, missing and bad results, one line per mistake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.claim_results import all_results, cell, table
from harness.cli import main
from harness.commands.claims import claims_json
from harness.commands.claims.claim import ALIGNED, MASKED, Claim
from harness.commands.claims.columns import TableColumn, mean_of
from harness.commands.claims.evaluate import judge
from harness.commands.claims.predicates import (
    All,
    Evaluator,
    Predicate,
    above,
    below,
    slightly_below,
    within,
)
from harness.commands.claims.predicates import (
    Any as AnyOf,
)
from harness.commands.claims.statements import CLAIMS
from harness.domains.catalogue import EXPERIMENTS

SKILL = TableColumn("table1", "skill")


class Drawn:
    """Rows with given means, chains that differ by 3 points, rows within them by `spread`."""

    def __init__(self, means: dict[str, float], spread: float = 0.3, chains: int = 5) -> None:
        self.generator = np.random.default_rng(7)
        self.means, self.spread, self.chains = means, spread, chains
        self.common = self.generator.normal(0.0, 3.0, chains)

    def __call__(self, row: str, column: str) -> Sequence[float]:
        own = self.generator.normal(0.0, self.spread, self.chains)
        found: list[float] = (self.means.get(row, 50.0) + self.common + own).tolist()
        return found


def results(spread: float = 0.3, chains: int = 5, **means: float) -> dict[str, Any]:
    return {"table1": table("table1", list(means), ("skill",), Drawn(means, spread, chains))}


def verdict(predicate: Predicate, found: dict[str, Any]) -> dict[str, Any]:
    claim = Claim("C", "1", "Table 1", "A claim.", "A test.", predicate)
    (entry,) = judge((claim,), found)["claims"]
    return dict(entry)


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        (above(SKILL, "good", "bad"), "supported"),
        (below(SKILL, "good", "bad"), "contradicted"),
        (above(SKILL, "good", "alike"), "undecided"),
        (above(SKILL, "good", "bad", by=8.0), "contradicted"),
        (above(SKILL, "good", "bad", by=3.0), "supported"),
        (above(SKILL, "good", by=40.0), "supported"),
        (above(SKILL, ("good", "alike"), "bad"), "supported"),
        (within(SKILL, "good", "alike", 2.0), "supported"),
        (within(SKILL, "good", "bad", 2.0), "contradicted"),
        (slightly_below(SKILL, "bad", "good", 9.0), "supported"),
        (slightly_below(SKILL, "bad", "good", 3.0), "contradicted"),
        (slightly_below(SKILL, "good", "bad", 9.0), "contradicted"),
        (All((above(SKILL, "good", "bad"), above(SKILL, "alike", "bad"))), "supported"),
        (All((above(SKILL, "good", "bad"), above(SKILL, "bad", "alike"))), "contradicted"),
        (All((above(SKILL, "good", "bad"), above(SKILL, "good", "alike"))), "undecided"),
        (AnyOf((above(SKILL, "bad", "good"), above(SKILL, "alike", "bad"))), "supported"),
        (AnyOf((above(SKILL, "bad", "good"), above(SKILL, "bad", "alike"))), "contradicted"),
    ],
)
def test_a_clear_truth_gets_its_verdict(predicate: Predicate, expected: str) -> None:
    found = results(good=56.0, alike=56.0, bad=50.0)
    entry = verdict(predicate, found)
    assert entry["verdict"] == expected
    assert Evaluator(found).holds(predicate) == (expected == "supported") or expected == "undecided"


def test_equality_is_not_what_a_noisy_sample_fails_to_show() -> None:
    entry = verdict(within(SKILL, "a", "b", 2.0), results(spread=5.0, a=50.0, b=50.0, c=50.0))
    assert entry["verdict"] == "undecided"
    assert entry["detectable"] > 2.0


def test_numbers_are_those_of_the_deciding_comparison() -> None:
    found = results(good=56.0, other=53.0, bad=50.0)
    predicate = All((above(SKILL, "good", "bad"), above(SKILL, "good", "other")))
    entry = verdict(predicate, found)
    rows = {row["id"]: row["values"]["skill"]["per_chain"] for row in found["table1"]["rows"]}
    difference = np.mean(np.array(rows["good"]) - np.array(rows["other"]))
    assert entry["of"] == "good − other, skill"
    assert entry["estimate"] == pytest.approx(difference, abs=1e-5)
    assert entry["ci95"][0] < difference < entry["ci95"][1]
    assert (entry["n"], entry["items"]) == (5, 100)
    assert 0 < entry["detectable"] < 3.0
    assert [part["statement"] for part in entry["parts"]] == ["> 0", "> 0"]


def test_p_values_of_all_and_any_are_those_of_their_parts() -> None:
    evaluator = Evaluator(results(spread=2.0, a=51.0, b=50.5, c=50.0))
    parts = (above(SKILL, "a", "b"), above(SKILL, "b", "c"), above(SKILL, "a", "c"))
    single = [evaluator.evaluate(part) for part in parts]
    every, some = evaluator.evaluate(All(parts)), evaluator.evaluate(AnyOf(parts))
    assert every.p_for == max(one.p_for for one in single)
    assert every.p_against == min(1.0, 3 * min(one.p_against for one in single))
    assert some.p_for == min(1.0, 3 * min(one.p_for for one in single))
    assert some.p_against == max(one.p_against for one in single)
    assert single[0].p_for + single[0].p_against == pytest.approx(1.0)


def test_more_claims_need_more_evidence() -> None:
    found = results(spread=0.8, good=52.0, bad=50.0, third=50.0)
    claim = Claim("C", "1", "T", "x", "x", above(SKILL, "good", "bad"))
    others = tuple(
        Claim(f"N{i}", "1", "T", "x", "x", above(SKILL, "third", "bad", by=i)) for i in range(9)
    )
    alone, among = judge((claim,), found), judge((claim, *others), found)
    assert alone["claims"][0]["p"] == among["claims"][0]["p"]
    assert alone["claims"][0]["p_holm"] < among["claims"][0]["p_holm"]
    assert alone["claims"][0]["detectable"] < among["claims"][0]["detectable"]


def test_one_chain_decides_nothing() -> None:
    entry = verdict(above(SKILL, "good", "bad"), results(chains=1, good=90.0, bad=10.0))
    assert entry["verdict"] == "undecided"
    assert "--seeds" in entry["reason"]
    assert entry["p"] is None
    assert entry["estimate"] == pytest.approx(80.0, abs=2.0)


def test_chains_that_share_their_items_have_the_items_in_their_error() -> None:
    own = results(good=52.0, bad=50.0, other=50.0)
    shared = results(good=52.0, bad=50.0, other=50.0)
    shared["table1"]["provenance"]["settings"]["data"]["rows"] = "file.jsonl"
    predicate = above(SKILL, "good", "bad")
    (a,), (b,) = (Evaluator(found).evaluate(predicate).parts for found in (own, shared))
    # Items with a standard error of 1 in either row, in every chain.
    assert b.error**2 - a.error**2 == pytest.approx(2.0)
    assert b.p_for > a.p_for


def test_identical_rows_have_no_test() -> None:
    found = {"table1": table("table1", ("a", "b"), ("skill",), lambda row, column: [50.0] * 3)}
    for row in found["table1"]["rows"]:
        row["values"]["skill"] = cell([50.0] * 3, item_se=0.0)
    entry = verdict(above(SKILL, "a", "b"), found)
    assert entry["verdict"] == "undecided"
    assert "spread" in entry["reason"]


def test_mean_of_chains() -> None:
    column = Evaluator(results(a=50.0, b=60.0)).column(SKILL)
    mean = mean_of([column.values["a"], column.values["b"]])
    assert mean.values.tolist() == pytest.approx(
        ((column.values["a"].values + column.values["b"].values) / 2).tolist()
    )


# The paper's claims


def test_claims_are_complete_and_name_what_exists() -> None:
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) == 35
    missing = {id for claim in CLAIMS for id in claim.experiments} - set(EXPERIMENTS)
    assert missing <= {"table3", "table4", "table5"}
    assert all(claim.text.endswith(".") and claim.means.endswith(".") for claim in CLAIMS)


def test_every_claim_is_tested_on_complete_results() -> None:
    judged = judge(CLAIMS, all_results(Drawn({})))
    untested = {entry["id"] for entry in judged["claims"] if entry["p"] is None}
    assert untested == {"F4.kl", "D.domain"}
    reasons = {entry["id"]: entry["reason"] for entry in judged["claims"]}
    assert "Figure 4 shows one text" in reasons["F4.kl"]


def test_a_world_as_the_paper_has_it_supports_what_it_says_of_table_1() -> None:
    means = {"sft": 60.0, **dict.fromkeys(ALIGNED, 50.0), **dict.fromkeys(MASKED, 55.0)}
    judged = judge(CLAIMS, all_results(Drawn(means, spread=0.2)))
    found = {entry["id"]: entry["verdict"] for entry in judged["claims"]}
    assert [found[id] for id in ("T1.tax", "T1.best", "T1.gain")] == ["supported"] * 3
    assert [found[id] for id in ("T1.know", "T1.bbh", "F2.dpop")] != ["supported"] * 3
    assert found["T1.know"] == "contradicted"


def test_without_results_every_claim_says_what_runs_it(tmp_path: Path) -> None:
    found = claims_json(tmp_path, "tiny")
    assert found["counts"]["not run"] == len(CLAIMS)
    commands = {claim["id"]: claim["command"] for claim in found["claims"]}
    assert commands["T1.tax"] == "python -m harness run --table 1"
    assert commands["F4.select"] == "python -m harness run --table transfer"
    assert "--figure 3 && " in commands["D.domain"]
    small = claims_json(tmp_path, "small")["claims"][0]
    assert small["command"] == "python -m harness run --figure 2 --profile small"


def write(results: Path, found: dict[str, Any], **changes: Any) -> None:
    for id, result in found.items():
        folder = results / "tiny" / id
        folder.mkdir(parents=True)
        (folder / f"{id}.json").write_text(json.dumps({**result, **changes}))


def test_bad_results_are_said_in_a_line_and_the_rest_is_judged(tmp_path: Path) -> None:
    found = all_results(Drawn({}))
    for row in found["table1"]["rows"]:
        del row["values"]["musr"]
    found["table1"]["columns"].remove("musr")
    found["table2"]["rows"] = [row for row in found["table2"]["rows"] if row["id"] != "mapo"]
    for panel in found["figure3"]["panels"]:
        for series in panel["series"]:
            del series["per_chain"]
    found["figure6"]["panels"] = "none"
    write(tmp_path, found)
    broken = tmp_path / "tiny" / "figure5" / "figure5.json"
    broken.write_text(broken.read_text()[:1000])
    judged = claims_json(tmp_path, "tiny")
    entries = {entry["id"]: entry for entry in judged["claims"]}
    assert "no column musr" in entries["T1.musr"]["reason"]
    assert "no value for mapo" in entries["T2.base"]["reason"]
    assert "without the values of each chain" in entries["F3.start"]["reason"]
    assert "not as this version writes it" in entries["F6.stable"]["reason"]
    assert entries["F5.edna"]["verdict"] == "not run"
    assert "figure5 cannot be used" in entries["F5.edna"]["reason"]
    assert [one["name"] for one in judged["left_out"]] == ["figure5"]
    assert entries["T1.tax"]["p"] is not None
    assert all(
        entry["reason"].endswith(".") and "\n" not in entry["reason"] for entry in entries.values()
    )


def test_the_command_prints_a_table_and_writes_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = all_results(Drawn({}))
    del found["figure6"]
    write(tmp_path, found)
    assert main(["claims", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "T1.best" in printed
    assert "python -m harness run --figure 6" in printed
    written = json.loads((tmp_path / "tiny" / "claims.json").read_text())
    assert written == claims_json(tmp_path, "tiny")
    assert sum(written["counts"].values()) == len(CLAIMS)


def test_mistakes_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "--profile", "tinny", "--results", str(tmp_path)]) == 2
    assert "Unknown profile 'tinny'. Did you mean" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "claims.json"
    assert main(["claims", "--results", str(tmp_path), "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
