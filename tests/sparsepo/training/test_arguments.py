"""Every field of transformers.TrainingArguments has its effect here, or is refused.

A field that a new transformers adds is in none of the tables below, and fails the first test: look
at what Trainer does with it, and put it where it belongs.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from sparsepo import POConfig, UserError
from sparsepo.training import arguments
from sparsepo.training.arguments import REFUSED, REPORTING, check_resolved
from sparsepo.training.trainer import POTrainer
from tests.invariant.training import any_difference, make_trainer, state, steps
from tests.small_models import text_pairs

INHERITED = {
    # Schedule and optimizer: Trainer's own code, on parameters of the policy and the masks.
    "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs",
    "warmup_steps", "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon", "optim_target_modules", "max_grad_norm",
    # Logging, saving, reporting, the hub.
    "output_dir", "logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node",
    "log_level", "log_level_replica", "disable_tqdm", "run_name", "project", "trackio_space_id",
    "trackio_bucket_id", "trackio_static_space_id", "save_only_model", "save_strategy",
    "save_steps", "save_on_each_node", "save_total_limit", "enable_jit_checkpoint", "push_to_hub",
    "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push",
    "hub_revision", "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
    "ignore_data_skip", "restore_callback_states_from_checkpoint", "skip_memory_metrics", "debug",
    # When evaluation happens; what it does is our evaluation_loop.
    "eval_steps", "eval_delay", "eval_on_start",
    # Devices, processes and precision, which accelerate applies to the trained module.
    "bf16", "tf32", "use_cpu", "full_determinism", "ddp_find_unused_parameters",
    "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "ddp_timeout",
    "fsdp", "fsdp_config", "deepspeed", "local_rank", "torch_empty_cache_steps",
    "auto_find_batch_size", "use_cache",
    # The data loader, over tokenized pairs.
    "dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory",
    "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "dataloader_multiprocessing_context", "dataloader_in_order", "data_seed",
}  # fmt: skip
"""Effect: Trainer's own code, which works on our module and our batches."""

IMPLEMENTED = {
    "per_device_train_batch_size": "pairs of a micro-batch",
    "per_device_eval_batch_size": "pairs scored at once",
    "gradient_accumulation_steps": "the loss is the mean over all pairs of a step",
    "activation_checkpointing": "passed on to the policy",
    "activation_checkpointing_kwargs": "passed on to the policy",
    "gradient_checkpointing": "passed on to the policy, by its old name",
    "gradient_checkpointing_kwargs": "passed on to the policy, by its old name",
    "seed": "also draws the masks",
    "neftune_noise_alpha": "noise on the policy's embeddings alone",
    "include_num_input_tokens_seen": "tokens of the packed rows",
    "report_to": "missing packages are refused before anything is loaded",
    "eval_strategy": "needs evaluation pairs",
    "prediction_loss_only": "predict returns no predictions",
    "include_for_metrics": "loss: per pair; inputs is refused",
    "resume_from_checkpoint": "train() resumes from it",
    "fp16": "refused without a GPU",
    "accelerator_config": "ways to share batches that we do not use are refused",
}
"""Effect: ours."""

ALWAYS_TRUE = {
    "remove_unused_columns": "no column but those of the pair is kept in either case",
    "eval_accumulation_steps": "scores leave the device after every batch in any case",
    "eval_use_gather_object": "scores are gathered as objects in any case",
}
"""What the field asks for is the case whatever it says."""

FOR_SCRIPTS = {"do_train", "do_eval", "do_predict"}
"""Documented by transformers as not used by Trainer: a script may ask for them."""

FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}
TABLES = (INHERITED, set(IMPLEMENTED), set(ALWAYS_TRUE), FOR_SCRIPTS, set(REFUSED))


def config(**settings: Any) -> POConfig:
    return POConfig("out", use_cpu=True, report_to=settings.pop("report_to", "none"), **settings)


def test_every_field_of_transformers_is_in_one_table() -> None:
    unknown = {name for name in FIELDS if not any(name in table for table in TABLES)}
    assert not unknown, "transformers has new fields; see the head of this file"


def test_no_field_is_in_two_tables() -> None:
    for number, table in enumerate(TABLES):
        for other in TABLES[number + 1 :]:
            assert not set(table) & set(other)


REFUSED_VALUES: dict[str, Any] = {
    "label_smoothing_factor": 0.1, "label_names": ["labels"], "torch_compile": True,
    "torch_compile_backend": "eager", "torch_compile_mode": "default", "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True}, "bf16_full_eval": True, "fp16_full_eval": True,
    "batch_eval_metrics": True, "eval_do_concat_batches": False,
    "average_tokens_across_devices": False, "logging_nan_inf_filter": True,
    "length_column_name": "tokens", "parallelism_config": object(),
    "train_sampling_strategy": "batch_rebalance",
}  # fmt: skip


