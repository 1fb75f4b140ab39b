"""What each domain shows of its models' responses, and the file that a run writes of it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.domains import get_domain
from harness.domains.code.experiments import EXPERIMENTS as CODE
from harness.domains.code.pipeline import Graph as CodeGraph
from harness.domains.code.pipeline import System as CodeSystem
from harness.domains.code.samples import code_samples
from harness.domains.common.domain import Domain
from harness.domains.common.sample_maps import MAPPED, map_stage
from harness.domains.common.samples import (
    Response,
    Sample,
    SampleSet,
    read_samples_file,
    samples_file,
    samples_name,
)
from harness.domains.common.spec import RowSpec
from harness.domains.common.winrate.samples import winrate_map_stages, winrate_samples
from harness.domains.common.winrate.spec import Answers
from harness.domains.common.winrate.stages import ChainVerdicts, WinrateGraph
from harness.domains.dialogue.experiments import TABLE1, WINRATE
from harness.domains.dialogue.pipeline import Graph as DialogueGraph
from harness.domains.dialogue.pipeline import System as DialogueSystem
from harness.domains.dialogue.samples import dialogue_map_stages, dialogue_samples
from harness.domains.sentiment.experiments import FIGURE2, FIGURE4
from harness.domains.sentiment.pipeline import Graph as SentimentGraph
from harness.domains.sentiment.pipeline import Run
from harness.domains.sentiment.samples import sentiment_samples
from harness.domains.summarization.experiments import FIGURE5
from harness.domains.summarization.pipeline import Graph as SummaryGraph
from harness.domains.summarization.pipeline import System as SummarySystem
from harness.domains.summarization.samples import summarization_samples
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.errors import UserError
from tests.harness.domains.artefacts import finished, put, stage

PAIRS = [
    {
        "pair_id": f"pair:{number}",
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    for number in range(3)
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def addresses(stages: Sequence[Stage]) -> set[str]:
    return {made.address for made in stages}


def trained(name: str, pairs: Stage) -> Stage:
    config = {
        "method": "dpo",
        "training": {"max_length": 64, "max_prompt_length": 32},
        "device": "cpu",
        "model": None,
    }
    inputs = {"pairs": pairs, "model": stage("sft")}
    function = "harness.domains.common.work.train:train_policy"
    return stage(name, inputs, config=config, function=function)


def responses(store: Store, row: str, seed: int, pairs: Stage, count: int = 2) -> Stage:
    made = stage(f"{row} {seed}", {"model": trained(f"{row} model {seed}", pairs), "pairs": pairs})
    rows = [{"pair_id": f"pair:{n}", "response": f"{row} {n}"} for n in range(count)]
    return put(store, made, responses_jsonl=rows)


def test_dialogue_shows_the_judged_responses_of_every_chain(store: Store) -> None:
    pairs = [put(store, stage(f"pairs {seed}"), test_jsonl=PAIRS) for seed in (42, 43)]
    systems: dict[str, tuple[DialogueSystem, ...]] = {}
    for row in ("sft", "dpo"):
        own = []
        for seed, made in zip((42, 43), pairs, strict=True):
            answered = responses(store, row, seed, made)
            judged = put(
                store,
                stage(f"judged {row} {seed}", {"responses": answered, "pairs": made}),
                judged_json={"pair_ids": ["pair:0", "pair:1"], "scores": [1.0, 0.5]},
            )
            scores = [{"pair_id": "pair:0", "chosen_reward": 2.0, "rejected_reward": 0.5}]
            model = put(store, answered.inputs["model"], scores_json=scores)
            own.append(DialogueSystem(seed, model, stage("board"), judged))
        systems[row] = tuple(own)
    graph = DialogueGraph(tuple(pairs), (), systems, {})
    (of_sft, of_dpo) = dialogue_map_stages(graph)
    put(store, of_dpo, maps_json={"responses": {"pair:0": {"tokens": ["dpo"]}}, "reason": None})
    found = dialogue_samples(finished(TABLE1, graph, store, ("sft", "dpo")))
    assert found is not None
    assert addresses([of_sft, of_dpo]) < addresses(found.sources)
    samples = list(found.read())
    assert [(one.id, one.chain) for one in samples] == [
        ("pair:0", 42), ("pair:1", 42), ("pair:0", 43), ("pair:1", 43),
    ]  # fmt: skip
    first, second = samples[:2]
    assert first.prompt == PAIRS[0]["prompt"]
    assert first.references == {"chosen": "yes", "rejected": "no"}
    assert [one.text for one in first.responses] == ["sft 0", "dpo 0"]
    assert first.responses[1].scores == {"win": 1.0, "margin": 1.5}
    assert first.responses[1].tokens == {"tokens": ["dpo"]}
    assert first.responses[0].tokens is None
    assert second.responses[1].scores == {"win": 0.5, "margin": None}


def test_dialogue_without_a_win_rate_has_no_samples(store: Store) -> None:
    system = DialogueSystem(42, stage("model"), stage("board"), None)
    graph = DialogueGraph((stage("pairs"),), (), {"dpo": (system,)}, {})
    assert dialogue_samples(finished(TABLE1, graph, store, ("dpo",))) is None
    assert dialogue_map_stages(graph) == []


def test_win_rates_show_the_verdict_against_each_opponent(store: Store) -> None:
    pairs = put(store, stage("pairs"), test_jsonl=PAIRS)
    answers = {row: responses(store, row, 42, pairs, 3) for row in ("dpo", "mapo")}
    orders = [("first", "second"), ("first", "first"), ("failed", "first")]
    lines = [
        {"pair_id": f"pair:{n}", "forward": forward, "backward": backward}
        for n, (forward, backward) in enumerate(orders)
    ]
    against = {
        opponent: {row: put(store, stage(f"{opponent} {row}"), verdicts_jsonl=lines) for row in own}
        for opponent, own in {"chosen": ("dpo", "mapo"), "dpo": ("mapo",)}.items()
    }
    chain = ChainVerdicts(Answers(42, pairs, answers), against, None, stage("labels"))
    graph = WinrateGraph(None, None, (chain,), None)  # type: ignore[arg-type]
    found = winrate_samples(finished(WINRATE, graph, store, ("dpo", "mapo")))
    assert found.scores == {"chosen": "win against chosen", "dpo": "win against dpo"}
    mapped = winrate_map_stages(graph)
    assert len(mapped) == 2 and addresses(mapped) < addresses(found.sources)
    samples = list(found.read())
    assert [one.responses[1].scores for one in samples] == [
        {"chosen": 1.0, "dpo": 1.0},
        {"chosen": 0.5, "dpo": 0.5},
        {"chosen": "failed", "dpo": "failed"},
    ]
    # A row is not compared with itself.
    assert set(samples[0].responses[0].scores) == {"chosen"}


def test_code_shows_the_first_program_and_how_many_pass(store: Store) -> None:
    problems = put(
        store,
        stage("problems"),
        humaneval_jsonl=[
            {"task_id": "World/0", "prompt": "def f():", "canonical_solution": "x", "test": "t"}
        ],
        mbpp_test_jsonl=[
            {"task_id": 11, "text": "Write f.", "code": "def f(): 1", "test_list": ["a", "b"]}
        ],
    )
    systems = {}
    for row in ("base", "dpo"):
        own = stage(f"samples {row}", {"problems": problems})
        put(
            store,
            own,
            humaneval_jsonl=[{"task_id": "World/0", "completion": f"{row} {n}"} for n in range(4)],
            mbpp_test_jsonl=[{"task_id": 11, "completion": f"{row} mbpp"}],
        )
        verdicts = stage(
            f"verdicts {row}",
            {"problems": problems, "samples": own},
            config={"benchmarks": ["humaneval", "mbpp_test"]},
        )
        put(
            store,
            verdicts,
            humaneval_jsonl=[{"verdict": v} for v in ("failed", "passed", "passed", "timeout")],
            mbpp_test_jsonl=[{"verdict": "passed"}],
        )
        systems[row] = (CodeSystem(42, None, verdicts),)
    table2 = next(one for one in CODE if one.id == "table2")
    found = code_samples(
        finished(table2, CodeGraph((problems,), systems=systems), store, ("base", "dpo"))
    )
    assert found is not None
    first, second = found.read()
    assert (first.group, first.prompt, first.references) == (
        "HumanEval", "def f():", {"solution": "x", "tests": "t"},
    )  # fmt: skip
    assert first.responses[1] == Response("dpo", "dpo 0", {"verdict": "failed", "passed": 50.0})
    assert (second.id, second.group, second.prompt) == ("11", "MBPP", "Write f.")
    assert second.references == {"solution": "def f(): 1", "tests": "a\nb"}
    assert code_samples(finished(table2, CodeGraph(()), store, ())) is None


def test_summaries_show_their_scores_by_temperature(store: Store) -> None:
    prompts = put(
        store,
        stage("prompts"),
        prompts_jsonl=[
            {"prompt_id": f"p{n}", "prompt": f"Post {n}", "document": "d", "reference": f"r{n}"}
            for n in range(2)
        ],
    )
    samples = put(
        store,
        stage("samples"),
        samples_jsonl=[
            {"prompt_id": f"p{n}", "temperature": t, "summaries": [f"s{n} {t}", "other"]}
            for n in range(2)
            for t in (0.0, 0.5)
        ],
    )
    metric = {"0": [[0.5, 0.6], [0.7, 0.8]], "0.5": [[0.1, 0.2], [None, 0.4]]}
    scores = put(
        store,
        stage("scores"),
        scores_json={
            "prompt_ids": ["p0", "p1"],
            "metrics": {"rougeL": {"values": metric}},
            "truth": {"coverage": metric, "faithfulness": metric, "preference": metric},
        },
    )
    graph = SummaryGraph(
        (stage("pairs"),), (prompts,), {"dpo": (SummarySystem(42, None, samples, scores),)}
    )
    found = summarization_samples(finished(FIGURE5, graph, store, ("dpo",)))
    by_place = {(one.group, one.id): one for one in found.read()}
    assert len(by_place) == 4
    cold = by_place["temperature 0", "p1"]
    assert (cold.prompt, cold.references) == ("Post 1", {"reference": "r1"})
    (response,) = cold.responses
    assert response.text == "s1 0.0"
    assert response.scores == {"rougeL": 70.0, "coverage": 70.0, "faithfulness": 70.0}
    (warm,) = by_place["temperature 0.5", "p1"].responses
    assert warm.scores["rougeL"] is None


def tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "good": 1, "film": 2, "bad": 3}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    (folder / "model").mkdir()
    made.save(str(folder / "model" / "tokenizer.json"))


def test_sentiment_shows_the_end_of_training_at_each_beta(store: Store) -> None:
    pairs = put(store, stage("pairs"), prompts_json=["This", "That"])
    runs = []
    for row, beta in (("sft", None), ("dpo", 0.1), ("dpo", 0.5)):
        made = put(
            store,
            stage(f"{row} {beta}"),
            responses_jsonl=[
                {"step": 5, "ids": [[3], [3]]},
                {"step": 10, "ids": [[1, 2], [2]]},
            ],
        )
        if row == "dpo":
            tokenizer(store.folder(made.address))
        point = {"rewards": [0.25, None], "logps": [-1.0, -2.0], "ref_logps": [-1.5, -2.0]}
        points = put(
            store,
            stage(f"points {row} {beta}", {"pairs": pairs}),
            points_json={"points": [{"step": 5, **point}, {"step": 10, **point}]},
        )
        runs.append(Run(RowSpec(row, row, row), beta, None, 42, made, points, None))
    graph = SentimentGraph((pairs,), tuple(runs))
    found = sentiment_samples(finished(FIGURE2, graph, store, ("sft", "dpo")))
    assert found is not None
    samples = list(found.read())
    assert [(one.group, one.prompt) for one in samples] == [
        ("β 0.1", "This"), ("β 0.1", "That"), ("β 0.5", "This"), ("β 0.5", "That"),
    ]  # fmt: skip
    assert [(one.row, one.text) for one in samples[0].responses] == [
        ("sft", "good film"), ("dpo", "good film"),
    ]  # fmt: skip
    assert samples[0].responses[1].scores == {"reward": 25.0, "log_ratio": 0.5}
    assert samples[1].responses[1].scores == {"reward": None, "log_ratio": 0.0}


def test_token_maps_are_samples_of_both_responses(store: Store) -> None:
    def response(side: str) -> dict[str, Any]:
        return {"text": side, "reward": 0.5, "tokens": [side]}

    pair = {"pair_id": "p", "prompt": "This", **{s: response(s) for s in ("chosen", "rejected")}}
    models = [{"label": name, "pairs": [pair]} for name in ("a", "b", "c")]
    maps = put(store, stage("maps"), maps_json={"pair_id": "p", "models": models})
    rows = tuple(row.id for row in FIGURE4.rows)
    run = Run(FIGURE4.rows[0], 0.1, None, 42, stage("run"), None, None)
    found = sentiment_samples(finished(FIGURE4, SentimentGraph((), (run,), maps=maps), store, rows))
    assert found is not None
    samples = list(found.read())
    assert [one.group for one in samples] == ["chosen response", "rejected response"]
    assert [one.row for one in samples[0].responses] == list(rows)
    assert samples[1].responses[2].tokens == response("rejected")


def test_without_scored_responses_there_are_no_samples(store: Store) -> None:
    assert sentiment_samples(finished(FIGURE2, SentimentGraph((), ()), store, ())) is None


@pytest.mark.parametrize("name", ["dialogue", "sentiment", "summarization", "code"])
def test_every_domain_says_what_it_shows(name: str) -> None:
    assert type(get_domain(name)).samples is not Domain.samples


def test_maps_need_a_training_run_of_the_experiment(store: Store) -> None:
    pairs = stage("pairs")
    made = map_stage(responses(store, "dpo", 42, pairs))
    assert made is not None
    assert made.config["responses"] == MAPPED and made.config["max_length"] == 64
    assert set(made.inputs) == {"responses", "pairs", "run", "model"}
    assert map_stage(stage("of a hub model", {"pairs": pairs})) is None
    other = {"model": stage("kept"), "pairs": pairs}
    assert map_stage(stage("of a tuned model", other)) is None


def sample(number: int, text: str = "text") -> Sample:
    return Sample(f"p{number}", 42, "", "prompt", [Response("dpo", text, {"win": 1.0})])


def sample_set(*samples: Sample, source: str = "a") -> SampleSet:
    return SampleSet({"dpo": "DPO"}, {"win": "win"}, [stage(source)], lambda: samples)


def test_a_file_is_written_once_for_the_same_artefacts(tmp_path: Path) -> None:
    file = tmp_path / samples_name("table1")
    content = samples_file("table1", sample_set(sample(0, "\ud800 ünï")), file)
    assert content is not None
    assert content == samples_file("table1", sample_set(sample(0, "\ud800 ünï")), file)
    file.write_bytes(content)

    def fail() -> Any:
        raise AssertionError("read although nothing has changed")

    same = SampleSet({"dpo": "DPO"}, {"win": "win"}, [stage("a")], fail)
    assert samples_file("table1", same, file) is None
    assert samples_file("table1", sample_set(sample(1), source="b"), file) is not None
    file.write_bytes(content[:20])
    assert samples_file("table1", sample_set(sample(0)), file) is not None
    file.write_bytes(content)
    head, lines = read_samples_file(file)
    assert (head["samples"], head["kept"], head["rows"]) == (1, 1, {"dpo": "DPO"})
    assert [line["responses"][0]["text"] for line in lines] == ["\ud800 ünï"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "another version"),
        (gzip.compress(b"[1]\n"), "damaged"),
        (gzip.compress(b'{"schema": "sparsepo-samples-0"}\n'), "another version"),
        (gzip.compress(b'{"schema"'), "damaged"),
        (gzip.compress(b"\xff\xfe\n"), "damaged"),
    ],
    # Compressed bytes hold the time, and test processes have to agree on the names of tests.
    ids=["empty", "no object", "another schema", "cut short", "no text"],
)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.samples.jsonl.gz"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_samples_file(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_samples_file(tmp_path / "nowhere")


def test_no_value_is_nan(tmp_path: Path) -> None:
    broken = Sample("p", 42, "", "prompt", [Response("dpo", "t", {"win": float("nan")})])
    with pytest.raises(ValueError):
        samples_file("table1", sample_set(broken), tmp_path / "x")
