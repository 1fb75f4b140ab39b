"""Each stage's code version: everything that decides its result, and nothing else."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.commands.run import prepare
from harness.config.methods import METHOD_TABLE, method_code
from harness.config.request import RunRequest
from harness.domains import get_domain
from harness.domains.catalogue import EXPERIMENTS
from harness.graph import closure
from harness.graph.closure import PACKAGES, code_version, import_closure
from harness.graph.stages import Stage, topological
from sparsepo.methods import BUILT_IN

ROOT = Path(__file__).parents[3]

Code = tuple[str, tuple[str, ...], tuple[str, ...]]
"""What a code version is computed from: the function, and the stage's `code` and `without`."""

DOMAINS = "harness.domains."
TRAINING = {
    "common.work.train:train_policy",
    "common.work.trial:train_trial",
    "common.work.reference:build_reference_cache",
    "sentiment.work.train:train_and_evaluate",
    "sentiment.work.chosen:train_chosen",
    "sentiment.work.rollout:train_on_samples",
}
LOADS_A_POLICY = {
    "common.work.convert:convert_gguf",
    "common.work.merge:merge_adapters",
    "common.work.sample_maps:map_responses",
    "dialogue.work.masks:measure_masks",
    "sentiment.work.maps:map_tokens",
    "sentiment.work.masks:extract_masks",
}


def of(stage: Stage) -> Code:
    return (stage.function, stage.code, stage.without)


def modules(code: Code) -> set[str]:
    return set(import_closure((code[0].partition(":")[0], *code[1]), code[2]))


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[Code, Stage]:
    """Every stage of every experiment and profile, with the world's rows and with real ones."""
    folder = tmp_path_factory.mktemp("files")
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"text": "a"}) + "\n")
    (folder / "answers").mkdir()
    (folder / "model.gguf").write_bytes(b"GGUF")
    real = {
        "dialogue": (f"data.hh_rlhf={rows}", f"data.bbh={rows}"),
        "dialogue.ablations": (f"data.dpo_mix={rows}", f"data.bbh={rows}"),
        "sentiment": (f"data.pairs={rows}", f"data.reviews={rows}"),
        "summarization": (f"data.tldr={rows}", f"data.prompts={rows}"),
        "code": (f"data.answers={folder / 'answers'}",),
    }
    found: dict[Code, Stage] = {}
    for experiment in EXPERIMENTS.values():
        if experiment.id == "table1":
            # A method that reads both kinds of further models.
            request = RunRequest(methods=("tis-dpo",), out=folder / "out", store=folder / "store")
            for stage in topological(prepare(experiment, request).graph.targets):
                found.setdefault(of(stage), stage)
        asked: list[tuple[str, tuple[str, ...], int | None]] = [
            (profile, assignments, None)
            for profile in ("tiny", "small", "paper")
            for assignments in ((), real[experiment.domain])
        ]
        if experiment.judged:
            # The rules know the world's prompts alone, and no hub id is looked up before a stage.
            other = ("judge.kind=reward", "judge.model=organisation/model")
            asked = [
                (profile, (*assignments, *other), None)
                for profile, assignments, _ in asked
                if (profile, assignments) != ("tiny", ())
            ]
            trained = ("judge.kind=reward", "judge.model=trained")
            asked += [("tiny", own, None) for own in ((), trained)]
        if experiment.tunable:
            asked.append(("tiny", (), 2))
        if experiment.id == "figure2":
            # A file is read by its stage alone.
            gguf = (f"model.sentiment={folder / 'model.gguf'}", f"data.reviews={rows}")
            asked.append(("laptop", (*gguf, "model.reward=trained"), None))
        if experiment.id == "table1":
            gguf = (f"model.dialogue={folder / 'model.gguf'}", f"data.hh_rlhf={rows}")
            asked.append(("laptop", gguf, None))
        for profile, assignments, tune in asked:
            request = RunRequest(
                profile=profile,
                tune=tune,
                assignments=assignments,
                allow_code_execution=experiment.domain == "code",
                out=folder / "out",
                store=folder / "store",
            )
            graph = prepare(experiment, request).graph
            of_samples = get_domain(experiment.domain).sample_stages(graph)
            for stage in topological([*graph.targets, *of_samples]):
                found.setdefault(of(stage), stage)
    return found


