"""On-policy training, from the command to its files, and what its numbers mean."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.commands.run import prepare
from harness.config.assign import apply_assignments
from harness.config.profiles import StatisticsSettings
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common.cells import compare_with_zero
from harness.domains.common.finished import FinishedRun
from harness.domains.sentiment import DOMAIN
from harness.domains.sentiment.experiments import ON_POLICY, OnPolicyRow
from harness.domains.sentiment.on_policy import complete, on_policy_json, over_frontier
from harness.domains.sentiment.pipeline import Graph, build_graph
from harness.domains.sentiment.points import Point
from harness.domains.sentiment.profile import SentimentProfile
from harness.domains.sentiment.render.on_policy import _draw, on_policy_files
from harness.domains.sentiment.sweep import with_swept_rows
from harness.graph.stages import topological
from sparsepo.errors import UserError
from tasks.metrics.chains import ChainValues
from tests.small_sentiment import SMALL

SMALL_ON_POLICY = (
    *SMALL,
    "on_policy.diversity_prompts=4",
    "on_policy.diversity_samples=3",
    "on_policy.iteration_steps=2",
    "on_policy.save_steps=2",
)
DIVERGENCES = ["f-dpg-kl", "f-dpg-reverse-kl", "f-dpg-js", "f-dpg-tv"]
DRAWN = ["online-dpo", "inpo", *DIVERGENCES, "grpo", "ppo", "rto"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that the tests of this file share."""
    return tmp_path_factory.mktemp("on-policy")


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the table by its command, and return the bytes of its JSON."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    monkeypatch.setattr("sparsepo.registry._plugged_in", {})
    # Whoever commits while the test runs must not change what is compared.
    monkeypatch.setattr("harness.domains.common.provenance._git", lambda *arguments: "0" * 40)

    def run(*options: str, store: str = "store", out: str = "out") -> bytes:
        where = ["--store", str(folder / store), "--out", str(folder / out)]
        fixed = ["run", "--table", "on-policy", "--seeds", "1", "--workers", "1", "--quiet"]
        assert main([*fixed, *where, *options, "--set", *SMALL_ON_POLICY]) == 0
        return (folder / out / "tiny/on-policy/on-policy.json").read_bytes()

    return run


def of_stage(store: Path, name: str, file: str) -> Any:
    (record,) = (
        path for path in store.glob("*/stage.json") if json.loads(path.read_text())["name"] == name
    )
    return json.loads((record.parent / file).read_text())


def test_from_the_command_to_its_files(run: Any, folder: Path) -> None:
    first = run()
    result = json.loads(first)
    rows = {row["id"]: row["values"] for row in result["rows"]}
    assert list(rows) == ["sft", "dpo-0.1", "dpo-1", *DRAWN]
    assert result["baseline"] == "dpo-1"
    assert result["columns"] == ["reward", "kl", "over_frontier", "self_bleu"]
    assert rows["sft"]["kl"]["mean"] == pytest.approx(0.0, abs=1e-3)
    for row, values in rows.items():
        assert (values["over_frontier"] is not None) == (row in DRAWN)
        assert 0 <= values["reward"]["mean"] <= 100
        assert values["reward"]["n"] == 12
        assert (0 < values["self_bleu"]["mean"] <= 100) and values["self_bleu"]["n"] <= 4
    # Every method has moved the policy, each in its own way.
    moved = [values["kl"]["mean"] for row, values in rows.items() if row != "sft"]
    assert len(set(moved)) == len(moved)
    own = result["hyper_parameters"]
    assert list(own) == DRAWN
    assert own["online-dpo"]["beta"] == 0.1 and own["inpo"]["steps_per_rollout"] == 2
    assert {own[row]["divergence"] for row in DIVERGENCES} == {"kl", "reverse-kl", "js", "tv"}
    assert len(result["diversity"]) == 5
    assert [one["id"] for one in result["frontiers"]] == ["dpo"]
    made = folder / "out/tiny/on-policy"
    assert {file.suffix for file in made.glob("on-policy.*")} == {
        *(f".{kind}" for kind in ("json", "md", "csv", "tex", "png", "pdf", "gz"))
    }
    assert (made / "on-policy.md").read_text().startswith("**On-policy (tiny profile). On-policy")

    # Where the time of a step went is beside the result, and not in it.
    assert b"seconds" not in first
    training = json.loads((made / "timings.json").read_text())["training"]
    steps = {row: of_stage(folder / "store", f"{row} seed 42", "training.json") for row in DRAWN}
    offline = of_stage(folder / "store", "dpo β 1 seed 42", "training.json")["steps"]
    for row in DRAWN:
        (cost,) = training[row]
        parts = [cost[f"seconds_{name}"] for name in ("sampling", "scoring", "training")]
        assert all(part > 0 for part in parts)
        assert sum(parts) == pytest.approx(cost["seconds"], abs=0.01)
        assert cost["steps"] == steps[row]["steps"] == offline
        drawn = cost["tokens"] / (8 * 4 * offline)
        assert 1 < drawn < 20 + 16
        assert not any("seconds" in name for entry in steps[row]["history"] for name in entry)

    # A second run computes the same from the store, byte by byte.
    assert run() == first


