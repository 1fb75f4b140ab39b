"""What belongs to the masks, what is saved, and when training stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from sparsepo import POConfig, UserError
from sparsepo.batches.pack import pack_pairs
from sparsepo.masks import LearnedMask
from sparsepo.methods.masked import sparsity
from sparsepo.training.policy import PolicyWithMasks
from sparsepo.training.trainer import MASK_PROBE_PAIRS, POTrainer
from tests.invariant.training import (
    any_difference,
    assert_same_weights,
    make_trainer,
    state,
    steps,
)
from tests.small_models import (
    PAPER_ARCHITECTURES,
    separate_logps,
    small_model,
    small_tokenizer,
    text_pairs,
)

# The masks' optimizer group


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_masks_have_groups_of_their_own(tmp_path: Path, architecture: str) -> None:
    """Decay 0.3 on their weights, none on biases and norms; the policy keeps its own decay."""
    trainer = make_trainer(
        tmp_path,
        "sparsepo-independent",
        architecture=architecture,
        mask_feed_forward=2,
        mask_learning_rate="policy",
        mask_weight_decay=0.3,
        weight_decay=0.05,
    )
    groups = trainer.create_optimizer().param_groups
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    # Each trained parameter once, the frozen reference's never.
    assert sorted(decays) == sorted(names.values())
    assert sum(len(group["params"]) for group in groups) == len(names)
    for group in groups:
        assert len({names[id(p)].startswith("masks.") for p in group["params"]}) == 1
        assert group["lr"] == 1e-3
    for name, decay in decays.items():
        vector = dict(trainer.model.named_parameters())[name].ndim == 1
        if name.startswith("masks."):
            assert decay == (0.0 if vector else 0.3), name
        elif vector:
            assert decay == 0.0, name
        else:
            assert decay == 0.05, name


def test_without_learned_masks_there_is_no_such_group(tmp_path: Path) -> None:
    for method in ("dpo", "mapo"):
        trainer = make_trainer(tmp_path, method, weight_decay=0.05)
        assert len(trainer.create_optimizer().param_groups) == 2


def test_mask_weight_decay_shrinks_mask_weights_alone(tmp_path: Path) -> None:
    """With SGD one step is w(1 − lr·decay) − lr·g: the difference of two runs is lr·decay·w."""
    settings: dict[str, Any] = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 1,
                                "lr_scheduler_type": "constant"}  # fmt: skip
    runs = []
    for decay in (0.0, 0.5):
        trainer = make_trainer(tmp_path, "sparsepo-common", mask_weight_decay=decay, **settings)
        start = state(trainer)
        trainer.train()
        runs.append(state(trainer))
    for name, value in start.items():
        decayed = name.startswith("masks.") and value.ndim > 1
        expected = 0.1 * 0.5 * value if decayed else torch.zeros_like(value)
        torch.testing.assert_close(runs[0][name] - runs[1][name], expected, rtol=1e-3, atol=1e-6)


def test_mask_learning_rate_moves_the_masks_alone(tmp_path: Path) -> None:
    """With SGD one step is −lr·g, so that a step of ten times the rate is ten times as long."""
    settings: dict[str, Any] = {"optim": "sgd", "learning_rate": 0.01, "max_steps": 1,
                                "lr_scheduler_type": "constant"}  # fmt: skip
    # At the first step log-ratio and KL are 0, so that only the L1 norm moves a mask.
    settings |= {"mask_weight_decay": 0.0, "max_grad_norm": 0.0, "l1_reward": 0.1}
    moved = []
    for rate in ("policy", 0.1, 0.0):
        trainer = make_trainer(tmp_path, "sparsepo-common", mask_learning_rate=rate, **settings)
        start = state(trainer)
        trainer.train()
        moved.append({name: value - start[name] for name, value in state(trainer).items()})
    for name, step in moved[0].items():
        mask = name.startswith("masks.")
        factor = 10.0 if mask else 1.0
        torch.testing.assert_close(moved[1][name], factor * step, rtol=1e-2, atol=1e-6)
        expected = torch.zeros_like(step) if mask else step
        torch.testing.assert_close(moved[2][name], expected, rtol=1e-3, atol=1e-7)
    assert any(step.abs().max() > 1e-5 for name, step in moved[0].items() if "masks." in name)


# Fresh masks


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_fresh_masks_are_alive_and_differ(tmp_path: Path, seed: int) -> None:
    """With mask_init=paper: dead masks are re-initialised, each by itself."""
    settings: dict[str, Any] = {"seed": seed, "mask_init": "paper", "mask_initial_sparsity": 30,
                                "mask_dropout": 0.0}  # fmt: skip
    trainer = make_trainer(tmp_path, "sparsepo-independent", **settings)
    reward, kl = (trainer.model.masks[name].state_dict() for name in ("reward", "kl"))
    for name in reward:
        if "layer_norm" not in name:
            assert not torch.equal(reward[name], kl[name]), name
    batch = pack_pairs(trainer.train_dataset[:MASK_PROBE_PAIRS])
    states = trainer.reference.read(batch, trainer.method, trainer.needs)
    for mask in trainer.model.masks_without_dropout(batch, states):
        assert 100 * (mask[batch.response_mask] == 0).float().mean() <= 30
    assert trainer.model.masks.training
    again = make_trainer(tmp_path, "sparsepo-independent", **settings)
    assert_same_weights(state(again), state(trainer))


def test_some_first_draws_are_dead(tmp_path: Path) -> None:
    """Else redrawing would have nothing to do; a limit of 100 takes the first draw."""
    dead = 0
    for seed in range(1, 9):
        trainer = make_trainer(
            tmp_path, "sparsepo-common", seed=seed, mask_init="paper", mask_initial_sparsity=100.0
        )
        batch = pack_pairs(trainer.train_dataset)
        states = trainer.reference.read(batch, trainer.method, trainer.needs)
        mask, _ = trainer.model.masks_without_dropout(batch, states)
        dead += bool((mask[batch.response_mask] == 0).float().mean() > 0.9)
    assert dead > 0


def test_a_mask_that_cannot_live_is_a_users_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(self: LearnedMask, hidden_states: list[Tensor]) -> Tensor:
        return hidden_states[-1].new_zeros(hidden_states[-1].shape[:-1])

    monkeypatch.setattr(LearnedMask, "forward", dead)
    with pytest.raises(
        UserError, match=r"In 100 initialisations no reward mask .* 90 % zeros; raise mask_in"
    ):
        make_trainer(tmp_path, "sparsepo-common", mask_init="paper")


def test_sparsity_is_logged_without_dropout(tmp_path: Path) -> None:
    """With dropout 0.9 on, about 99 % of the values would be 0."""
    trainer = make_trainer(
        tmp_path, "sparsepo-independent", mask_dropout=0.9, per_device_train_batch_size=12,
        mask_initial_sparsity=30,
    )  # fmt: skip
    batch = pack_pairs(trainer.train_dataset)
    states = trainer.reference.read(batch, trainer.method, trainer.needs)
    expected = {}
    with torch.no_grad():
        stats = trainer.model.eval()(batch, states, trainer.needs)
    for side, values in zip(("chosen", "rejected"), stats, strict=True):
        expected[f"sparsity/reward/{side}"] = sparsity(values.reward_mask, values).mean().item()
        expected[f"sparsity/kl/{side}"] = sparsity(values.kl_mask, values).mean().item()
    trainer.train()
    logged = {name: steps(trainer)[0][name] for name in expected}
    assert logged == pytest.approx(expected)
    assert max(expected.values()) < 60
    assert trainer.model.masks.training


# The reference


def test_a_foreign_reference_stops_at_step_0(tmp_path: Path) -> None:
    foreign = small_model("gpt_neox", seed=1)
    trainer = make_trainer(tmp_path, "tdpo1", ref_model=foreign)
    with pytest.raises(
        UserError, match=r"not the initial policy: at step 0 .* nats, above 0\.001; leave ref_model"
    ):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))
    meant = make_trainer(tmp_path, "tdpo1", ref_model=foreign, check_reference=False)
    meant.train()
    assert len(steps(meant)) == 3


def test_the_same_reference_given_is_the_one_taken(tmp_path: Path) -> None:
    runs = []
    for ref_model in (None, small_model("gpt_neox")):
        trainer = make_trainer(tmp_path, "sparsepo-common", ref_model=ref_model)
        trainer.train()
        runs.append(state(trainer))
    assert_same_weights(*runs)


def test_the_reference_does_not_move(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "sparsepo-common")
    before = {n: p.clone() for n, p in trainer.reference.model.state_dict().items()}
    trainer.train()
    assert_same_weights(dict(trainer.reference.model.state_dict()), before)
    assert any_difference(dict(trainer.policy.state_dict()), before)


@pytest.mark.parametrize("method", ["sft", "simpo"])
def test_methods_without_a_reference_load_none(tmp_path: Path, method: str) -> None:
    assert make_trainer(tmp_path, method).reference is None
    with pytest.raises(UserError, match=f"'{method}' uses no reference model; leave ref_model out"):
        make_trainer(tmp_path, method, ref_model=small_model("gpt_neox"))


def test_vocabularies_have_to_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="different vocabularies"):
        make_trainer(tmp_path, "dpo", ref_model=small_model("gpt_neox", vocab_size=200))
    with pytest.raises(UserError, match="use the model's own tokenizer"):
        make_trainer(tmp_path, "dpo", model=small_model("gpt_neox", vocab_size=20))


# Adapters


def adapted(architecture: str = "llama", *, trained: bool = False) -> Any:
    torch.manual_seed(0)
    targets = {"gpt2": ["c_attn"], "gpt_neox": ["query_key_value"]}
    model = get_peft_model(
        small_model(architecture),
        LoraConfig(r=4, target_modules=targets.get(architecture, ["q_proj", "v_proj"])),
    )
    if trained:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_the_reference_of_adapters_is_the_model_without_them(
    tmp_path: Path, architecture: str
) -> None:
    """One copy of the base model: adapters off for the reference, on again for the policy."""
    model = adapted(architecture)
    trainer = make_trainer(tmp_path, "sparsepo-common", model=model, learning_rate=1e-2)
    assert trainer.reference.model is model.get_base_model()
    trainer.train()
    assert steps(trainer)[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
    base, batch = small_model(architecture), pack_pairs(trainer.train_dataset)
    states = trainer.reference.read(batch, trainer.method, trainer.needs)
    chosen, _ = trainer.model.eval()(batch, states, trainer.needs)
    for index, pair in enumerate(trainer.train_dataset):
        length = len(pair.chosen_ids)
        expected = separate_logps(base, pair.prompt_ids, pair.chosen_ids)
        ours = chosen.ref_logps[index, :length]
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        with_adapters = separate_logps(model, pair.prompt_ids, pair.chosen_ids)
        policy = chosen.policy_logps[index, :length].detach()
        torch.testing.assert_close(policy, with_adapters, rtol=1e-4, atol=1e-4)
    assert (chosen.policy_logps - chosen.ref_logps).abs().max() > 1e-2


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_reference_of_trained_adapters_is_their_start(
    tmp_path: Path, architecture: str
) -> None:
    """A frozen copy of the adapters, not the base model alone; it neither moves nor is saved."""
    model = adapted(architecture, trained=True)
    start = adapted(architecture, trained=True).eval()
    trainer = make_trainer(tmp_path, "sparsepo-common", model=model, learning_rate=1e-2)
    assert trainer.reference.model is model.get_base_model()
    trainer.train()
    assert steps(trainer)[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
    batch = pack_pairs(trainer.train_dataset)
    states = trainer.reference.read(batch, trainer.method, trainer.needs)
    chosen, _ = trainer.model.eval()(batch, states, trainer.needs)
    for index, pair in enumerate(trainer.train_dataset):
        length = len(pair.chosen_ids)
        for logps, whole in ((chosen.ref_logps, start), (chosen.policy_logps, model)):
            expected = separate_logps(whole, pair.prompt_ids, pair.chosen_ids)
            ours = logps[index, :length].detach()
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert (chosen.policy_logps - chosen.ref_logps).abs().max() > 1e-2
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, p in start.named_parameters() if p.requires_grad
    }
    trainer.save_model(str(tmp_path / "out"))
    assert not (tmp_path / "out" / "reference").exists()
    loaded = PeftModel.from_pretrained(small_model(architecture), str(tmp_path / "out")).eval()
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits)


def test_adapters_are_saved_and_load(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "sparsepo-common", model=adapted(), learning_rate=1e-2)
    trainer.train()
    trainer.save_model(str(tmp_path / "out"))
    assert (tmp_path / "out" / "masks.safetensors").is_file()
    loaded = PeftModel.from_pretrained(small_model("llama"), str(tmp_path / "out")).eval()
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, trainer.policy.eval()(ids).logits)
    assert not (tmp_path / "out" / "model.safetensors").exists()


# Saving


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
def test_a_saved_model_is_a_plain_model(tmp_path: Path, architecture: str) -> None:
    """It loads without sparsepo and holds the very weights; its masks stand beside it."""
    trainer = make_trainer(tmp_path, "sparsepo-independent", architecture=architecture)
    trainer.train()
    trainer.save_model(str(tmp_path / "out"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(loaded) is type(small_model(architecture))
    assert_same_weights(dict(loaded.state_dict()), dict(trainer.policy.state_dict()))
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        # In training GELU is one operation; a plain model may spell it out in eight.
        torch.testing.assert_close(
            loaded(ids).logits, trainer.policy.eval()(ids).logits, rtol=1e-5, atol=1e-5
        )
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == (
        small_tokenizer().get_vocab()
    )
    saved = load_file(tmp_path / "out" / "masks.safetensors")
    assert_same_weights(saved, dict(trainer.model.masks.state_dict()))
    description = json.loads((tmp_path / "out" / "method.json").read_text())
    assert description["method"] == "sparsepo-independent"
    assert description["hyper_parameters"]["mask_layers"] == "all"
    # The masks are read again into a trainer of the saved model.
    other = make_trainer(tmp_path, "sparsepo-independent", model=loaded, seed=9)
    other.model.load_masks(tmp_path / "out")
    assert_same_weights(dict(other.model.masks.state_dict()), saved)


def test_methods_without_learned_masks_save_none(tmp_path: Path) -> None:
    for method, settings in (
        ("dpo", {}),
        ("mapo", {}),
        ("sparsepo-common", {"mask_kind": "random"}),
    ):
        trainer = make_trainer(tmp_path, method, **settings)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        trainer.save_model(str(tmp_path / "out"))
        assert not (tmp_path / "out" / "masks.safetensors").exists()
        description = json.loads((tmp_path / "out" / "method.json").read_text())
        assert description["method"] == method


# A loss that is not finite


class Poison(TrainerCallback):
    """Makes a weight NaN before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.policy.parameters()).fill_(torch.nan)