def test_a_value_is_tried_for_every_refusal() -> None:
    assert set(REFUSED_VALUES) == set(REFUSED) & FIELDS


@pytest.mark.parametrize("name", sorted(REFUSED_VALUES))
def test_a_value_without_effect_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(UserError) as caught:
        config(**{name: REFUSED_VALUES[name]})
    text = str(caught.value)
    assert text.startswith(name) and text.endswith(".") and "\n" not in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim": "lomo"}, "optim=lomo updates weights during the backward pass"),
        ({"optim": "galore_adamw_layerwise"}, "use adamw_torch"),
        ({"include_for_metrics": ["inputs"]}, "include_for_metrics=inputs is not supported"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches=True is not supported"),
        ({"accelerator_config": {"even_batches": False}}, "even_batches=False is not supported"),
        ({"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches=True"),
        ({"fp16": True}, "fp16=true needs a GPU"),
        ({"save_strategy": "sometimes"}, "Invalid options: sometimes is not a valid"),
        ({"optim": "adam"}, "Invalid options: adam is not a valid OptimizerNames"),
        ({"torch_empty_cache_steps": 0}, "Invalid options"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(**settings)


def test_several_gpus_in_one_process_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = config()
    monkeypatch.setattr(POConfig, "n_gpu", 2)
    with pytest.raises(UserError, match="sees 2 GPUs; start one process per GPU"):
        check_resolved(found)


# Reporting


def test_every_integration_of_transformers_is_known() -> None:
    assert set(REPORTING) == set(INTEGRATION_TO_CALLBACK)


@pytest.mark.parametrize("name", sorted(REPORTING))
@pytest.mark.parametrize("as_list", [True, False])
def test_a_missing_package_is_named_before_anything_is_loaded(
    name: str, as_list: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "_is_installed", lambda module: False)
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL", raising=False)
    with pytest.raises(UserError) as caught:
        config(report_to=[name] if as_list else name)
    text = str(caught.value)
    assert text.startswith(f"report_to={name} ") and text.endswith(".")
    package = REPORTING[name][1]
    assert f"pip install {package}`" in text or name == "kubeflow"


def test_a_package_that_is_there_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "_is_installed", lambda module: module == "tensorboardX")
    assert config(report_to="tensorboard").report_to == ["tensorboard"]
    with pytest.raises(UserError, match="Did you mean 'wandb'"):
        config(report_to="wand")
    assert config(report_to="none").report_to == []


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: Any) -> None:
    from sparsepo.cli.main import main

    command = ["train", "--model", "no-such", "--data", "no-such", "--method", "dpo", "--output",
               str(tmp_path / "out"), "--set", "report_to=swanlab"]  # fmt: skip
    assert main(command) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: report_to=swanlab needs a package") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_reports_reach_a_logger(tmp_path: Path) -> None:
    """A stand-in under one of transformers' names, told everything that training logs."""
    told: list[dict[str, float]] = []

    class StandIn(TrainerCallback):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **_: Any
        ) -> None:
            assert model.num_parameters() > 0 and json.loads(model.config.to_json_string())
            told.append(dict(logs))

    INTEGRATION_TO_CALLBACK["stand-in"] = StandIn
    REPORTING["stand-in"] = ((), "")
    try:
        make_trainer(tmp_path, "sparsepo-common", report_to="stand-in").train()
    finally:
        del INTEGRATION_TO_CALLBACK["stand-in"], REPORTING["stand-in"]
    assert len(told) == 4
    assert {"loss", "rewards/margins", "sparsity/reward/chosen"} <= told[0].keys()


# Effects


def trained(folder: Path, method: str = "dpo", **settings: Any) -> POTrainer:
    trainer = make_trainer(folder, method, **settings)
    trainer.train()
    return trainer


