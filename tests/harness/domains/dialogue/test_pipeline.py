from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.config.assign import apply_assignments
from harness.domains.common.paper import PAPER
from harness.domains.common.rows import BASE, method_rows
from harness.domains.dialogue import DOMAIN
from harness.domains.dialogue.pipeline import Graph, build_graph
from harness.domains.dialogue.profile import DialogueProfile
from harness.graph.stages import topological
from sparsepo.errors import UserError
from sparsepo.methods import PAPER as PAPER_METHODS

METHODS = ("sft", "dpo", "sparsepo-common")


def tiny(*assignments: str) -> DialogueProfile:
    return apply_assignments(DOMAIN.get_profile("tiny"), assignments)


def graph(*assignments: str, methods: tuple[str, ...] = METHODS) -> Graph:
    keys = [text.split("=")[0] for text in assignments]
    given = [key.removeprefix("data.") for key in keys if key.startswith("data.")]
    given = [name for name in given if name != "hh_rlhf"]
    return build_graph(tiny(*assignments), method_rows(*methods), user_benchmarks=given)


def addresses(of: Graph) -> dict[str, str]:
    return {stage.name: stage.address for stage in topological(of.targets)}


def changed(*assignments: str) -> set[str]:
    before, after = addresses(graph()), addresses(graph(*assignments))
    return {name for name in after if before.get(name) != after[name]}


def test_names_are_unique_and_the_count_is_right() -> None:
    stages = topological(graph().targets)
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    # Of each of five chains: world, pairs, check, base, reference cache; SFT and two runs, each
    # trained, evaluated, answered, judged.
    assert len(names) == 5 * (5 + 3 * 4)


def test_the_base_model_is_evaluated_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for model in ("tiny-neox", str(tmp_path), "EleutherAI/pythia-70m"):
        found = build_graph(tiny(f"model.dialogue={model}"), [BASE])
        for system in found.systems["base"]:
            assert system.model is system.judged is system.masks is None
            own = system.leaderboard
            if model == "tiny-neox":
                assert own.inputs["model"].name == f"base model seed {system.seed}"
            elif model == str(tmp_path):
                assert own.files["model"] == tmp_path
            else:
                assert own.config["model"] == model
        assert not any(
            stage.function.endswith(":train_policy") for stage in topological(found.targets)
        )


def test_checks_come_before_training() -> None:
    names = [stage.name for stage in topological(graph().targets)]
    trained = names.index("base model seed 42")
    for seed in range(42, 47):
        assert names.index(f"check of the benchmark files seed {seed}") < trained
        assert names.index(f"preference pairs seed {seed}") < trained


def test_a_methods_value_changes_its_own_runs_only() -> None:
    found = changed("methods.dpo.beta=0.3")
    assert found
    assert all("dpo" in name for name in found)


def test_evaluation_values_do_not_train_again() -> None:
    found = changed("evaluation.limit=3")
    assert found
    assert all(name.startswith("leaderboard of") for name in found)


def test_generation_values_do_not_train_or_evaluate_again() -> None:
    found = changed("evaluation.temperature=0.5")
    assert found
    assert all(name.startswith(("responses of", "win rate of")) for name in found)


def test_training_values_of_po_leave_sft_alone() -> None:
    found = changed("po.learning_rate=1e-3")
    assert "sft seed 42" not in found
    assert {"dpo seed 42", "sparsepo-common seed 44"} <= found


def test_more_seeds_keep_the_first_ones() -> None:
    assert {name.split("seed ")[1] for name in changed("seeds=7")} == {"47", "48"}
    assert not changed("seeds=2")


def test_another_first_seed_names_other_chains() -> None:
    before, after = addresses(graph()), addresses(graph("seed=44"))
    assert {name for name in after if name not in before} == {
        name for name in after if name.endswith(("47", "48"))
    }
    assert all(after[name] == before[name] for name in after if name in before)


def test_chains_share_nothing_that_chance_decides() -> None:
    first, second = (set(addresses(graph(f"seed={seed}", "seeds=1")).values()) for seed in (1, 2))
    assert not first & second