@pytest.mark.parametrize("method", ["sft", "simpo", "dpo", "sparsepo-common"])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, method: str
) -> None:
    trainer = make_trainer(
        tmp_path, method, save_strategy="steps", save_steps=1, callbacks=[Poison(2)]
    )
    with pytest.raises(UserError, match=r"not finite at step 2 for pairs pair-\d+, .* checkpoint"):
        trainer.train()
    assert sorted(folder.name for folder in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-2")
    assert all(parameter.isfinite().all() for parameter in saved.parameters())


def test_just_the_pairs_at_fault_are_named(tmp_path: Path, monkeypatch: Any) -> None:
    """The token that makes the model overflow stands in two pairs of one batch."""
    forward = PolicyWithMasks.forward

    def poisoned(self: Any, batch: Any, *args: Any) -> Any:
        chosen, rejected = forward(self, batch, *args)
        rows = [i for i, name in enumerate(batch.pair_ids) if name in ("pair-3", "pair-8")]
        chosen.policy_logps.data[rows] = torch.nan
        return chosen, rejected

    monkeypatch.setattr(PolicyWithMasks, "forward", poisoned)
    trainer = make_trainer(tmp_path, "dpo", per_device_train_batch_size=12)
    with pytest.raises(UserError, match=r"step 0 for pairs (pair-3, pair-8|pair-8, pair-3);"):
        trainer.train()


# Scores


@pytest.mark.parametrize("architecture", PAPER_ARCHITECTURES)
def test_scores_are_those_of_separate_runs(tmp_path: Path, architecture: str) -> None:
    trainer = make_trainer(tmp_path, "tdpo1", architecture=architecture, beta=0.3)
    trainer.train()
    scores = trainer.score_pairs(text_pairs(12))
    base, policy = small_model(architecture), trainer.policy.eval()
    for pair, score in zip(trainer.train_dataset, scores, strict=True):
        assert score.pair_id == pair.pair_id
        for side in ("chosen", "rejected"):
            ids = getattr(pair, f"{side}_ids")
            logps = separate_logps(policy, pair.prompt_ids, ids)
            ratios = logps - separate_logps(base, pair.prompt_ids, ids)
            full = torch.tensor([pair.prompt_ids + ids])
            with torch.no_grad():
                part = slice(len(pair.prompt_ids) - 1, -1)
                ours, ref = (m(full).logits[0, part].log_softmax(-1) for m in (policy, base))
            kl = (ref.exp() * (ref - ours)).sum(-1)
            assert getattr(score, f"{side}_logps") == pytest.approx(logps.sum().item(), abs=1e-3)
            assert getattr(score, f"{side}_kl") == pytest.approx(kl.mean().item(), abs=1e-4)
            reward = 0.3 * (ratios.sum() + kl.sum()).item()
            assert getattr(score, f"{side}_reward") == pytest.approx(reward, abs=1e-3)
        margin = score.chosen_reward - score.rejected_reward
        expected = -torch.nn.functional.logsigmoid(torch.tensor(margin)).item()
        assert score.loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["sft", "simpo", "dpo", "mapo", "sparsepo-independent"])