def test_every_stage_function_is_among_the_experiments_stages(stages: dict[Code, Stage]) -> None:
    written = set()
    for file in (ROOT / "harness" / "domains").glob("*/work/*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for function in ast.parse(file.read_bytes()).body:
            if (
                isinstance(function, ast.FunctionDef)
                and not function.name.startswith("_")
                and ast.unparse(function.args) == "context: StageContext"
                and ast.unparse(function.returns or ast.Pass()) == "None"
            ):
                written.add(f"{name}:{function.name}")
    assert {code[0] for code in stages} == written


def test_a_stage_that_leaves_the_table_of_methods_out_names_its_methods(
    stages: dict[Code, Stage],
) -> None:
    for (_, code, without), stage in stages.items():
        reached = modules((stage.function, (), ()))
        assert (METHOD_TABLE[0] in reached) == (without == METHOD_TABLE)
        if "method" in stage.config:
            assert set(method_code(stage.config["method"])) <= set(code)
        elif without:
            assert code


def test_only_what_trains_or_loads_a_policy_depends_on_the_trainers_package(
    stages: dict[Code, Stage],
) -> None:
    for code in stages:
        training = {name for name in modules(code) if name.startswith("sparsepo.training")}
        function = code[0].removeprefix(DOMAINS)
        if function not in TRAINING:
            assert "sparsepo.training.trainer" not in training
        assert bool(training) == (function in TRAINING | LOADS_A_POLICY)


@pytest.fixture(scope="module")
def moved(
    stages: dict[Code, Stage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], list[Code]]]:
    """Edit a file of a copy of the packages, and return the stages whose version that changes."""
    root = tmp_path_factory.mktemp("packages")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)

    def versions() -> dict[Code, str]:
        code_version.cache_clear()
        return {
            (function, code, without): code_version((function.partition(":")[0], *code), without)
            for function, code, without in stages
        }

    def edit(name: str) -> list[Code]:
        file = root / name
        content = file.read_bytes()
        file.write_bytes(content + b"\nEDITED = 1\n")
        after = versions()
        file.write_bytes(content)
        return [code for code in stages if after[code] != before[code]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closure, "find_top", lambda name: [root / name])
        closure.find_module.cache_clear()
        before = versions()
        yield edit
    closure.find_module.cache_clear()
    code_version.cache_clear()


