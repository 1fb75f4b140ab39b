"""What a trainer does with new masks: mask_init, mask_initial_sparsity, mask_learning_rate."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsepo import POConfig, POTrainer, UserError
from sparsepo.batches.pack import pack_pairs
from sparsepo.cli.main import main
from sparsepo.masks.scaled import MEAN
from sparsepo.training.checkpoints import MASK_FEWEST_STEPS, MASK_MOVEMENT
from sparsepo.training.trainer import MASK_PROBE_PAIRS
from tests.invariant.training import assert_same_weights, make_trainer, state, steps


def values(trainer: POTrainer) -> list[Tensor]:
    """Return the (reward, KL) masks of the response tokens on which they were scaled."""
    batch = pack_pairs(trainer.train_dataset[:MASK_PROBE_PAIRS])
    states = trainer.reference.read(batch, trainer.method, trainer.needs)
    return [m[batch.response_mask] for m in trainer.model.masks_without_dropout(batch, states)]


def start_of(trainer: POTrainer) -> dict[str, Tensor]:
    return {name: value for name, value in state(trainer).items() if name.startswith("masks.")}


@pytest.mark.parametrize("options", [{}, {"mask_layers": "last"}, {"mask_feed_forward": 2},
                                     {"mask_kind": "binary"}])  # fmt: skip
@pytest.mark.parametrize("sparsity", [None, 20.0, 80.0])
def test_new_masks_start_with_the_sparsity_asked_for(
    tmp_path: Path, options: dict[str, Any], sparsity: float | None
) -> None:
    trainer = make_trainer(
        tmp_path, "sparsepo-independent", mask_initial_sparsity=sparsity, **options
    )
    for mask in values(trainer):
        expected = 10 if sparsity is None else sparsity
        assert 100 * float((mask == 0).float().mean()) == pytest.approx(expected, abs=1)
        if not options.get("mask_kind"):
            assert float(mask.mean()) == pytest.approx(MEAN, rel=1e-3)
    again = make_trainer(
        tmp_path, "sparsepo-independent", mask_initial_sparsity=sparsity, **options
    )
    assert_same_weights(start_of(again), start_of(trainer))


@pytest.mark.parametrize("gradient", ["straight-through", "exact"])
def test_a_mask_that_is_zero_everywhere_learns_with_a_straight_through_gradient(
    tmp_path: Path, gradient: str
) -> None:
    trainer = make_trainer(
        tmp_path, "sparsepo-independent", mask_gradient=gradient, mask_weight_decay=0.0
    )
    with torch.no_grad():
        # Only one of the two masks, so that the policy moves and log-ratios are not 0.
        for network in trainer.model.masks["kl"].networks:
            network.output.bias.sub_(100.0)
    start = start_of(trainer)
    trainer.train()
    moved = {
        name for name, value in start_of(trainer).items() if not torch.equal(value, start[name])
    }
    assert any(name.startswith("masks.reward") for name in moved)
    assert any(name.startswith("masks.kl") for name in moved) == (gradient != "exact")


def test_scaling_draws_nothing(tmp_path: Path) -> None:
    """The order of the pairs and all that training draws are the same with either start."""
    states = []
    for init in ("scaled", "paper"):
        make_trainer(tmp_path, "sparsepo-common", mask_init=init)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def rates(trainer: POTrainer, num_steps: int = 20) -> tuple[set[float], set[float]]:
    """Return the peak learning rates of the policy's and of the masks' groups."""
    trainer.create_optimizer()
    trainer.create_scheduler(num_training_steps=num_steps)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    found: tuple[set[float], set[float]] = (set(), set())
    for group in trainer.optimizer.param_groups:
        masks = names[id(group["params"][0])].startswith("masks.")
        found[masks].add(group["initial_lr"])
    return found


def test_the_automatic_rate_is_the_masks_size_by_the_number_of_steps(tmp_path: Path) -> None:
    """MOVEMENT · rms(w)/√n / steps over the n weights of the scores, whatever the policy's is."""
    for learning_rate, num_steps in (
        (1e-3, 100),
        (1e-6, 100),
        (1e-3, MASK_FEWEST_STEPS),
        (1e-3, 3),
    ):
        trainer = make_trainer(tmp_path, "sparsepo-common", learning_rate=learning_rate)
        (weight,) = [
            torch.cat([network.w.weight.detach().flatten() for network in mask.networks])
            for mask in trainer.model.learned_masks
        ]
        policy, masks = rates(trainer, num_steps)
        assert policy == {learning_rate}
        expected = MASK_MOVEMENT * float(weight.square().mean().sqrt()) / math.sqrt(96)
        expected /= max(num_steps, MASK_FEWEST_STEPS)
        assert weight.numel() == 96
        assert sorted(masks) == [pytest.approx(expected)]
        assert trainer.mask_learning_rate == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mask_learning_rate": "policy"}, 1e-3),
        ({"mask_learning_rate": 0.02}, 0.02),
        ({"optim": "sgd"}, 1e-3),
    ],
)
def test_other_rates_are_the_policys_or_the_number(
    tmp_path: Path, settings: dict[str, Any], expected: float
) -> None:
    """So is that of optimizers whose steps depend on the gradient's size, where no rule holds."""
    policy, masks = rates(make_trainer(tmp_path, "sparsepo-common", **settings))
    assert policy == {1e-3} and masks == {expected}