@pytest.mark.slow
def test_another_store_gives_the_same_bytes(run: Any) -> None:
    options = ("--methods", "sft,dpo-1,rto,inpo")
    again = [run(*options, store=f"store {n}", out=f"out {n}") for n in (1, 2)]
    assert again[0] == again[1]
    result = json.loads(again[0])
    assert [row["id"] for row in result["rows"]] == ["sft", "dpo-1", "inpo", "rto"]
    assert result["diversity"] == []


def test_without_dpo_there_is_no_frontier(run: Any) -> None:
    result = json.loads(run("--methods", "sft,grpo"))
    assert result["columns"] == ["reward", "kl", "self_bleu"]
    assert result["frontiers"] == [] and result["over_frontier"] == {}
    assert {entry["baseline"] for entry in result["significance"]} == {"sft"}


def graph(
    *assignments: str, profile: str = "tiny", methods: tuple[str, ...] | None = None
) -> Graph:
    request = RunRequest(profile=profile, methods=methods, assignments=("seeds=1", *assignments))
    found: Graph = prepare(ON_POLICY, request).graph
    return found


def test_training_on_pairs_is_figure_2s_and_the_oracle_is_dpo() -> None:
    request = RunRequest(assignments=("seeds=1",))
    figure2 = {
        stage.address
        for stage in topological(prepare(EXPERIMENTS["figure2"], request).graph.targets)
    }
    built = graph()
    for run in built.runs:
        shared = not isinstance(run.row, OnPolicyRow)
        assert (run.trained.address in figure2) == shared
        assert run.points is not None and (run.points.address in figure2) == shared
    names = [stage.name for stage in topological(built.targets)]
    assert len(set(names)) == len(names)
    (rto,) = built.of("rto")
    oracle = rto.trained.inputs["oracle"]
    assert (oracle.name, oracle.config["method"]) == ("dpo seed 42", "dpo")
    assert oracle.inputs["reference"].address in figure2
    assert all("oracle" not in run.trained.inputs for run in built.runs if run.row.id != "rto")


