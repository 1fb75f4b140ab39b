"""Tables 3, 4, 5 and l1: variants of one method on Table 1's chains, and their masks measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands.draw import redraw
from harness.commands.run import prepare, run_experiment
from harness.config.methods import method_settings, without_defaults
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS, get_experiments
from harness.domains.common.paper import paper_numbers
from harness.domains.dialogue.ablations import DOMAIN
from harness.domains.dialogue.ablations.experiments import L1, TABLE3, TABLE4, TABLE5
from harness.domains.dialogue.experiments import TABLE1
from harness.domains.dialogue.pipeline import PRUNED
from harness.domains.dialogue.work.masks import pruned_margins
from harness.graph.stages import topological
from sparsepo.analysis.maps import PairMap, ResponseMap
from sparsepo.errors import UserError
from sparsepo.registry import get_method
from tests.small_table import SMALL

METHOD = "sparsepo-common"
ALL = (TABLE3, TABLE4, TABLE5, L1)
FEW = ("po.batch_size=8", "po.device_batch_size=8", "data.musr=world", "world.rows.musr=4")


def request(folder: Path, *assignments: str, **options: Any) -> RunRequest:
    return RunRequest(
        assignments=(*SMALL, *FEW, *assignments),
        workers=1,
        out=folder / "out",
        store=folder / "store",
        **{"seeds": 1, **options},
    )


def trained(experiment: Any, folder: Path, *assignments: str) -> dict[str, Any]:
    """Row → the training stage of its first chain."""
    graph = prepare(experiment, request(folder, *assignments)).graph
    return {row: systems[0].model for row, systems in graph.systems.items()}


# --- what the tables are ------------------------------------------------------------------------


@pytest.mark.parametrize("table", [TABLE3, TABLE4, TABLE5])
def test_rows_are_the_papers_and_show_its_numbers(table: Any) -> None:
    numbers = paper_numbers(table.id)
    assert [row.id for row in table.rows] == list(numbers)
    assert {column.id for column in table.columns} == set(next(iter(numbers.values())))
    assert table.baseline in numbers


def test_they_are_found_by_number_and_by_name() -> None:
    for name, table in (("3", TABLE3), ("4", TABLE4), ("5", TABLE5), ("l1", L1)):
        assert get_experiments("table", name) == [table]
    # The paper's tables come first, in its order.
    assert [id for id in EXPERIMENTS if id.startswith("table")] == [
        f"table{n}" for n in range(1, 6)
    ]


@pytest.mark.parametrize("table", ALL)
def test_every_row_is_a_variant_that_the_method_accepts_in_every_profile(table: Any) -> None:
    assert {row.method for row in table.rows} == {METHOD}
    for name in ("tiny", "small", "paper"):
        profile = DOMAIN.get_profile(name)
        for row in table.rows:
            values, _ = method_settings(profile, row.method, row.settings)
            get_method(METHOD, **values)


def test_profiles_have_the_papers_settings() -> None:
    paper = DOMAIN.get_profile("paper")
    assert paper.model.dialogue == "EleutherAI/pythia-410m"
    assert paper.data.dpo_mix == "argilla/dpo-mix-7k"
    values = paper.methods[METHOD]
    assert (values["beta"], values["mask_weight_decay"], values["mask_dropout"]) == (
        0.1,
        0.01,
        0.01,
    )
    assert (values["mask_init"], values["l1_limit"]) == ("paper", "none")
    assert (paper.po.learning_rate, paper.po.epochs, paper.po.batch_size) == (5e-7, 3, 128)


# --- what is shared, and what is not ------------------------------------------------------------


def test_table_1s_models_are_used_and_only_variants_are_trained(tmp_path: Path) -> None:
    first = {s.address for s in topological(prepare(TABLE1, request(tmp_path)).graph.targets)}
    trains = ("world", "preference", "base model", "sft", "reference")
    for table, new in ((TABLE3, 2), (TABLE4, 4), (TABLE5, 2), (L1, 4)):
        stages = topological(prepare(table, request(tmp_path)).graph.targets)
        added = [stage for stage in stages if stage.address not in first]
        assert not [stage.name for stage in added if stage.name.startswith(trains)]
        functions = [stage.function.rpartition(":")[2] for stage in added]
        assert functions.count("train_policy") == new
        assert functions.count("measure_masks") == len(table.rows)


def test_rows_of_different_tables_are_one_run_where_their_settings_are_equal(
    tmp_path: Path,
) -> None:
    runs = [
        trained(table, tmp_path)[row].address
        for table, row in (
            (TABLE3, "all-1"), (TABLE4, "decay-0.01"), (TABLE5, "learned"), (L1, "l1-0.001"),
        )
    ]  # fmt: skip
    assert len({*runs, trained(TABLE1, tmp_path)[METHOD].address}) == 1


def test_a_default_is_left_out_only_if_it_changes_nothing() -> None:
    profile = DOMAIN.get_profile("tiny")
    given = {"mask_kind": "learned", "mask_layers": "last", "learning_rate": 1e-3, "l1_kl": 0.0}
    # The profile has a value of l1_kl, which the default replaces.
    kept = {"mask_layers": "last", "learning_rate": 1e-3, "l1_kl": 0.0}
    assert without_defaults(profile, METHOD, given) == kept
    other = replace(profile, methods={METHOD: {"mask_kind": "binary"}})
    assert without_defaults(other, METHOD, given)["mask_kind"] == "learned"


@pytest.mark.parametrize(
    ("table", "assignment", "message"),
    [
        (TABLE5, f"methods.{METHOD}.mask_kind=binary", "rows of table5 set it themselves"),
        (TABLE4, f"methods.{METHOD}.mask_weight_decay=1", "rows of table4 set it themselves"),
        (L1, f"methods.{METHOD}.l1_reward=1", "rows of l1 set it themselves"),
        (TABLE5, "data.hh_rlhf=pairs.jsonl", "hh_rlhf"),
        (TABLE3, "masks.pairs=0", "masks.pairs must be at least 1, not 0."),
        (TABLE5, "data.dpo_mix=nothing.jsonl", "data.dpo_mix: nothing.jsonl does not exist"),
    ],
)
def test_values_that_would_have_no_effect_are_refused(
    tmp_path: Path, table: Any, assignment: str, message: str
) -> None:
    with pytest.raises(UserError) as error:
        prepare(table, request(tmp_path, assignment))
    assert message in str(error.value)


# --- pruning ------------------------------------------------------------------------------------


def response(mask: list[float], masked: list[float], kl: list[float]) -> ResponseMap:
    """A response of a common mask with the given terms of its reward."""
    count = len(mask)
    ones = (1.0,) * count
    return ResponseMap(
        text="", tokens=("",) * count, token_ids=tuple(range(count)), policy_logps=ones,
        ref_logps=ones, log_ratios=ones, kl=ones, reward_mask=tuple(mask), kl_mask=tuple(mask),
        rewards=ones, masked_rewards=tuple(masked), weighted_kl=ones, masked_kl=tuple(kl),
        contributions=None, reward=sum(masked) + sum(kl),
    )  # fmt: skip


def test_pruned_margins_leave_the_smallest_values_out() -> None:
    chosen = response([0.1, 2.0], [0.5, 1.0], [0.25, 0.0])
    rejected = response([0.0, 1.0, 0.3], [0.0, 3.0, 0.125], [0.0, 0.0, 0.0])
    maps = [PairMap("a", "", 0.0, chosen, rejected)]
    assert pruned_margins(maps, 0) == [maps[0].margin] == [1.75 - 3.125]
    # Of five values one is 0 already; 40 % also takes 0.1 with its reward and its KL.
    assert pruned_margins(maps, 20) == [1.75 - 3.125]
    assert pruned_margins(maps, 40) == [1.0 - 3.125]
    assert pruned_margins(maps, 60) == [1.0 - 3.0]
    # 80 % leaves the largest value, over both responses.
    assert pruned_margins(maps, 80) == [1.0]
    # A share that is no whole number of values is rounded down.
    assert pruned_margins(maps, 79) == pruned_margins(maps, 60)
    assert pruned_margins(maps, 100) == [0.0]


# --- a run in miniature -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """l1 with two rows, then Table 5 with two, in one store."""
    folder = tmp_path_factory.mktemp("ablations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
        quiet = {"quiet": True}
        l1 = run_experiment(L1, request(folder, methods=("l1-0", "l1-0.001"), **quiet))
        kinds = run_experiment(TABLE5, request(folder, methods=("learned", "random"), **quiet))
    return folder, l1, kinds


def cells(table: dict[str, Any], row: str) -> dict[str, Any]:
    (found,) = [one for one in table["supplement"]["rows"] if one["id"] == row]
    values: dict[str, Any] = found["values"]
    return values


def test_masks_are_measured_beside_the_papers_columns(
    made: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    _, l1, kinds = made
    assert [row["settings"] for row in kinds["rows"]] == [
        {"mask_kind": "learned"}, {"mask_kind": "random"},
    ]  # fmt: skip
    assert kinds["rows"][0]["paper"]["ifeval_inst"] == 23.02
    assert l1["rows"][0]["paper"] is None
    for table in (l1, kinds):
        for row in table["rows"]:
            values = cells(table, row["id"])
            assert all(values[c]["mean"] is not None for c in table["supplement"]["columns"])
            assert 0 <= values["sparsity"]["mean"] <= 100
            assert values["sparsity"]["n"] == values["auroc"]["n"] == 10
    # The same run and the same measurement, in two tables.
    assert cells(l1, "l1-0.001")["auroc"] == cells(kinds, "learned")["auroc"]
    # Uniform values are never 0, and know nothing.
    assert cells(kinds, "random")["sparsity"]["mean"] == 0
    assert abs(cells(kinds, "random")["auroc"]["mean"] - 50) < 20
    # A mask starts with 10 % zeros, and its pruning is measured.
    assert 0 < cells(l1, "l1-0")["sparsity"]["mean"] < 60
    assert {f"lost_{share}" for share in PRUNED} <= set(l1["supplement"]["columns"])
    notes, others = (" ".join([*t["notes"], *t.get("more_notes", [])]) for t in (l1, kinds))
    assert "Zeros: share" in notes
    assert "AUROC: how well" in notes
    assert "Lost: preference accuracy" in notes
    assert "SFT" not in notes
    assert "Lost:" not in others


def test_what_is_measured_agrees_with_what_training_reported(
    made: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    folder, _, _ = made
    graph = prepare(L1, request(folder, methods=("l1-0",))).graph
    (system,) = graph.systems["l1-0"]
    store = folder / "store"
    scores = json.loads((store / system.model.address / "scores.json").read_text())
    masks = json.loads((store / system.masks.address / "masks.json").read_text())
    assert [pair["pair_id"] for pair in masks["pairs"]] == [s["pair_id"] for s in scores]
    for pair, score in zip(masks["pairs"], scores, strict=True):
        margin = score["chosen_reward"] - score["rejected_reward"]
        assert pair["margins"]["0"] == pytest.approx(margin, abs=1e-6)
    known = masks["known"]
    assert known["pairs"] == 10
    assert 0 < known["decisive"] < known["tokens"]


def test_every_file_is_written_and_drawn_again_from_the_json(
    made: tuple[Path, dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    folder, l1, kinds = made
    for table in (l1, kinds):
        place = folder / "out" / "tiny" / table["id"]
        names = {f"{table['id']}.{end}" for end in ("json", "md", "csv", "tex", "png")}
        assert names <= {file.name for file in place.iterdir()}
        copy = tmp_path / f"{table['id']}.json"
        copy.write_text(json.dumps(table))
        redraw(copy)
        for name in names - {copy.name}:
            assert (tmp_path / name).read_bytes() == (place / name).read_bytes()
    text = (folder / "out" / "tiny" / "table5" / "table5.md").read_text()
    assert "published Table 5" in text
    old = dict(l1)
    del old["supplement"]
    (tmp_path / "l1.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match="another version of this program"):
        redraw(tmp_path / "l1.json")


def test_a_second_run_makes_nothing(
    made: tuple[Path, dict[str, Any], dict[str, Any]], recorder: Any
) -> None:
    folder, l1, _ = made
    again = run_experiment(L1, request(folder, methods=("l1-0", "l1-0.001")), recorder)
    assert recorder.made_stages == []
    assert again == l1


def test_real_rows_have_no_win_rate_and_no_decisive_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    file = tmp_path / "mix.jsonl"
    system = {"role": "system", "content": "Be brief."}
    with file.open("w") as stream:
        for number in range(40):
            prompt = [system] * (number % 2) + [{"role": "user", "content": f"Say {number}."}]
            pair = {
                name: [*prompt, {"role": "assistant", "content": f"{number} {text}."}]
                for name, text in (("chosen", "of course"), ("rejected", "no"))
            }
            stream.write(json.dumps(pair) + "\n")
    own = request(tmp_path, f"data.dpo_mix={file}", methods=("binary",), quiet=True)
    table = run_experiment(TABLE5, own)
    assert set(table["missing"]) >= {"win_rate", "auroc"}
    assert "embedded world" in table["missing"]["auroc"]
    values = cells(table, "binary")
    assert values["win_rate"] is None
    assert values["auroc"] is None
    assert values["sparsity"]["mean"] >= 0
    assert values["preference_accuracy"]["n"] > 0
    report = table["provenance"]["data"]
    assert report["train"]["used"] + report["test"]["used"] == 40
    # The source is named by its content, not by its place on this machine.
    assert str(tmp_path) not in json.dumps(table)