@pytest.mark.parametrize(("limit", "alive"), [("none", False), ("preference", True)])
def test_a_limited_norm_kills_no_mask(tmp_path: Path, limit: str, alive: bool) -> None:
    """At first the log-ratios are 0, and the norm is all that moves a mask."""
    trainer = make_trainer(tmp_path, "sparsepo-common", l1_reward=1e-3, l1_kl=1e-3, l1_limit=limit,
                           mask_gradient="exact", num_train_epochs=5)  # fmt: skip
    trainer.train()
    sparsity = steps(trainer)[-1]["sparsity/reward/chosen"]
    assert sparsity < 50 if alive else sparsity == 100


def test_the_masks_rate_follows_the_schedule_and_is_logged(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "sparsepo-common", num_train_epochs=2)
    trainer.train()
    peak = trainer.mask_learning_rate
    assert peak is not None
    for entry in steps(trainer):
        assert entry["mask_learning_rate"] / peak == pytest.approx(entry["learning_rate"] / 1e-3)
    without = make_trainer(tmp_path, "dpo")
    without.train()
    assert "mask_learning_rate" not in steps(without)[0]
    assert without.mask_learning_rate is None


BAD = [
    ({"mask_learning_rate": "fast"}, "mask_learning_rate must be auto, policy or a number, not"),
    ({"mask_learning_rate": -1.0}, "mask_learning_rate must be at least 0, not -1.0"),
    ({"mask_init": "xavier"}, "mask_init cannot be .xavier.. Choose one of: scaled, paper"),
    ({"mask_gradient": "leaky"}, "mask_gradient cannot be .leaky.. Choose one of: straight-"),
    ({"mask_initial_sparsity": 101}, "mask_initial_sparsity must be at least 0 and at most 100"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_values_are_one_plain_sentence(
    tmp_path: Path, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = POConfig(output_dir=str(tmp_path / "out"), method="sparsepo-common", use_cpu=True,
                      **options)  # fmt: skip
    with pytest.raises(UserError, match=message):
        config.make_method()
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    words = ["train", "--model", "M", "--data", str(pairs), "--method", "sparsepo-common",
             "--output", str(tmp_path / "out")]  # fmt: skip
    settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    assert main([*words, *settings]) == 2
    error = capsys.readouterr().err
    assert re.match(f"Error: {message}", error) and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("written", ["1e-2", "0.01"])
def test_text_that_is_a_number_is_one(tmp_path: Path, written: str) -> None:
    """As YAML 1.1 reads 1e-2."""
    from sparsepo.cli.main import build_parser
    from sparsepo.cli.recipe import collect_options
    from sparsepo.cli.train import make_config

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f'method: sparsepo-common\nmask_learning_rate: "{written}"\n')
    arguments = ["train", "--config", str(recipe), "--model", "M", "--data", "D", "--output",
                 str(tmp_path / "out")]  # fmt: skip
    config = make_config(collect_options(build_parser().parse_args(arguments)))
    assert config.mask_learning_rate == 0.01