def test_all_are_trained_alike() -> None:
    drawn = [run.trained for run in graph().runs if isinstance(run.row, OnPolicyRow)]
    assert len(drawn) == len(DRAWN)
    assert all(stage.resumable for stage in drawn)
    offline = next(run for run in graph().runs if run.row.id == "dpo-0.8").trained
    for stage in drawn:
        training = {**stage.config["training"], "save_steps": None}
        assert training == offline.config["training"]
        assert stage.config["evaluations"] == {
            **offline.config["evaluations"],
            "token_pairs": 0,
        }
    rollouts = [stage.config["rollout"] for stage in drawn]
    assert {one["samples_per_prompt"] for one in rollouts} == {4}
    assert [one["steps_per_rollout"] for one in rollouts] == [1, 8, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("profile", ["tiny", "small", "paper"])
def test_every_profile_describes_the_table(profile: str) -> None:
    built = graph(profile=profile)
    assert {run.row.id for run in built.runs} >= set(DRAWN)
    for run in built.runs:
        assert run.diversity is not None and run.points is not None


def test_a_methods_value_moves_its_own_runs() -> None:
    def changed(assignment: str) -> set[str]:
        before = {stage.name: stage.address for stage in topological(graph().targets)}
        after = {stage.name: stage.address for stage in topological(graph(assignment).targets)}
        return {name for name in after if before.get(name) != after[name]}

    of_grpo = {"grpo seed 42", "reward and KL of grpo seed 42", "diversity of grpo seed 42"}
    assert changed("methods.grpo.beta=0.2") == of_grpo
    assert all(name.endswith("online-dpo seed 42") for name in changed("on_policy.dpo_beta=0.3"))
    assert all(name.endswith("inpo seed 42") for name in changed("on_policy.iteration_steps=4"))
    found = changed("on_policy.diversity_samples=5")
    assert found and all(name.startswith("diversity of ") for name in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("on_policy.samples_per_prompt=3", "must be an even number, not 3"),
        ("on_policy.samples_per_prompt=0", "samples_per_prompt must be at least 2"),
        ("on_policy.steps_per_rollout=0", "steps_per_rollout must be at least 1"),
        ("on_policy.iteration_steps=0", "iteration_steps must be at least 1"),
        ("on_policy.save_steps=0", "save_steps must be at least 1"),
        ("on_policy.diversity_samples=1", "diversity_samples must be at least 2"),
        ("on_policy.diversity_prompts=600", "more than there are held-out prompts"),
        ("on_policy.dpo_beta=0", "dpo_beta must be above 0"),
        ("on_policy.dpo_beta=nan", "dpo_beta=nan: this must be a finite number"),
        ("data.train_prompts=20", "po.batch_size=32 prompts, and data.train_prompts=20"),
        ("sampling.completions=1", "sampling.completions must be at least 2"),
        ("po.max_length=40", "leaves no room for a prompt in po.max_length=40"),
        ("po.device_batch_size=24", "not a multiple of its device_batch_size"),
        ("sweep.beta=1,1", "different values"),
        ("sweep.map_beta=3", "not among sweep.beta"),
        ("methods.dpo.beta=1", "set sweep.beta"),
        ("methods.grpo.beta=-1", "beta"),
        ("methods.grpo.eps=1", "eps"),
        ("methods.f-dpg.divergence=kl", "no effect"),
    ],
)
def test_mistakes_are_found_before_anything_is_run(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        graph(change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--figure on-policy", "on-policy is a table; give --table on-policy."),
        ("--table onpolicy", "Did you mean 'on-policy'?"),
        ("--table on-policy --methods gpro", "Did you mean 'grpo'?"),
        ("--figure 2 --methods grpo", "only --table on-policy provides; leave it out"),
        ("--table on-policy --tune", "has no tuned rows"),
    ],
)
def test_names_are_explained(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


def test_dpo_has_a_row_at_each_beta_of_the_sweep() -> None:
    profile = apply_assignments(
        DOMAIN.get_profile("tiny"), ("sweep.beta=0.5,2", "sweep.map_beta=2")
    )
    table = with_swept_rows(ON_POLICY, profile)
    assert [row.id for row in table.rows][:4] == ["sft", "dpo-0.5", "dpo-2", "online-dpo"]
    assert table.baseline == "dpo-2"
    assert [row.label for row in table.rows][1:3] == ["DPO, β = 0.5", "DPO, β = 2"]
    built = build_graph(table, profile, table.rows, {})
    assert {run.beta for run in built.of("dpo-0.5")} == {0.5}


def chains(*values: float, spread: float = 0.01) -> ChainValues:
    found = np.array(values)
    drawn = np.random.default_rng(len(values)).normal(0, spread, (len(values), 50))
    return ChainValues(found, found[:, None] + drawn, 64)


def point(step: int, kl: tuple[float, ...], reward: tuple[float, ...]) -> Point:
    return Point(0.5, None, step, chains(*reward), chains(*kl, spread=0.0), 30.0, 0.9)


def test_a_policy_is_compared_with_the_frontier_of_its_chain_at_its_kl() -> None:
    frontier = [
        point(0, (1e-7, -1e-7), (50.0, 52.0)),
        point(8, (2.0, 4.0), (60.0, 72.0)),
        # Below the frontier, which it does not change.
        point(16, (3.0, 5.0), (55.0, 50.0)),
    ]
    end = point(16, (1.0, 9.0), (57.0, 70.0))
    # At 1 nat the first chain's frontier is at 55; beyond its last point the second's stays at 72.
    np.testing.assert_allclose(over_frontier(end, frontier).values, [2.0, -2.0])
    # A KL that is estimated below 0 is compared with the start.
    below = over_frontier(point(16, (-0.1, 0.0), (50.5, 52.0)), frontier)
    np.testing.assert_allclose(below.values, [0.5, 0.0])
    assert below.replicates.shape == (2, 50) and np.isfinite(below.replicates).all()
    # A point of the frontier itself is on it, in every replicate.
    on = over_frontier(frontier[1], frontier)
    np.testing.assert_allclose(on.values, 0.0)
    assert (on.replicates <= 1e-9).all()


def test_a_difference_from_zero_is_tested_over_all_that_are_asked() -> None:
    settings = StatisticsSettings(replicates=50)
    found = compare_with_zero(
        {"large": chains(5.0, 5.2, 4.9), "none": chains(0.3, -0.4, 0.1)}, settings
    )
    assert found["large"]["significant"] and not found["none"]["significant"]
    assert found["large"]["difference"] == pytest.approx(5.0333333)
    low, high = found["none"]["ci95"]
    assert low < 0 < high
    alone = compare_with_zero({"large": chains(5.0, 5.2, 4.9)}, settings)
    assert alone["large"]["p_holm"] < found["large"]["p_holm"] or alone["large"]["p_holm"] > 0
    assert compare_with_zero({"one": chains(5.0)}, settings)["one"]["p_holm"] is None
    assert compare_with_zero({}, settings) == {}


def test_prompts_count_where_every_row_has_a_value() -> None:
    assert complete([[1.0, None, 2.0, 3.0], [1.0, 2.0, None, 0.0]]) == [0, 3]
    assert complete([[None], [1.0]]) == []


PROMPTS, BETAS = 40, (0.5, 2.0)
GAINS = {"online-dpo": 0.3, "inpo": 0.1, "rto": -0.1, "dpo-0.5": 0.2, "dpo-2": 0.1}
"""Reward over the start's after training; 0 for the other rows."""
SELF_BLEU = {"f-dpg-kl": 10.0, "f-dpg-js": 20.0, "f-dpg-tv": 19.9, "f-dpg-reverse-kl": 30.0}


class Known:
    """A store of stages that hold their own files."""

    def read_json(self, stage: Any, name: str) -> Any:
        return stage.files[name]


def known_run(**changed: list[float | None]) -> FinishedRun[SentimentProfile, Any]:
    """Three chains whose rows differ by what was planted; `changed` has self-BLEU of a row."""
    assignments = (
        f"sweep.beta={BETAS[0]},{BETAS[1]}",
        "sweep.map_beta=2",
        "statistics.replicates=99",
    )
    profile = apply_assignments(DOMAIN.get_profile("tiny"), assignments)
    table = with_swept_rows(ON_POLICY, profile)
    counts = {"prompts": 8, "truncated_prompts": 0, "responses": 8, "unfinished": 1}
    runs, chain_pairs = [], []
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        easy, luck = rng.normal(0.5, 0.1, PROMPTS), rng.normal(0, 0.01)
        samples = SimpleNamespace(address=f"s{seed}", files={"generation.json": counts})
        report = {"train": {"used": 9}, "test": {"used": 4}}
        pairs = SimpleNamespace(
            address=f"p{seed}", inputs={"samples": samples}, files={"report.json": report}
        )
        chain_pairs.append(pairs)
        for row in table.rows:
            steps = [0] if row.id == "sft" else [0, 8]
            points = [
                {
                    "step": step,
                    "rewards": list(
                        easy
                        + luck
                        + (step > 0) * (GAINS.get(row.id, 0.0) + rng.normal(0, 0.01, PROMPTS))
                    ),
                    "logps": [2.0 if step else 0.0] * PROMPTS,
                    "ref_logps": [0.0] * PROMPTS,
                    "tokens": 9.0,
                    "ended": 0.5,
                    "unfinished": 1,
                    "truncated_prompts": 0,
                }
                for step in steps
            ]
            own = list(SELF_BLEU.get(row.id, 15.0) + rng.normal(0, 0.5, 8))
            diversity = changed.get(row.id.replace("-", "_"), own)
            config = {
                "method": row.method,
                "hyper_parameters": {},
                "rollout": {"samples_per_prompt": 4},
            }
            runs.append(
                SimpleNamespace(
                    row=row,
                    beta=row.settings.get("beta"),
                    gamma=None,
                    seed=seed,
                    flipped=0.0,
                    trained=SimpleNamespace(config=config),
                    points=SimpleNamespace(
                        inputs={"pairs": pairs},
                        files={"points.json": {"reward": "vader", "points": points}},
                    ),
                    diversity=SimpleNamespace(
                        address=f"d{seed}{row.id}",
                        files={
                            "diversity.json": {"self_bleu": diversity},
                            "generation.json": counts,
                        },
                    ),
                )
            )
    graph = SimpleNamespace(
        runs=runs, pairs=chain_pairs, of=lambda id: [run for run in runs if run.row.id == id]
    )
    provenance = {
        "git_commit": None,
        "git_dirty": False,
        "model": "tiny-gpt2",
        "hardware": "a machine",
        "versions": {"torch": "2"},
        "statistics": {"alpha": 0.05},
    }
    store: Any = Known()
    return FinishedRun(table, profile, graph, store, table.rows, provenance)


def test_the_numbers_and_notes_say_what_was_planted() -> None:
    result = on_policy_json(known_run())
    rows = {row["id"]: row["values"] for row in result["rows"]}
    start = rows["sft"]["reward"]["mean"]
    for row, values in rows.items():
        assert values["reward"]["mean"] - start == pytest.approx(100 * GAINS.get(row, 0.0), abs=1.5)
        assert values["kl"]["mean"] == (0.0 if row == "sft" else 2.0)
        assert values["reward"]["seeds"] == 3 and values["reward"]["n"] == PROMPTS
    # DPO's frontier at 2 nats is its better β.
    for row in DRAWN:
        gain = 100 * (GAINS.get(row, 0.0) - GAINS["dpo-0.5"])
        assert rows[row]["over_frontier"]["mean"] == pytest.approx(gain, abs=1.5)
    assert [one["difference"] for one in result["diversity"]] == pytest.approx(
        [10, 9.9, 20, 10, 10.1], abs=1.5
    )
    assert [one["significant"] for one in result["diversity"]] == [True] * 5
    notes = " ".join([*result["notes"], *result.get("more_notes", [])])
    same = (
        "f-DPG (KL), f-DPG (reverse KL), f-DPG (Jensen-Shannon), f-DPG (total variation), GRPO, PPO"
    )
    assert (
        "Reward against SFT's (Holm within the column). Significantly above: Online DPO, INPO. "
        f"Significantly below: RTO. Not significantly different: {same}."
    ) in notes
    assert (
        "frontier at the same KL, held constant beyond its last point at 2.0 nats (Holm over these "
        "rows). Significantly above: Online DPO. "
        f"Significantly below: INPO, {same}, RTO."
    ) in notes
    first = result["diversity"][0]["difference"]
    assert f"KL before Jensen-Shannon {first:.1f} [" in notes
    assert "5 of 5 are positive" in notes
    assert "DPO: ▲ Reward at β 0.5" in notes
    # 8 responses of each chain and row, and of each chain's pairs.
    assert result["sampled"]["prompts of self-BLEU"]["responses"] == 8 * 3 * len(rows)
    assert result["sampled"]["prompts of pairs"]["responses"] == 8 * 3
    assert on_policy_json(known_run()) == result
    files = DOMAIN.files(known_run().experiment, result)
    assert {"on-policy.md", "on-policy.csv", "on-policy.tex", "on-policy.png"} <= set(files)


def test_prompts_without_text_are_left_out_of_every_row_and_counted() -> None:
    values: list[float | None] = [None, 50.0, None, 1.0, 2.0, 3.0, 4.0, 5.0]
    result = on_policy_json(known_run(grpo=values, rto=[9.0, None, *[7.0] * 6]))
    rows = {row["id"]: row["values"]["self_bleu"] for row in result["rows"]}
    assert rows["grpo"]["mean"] == 3.0 and rows["rto"]["mean"] == 7.0
    assert {cell["n"] for cell in rows.values()} == {5}
    assert result["missing_self_bleu"] == 9
    notes = " ".join([*result["notes"], *result.get("more_notes", [])])
    assert "without a self-BLEU in some row, left out: 9." in notes
    with pytest.raises(UserError, match=r"raise on_policy\.diversity_prompts"):
        on_policy_json(known_run(grpo=[None] * 8))


def cell(mean: float, seeds: int = 3) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - 1, mean + 1], "n": 9, "seeds": seeds}


