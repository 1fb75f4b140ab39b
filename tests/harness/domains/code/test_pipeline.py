from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.run import select_rows
from harness.config.assign import apply_assignments
from harness.config.request import RunRequest
from harness.domains.code import DOMAIN
from harness.domains.code.experiments import FIGURE6, FIGURE8, TABLE2
from harness.domains.code.pipeline import Graph, System, build_figure, build_table
from harness.domains.code.profile import PROFILES, CodeProfile
from harness.domains.common.packaged import PACKAGED
from harness.domains.common.paper import paper_numbers
from harness.domains.common.spec import Experiment
from harness.graph.stages import Stage, topological
from sparsepo.errors import UserError

ROWS = ("base", "dpo", "sparsepo-common")

CHAINS = 5
"""Of the tiny profile."""


def tiny(*assignments: str) -> CodeProfile:
    return apply_assignments(DOMAIN.get_profile("tiny"), assignments)


def table(*assignments: str, rows: tuple[str, ...] = ROWS) -> Graph:
    return build_table(tiny(*assignments), select_rows(TABLE2, rows, {}))


def addresses(graph: Graph) -> dict[str, str]:
    return {stage.name: stage.address for stage in topological(graph.targets)}


def changed(*assignments: str) -> set[str]:
    before, after = addresses(table()), addresses(table(*assignments))
    return {name for name in after if before.get(name) != after[name]}


def test_names_are_unique_and_the_count_is_right() -> None:
    names = [stage.name for stage in topological(table().targets)]
    assert len(set(names)) == len(names)
    # Of each chain: world, problems, base model, training samples and verdicts, pairs, cache; of
    # the base row samples and verdicts; of two methods 3 values of β, each trained, sampled and
    # judged, one choice, and the run that is kept, sampled and judged.
    assert len(names) == CHAINS * (7 + 2 + 2 * (3 * 3 + 1 + 3))


@pytest.mark.parametrize("spec", [FIGURE6, FIGURE8], ids=lambda spec: str(spec.id))
def test_figures_are_drawn_from_stages_of_the_table(spec: object) -> None:
    (row,) = spec.rows  # type: ignore[attr-defined]
    figure = build_figure(tiny(), row)
    of_table = addresses(table(rows=tuple(row.method for row in TABLE2.rows)))
    assert len(figure.runs[row.method]) == 3
    assert set(addresses(figure).values()) <= set(of_table.values())
    assert not figure.systems


def runs_of(system: System) -> dict[str, Stage]:
    """Return β → the run that tries it, for a system that keeps one of them."""
    assert system.model is not None
    return {name: stage for name, stage in system.model.inputs.items() if name != "tuned"}


def test_a_value_of_beta_that_is_tried_is_its_own_run() -> None:
    for row, betas in (("dpo", tiny().tuning.betas), ("simpo", tiny().tuning.simpo_betas)):
        for system in table(rows=(row,)).systems[row]:
            runs = runs_of(system)
            assert list(runs) == [f"{beta:g}" for beta in betas]
            tried = [run.config["hyper_parameters"]["beta"] for run in runs.values()]
            assert tried == list(betas)
            assert len({run.address for run in runs.values()}) == len(runs)
            assert {run.config["seed"] for run in runs.values()} == {system.seed}


def test_each_chain_chooses_beta_and_keeps_that_run() -> None:
    graph = table()
    for system in graph.systems["dpo"]:
        assert system.model is not None
        assert system.model.inputs["tuned"] is system.tuned
        for run in runs_of(system).values():
            assert run.config["training"]["epochs"] == 1
            assert run.config["training"]["order"] == "given"
    assert len({system.tuned.address for system in graph.systems["dpo"] if system.tuned}) == CHAINS
    assert [system.model for system in graph.systems["base"]] == [None] * CHAINS


def test_each_chain_has_its_own_pairs_and_its_methods_share_them() -> None:
    graph = table(rows=("dpo", "mapo"))
    assert len({stage.address for stage in graph.pairs.values()}) == CHAINS
    for first, second in zip(graph.systems["dpo"], graph.systems["mapo"], strict=True):
        one, other = next(iter(runs_of(first).values())), next(iter(runs_of(second).values()))
        assert one.inputs["pairs"].address == other.inputs["pairs"].address
        assert one.inputs["reference"].address == other.inputs["reference"].address


def test_chains_share_nothing_that_chance_decides() -> None:
    first, second = (set(addresses(table(f"seed={n}", "seeds=1")).values()) for n in (1, 2))
    assert not first & second