@pytest.mark.parametrize(
    ("file", "functions"),
    [
        # Each of these was missing from the lists that were once written by hand.
        (
            "harness/domains/sentiment/work/reward.py",
            {
                "sentiment.work.score:score_responses",
                "sentiment.work.preferences:rank_completions",
                "sentiment.work.validation:measure_trial",
                "sentiment.work.rollout:train_on_samples",
            },
        ),
        (
            "sparsepo/data/rows.py",
            {
                # The trainer reads rows as well as pairs.
                *TRAINING,
                "dialogue.work.check:check_benchmarks",
                "dialogue.work.leaderboard:evaluate",
                "dialogue.work.pairs:make_pairs",
                "dialogue.work.dpo_mix:make_dpo_mix_pairs",
                "code.work.problems:make_problems",
                "code.work.samples:sample",
                "code.work.judge:judge_samples",
                "code.work.pairs:make_pairs",
                "sentiment.work.classifier:train_classifier",
                "sentiment.work.reviews:make_reviews",
                "sentiment.work.ready_pairs:read_pairs",
                "sentiment.work.corpus:make_corpus",
                "sentiment.work.samples:sample_completions",
                "sentiment.work.preferences:rank_completions",
                "sentiment.work.labels:label_pairs",
                "dialogue.work.validation_pairs:make_validation_pairs",
                "code.work.validation:measure_trial",
                "sentiment.work.validation_prompts:make_validation_prompts",
                # Files of given masks are users' files too.
                "sentiment.work.masks:extract_masks",
                "sentiment.work.mask_controls:shuffle_masks",
                "sentiment.work.mask_controls:oracle_masks",
                "sentiment.work.mask_rankings:rank_masks",
                "summarization.work.pairs:make_pairs",
                "summarization.work.sft_pairs:make_sft_pairs",
                "summarization.work.prompts:make_prompts",
                "summarization.work.samples:sample_summaries",
            },
        ),
        ("tasks/metrics/significance.py", {"summarization.work.correlations:correlate",
                                           "dialogue.work.masks:measure_masks",
                                           "sentiment.work.rankings:rank_tokens",
                                           "sentiment.work.rankings:rank_baselines",
                                           "sentiment.work.mask_rankings:rank_masks"}),
        ("tasks/sandbox/box/strict.py", {"code.work.judge:judge_samples",
                                         "code.work.validation:measure_trial",
                                         "code.work.pairs:make_pairs"}),
        # Scoring, sampling and judging do not follow the trainer.
        ("sparsepo/training/trainer.py", TRAINING),
        ("tasks/models/generation/engine.py", {
            "common.work.generate:generate", "code.work.samples:sample",
            "dialogue.work.leaderboard:evaluate",
            "sentiment.work.samples:sample_completions", "sentiment.work.start:evaluate_start",
            "sentiment.work.train:train_and_evaluate", "sentiment.work.chosen:train_chosen",
            "sentiment.work.rollout:train_on_samples",
            "sentiment.work.diversity:measure_diversity",
            "dialogue.work.validation:measure_trial", "code.work.validation:measure_trial",
            "sentiment.work.validation:measure_trial",
            "summarization.work.samples:sample_summaries",
        }),
        ("tasks/judges/prompt.py", {"common.work.verdicts:judge_responses",
                                    "common.work.verdicts:judge_labels"}),
        # What shows, words, runs or is computed from verdicts, moves no stage.
        ("tasks/metrics/winrate.py", set()),
        ("sparsepo/analysis/page.py", set()),
        ("sparsepo/analysis/templates/token_maps.js", set()),
        ("sparsepo/cli/train.py", set()),
        ("sparsepo/errors.py", set()),
        ("sparsepo/__init__.py", set()),
        ("sparsepo/training/card.py", set()),
        ("sparsepo/training/templates/model_card.md", set()),
        ("harness/graph/progress.py", set()),
        ("harness/graph/report.py", set()),
        ("harness/graph/store.py", set()),
        ("harness/render/table.py", set()),
        ("harness/domains/sentiment/pipeline.py", set()),
    ],
)  # fmt: skip
def test_an_edit_moves_the_stages_that_it_can_change_and_no_others(
    moved: Callable[[str], list[Code]], file: str, functions: set[str]
) -> None:
    assert {code[0] for code in moved(file)} == {f"{DOMAINS}{name}" for name in functions}


@pytest.mark.parametrize("method", ["tdpo2", "dpo", "simpo", "sparsepo-common"])
def test_an_edit_of_a_method_moves_the_stages_that_use_it(
    moved: Callable[[str], list[Code]], stages: dict[Code, Stage], method: str
) -> None:
    own = BUILT_IN[method].__module__
    found = moved(own.replace(".", "/") + ".py")
    assert set(found) == {code for code in stages if own in code[1]}
    for code in found:
        used = stages[code].config.get("method")
        assert used is None or own in method_code(used)


def test_an_edit_of_the_table_of_methods_moves_nothing(moved: Callable[[str], list[Code]]) -> None:
    assert moved("sparsepo/methods/__init__.py") == []