def drawn_result() -> dict[str, Any]:
    def end(id: str, label: str, method: str, kl: float, on_policy: bool) -> dict[str, Any]:
        return {
            "id": id,
            "label": label,
            "method": method,
            "on_policy": on_policy,
            "step": 0 if id == "sft" else 31,
            "reward": cell(50 + kl),
            "kl": cell(kl),
            "self_bleu": cell(20 + kl),
        }

    points = [
        {"step": step, "kl": cell(kl), "reward": cell(50 + 2 * kl)}
        for step, kl in ((0, 0.1), (8, 2.0), (31, 5.0))
    ]
    return {
        "id": "on-policy",
        "profile": "tiny",
        "reward_model": "vader",
        "frontiers": [
            {"id": "dpo", "method": "dpo", "label": "DPO", "points": points, "frontier": [0, 1, 2]}
        ],
        "end": [
            end("sft", "SFT", "sft", 0.1, False),
            end("dpo-1", "DPO, β = 1", "dpo", 5.0, False),
            end("dpo-5", "DPO, β = 5", "dpo", 2.0, False),
            end("online-dpo", "Online DPO", "dpo", 4.0, True),
            end("grpo", "GRPO", "grpo", 3.0, True),
        ],
    }


def test_the_picture_has_a_line_for_given_pairs_and_a_point_for_each_on_policy_row() -> None:
    result = drawn_result()
    drawn = _draw(result)
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert names == ["DPO on given pairs", "SFT", "Online DPO", "GRPO"]
    reward, diversity = drawn.axes
    assert list(reward.containers[0][0].get_xdata()) == [0.0, 2.0, 5.0]
    assert list(reward.containers[0][0].get_ydata()) == [50.2, 54.0, 60.0]
    # The line on the right goes from the smaller KL to the larger one.
    assert list(diversity.containers[0][0].get_xdata()) == [2.0, 5.0]
    for axis, first in ((reward, 50), (diversity, 20)):
        points = [(c[0].get_xdata()[0], c[0].get_ydata()[0]) for c in axis.containers[1:]]
        assert points == [(0.0, first + 0.1), (4.0, first + 4.0), (3.0, first + 3.0)]
    files = on_policy_files(result)
    assert set(files) == {"on-policy.png", "on-policy.pdf"} and files == on_policy_files(result)
