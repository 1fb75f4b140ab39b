"""The critic of PPO: what it reads, that it learns, its optimizer group, its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparsepo import RolloutTrainer, UserError
from sparsepo.training.critic import CRITIC_FILE, ValueHead
from sparsepo.training.loading import last_checkpoint
from tests.invariant.training import StopAt, assert_same_weights, state
from tests.small_models import small_model
from tests.sparsepo.training.test_rollout_trainer import PROMPTS, letters, logged, trainer_of

SGD = {"optim": "sgd", "learning_rate": 0.05}


def moved_head(trainer: RolloutTrainer) -> ValueHead:
    """Give the trainer's critic random weights, and return it."""
    head = trainer.model.critic  # type: ignore[union-attr]
    assert isinstance(head, ValueHead)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        head.weight.copy_(0.3 * torch.randn(head.weight.shape, generator=generator))
        head.bias.fill_(0.5)
    return head


@pytest.mark.parametrize("computation", ["packed", "plain"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_values_are_read_from_the_models_own_final_states(
    tmp_path: Path, architecture: str, computation: str
) -> None:
    trainer = trainer_of(
        tmp_path, "ppo", model=small_model(architecture), max_steps=1, computation=computation
    )
    head = moved_head(trainer)
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    trainer.train()
    rollout = trainer._rollout
    assert rollout is not None
    before = small_model(architecture).eval()
    for pair in rollout.all_pairs():
        for side, ids in enumerate((pair.chosen_ids, pair.rejected_ids)):
            tokens = torch.tensor([[*pair.prompt_ids, *ids]])
            with torch.no_grad():
                states = before(tokens, output_hidden_states=True).hidden_states[-1][0]
            expected = states[len(pair.prompt_ids) - 1 : -1] @ weight + bias
            found = rollout.values["sampling_values"][pair.pair_id][side]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_packed_and_plain_train_the_same(tmp_path: Path) -> None:
    run = {**SGD, "rollout_epochs": 2}
    packed, plain = (
        trainer_of(tmp_path / name, "ppo", **run, computation=name) for name in ("packed", "plain")
    )
    for trainer in (packed, plain):
        moved_head(trainer)
        trainer.train()
    assert_same_weights(state(plain), state(packed), 1e-5)


def of_prompt(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """A reward that a critic can know: it depends on the prompt alone."""
    del responses
    return [2.0 if PROMPTS.index(prompt) % 2 else -1.0 for prompt in prompts]


def test_a_critic_learns_what_reward_is_to_come(tmp_path: Path) -> None:
    """Better than any constant, whose squared error is the variance of the reward, 2.25."""
    trainer = trainer_of(
        tmp_path, "ppo", reward=of_prompt, prompts=PROMPTS[:4], max_steps=24, learning_rate=3e-3,
        lr_scheduler_type="constant", max_grad_norm=0.0, kl_weight=0.0, lam=1.0,
        value_weight=1.0, value_rate=10.0, value_epsilon=10.0,
    )  # fmt: skip
    trainer.train()
    errors = [entry["ppo/value_error"] for entry in logged(trainer)[:-1]]
    # At first all values are 0, and the error is the mean of the squared rewards.
    assert errors[0] == pytest.approx(2.5)
    assert sum(errors[-4:]) / 4 < 0.3


def test_only_with_value_gradient_policy_does_the_critic_train_the_policy(tmp_path: Path) -> None:
    # Clipping the norm of all gradients together would scale the policy's by the critic's.
    run = {**SGD, "max_steps": 1, "max_grad_norm": 0.0}
    found = {}
    for gradient in ("head", "policy"):
        for weight in (0.1, 5.0):
            output = tmp_path / f"{gradient}{weight}"
            trainer = trainer_of(output, "ppo", **run, value_gradient=gradient, value_weight=weight)
            moved_head(trainer)
            trainer.train()
            found[gradient, weight] = state(trainer)
    policy = "policy.transformer.h.0.mlp.c_fc.weight"
    assert torch.equal(found["head", 0.1][policy], found["head", 5.0][policy])
    assert not torch.equal(found["policy", 0.1][policy], found["policy", 5.0][policy])
    for gradient in ("head", "policy"):
        one, other = (found[gradient, weight]["critic.weight"] for weight in (0.1, 5.0))
        assert not torch.equal(one, other)


def test_the_head_has_a_learning_rate_of_its_own(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "ppo", value_rate=7.0, weight_decay=0.1, max_steps=1)
    trainer.train()
    assert trainer.optimizer is not None
    own = {id(weight) for weight in trainer.model.critic.parameters()}  # type: ignore[union-attr]
    groups = trainer.optimizer.param_groups
    (critics,) = [g for g in groups if own & {id(weight) for weight in g["params"]}]
    assert {id(weight) for weight in critics["params"]} == own
    assert critics["weight_decay"] == 0.0
    assert critics["initial_lr"] == pytest.approx(7 * groups[0]["initial_lr"])


def test_adapters_and_critic_are_trained_and_resumed_together(tmp_path: Path) -> None:
    run: dict[str, Any] = {
        "lora_r": 4, "rollout_epochs": 2, "max_steps": 5, "save_strategy": "steps", "save_steps": 3
    }  # fmt: skip
    trainer = trainer_of(tmp_path, "ppo", **run, callbacks=[StopAt(4)])
    with pytest.raises(InterruptedError):
        trainer.train()
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    saved = load_file(Path(checkpoint) / CRITIC_FILE)
    assert saved["weight"].abs().max() > 0
    resumed = trainer_of(tmp_path, "ppo", **run)
    resumed.train(resume_from_checkpoint=True)
    whole = trainer_of(tmp_path / "whole", "ppo", **run)
    whole.train()
    assert_same_weights(state(resumed), state(whole))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "contains no critic.safetensors"),
        (lambda file: file.write_bytes(b"nothing"), "is damaged or belongs to another model"),
        (
            lambda file: save_file({"weight": torch.zeros(3), "bias": torch.zeros(1)}, file),
            "is damaged or belongs to another model",
        ),
    ],
)
def test_a_critic_that_cannot_be_read(tmp_path: Path, damage: Any, message: str) -> None:
    run = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer_of(tmp_path, "ppo", **run).train()
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    damage(Path(checkpoint) / CRITIC_FILE)
    with pytest.raises(UserError, match=message):
        trainer_of(tmp_path, "ppo", **{**run, "max_steps": 2}).train(resume_from_checkpoint=True)


def test_a_schedule_without_the_critic_is_refused(tmp_path: Path) -> None:
    model = small_model("gpt2")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(UserError, match="does not cover the critic's weights"):
        trainer_of(tmp_path, "ppo", model=model, optimizers=(optimizer, schedule))
    trainer = trainer_of(tmp_path, "ppo", model=model, optimizers=(optimizer, None), max_steps=1)
    trainer.train()
    assert trainer.model.critic.weight.abs().max() > 0  # type: ignore[union-attr]


def test_methods_without_a_critic_have_none(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "grpo", reward=letters, max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / CRITIC_FILE).exists()
    assert not any(name.startswith("critic") for name in state(trainer))
