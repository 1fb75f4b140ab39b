"""Sampling as stages: what their addresses depend on, resuming, and the counts in the notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.assign import apply_assignments
from harness.config.profiles import Profile
from harness.domains.code import DOMAIN as CODE
from harness.domains.code.pipeline import build_table
from harness.domains.common.generation import generation_parts, sampled_json
from harness.domains.common.rows import method_rows
from harness.domains.common.work.files import write_pairs
from harness.domains.common.work.generate import generate
from harness.domains.common.work.generation import generation_settings
from harness.domains.dialogue import DOMAIN as DIALOGUE
from harness.domains.dialogue.pipeline import build_graph as dialogue_graph
from harness.domains.sentiment import DOMAIN as SENTIMENT
from harness.domains.sentiment.experiments import FIGURE2
from harness.domains.sentiment.pipeline import build_graph as sentiment_graph
from harness.graph.stages import Stage, StageContext, topological
from harness.graph.store import Store
from harness.render.notes import generation_note
from sparsepo.data.jsonl import read_jsonl
from sparsepo.errors import UserError
from sparsepo.types import PreferencePair
from tasks.models.base_config import BaseModelConfig
from tasks.models.base_model import build_model, train_tokenizer
from tasks.models.generation_settings import GenerationSettings

GRAPHS = {
    "dialogue": (DIALOGUE, lambda profile: dialogue_graph(profile, method_rows("sft", "dpo"))),
    "code": (CODE, lambda profile: build_table(profile, method_rows("dpo"))),
    "sentiment": (
        SENTIMENT,
        lambda profile: sentiment_graph(FIGURE2, profile, method_rows("sft", "dpo"), {}),
    ),
}
SAMPLING = {
    "dialogue": {"harness.domains.common.work.generate:generate"},
    "code": {"harness.domains.code.work.samples:sample"},
    "sentiment": {
        "harness.domains.sentiment.work.samples:sample_completions",
        "harness.domains.sentiment.work.start:evaluate_start",
        "harness.domains.sentiment.work.train:train_and_evaluate",
    },
}


def stages(domain: str, *assignments: str) -> list[Stage]:
    made, build = GRAPHS[domain]
    profile: Any = apply_assignments(made.get_profile("tiny"), ("seeds=1", *assignments))
    return topological(build(profile).targets)


def addresses(domain: str, *assignments: str) -> dict[str, str]:
    return {stage.name: stage.address for stage in stages(domain, *assignments)}


@pytest.mark.parametrize("domain", GRAPHS)
def test_addresses_do_not_depend_on_how_samples_are_drawn(domain: str) -> None:
    before = addresses(domain)
    assert addresses(domain, "generation.batch_size=7") == before
    assert addresses(domain, "generation.backend=transformers") == before
    found = [one for one in stages(domain, "generation.batch_size=7") if one.options]
    assert {one.function for one in found} == SAMPLING[domain]
    assert {one.options["batch_size"] for one in found} == {7}


@pytest.mark.parametrize("domain", GRAPHS)
def test_an_endpoint_has_samples_of_its_own_wherever_it_is(domain: str) -> None:
    before = stages(domain)
    one, other = (
        addresses(domain, f"generation.endpoint={url}", "generation.model=m")
        for url in ("http://here/v1", "http://there/v1")
    )
    assert one == other
    assert one != {stage.name: stage.address for stage in before}
    named = addresses(domain, "generation.endpoint=http://here/v1", "generation.model=n")
    assert named != one
    # What is not sampled stays.
    kept = {stage.name for stage in before if stage.address == one[stage.name]}
    assert {stage.name for stage in before if "base model" in stage.name} <= kept


def test_settings_of_a_stage_are_those_of_the_profile() -> None:
    changes = ("generation.endpoint=http://x/v1", "generation.concurrency=3")
    profile: Profile = apply_assignments(DIALOGUE.get_profile("tiny"), changes)
    parts = generation_parts(profile)
    context = StageContext(
        "t", {"generation": parts.config}, {}, {}, Path(), lambda *_: None, 1, parts.options
    )
    expected = GenerationSettings("endpoint", "http://x/v1", None, 64, 3)
    assert generation_settings(context) == expected
    with pytest.raises(UserError, match=r"set generation\.endpoint=URL"):
        generation_parts(
            apply_assignments(DIALOGUE.get_profile("tiny"), ("generation.backend=endpoint",))
        )
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        apply_assignments(DIALOGUE.get_profile("tiny"), ("generation.batch_size=0",))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = train_tokenizer(["film 1 is good fine bad poor dull"] * 9, 290, 64)
    torch.manual_seed(0)
    model = folder / "model" / "model"
    build_model(
        BaseModelConfig(layers=1, width=32, heads=2, context=64), tokenizer
    ).save_pretrained(model)
    tokenizer.save_pretrained(model)
    (folder / "pairs").mkdir()
    pairs = [
        PreferencePair(
            f"p{i}",
            [{"role": "user", "content": f"film {i} is" + " good" * 60 * (i == 3)}],
            [{"role": "assistant", "content": "good"}],
            [{"role": "assistant", "content": "bad"}],
        )
        for i in range(7)
    ]
    write_pairs(pairs, folder / "pairs" / "test.jsonl")
    return {name: folder / name for name in ("model", "pairs")}


class KilledError(Exception):
    """Stands in for the end of the process."""


def answer(work: Path, inputs: dict[str, Path], stop_after: int | None = None) -> list[int]:
    """Run the stage; return what was done at each batch."""
    seen: list[int] = []

    def progress(done: float, total: float, unit: str) -> None:
        assert (total, unit) == (7, "responses")
        seen.append(int(done))
        if len(seen) == stop_after:
            raise KilledError

    config = {
        "prompts": 7,
        "max_new_tokens": 8,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 3,
        "device": "cpu",
        "generation": {"backend": "transformers"},
    }
    work.mkdir(exist_ok=True)
    generate(StageContext("t", config, inputs, {}, work, progress, 1, {"batch_size": 2}))
    return seen


def test_an_interrupted_stage_loses_no_response(tmp_path: Path, inputs: dict[str, Path]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert answer(whole, inputs) == [2, 4, 6, 7]
    with pytest.raises(KilledError):
        answer(cut, inputs, stop_after=2)
    assert [file.name for file in cut.iterdir()] == ["journal.jsonl"]
    assert answer(cut, inputs) == [6, 7]
    for folder in (whole, cut):
        assert {file.name for file in folder.iterdir()} == {"responses.jsonl", "generation.json"}
    for name in ("responses.jsonl", "generation.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    rows = list(read_jsonl(whole / "responses.jsonl"))
    assert [row["pair_id"] for row in rows] == [f"p{i}" for i in range(7)]
    found = json.loads((whole / "generation.json").read_text())
    assert (found["prompts"], found["responses"], found["truncated_prompts"]) == (7, 7, 1)
    assert 0 <= found["unfinished"] <= 7


def test_counts_of_stages_are_added_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    function = "harness.domains.common.work.generate:generate"
    flat, nested = Stage("a", function, {"n": 1}), Stage("b", function, {"n": 2})
    one = {"prompts": 2, "truncated_prompts": 1, "responses": 4, "unfinished": 3}
    for stage, found in ((flat, one), (nested, {"humaneval": one, "mbpp_test": one})):
        work = store.begin(stage.address, keep=False)
        (work / "generation.json").write_text(json.dumps(found))
        store.publish(stage.address, stage.name, stage.record, 1.0)
    assert sampled_json(store, [flat, flat]) == one
    assert sampled_json(store, [flat, nested])["unfinished"] == 9
    assert sampled_json(store, []) == {}


def test_the_note_counts_what_is_not_whole() -> None:
    counts = {"responses": 1500, "unfinished": 12, "truncated_prompts": 3}
    assert generation_note({"held-out prompts": counts, "prompts of pairs": {}}) == (
        "Sampled responses: 1,500 to held-out prompts (12 reached the longest length without an "
        "end, 3 prompts lost their beginning to fit the context)."
    )
    assert generation_note({"held-out prompts": {}}) == ""