def test_chains_share_problems_from_files(tmp_path: Path) -> None:
    for name in ("humaneval", "mbpp"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    graph = table(*(f"data.{name}={tmp_path / name}.jsonl" for name in ("humaneval", "mbpp")))
    assert len({stage.address for stage in graph.problems}) == 1
    assert len({stage.address for stage in graph.pairs.values()}) == CHAINS


def test_one_beta_leaves_nothing_to_choose() -> None:
    system = table("tuning.betas=0.3").systems["dpo"][0]
    assert system.tuned is None and system.model is not None
    assert system.model.config["hyper_parameters"]["beta"] == 0.3


def test_test_samples_and_their_number_do_not_train_again() -> None:
    assert all(
        name.startswith(("samples of", "verdicts on"))
        for name in changed("sampling.test_samples=50")
    )


def test_tuning_values_leave_tuning_runs_and_their_pairs_alone() -> None:
    found = changed("tuning.problems=5")
    assert "choice of β for dpo seed 42" in found and "dpo seed 42" in found
    assert not any("with β" in name and not name.startswith("tuning") for name in found)


def test_a_methods_value_changes_its_own_runs_only() -> None:
    found = changed("methods.sparsepo-common.mask_dropout=0.2")
    assert found and all("sparsepo-common" in name for name in found)


def test_the_authors_solutions_are_read_in_place_of_samples(tmp_path: Path) -> None:
    graph = table(f"data.answers={tmp_path}")
    names = addresses(graph)
    assert not any("training problems" in name for name in names)
    assert graph.pairs[42].files == {"answers": tmp_path}


def test_a_users_model_starts_every_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    graph = table(f"model.code={tmp_path}")
    names = addresses(graph)
    assert not any("base model" in name for name in names)
    run = runs_of(graph.systems["dpo"][0])["2"]
    assert run.files["model"] == tmp_path
    assert run.inputs["reference"].files["model"] == tmp_path
    hub = table("model.code=bigcode/starcoderbase-1b", rows=("dpo",))
    run = runs_of(hub.systems["dpo"][0])["2"]
    assert run.config["model"] == "bigcode/starcoderbase-1b"
    assert run.inputs["reference"].config["model"] == "bigcode/starcoderbase-1b"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.humaneval=missing.jsonl", "data.humaneval: missing.jsonl does not exist"),
        ("data.answers=missing", "data.answers: missing does not exist"),
        ("model.code=missing.d", "model.code: missing.d does not exist"),
        ("tuning.betas=0.1,0.1", "above 0 and differ"),
        ("tuning.betas=0.1,0", "above 0 and differ"),
        ("tuning.betas=0.1,0.10000001", "above 0 and differ"),
        ("methods.dpo.gamma=1", "gamma"),
        ("po.device_batch_size=3", "not a multiple"),
    ],
)
def test_mistakes_are_found_before_any_work(assignment: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table(assignment)


def build(request: RunRequest, experiment: Experiment = TABLE2) -> Graph:
    profile = DOMAIN.resolve_profile(request)
    rows = select_rows(experiment, request.methods, {})
    return DOMAIN.build(experiment, profile, rows, {}, request)


@pytest.mark.parametrize(
    "request_of",
    [
        {"profile": "paper"},
        {"profile": "small"},
        {"assignments": ("model.code=bigcode/starcoderbase-1b",)},
        {"assignments": ("data.mbpp=hub",)},
    ],
)
def test_permission_is_asked_before_any_work(request_of: dict[str, object]) -> None:
    with pytest.raises(UserError, match="--allow-code-execution"):
        build(RunRequest(**request_of))  # type: ignore[arg-type]
    assert build(RunRequest(**request_of, allow_code_execution=True)).targets  # type: ignore[arg-type]


def test_the_embedded_worlds_own_model_needs_no_permission() -> None:
    assert build(RunRequest()).targets


def test_nothing_is_built_where_no_isolation_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str | None) -> str:
        raise UserError("no isolation works here: install bubblewrap")

    monkeypatch.setattr("tasks.sandbox.choose_tier", refuse)
    with pytest.raises(UserError, match="no isolation works here"):
        build(RunRequest())


def test_a_figure_shows_one_method_of_one_seed() -> None:
    assert build(RunRequest(methods=("sparsepo-independent",)), FIGURE8).runs
    with pytest.raises(UserError, match=r"leave --methods out, or use --set dynamics\.masks"):
        build(RunRequest(methods=("dpo",)), FIGURE8)
    with pytest.raises(UserError, match="leave --seeds out"):
        build(RunRequest(seeds=2), FIGURE8)


def test_the_papers_table_has_the_same_rows_and_columns() -> None:
    numbers = paper_numbers("table2")
    assert list(numbers) == [row.method for row in TABLE2.rows]
    for values in numbers.values():
        assert list(values) == [column.id for column in TABLE2.columns]


def test_every_profile_describes_the_whole_table() -> None:
    for name in PROFILES:
        profile = DOMAIN.get_profile(name)
        if profile.model.code in PACKAGED:
            # Its package need not be installed.
            profile = apply_assignments(profile, ["model.code=bigcode/tiny_starcoder_py"])
        graph = build_table(profile, TABLE2.rows)
        assert set(graph.systems) == {row.method for row in TABLE2.rows}


def test_real_problems_are_capped_in_the_tiny_profile_unless_the_user_says_otherwise() -> None:
    def limit(*assignments: str, profile: str = "tiny") -> int | None:
        return DOMAIN.resolve_profile(RunRequest(profile, assignments=assignments)).sampling.limit

    assert limit() is None
    assert limit("data.mbpp=hub") == 40
    assert limit("data.mbpp=hub", "sampling.limit=none") is None
    assert limit(profile="paper") is None


def test_a_method_without_beta_is_trained_once_for_each_seed() -> None:
    systems = table(rows=("sft",)).systems["sft"]
    assert len(systems) == CHAINS
    assert all(system.tuned is None for system in systems)
