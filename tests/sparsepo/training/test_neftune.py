"""NEFTune: noise on the policy's embeddings in training, and nowhere else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn

from sparsepo import POConfig, POTrainer
from sparsepo.batches.pack import pack_pairs
from sparsepo.methods.base import Needs
from sparsepo.training.neftune import NoiseSwitch, noisy_embeddings, sequence_lengths
from sparsepo.training.policy import PolicyWithMasks
from tests.invariant.training import any_difference, make_trainer, state, steps
from tests.small_models import small_model, small_tokenizer, text_pairs, token_pairs


@pytest.mark.parametrize("share_prompt", [True, False])
@pytest.mark.parametrize("rejected", [True, False])
def test_each_token_has_the_length_of_its_own_sequence(share_prompt: bool, rejected: bool) -> None:
    pairs = token_pairs(5, seed=3)
    batch = pack_pairs(pairs, tokens_per_row=64, share_prompt=share_prompt, rejected=rejected)
    lengths = sequence_lengths(batch)
    for index, part, length in zip(
        batch.pair_index.flatten().tolist(), batch.part.flatten().tolist(),
        lengths.flatten().tolist(), strict=True,
    ):  # fmt: skip
        if index < 0:
            assert length == 1
            continue
        pair = pairs[index]
        response = pair.rejected_ids if part == 2 else pair.chosen_ids
        assert length == len(pair.prompt_ids) + len(response)


class Embeddings:
    """How far what reaches a Llama's first layer is from the rows of its embeddings."""

    def __init__(self, model: Any) -> None:
        self.errors: list[float] = []
        self.plain = torch.empty(0)
        self.table = model.get_input_embeddings()
        self.table.register_forward_hook(self.note)
        model.model.layers[0].register_forward_pre_hook(self.compare)

    def note(self, module: Any, inputs: Any, output: Any) -> None:
        self.plain = nn.functional.embedding(inputs[0], module.weight).detach()

    def compare(self, module: Any, inputs: Any) -> None:
        self.errors.append(float((inputs[0].detach() - self.plain).abs().max()))


@pytest.fixture
def module() -> PolicyWithMasks:
    return PolicyWithMasks(small_model("llama"), nn.ModuleDict())


def test_the_noise_is_bounded_by_alpha_over_the_root_of_the_sequence(
    module: PolicyWithMasks,
) -> None:
    batch = pack_pairs(token_pairs(6), tokens_per_row=64)
    embeddings = module.policy.get_input_embeddings()
    seen: list[torch.Tensor] = []
    module.train()
    with noisy_embeddings(module, 5.0, NoiseSwitch()):
        embeddings.register_forward_hook(lambda _m, _i, output: seen.append(output))
        module(batch, None, Needs(ref_logps=False))
        module.eval()
        module(batch, None, Needs(ref_logps=False))
    noise = (seen[0] - seen[1]).abs()
    bound = 5.0 / (sequence_lengths(batch) * noise.shape[-1]).sqrt()
    assert bool((noise <= bound[..., None] + 1e-6).all())
    assert bool((noise.amax(-1) > 0.5 * bound).all())
    assert math.isclose(float((noise / bound[..., None]).mean()), 0.5, abs_tol=0.02)


@pytest.mark.parametrize("peft", [None, LoraConfig(r=4, init_lora_weights=True)], ids=["", "lora"])
def test_the_policy_is_trained_with_noise_and_the_reference_read_without(
    tmp_path: Path, peft: LoraConfig | None
) -> None:
    """Each step reads the reference once and runs the policy once; the first also checks it."""
    args = POConfig(output_dir=str(tmp_path), method="dpo", max_steps=2, use_cpu=True,
                    logging_steps=1, neftune_noise_alpha=5.0, save_strategy="no",
                    disable_tqdm=True)  # fmt: skip
    trainer = POTrainer(small_model("llama"), args=args, train_dataset=text_pairs(8),
                        processing_class=small_tokenizer(), peft_config=peft)  # fmt: skip
    policy: Any = trainer.policy
    own = policy.get_base_model() if peft is not None else policy
    assert trainer.reference is not None
    seen = Embeddings(own)
    read = seen if peft is not None else Embeddings(trainer.reference.model)
    trainer.train()
    if peft is None:
        assert [error > 0 for error in read.errors] == [False, False]
        assert [error > 0 for error in seen.errors] == [True, False, True]
    else:
        assert [error > 0 for error in seen.errors] == [False, True, False, False, True]
    before = len(seen.errors)
    trainer.evaluate(text_pairs(4, seed=2))
    trainer.score_pairs(text_pairs(4, seed=2))
    assert not any(seen.errors[before:])
    assert trainer.state.log_history[0]["loss"] > 0
    own.get_input_embeddings().train()
    seen.errors.clear()
    own(torch.tensor([[1, 2, 3]]))
    assert seen.errors == [0.0]


def test_noise_changes_what_is_trained_and_a_seed_repeats_it(tmp_path: Path) -> None:
    def run(name: str, alpha: float | None) -> Any:
        trainer = make_trainer(tmp_path / name, "dpo", neftune_noise_alpha=alpha)
        trainer.train()
        return trainer

    first, again, without = run("a", 5.0), run("b", 5.0), run("c", None)
    assert steps(first) == steps(again)
    assert any_difference(state(first), state(without))