def test_batch_size_does_not_move_a_score(tmp_path: Path, method: str) -> None:
    trainer = make_trainer(tmp_path, method)
    trainer.train()
    alone, together = (trainer.score_pairs(text_pairs(7, seed=3), size) for size in (1, 7))
    for ours, expected in zip(alone, together, strict=True):
        assert ours.pair_id == expected.pair_id
        for name in ("loss", "chosen_reward", "rejected_reward", "chosen_logps", "rejected_logps"):
            assert getattr(ours, name) == pytest.approx(getattr(expected, name), abs=2e-4), name
    if method in ("sft", "simpo"):
        assert alone[0].chosen_kl is None
    assert trainer.model.training


def test_scoring_does_not_move_the_training(tmp_path: Path) -> None:
    """Neither weights nor random state: a run that is evaluated in the middle is the same run."""

    class Scoring(TrainerCallback):
        trainer: POTrainer

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.trainer.score_pairs(text_pairs(3))

    settings: dict[str, Any] = {"mask_kind": "random", "method": "sparsepo-independent"}
    plain = make_trainer(tmp_path, **settings)
    plain.train()
    callback = Scoring()
    scored = make_trainer(tmp_path, **settings, callbacks=[callback])
    callback.trainer = scored
    scored.train()
    assert_same_weights(state(scored), state(plain))
    assert steps(scored) == steps(plain)


