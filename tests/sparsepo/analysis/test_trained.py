"""A trained model comes back from its folder as it was: policy, masks, method, reference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepo import POConfig, POTrainer, UserError, get_method
from sparsepo.analysis.maps import token_maps
from sparsepo.analysis.trained import load_trained
from sparsepo.training.loading import load_policy, origin_of
from tests.small_models import small_model, small_tokenizer, text_pairs

METHODS = ("sft", "dpo", "mapo", "sparsepo-independent")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "start"
    small_model("gpt_neox").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def train(model: Any, output: Path, method: str, ref: Any = None, **options: Any) -> POTrainer:
    config = POConfig(
        output_dir=str(output), method=method, max_steps=2, learning_rate=3e-3, use_cpu=True,
        per_device_train_batch_size=4, report_to="none", disable_tqdm=True,
        **{"save_strategy": "no", **options},
    )  # fmt: skip
    trainer = POTrainer(
        model,
        ref_model=ref,
        args=config,
        train_dataset=text_pairs(8),
        processing_class=small_tokenizer(),
    )
    trainer.train()
    trainer.save_model(str(output))
    return trainer


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_gives_the_scores_that_training_ended_with(
    start: Path, tmp_path: Path, method: str
) -> None:
    trainer = train(str(start), tmp_path, method)
    trained = load_trained(tmp_path)
    assert trained.method == trainer.method
    assert trained.reference_origin == str(start.resolve())
    found = token_maps(trained, text_pairs(4)).maps.pairs
    for pair, score in zip(found, trainer.score_pairs(text_pairs(4)), strict=True):
        assert pair.loss == pytest.approx(score.loss, rel=1e-4, abs=1e-6)
        assert pair.margin == pytest.approx(
            score.chosen_reward - score.rejected_reward, rel=1e-4, abs=1e-6
        )
    assert any(value != 0 for value in found[0].chosen.log_ratios or ())


def test_a_live_trainer_goes_on_while_its_checkpoint_is_looked_at(
    start: Path, tmp_path: Path
) -> None:
    trainer = train(str(start), tmp_path, "dpo", save_strategy="steps", save_steps=1)
    token_maps(load_trained(tmp_path / "checkpoint-1"), text_pairs(2))
    assert len(trainer.score_pairs(text_pairs(2))) == 2


@pytest.mark.parametrize("merge", [False, True])
def test_adapters(start: Path, tmp_path: Path, merge: bool) -> None:
    trainer = train(str(start), tmp_path, "tdpo1", lora_r=2, merge_adapters=merge)
    expected = trainer.score_pairs(text_pairs(3))
    if merge:
        trainer.merge_adapters()
        trainer.save_model(str(tmp_path / "merged"))
    trained = load_trained(tmp_path / "merged" if merge else tmp_path)
    assert trained.reference_origin == str(start.resolve())
    for pair, score in zip(token_maps(trained, text_pairs(3)).maps.pairs, expected, strict=True):
        assert pair.margin == pytest.approx(
            score.chosen_reward - score.rejected_reward, rel=1e-3, abs=1e-6
        )


def test_a_reference_of_ones_own_is_the_one_noted(start: Path, tmp_path: Path) -> None:
    other = shutil.copytree(start, tmp_path / "other")
    train(str(start), tmp_path / "out", "dpo", ref=str(other))
    assert load_trained(tmp_path / "out").reference_origin == str(other.resolve())


def test_where_a_model_can_be_loaded_from_again(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert origin_of("owner/name") == "owner/name"
    monkeypatch.chdir(start.parent)
    assert origin_of(start.name) == str(start.resolve())
    assert origin_of(load_policy(start.name)) == str(start.resolve())
    assert origin_of(small_model("gpt2")) is None
    train(str(start), tmp_path, "dpo", lora_r=2)
    assert origin_of(load_policy(str(tmp_path))) is None
    assert origin_of(str(tmp_path)) == str(tmp_path.resolve())


def test_a_run_goes_on_from_a_folder_that_has_moved(start: Path, tmp_path: Path) -> None:
    """Where the reference lay then is no part of what makes a run the same."""
    train(str(start), tmp_path / "out", "dpo", save_strategy="steps", save_steps=1)
    moved = shutil.copytree(start, tmp_path / "moved")
    config = POConfig(
        output_dir=str(tmp_path / "out"), method="dpo", max_steps=3, learning_rate=3e-3,
        use_cpu=True, per_device_train_batch_size=4, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = POTrainer(str(moved), args=config, train_dataset=text_pairs(8))
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert trainer.state.global_step == 3


def test_a_reference_that_is_gone(start: Path, tmp_path: Path) -> None:
    base = shutil.copytree(start, tmp_path / "base")
    for method in ("dpo", "simpo"):
        train(str(base), tmp_path / method, method)
    shutil.rmtree(base)
    with pytest.raises(UserError, match=r"recorded in .*method.json .* --reference"):
        load_trained(tmp_path / "dpo")
    assert load_trained(tmp_path / "dpo", reference=start).reference is not None
    # A method without a reference is looked at without one.
    trained = load_trained(tmp_path / "simpo")
    assert trained.reference is None and trained.reference_origin is None


def test_a_model_made_in_memory_names_no_reference(start: Path, tmp_path: Path) -> None:
    train(small_model("gpt_neox"), tmp_path, "dpo")
    assert json.loads((tmp_path / "method.json").read_text())["reference"] is None
    with pytest.raises(UserError, match="does not record the reference that DPO needs"):
        load_trained(tmp_path)
    maps = token_maps(load_trained(tmp_path, reference=start), text_pairs(2)).maps
    assert maps.reference == str(start)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "contains no method.json"),
        ('{"method": "dpo"}', "records no method with hyper_parameters"),
        ('{"method": "gone", "hyper_parameters": {}}', "Unknown method 'gone'"),
        ('{"method": "dpo", "hyper_parameters": {"gamma": 1}}', "does not use"),
        ("[]", "records no method"),
    ],
)
def test_descriptions_that_say_nothing(start: Path, tmp_path: Path, text: str, part: str) -> None:
    folder = shutil.copytree(start, tmp_path / "model")
    (folder / "method.json").write_text(text)
    with pytest.raises(UserError, match=part):
        load_trained(folder, reference=start)


def test_folders_of_before_name_no_reference(start: Path, tmp_path: Path) -> None:
    train(str(start), tmp_path, "dpo")
    description = json.loads((tmp_path / "method.json").read_text())
    del description["reference"]
    (tmp_path / "method.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="--reference"):
        load_trained(tmp_path)
    assert load_trained(tmp_path, reference=start).method == get_method("dpo")


def test_everything_is_frozen_and_in_evaluation(start: Path, tmp_path: Path) -> None:
    train(str(start), tmp_path, "sparsepo-common")
    trained = load_trained(tmp_path, device=torch.device("cpu"), dtype="float64")
    assert not trained.module.training
    assert not any(weight.requires_grad for weight in trained.module.parameters())
    assert trained.module.policy.dtype == torch.float64