def test_chains_share_what_comes_from_files(tmp_path: Path) -> None:
    for name in ("hh", "bbh"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    (tmp_path / "config.json").write_text("{}")
    found = graph(
        f"data.hh_rlhf={tmp_path / 'hh.jsonl'}",
        f"data.bbh={tmp_path / 'bbh.jsonl'}",
        f"model.dialogue={tmp_path}",
    )
    assert len({stage.address for stage in found.pairs}) == 1
    assert len({stage.address for stage in found.checks}) == 1
    assert len({system.model.address for system in found.systems["sft"]}) == 5


@pytest.mark.parametrize("key", ["base.seed", "world.seed", "evaluation.seed"])
def test_a_seed_that_belongs_to_the_chain_is_refused(key: str) -> None:
    with pytest.raises(
        UserError, match=f"{re.escape(key)} is decided by each chain's seed; set seed"
    ):
        graph(f"{key}=7")


ALL = tuple(PAPER_METHODS)


def caches(of: Graph) -> dict[str, str]:
    """Return training stage → the address of the reference cache that it reads."""
    return {
        stage.name: stage.inputs["reference"].address
        for stage in topological(of.targets)
        if "reference" in stage.inputs
    }


def test_a_chains_methods_share_one_reference_cache() -> None:
    found = graph("seeds=3", methods=ALL)
    assert len(set(caches(found).values())) == 3
    assert set(caches(found)) == {
        f"{m} seed {s}" for m in ("dpo", "dpop", "mapo") for s in (42, 43, 44)
    }
    assert {name for name in addresses(found) if "cache" in name} == {
        f"reference cache seed {s}" for s in (42, 43, 44)
    }
    assert not caches(graph(methods=("sft", "simpo", "tdpo1", "tdpo2", "sparsepo-common")))


@pytest.mark.parametrize("methods", [("dpo",), ("mapo", "dpo"), ("dpo", "mapo"), ALL], ids=str)
def test_which_rows_a_table_has_does_not_move_the_cache(methods: tuple[str, ...]) -> None:
    assert set(caches(graph(methods=methods)).values()) == set(caches(graph()).values())


@pytest.mark.parametrize(
    "assignment", ["po.learning_rate=1e-3", "po.epochs=2", "methods.dpo.beta=0.3", "seeds=4"]
)
def test_how_a_policy_is_trained_does_not_move_the_cache(assignment: str) -> None:
    assert "reference cache seed 42" not in changed(assignment)


@pytest.mark.parametrize("assignment", ["po.max_length=100", "sft.epochs=2"])
def test_what_a_reference_says_moves_the_cache_and_what_reads_it(assignment: str) -> None:
    assert {"reference cache seed 42", "dpo seed 42"} <= changed(assignment)


def test_a_mask_of_its_own_gives_mapo_a_cache_of_its_own() -> None:
    before = addresses(graph("seeds=1", methods=ALL))
    found = graph("seeds=1", "methods.mapo.mask_families=mlp", methods=ALL)
    after = addresses(found)
    moved = {name for name in after if before.get(name) != after[name]}
    assert moved == {"reference cache of mapo seed 42"} | {
        name for name in after if "mapo seed" in name
    }
    by_method = {name.split()[0]: address for name, address in caches(found).items()}
    assert by_method["dpo"] == by_method["dpop"] == before["reference cache seed 42"]
    assert by_method["mapo"] == after["reference cache of mapo seed 42"] != by_method["dpo"]


def test_a_length_of_its_own_gives_a_method_a_cache_of_its_own() -> None:
    names = addresses(graph("methods.dpop.max_length=100", methods=ALL))
    assert {"reference cache seed 42", "reference cache of dpop seed 42"} <= set(names)
    assert "reference cache of dpop seed 42" not in addresses(
        graph("methods.dpop.device_batch_size=16")
    )


def test_real_dialogues_have_no_win_rate_and_widen_the_corpus(tmp_path: Path) -> None:
    file = tmp_path / "hh.jsonl"
    file.write_text("{}\n")
    found = graph(f"data.hh_rlhf={file}")
    names = addresses(found)
    assert "corpus with real dialogues seed 42" in names
    assert not any("win rate" in name for name in names)
    assert "win_rate" in found.notes


def test_the_users_benchmarks_replace_all_others(tmp_path: Path) -> None:
    file = tmp_path / "bbh.jsonl"
    file.write_text("{}\n")
    found = graph(f"data.bbh={file}")
    assert found.sources["bbh"] == "file"
    assert [name for name, source in found.sources.items() if source] == ["bbh"]
    assert set(found.notes) == {"math_hard", "gpqa", "musr", "mmlu_pro", "ifeval"}


def test_a_files_content_decides_not_its_place(tmp_path: Path) -> None:
    found = []
    for name, text in (("a.jsonl", "1"), ("b.jsonl", "1"), ("c.jsonl", "2")):
        (tmp_path / name).write_text(text)
        found.append(addresses(graph(f"data.bbh={tmp_path / name}"))["leaderboard of dpo seed 42"])
    assert found[0] == found[1] != found[2]


def test_a_users_model_needs_no_world_for_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        graph(f"model.dialogue={tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    for model in (tmp_path, "EleutherAI/pythia-70m"):
        names = addresses(graph(f"model.dialogue={model}"))
        assert not any("base model" in name for name in names)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.hh_rlhf=missing.jsonl", "data.hh_rlhf: missing.jsonl does not exist"),
        ("data.hh_rlhf=./some/dir", "does not exist"),
        ("data.bbh=no/such.jsonl", "data.bbh: no/such.jsonl does not exist"),
        ("model.dialogue=nowhere", "model.dialogue: nowhere does not exist"),
        ("methods.dpo.gamma=1", "'dpo' does not use the hyper-parameter 'gamma'"),
        ("methods.dpoo.beta=1", "Unknown method 'dpoo' in methods.dpoo. Did you mean 'dpop?'"),
        ("methods.dpo.beta=x", "beta must be"),
        ("methods.dpo.epochs=x", "a finite number"),
        ("methods.dpo=3", "is a group of settings"),
        ("po.device_batch_size=7", "not a multiple"),
    ],
)
def test_mistakes_are_found_before_any_work(assignment: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        graph(assignment)


def test_the_papers_tables_are_complete_and_their_averages_agree() -> None:
    for number in range(1, 6):
        table = json.loads((PAPER / f"table{number}.json").read_text())
        columns = [column["id"] for column in table["columns"]]
        assert table["rows"]
        for row in table["rows"]:
            assert list(row["values"]) == columns
            if columns[-1] == "avg":
                mean = sum(list(row["values"].values())[:-1]) / 7
                assert row["values"]["avg"] == pytest.approx(mean, abs=0.0101)