def test_evaluation_is_the_mean_of_the_scores(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "sparsepo-common")
    trainer.train()
    scores = trainer.score_pairs(text_pairs(7, seed=4))
    metrics = trainer.evaluate(text_pairs(7, seed=4))
    better = [score.chosen_reward > score.rejected_reward for score in scores]
    assert metrics["eval_rewards/accuracies"] == sum(better) / 7
    margins = [score.chosen_reward - score.rejected_reward for score in scores]
    assert metrics["eval_rewards/margins"] == pytest.approx(sum(margins) / 7)
    assert metrics["eval_loss"] == pytest.approx(sum(score.loss for score in scores) / 7)
    with pytest.raises(UserError, match="at least one pair"):
        trainer.evaluate()


def test_logged_metrics_are_the_means_over_the_pairs(tmp_path: Path) -> None:
    """The first step of DPO: logged before it, so the untrained policy's values."""
    trainer = make_trainer(tmp_path, "tdpo2", per_device_train_batch_size=12)
    scores = trainer.score_pairs(text_pairs(12))
    trainer.train()
    logged = steps(trainer)[0]
    for name in ("chosen", "rejected"):
        mean = sum(getattr(score, f"{name}_logps") for score in scores) / 12
        assert logged[f"logps/{name}"] == pytest.approx(mean, rel=1e-5)
        assert logged[f"kl/{name}"] == pytest.approx(0, abs=1e-6)
        assert logged[f"rewards/{name}"] == pytest.approx(0, abs=1e-4)
    assert logged["rewards/accuracies"] <= 1
    assert logged["rewards/margins"] == pytest.approx(0, abs=1e-4)


# Evaluation while training


def test_held_out_pairs_are_evaluated_while_training(tmp_path: Path) -> None:
    trainer = POTrainer(
        small_model("gpt_neox", spread=1.0),
        args=POConfig(
            output_dir=str(tmp_path), method="dpo", max_steps=4, eval_strategy="steps",
            eval_steps=2, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
        ),
        train_dataset=text_pairs(8),
        eval_dataset=text_pairs(4, seed=1),
        processing_class=small_tokenizer(),
    )  # fmt: skip
    trainer.train()
    found = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [entry["step"] for entry in found] == [2, 4]
    assert all("eval_rewards/accuracies" in entry for entry in found)
    assert found[-1]["eval_loss"] == trainer.evaluate()["eval_loss"]


def test_evaluation_without_held_out_pairs_is_refused(tmp_path: Path) -> None:
    args = POConfig(output_dir=str(tmp_path), method="dpo", eval_strategy="epoch", use_cpu=True)
    with pytest.raises(UserError, match="eval_strategy=epoch needs held-out pairs"):
        POTrainer(
            small_model("gpt_neox"),
            args=args,
            train_dataset=text_pairs(8),
            processing_class=small_tokenizer(),
        )
