"""What a run will take: the cost model by hand, plans of all profiles, and measured durations."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from harness.cli import main
from harness.commands.plan.command import PlanOptions, make_plan_of, scheduled_seconds
from harness.commands.plan.cost_model import (
    BLOCK_LOGITS,
    GPUS,
    KEPT_BLOCKS,
    OVERHEAD,
    Decoding,
    Shape,
    Utilisation,
    adapter_weights,
    checkpoint_bytes,
    decoding,
    forward_flops,
    gpu_seconds,
    training_flops,
    training_memory,
)
from harness.commands.plan.expected import expected_seconds
from harness.commands.plan.facts import DATA, MODELS, shape_of_config
from harness.commands.plan.processor import processor_seconds
from harness.commands.plan.sizes import Pairs, row_of, short_name
from harness.commands.plan.workloads import Workloads
from harness.commands.run import describe
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.stages import Stage, topological
from sparsepo import fused

MEASURED = Path(__file__).parents[2] / "golden" / "plan_tiny_seconds.json"
SMALL = Shape(layers=2, width=4, inner=8, vocabulary=10, parameters=1_000)
"""Weights that multiply each token: 2 (4·(8 + 8) + 2·4·8) = 256; head 40."""
TRAINING: dict[str, Any] = {
    "precision": "bfloat16",
    "max_length": 6,
    "max_prompt_length": 2,
    "device_batch_size": 3,
    "activation_checkpointing": False,
    "load_in_4bit": False,
    "lora_r": None,
    "lora_targets": None,
    "validation_steps": None,
    "save_steps": None,
}


def test_passes_are_counted_as_by_hand() -> None:
    assert SMALL.body == 256
    assert SMALL.head == 40
    # 2·256·5 tokens, 4·2·4·5·5 of attention, 2·40·3 of the head.
    assert forward_flops(SMALL, 5, 5, 3) == 2560 + 800 + 240
    assert training_flops(SMALL, 5, 5, 3) == 3 * 3600
    assert training_flops(SMALL, 5, 5, 3, recompute=True) == 3 * 3600 + 3360
    assert training_flops(SMALL, 5, 5, 3, adapters=7) == 2 * 3600 + 6 * 7 * 5


def test_decoding_is_counted_as_by_hand() -> None:
    found = decoding(SMALL, responses=3, prompt=4, new_tokens=2, batch=2, size=4.0)
    # 6 tokens, each 2·296 and 4·2·4 of attention behind 5 tokens on average.
    assert found.flops == 6 * (592 + 160)
    # Two batches of two steps read 296 weights; each token reads 2 layers of 8 values, 5 times.
    assert found.read == 4 * 296 * 4 + 6 * 2 * 8 * 5 * 4
    assert found.steps == 4 * 2


def test_memory_is_counted_as_by_hand() -> None:
    memory = training_memory(SMALL, TRAINING, reference=True, kl=True)
    # Rows of 2 + 2·4 = 10 tokens, 3 pairs, 24 predicted tokens.
    assert memory.weights == memory.gradients == memory.reference == 4_000
    assert memory.optimizer == 8_000
    assert memory.activations == 2 * 17 * 4 * 2 * 30 + 3 * 10 * 10 * 2
    assert memory.loss == 2 * (24 * 10 * 4 * 2) + 4 * 40
    assert memory.overhead == OVERHEAD
    assert memory.total == sum(memory.as_json().values())
    alone = training_memory(SMALL, TRAINING, rejected=False)
    assert alone.reference == 0
    assert alone.activations == 2 * 17 * 4 * 2 * 18 + 3 * 6 * 6 * 2


def test_recomputed_activations_keep_each_layers_input_and_one_layer() -> None:
    memory = training_memory(SMALL, {**TRAINING, "activation_checkpointing": True})
    assert memory.activations == (17 + 2) * 4 * 2 * 30 + 600


def test_adapters_of_a_quantized_model_are_all_that_is_trained() -> None:
    assert adapter_weights(SMALL, 2, "q_proj+fc_in") == 2 * 2 * (8 + 12)
    assert adapter_weights(SMALL, 2, None) == 2 * 2 * (4 + 4 + 8)
    own = {**TRAINING, "load_in_4bit": True, "lora_r": 2, "lora_targets": "q_proj"}
    memory = training_memory(SMALL, own, reference=True)
    assert memory.reference == 0
    assert memory.gradients == 4 * 32
    assert memory.optimizer == 8 * 32
    assert memory.weights == pytest.approx((0.5 + 0.127 / 8) * 256 + 4 * (1_000 - 256) + 4 * 32)


def test_checkpoints_are_weights_and_moments() -> None:
    assert checkpoint_bytes(SMALL, TRAINING) == 0
    assert checkpoint_bytes(SMALL, {**TRAINING, "save_steps": 5}) == 2 * 12_000
    assert checkpoint_bytes(SMALL, {**TRAINING, "validation_steps": 5}) == 3 * 12_000


def test_decoding_takes_the_longer_of_reading_and_computing() -> None:
    gpu, reached = GPUS[0], Utilisation(0.5, 0.5)
    assert gpu_seconds(gpu, 0, "bfloat16", Decoding(156e12, 0, 0), reached) == pytest.approx(1)
    assert gpu_seconds(gpu, 0, "bfloat16", Decoding(0, 2.039e12, 0), reached) == pytest.approx(2)
    assert gpu_seconds(gpu, 19.5e12, "float32", Decoding(), reached) == pytest.approx(2)


def test_blocks_of_the_loss_are_those_of_the_fused_operation() -> None:
    assert fused.BLOCK_ELEMENTS["cuda"] == BLOCK_LOGITS
    assert fused.KEEP_BYTES["cuda"] == KEPT_BLOCKS


@pytest.mark.parametrize("name", [name for name in MODELS if "albert" not in name])
def test_the_table_of_models_has_the_parameters_of_their_architectures(name: str) -> None:
    import torch

    known = MODELS[name]
    shape, kind = known.shape, known.architecture.partition(":")[0]
    sizes: dict[str, Any] = {
        "vocab_size": shape.vocabulary or 50_265,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        # With one shared head, its keys and values are all there are.
        "num_attention_heads": 2 * shape.width // (shape.kv_width or 128),
        "max_position_embeddings": known.context,
    }
    if kind in ("gpt_neox", "roberta"):
        sizes["intermediate_size"] = shape.inner
    if kind == "roberta":
        sizes["type_vocab_size"] = 1
    if kind == "gpt_neo":
        sizes["attention_types"] = [[["global", "local"], shape.layers // 2]]
    config = AutoConfig.for_model(kind, **sizes)
    maker: Any = AutoModel if kind == "roberta" else AutoModelForCausalLM
    with torch.device("meta"):
        made = maker.from_config(config)
    assert sum(weight.numel() for weight in made.parameters()) == shape.parameters


def test_a_models_sizes_are_read_from_its_configuration() -> None:
    llama = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "vocab_size": 100,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }
    shape = shape_of_config(llama)
    assert shape is not None
    assert shape.keys_and_values == 2 * 16
    assert shape.body == 2 * (64 * (128 + 32) + 3 * 64 * 96)
    assert shape.parameters == shape.body + 2 * 6400
    assert shape_of_config({"hidden_size": 64}) is None


def test_long_pairs_count_as_they_are_truncated() -> None:
    pairs = Pairs(10, 0, 0, prompt=100, response=50)
    limits = {"max_length": 60, "max_prompt_length": 40}
    assert row_of(pairs, limits, rejected=True) == (80, 40)
    assert row_of(pairs, limits, rejected=False) == (60, 20)


PLANS = [
    ("--table 1", "EleutherAI/pythia-410m", "EleutherAI/pythia-1.4b-deduped"),
    ("--table 2", "bigcode/tiny_starcoder_py", "bigcode/starcoderbase-1b"),
    ("--figure 2", "lvwerra/gpt2-imdb", "insub/gpt2-large-imdb-fine-tuned"),
    ("--figure 5", "EleutherAI/pythia-410m", "CarperAI/openai_summarize_tldr_sft"),
]


@pytest.mark.parametrize("profile", ["tiny", "small", "paper"])
@pytest.mark.parametrize("experiment", PLANS, ids=lambda plan: plan[0].split()[1])
def test_every_profile_of_every_domain_is_planned(
    experiment: tuple[str, str, str],
    profile: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"plan {experiment[0]} --profile {profile} --out plan.json"
    assert main(command.split()) == 0
    shown = capsys.readouterr().out
    assert "Nothing was run or fetched." in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json"]
    plan = json.loads((tmp_path / "plan.json").read_text())
    total = plan["total"]
    assert total["to_run"] == total["stages"] == sum(one["stages"] for one in plan["stages"])
    assert total["in_store"] == 0
    assert total["unknown"] == 0
    assert not plan["unknown"]
    assert total["flops"] > 0
    fetched = {one["name"]: one for one in plan["fetch"]}
    if profile == "tiny":
        assert not fetched
        return
    name = experiment[1 if profile == "small" else 2]
    assert fetched[name]["parameters"] == MODELS[name].shape.parameters
    assert name in shown
    hours = total["gpu_hours"]
    assert hours["A100"] > hours["H100"] >= hours["H200"] > 0
    for one in plan["training_memory"]:
        assert one["total_bytes"] == pytest.approx(sum(one["bytes"].values()))
        fits = list(one["fits"].values())
        assert fits == sorted(fits)


def test_what_is_in_the_store_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = RunRequest(store=tmp_path / "store")
    whole = make_plan_of([EXPERIMENTS["figure1"]], request, PlanOptions())
    assert not request.store.exists()
    order = topological(describe(EXPERIMENTS["figure1"], request).targets)
    (request.store / order[0].address).mkdir(parents=True)
    rest = make_plan_of([EXPERIMENTS["figure1"]], request, PlanOptions())
    assert rest.total.in_store == 1
    assert rest.total.to_run == whole.total.to_run - 1
    assert rest.total.processor_seconds < whole.total.processor_seconds


def test_changes_of_the_profile_change_the_plan(tmp_path: Path) -> None:
    def planned(**more: Any) -> Any:
        request = RunRequest(profile="paper", store=tmp_path, **more)
        return make_plan_of([EXPERIMENTS["table1"]], request, PlanOptions()).total

    usual = planned()
    assert planned(methods=("dpo",)).stages < usual.stages
    assert planned(seeds=2).stages > usual.stages
    half = planned(assignments=("po.epochs=1.5",))
    assert 0.5 * usual.flops < half.flops < 0.7 * usual.flops
    # float32 products reach a sixteenth of bfloat16's peak on an A100.
    quick = planned(assignments=("po.precision=bfloat16",))
    assert quick.flops == usual.flops
    assert quick.gpu_seconds["A100"] < 0.4 * usual.gpu_seconds["A100"]


def test_samples_of_the_policy_are_drawn_and_trained_on(tmp_path: Path) -> None:
    """Twice as many samples cost more; methods of single samples train on all of them."""

    def planned(method: str, samples: int) -> Any:
        request = RunRequest(
            store=tmp_path,
            methods=(method,),
            seeds=1,
            assignments=(f"on_policy.samples_per_prompt={samples}",),
        )
        kinds = make_plan_of([EXPERIMENTS["on-policy"]], request, PlanOptions()).kinds
        return next(one for one in kinds if one.kind == "training on samples")

    assert planned("inpo", 4).stages == 1
    pairs, all_of_them = planned("inpo", 4), planned("grpo", 4)
    assert all_of_them.flops > pairs.flops > 0
    assert planned("inpo", 8).processor_seconds > pairs.processor_seconds
    assert planned("grpo", 8).flops > 1.5 * all_of_them.flops


def test_utilisation_scales_the_hours(tmp_path: Path) -> None:
    request = RunRequest(profile="small", store=tmp_path)

    def hours(share: float) -> float:
        options = PlanOptions(Utilisation(compute=share, bandwidth=share))
        plan = make_plan_of([EXPERIMENTS["figure7"]], request, options)
        kind = next(one for one in plan.kinds if one.kind == "training with evaluations")
        return kind.gpu_seconds["H100"] - 30.0 * kind.stages

    assert hours(0.2) == pytest.approx(2 * hours(0.4))


def test_tuning_and_a_users_file_are_planned(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    row = {"chosen": "\n\nHuman: " + "q" * 389 + "\n\nAssistant: " + "a" * 80}
    row["rejected"] = row["chosen"][:-80] + "b" * 80
    file.write_text("".join(json.dumps(row) + "\n" for _ in range(300)))
    request = RunRequest(store=tmp_path, assignments=(f"data.hh_rlhf={file}",), methods=("dpo",))
    plan = make_plan_of([EXPERIMENTS["table1"]], request, PlanOptions())
    assert not plan.unknown
    workloads = Workloads()
    (pairs,) = [
        stage
        for stage in topological(describe(EXPERIMENTS["table1"], request).targets)
        if stage.name == "preference pairs"
    ]
    found = workloads.sizes.pairs(pairs)
    assert (found.train, found.test) == (300, 150)
    assert found.response == pytest.approx(20)
    tuned = RunRequest(store=tmp_path, tune=4, methods=("dpo",))
    kinds = make_plan_of([EXPERIMENTS["table1"]], tuned, PlanOptions()).kinds
    assert {one.kind: one.stages for one in kinds}["validation of trials"] == 4 * 5


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b'{"chosen": "a", "rejected": "b"}\n' * 999)[:40],
        gzip.compress(b'{"chosen": "a", "rejected": "b"}\n')[:10] + b"damaged" * 9,
        b"\x1f\x8bnot gzip",
        b"",
    ],
    ids=["cut short", "damaged", "not gzip", "empty"],
)
def test_a_file_that_cannot_be_read_stops_no_estimate(content: bytes, tmp_path: Path) -> None:
    """The stage that reads it says what is wrong, in one line."""
    file = tmp_path / "pairs.jsonl.gz"
    file.write_bytes(content)
    request = RunRequest(store=tmp_path, assignments=(f"data.hh_rlhf={file}",), methods=("dpo",))
    prepared = describe(EXPERIMENTS["table1"], request)
    order = topological(prepared.targets)
    assert set(prepared.expect(order)) < {stage.address for stage in order}
    assert make_plan_of([EXPERIMENTS["table1"]], request, PlanOptions()).unknown


def test_rows_that_are_no_pairs_stop_no_estimate(tmp_path: Path) -> None:
    rows = [b"\xff\xfe", b"[" * 100_000, b'{"chosen": null, "rejected": 1}', b"[]", b"7"]
    for row in rows:
        file = tmp_path / "pairs.jsonl"
        file.write_bytes(row + b"\n")
        request = RunRequest(
            store=tmp_path, assignments=(f"data.hh_rlhf={file}",), methods=("dpo",)
        )
        prepared = describe(EXPERIMENTS["table1"], request)
        order = topological(prepared.targets)
        assert set(prepared.expect(order)) < {stage.address for stage in order}


def test_a_run_expects_of_its_stages_what_the_plan_says(tmp_path: Path) -> None:
    prepared = describe(EXPERIMENTS["table1"], RunRequest(store=tmp_path, methods=("dpo",)))
    order = topological(prepared.targets)
    expected = prepared.expect(order)
    plan = make_plan_of(
        [EXPERIMENTS["table1"]], RunRequest(store=tmp_path, methods=("dpo",)), PlanOptions()
    )
    assert sum(expected.values()) == pytest.approx(plan.total.processor_seconds)
    assert set(expected) == {stage.address for stage in order}
    assert expected_seconds(order, "tiny", "cuda") == {}
    assert expected_seconds(order, "small", "cpu") == {}


def test_a_model_that_nobody_knows_is_told_and_not_invented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["plan", "--table", "1", "--profile", "small", "--set", "model.dialogue=you/model"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "the sizes of you/model are not known here" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("you/model")]
    assert line.split()[1:] == ["model", "unknown", "unknown", "unknown", "unknown"]


def test_all_experiments_are_planned_and_those_left_out_have_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "--all", "--profile", "paper", "--out", "plan.json"]) == 0
    plan = json.loads(Path("plan.json").read_text())
    assert set(plan["left_out"]) == {"winrate-dialogue", "winrate-summarization"}
    assert len(plan["experiments"]) == len(EXPERIMENTS) - 2
    assert "needs judge.model" in capsys.readouterr().out
    gated = {one["name"] for one in plan["fetch"] if one["gated"]}
    assert gated == {"bigcode/starcoderbase-1b", "Idavidrein/gpqa"}
    named = {one["name"] for one in plan["fetch"] if one["what"] != "file"}
    assert named <= {*MODELS, *DATA}
    # SummaC-Conv's weights are in its own repository.
    assert len(plan["fetch"]) == len(named) + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan", "Give one of --table N"),
        ("plan --table 99", "Unknown table 99."),
        ("plan --table 1 --profile papre", "Unknown profile 'papre'. Did you mean 'paper'?"),
        ("plan --table 1 --set po.epoch=1", "Did you mean 'epochs'?"),
        ("plan --table 1 --set po.epochs=many", "po.epochs=many: this must be a finite number"),
        ("plan --table 1 --utilisation 2", "--utilisation must be above 0 and at most 1, not 2."),
        ("plan --table 1 --methods dpoo", "Did you mean 'dpo"),
        ("plan --table winrate --profile paper", "needs judge.model"),
        ("run --table 1 --rehearse --store x", "A rehearsal has a store of its own"),
    ],
)
def test_mistakes_are_one_plain_line(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


def test_the_tiny_profile_takes_what_was_measured() -> None:
    """Within 25 % for each kind of stage that takes a percent of the time, and for the whole."""
    means: dict[str, float] = json.loads(MEASURED.read_text())["mean_seconds"]
    measured: dict[str, float] = defaultdict(float)
    planned: dict[str, float] = defaultdict(float)
    workloads, seen = Workloads(), set()
    for experiment in EXPERIMENTS.values():
        request = RunRequest(allow_code_execution=experiment.domain == "code")
        domain = experiment.domain.partition(".")[0]
        for stage in topological(describe(experiment, request).targets):
            if stage.address not in seen:
                seen.add(stage.address)
                work = workloads.of(stage)
                planned[work.kind] += processor_seconds(work)
                measured[work.kind] += means[f"{domain} {short_name(stage)}"]
    whole = sum(measured.values())
    assert sum(planned.values()) == pytest.approx(whole, rel=0.25)
    for kind, seconds in measured.items():
        if seconds >= 0.01 * whole:
            assert planned[kind] == pytest.approx(seconds, rel=0.25), kind


def test_stages_wait_for_their_inputs_and_for_a_worker() -> None:
    function = "harness.domains.common.work.files:write_json"
    first = Stage("first", function)
    runs = [Stage(f"run {i}", function, {"i": i}, {"first": first}) for i in range(3)]
    last = Stage("last", function, {"last": True}, {f"run{i}": run for i, run in enumerate(runs)})
    stages = topological([last])
    other = Stage("other", function, {"other": True})
    seconds = {stage.address: 10.0 for stage in (*stages, other)}
    assert scheduled_seconds(stages, seconds, 1) == 50
    assert scheduled_seconds(stages, seconds, 2) == 10 + 20 + 10
    assert scheduled_seconds(stages, seconds, 9) == 30
    # What is in the store takes no time, and a chain leaves a worker to others.
    assert scheduled_seconds([*runs, last], seconds, 2) == 30
    assert scheduled_seconds([first, runs[0], other], seconds, 2) == 20
    assert scheduled_seconds([], {}, 2) == 0