CHANGING: dict[str, Any] = {
    "learning_rate": 3e-3, "lr_scheduler_type": "constant", "warmup_steps": 2, "optim": "sgd",
    "weight_decay": 0.5, "adam_beta1": 0.1, "adam_beta2": 0.5, "adam_epsilon": 1e-2,
    "max_grad_norm": 1e-4, "seed": 1, "data_seed": 1, "bf16": True, "max_steps": 2,
    "num_train_epochs": 2, "per_device_train_batch_size": 2, "dataloader_drop_last": True,
    "train_sampling_strategy": "sequential", "neftune_noise_alpha": 5.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return state(trained(tmp_path_factory.mktemp("usual"), pairs=text_pairs(11)))


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_the_field_changes_what_is_trained(
    tmp_path: Path, usual: dict[str, torch.Tensor], name: str
) -> None:
    changed = trained(tmp_path, pairs=text_pairs(11), **{name: CHANGING[name]})
    assert any_difference(state(changed), usual)


SAME: list[dict[str, Any]] = [
    {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    {"activation_checkpointing": True},
    {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2},
    {"remove_unused_columns": True},
    {"torch_empty_cache_steps": 1, "skip_memory_metrics": False},
    {"full_determinism": False, "use_cache": True, "debug": "underflow_overflow"},
    {"eval_accumulation_steps": 1, "eval_use_gather_object": True, "prediction_loss_only": True},
    {"include_num_input_tokens_seen": True},
]


@pytest.mark.parametrize("settings", SAME, ids=lambda settings: next(iter(settings)))
def test_the_field_changes_nothing_that_is_trained(
    tmp_path: Path, usual: dict[str, torch.Tensor], settings: dict[str, Any]
) -> None:
    ours = state(trained(tmp_path, pairs=text_pairs(11), **settings))
    for name, value in usual.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("which", ["all", "non_padding"])
def test_tokens_are_counted_with_and_without_padding(tmp_path: Path, which: str) -> None:
    trainer = make_trainer(tmp_path, "dpo", include_num_input_tokens_seen=which)
    pairs: Any = trainer.train_dataset
    trainer.train()
    tokens = sum(len(p.prompt_ids) + len(p.chosen_ids) + len(p.rejected_ids) for p in pairs)
    seen = trainer.state.num_input_tokens_seen
    assert seen == tokens if which == "non_padding" else seen > tokens
    assert steps(trainer)[-1]["num_input_tokens_seen"] == seen


def test_evaluation_at_the_start_and_after_a_delay(tmp_path: Path) -> None:
    def evaluated(name: str, **settings: Any) -> list[int]:
        trainer = trained(tmp_path / name, eval_pairs=text_pairs(3, seed=1), num_train_epochs=2,
                          eval_strategy="steps", eval_steps=2, **settings)  # fmt: skip
        return [e["step"] for e in trainer.state.log_history if "eval_loss" in e]

    assert evaluated("start", eval_on_start=True) == [0, 2, 4, 6]
    assert evaluated("delay", eval_delay=4) == [4, 6]


def test_a_batch_that_does_not_fit_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """auto_find_batch_size: training begins again with half as many pairs at once."""
    step = POTrainer.training_step

    def small_memory(trainer: Any, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        if len(inputs["pair_ids"]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return step(trainer, model, inputs, *rest, **more)

    monkeypatch.setattr(POTrainer, "training_step", small_memory)
    found = trained(tmp_path / "found", auto_find_batch_size=True)
    given = trained(tmp_path / "given", per_device_train_batch_size=2)
    assert [s["loss"] for s in steps(found)] == [s["loss"] for s in steps(given)]
    assert found.state.global_step == 6


def test_training_resumes_from_the_checkpoint_that_the_configuration_names(tmp_path: Path) -> None:
    run: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    whole = trained(tmp_path, **run)
    resumed = make_trainer(tmp_path, "dpo", resume_from_checkpoint=str(tmp_path / "checkpoint-2"),
                           **run)  # fmt: skip
    begun: list[int] = []
    resumed.add_callback(_NoteSteps(begun))
    resumed.train()
    assert begun == [2]
    assert not any_difference(state(resumed), state(whole))
    with pytest.raises(UserError, match="is not a complete checkpoint"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-9"))
    empty = make_trainer(tmp_path / "empty", "dpo")
    with pytest.raises(UserError, match="contains no complete checkpoint to resume from"):
        empty.train(resume_from_checkpoint=True)


class _NoteSteps(TrainerCallback):
    def __init__(self, steps: list[int]) -> None:
        self.steps = steps

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append(state.global_step)


def test_dropped_batches_count_no_pair_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes; at the end of an epoch accelerate repeats pairs unless they are dropped."""
    for drop, repeated in ((False, 3), (True, 0)):
        trainer = make_trainer(tmp_path, "dpo", pairs=text_pairs(9), dataloader_drop_last=drop)
        monkeypatch.setattr(POConfig, "world_size", 2)
        monkeypatch.setattr(
            type(trainer.accelerator.gradient_state), "end_of_dataloader", property(lambda s: True)
        )
        assert trainer._repeated(4) == repeated
        monkeypatch.undo()
