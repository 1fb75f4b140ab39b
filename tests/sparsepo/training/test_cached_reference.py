"""Training with a reference cache is training without one, and runs no reference."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTNeoXForCausalLM, TrainerCallback

import sparsepo.models.capture
import sparsepo.reference.online
from sparsepo import POConfig, POTrainer, UserError, load_plugin, registry
from sparsepo.batches.pack import pack_pairs
from sparsepo.cli.main import main
from sparsepo.methods import BUILT_IN, DPOP
from sparsepo.reference.cache import LOGPS, seal
from sparsepo.reference.online import Reference
from sparsepo.types import TokenStats
from tests.invariant.training import (
    StopAt,
    assert_same_weights,
    history,
    make_trainer,
    state,
    steps,
)
from tests.small_models import small_model, small_tokenizer, text_pairs

REPOSITORY = Path(__file__).parents[3]
SQUARED_MARGIN = REPOSITORY / "tests" / "plugin_pkg" / "sparsepo_squared" / "__init__.py"
NOT_CACHEABLE = [name for name, cls in BUILT_IN.items() if not cls.needs.cacheable]
CACHEABLE = ("dpo", "dpop", "mapo", "squared-margin")


@pytest.fixture(autouse=True)
def squared_margin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plug a method in, from its file."""
    monkeypatch.setattr(registry, "_plugged_in", {})
    monkeypatch.setattr(registry, "_origins", {})
    load_plugin(SQUARED_MARGIN)
    yield
    for name in [name for name in sys.modules if name.startswith("sparsepo_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def parts(cache: str) -> list[str]:
    return sorted(folder.name for folder in Path(cache).glob("*/part-*"))


def assert_same_history(ours: POTrainer, expected: POTrainer) -> None:
    """Assert that the logged values are equal up to float noise.

    A margin of 0 ± 1e-8 is as often above 0 as below: accuracies mean nothing where nothing has
    been learned yet, at the first steps.
    """
    for entry, theirs in zip(history(ours), history(expected), strict=True):
        assert entry.keys() == theirs.keys()
        for name, value in theirs.items():
            if name == "total_flos":
                continue  # counts padding, which depends on the batches
            if "accuracies" not in name or theirs.get("step", 0) > 2:
                assert entry[name] == pytest.approx(value, rel=1e-4, abs=2e-5), name


# The same numbers


@pytest.mark.parametrize("method", CACHEABLE)
@pytest.mark.parametrize("architecture", ["gpt_neox", "gpt2"])
def test_the_loss_curve_is_the_online_one(
    tmp_path: Path, cache: str, method: str, architecture: str
) -> None:
    settings: dict[str, Any] = {"architecture": architecture, "num_train_epochs": 2}
    online = make_trainer(tmp_path, method, **settings)
    online.train()
    cached = make_trainer(tmp_path, method, **settings, reference_cache=cache)
    cached.train()
    assert_same_history(cached, online)
    assert_same_weights(state(cached), state(online), 1e-4)


@pytest.mark.parametrize("method", CACHEABLE)
def test_loss_and_gradients_are_the_online_ones(tmp_path: Path, cache: str, method: str) -> None:
    """At a policy that has left its start, so that every log-ratio has a part in them."""

    def loss_and_gradients(**settings: Any) -> tuple[Tensor, dict[str, Tensor]]:
        trainer = make_trainer(tmp_path, method, check_reference=False, **settings)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in trainer.policy.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        batch = vars(pack_pairs(list(trainer.train_dataset)[:5]))  # type: ignore[arg-type]
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        return loss.detach(), {n: p.grad for n, p in trainer.model.named_parameters()}  # type: ignore[misc]

    expected, expected_gradients = loss_and_gradients()
    loss, gradients = loss_and_gradients(reference_cache=cache)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for name, gradient in expected_gradients.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
        {"activation_checkpointing": True},
        {"bf16": True},
    ],
    ids=str,
)
def test_with_other_options_of_training(
    tmp_path: Path, cache: str, settings: dict[str, Any]
) -> None:
    plain = make_trainer(tmp_path, "dpo", reference_cache=cache)
    plain.train()
    other = make_trainer(tmp_path, "dpo", reference_cache=cache, **settings)
    other.train()
    assert steps(other)[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    if "bf16" in settings:
        assert len(list(Path(cache).iterdir())) == 2
    else:
        assert_same_history(other, plain)
        assert len(parts(cache)) == 1


def test_double_precision_passes_its_own_check(tmp_path: Path, cache: str) -> None:
    """At step 0 a log-ratio of 1e-6 nats is too much there, and float32 values would have it."""
    for changes in ({}, {"architectures": None}):
        model = small_model("gpt_neox").double()
        make_trainer(
            tmp_path / str(len(changes)), "dpo", model=model, reference_cache=cache
        ).train()


def test_resumed_is_uninterrupted(tmp_path: Path, cache: str) -> None:
    run: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    whole = make_trainer(tmp_path / "whole", "dpop", **run, reference_cache=cache)
    whole.train()
    broken = make_trainer(
        tmp_path / "broken", "dpop", **run, reference_cache=cache, callbacks=[StopAt(3)]
    )
    with pytest.raises(InterruptedError):
        broken.train()
    resumed = make_trainer(tmp_path / "broken", "dpop", **run, reference_cache=cache)
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(state(resumed), state(whole))
    assert history(resumed)[:-1] == history(whole)[:-1]
    assert len(parts(cache)) == 1


@pytest.mark.parametrize("noise", [3e-7, -3e-7])
def test_rounding_decides_nothing_at_the_kink_of_dpop(noise: float) -> None:
    """At step 0 no response is likelier or less likely than under the reference."""

    def gradient(error: float) -> Tensor:
        logps = torch.tensor([[-3.0, -2.0, -40.0]], requires_grad=True)
        reference = logps.detach() + torch.tensor([[error, 0.0, 2 * error]])
        inside = torch.ones(1, 3, dtype=torch.bool)
        stats = TokenStats(logps, reference, None, inside)
        DPOP()(stats, stats).loss.backward()
        assert logps.grad is not None
        return logps.grad

    assert gradient(0).abs().min() > 1
    torch.testing.assert_close(gradient(noise), gradient(0))
    assert gradient(1e-3).abs().min() > 1.5 * gradient(0).abs().max()
    assert gradient(-1e-3).abs().max() < 0.1


# No reference


def forbid(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(owner, name, forbidden)


@pytest.mark.parametrize("method", ["dpo", "dpop", "squared-margin"])
def test_no_reference_runs_in_a_step_nor_is_copied(
    tmp_path: Path, cache: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, Reference, "of_policy")
    trainer = make_trainer(tmp_path, method, reference_cache=cache)
    assert trainer.reference is None
    forbid(monkeypatch, Reference, "read")
    trainer.train()
    assert len(steps(trainer)) == 3
    # Nor for the cache, once it is there: another run reads it.
    again = make_trainer(tmp_path, "dpo", reference_cache=cache, seed=5)
    again.train()
    assert len(parts(cache)) == 1


def test_mapo_captures_no_activation_in_a_step(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs its reference for the KL, without a hook."""
    trainer = make_trainer(tmp_path, "mapo", reference_cache=cache)
    forbid(monkeypatch, sparsepo.reference.online, "capture_activations")
    reads: list[str] = []
    read = Reference.read

    def counted(self: Reference, batch: Any, method: Any, needs: Any) -> Any:
        reads.append(needs.mask)
        return read(self, batch, method, needs)

    monkeypatch.setattr(Reference, "read", counted)
    trainer.train()
    assert reads == ["none"] * 3


def test_mapo_fills_what_dpo_reads(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(tmp_path, "mapo", reference_cache=cache)
    forbid(monkeypatch, Reference, "read")
    make_trainer(tmp_path, "dpo", reference_cache=cache).train()
    # Its KL needs the reference at every step, and the start check reads it first.
    with pytest.raises(UserError, match="AssertionError: read"):
        make_trainer(tmp_path, "mapo", mask_mapping="sigmoid", reference_cache=cache)


def models_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, GPTNeoXForCausalLM) for thing in gc.get_objects())


def test_the_reference_is_not_held(tmp_path: Path, cache: str) -> None:
    before = models_alive()
    online = make_trainer(tmp_path, "dpo")
    assert models_alive() == before + 2
    del online
    cached = make_trainer(tmp_path, "dpo", reference_cache=cache)
    assert models_alive() == before + 1
    own = small_model("gpt_neox")
    gone = weakref.ref(own)
    given = make_trainer(tmp_path, "dpo", ref_model=own, reference_cache=cache)
    del own
    assert models_alive() == before + 2
    assert gone() is None
    for trainer in (cached, given):
        trainer.train()
    assert models_alive() == before + 2
    assert_same_weights(state(given), state(cached))


def test_a_foreign_reference_is_noticed_at_step_0(tmp_path: Path, cache: str) -> None:
    make_trainer(tmp_path, "dpo", reference_cache=cache)
    other = small_model("gpt_neox", seed=3)
    foreign = make_trainer(tmp_path, "dpo", ref_model=other, reference_cache=cache)
    assert len(list(Path(cache).iterdir())) == 2
    with pytest.raises(UserError, match="not the initial policy"):
        foreign.train()


# Adapters


def adapted(**options: Any) -> Any:
    torch.manual_seed(1)
    return get_peft_model(small_model("llama", spread=1.0), LoraConfig(r=4, **options))


def test_fresh_adapters_share_their_base_models_cache(tmp_path: Path, cache: str) -> None:
    bare = make_trainer(
        tmp_path, "dpo", model=small_model("llama", spread=1.0), reference_cache=cache
    )
    online = make_trainer(tmp_path, "dpo", model=adapted())
    cached = make_trainer(tmp_path, "dpo", model=adapted(), reference_cache=cache)
    make_trainer(tmp_path, "dpop", model=adapted(lora_alpha=64), reference_cache=cache)
    assert len(parts(cache)) == 1
    batch = pack_pairs(list(bare.train_dataset))  # type: ignore[arg-type]
    assert cached._cached is not None and bare._cached is not None
    assert torch.equal(cached._cached.read(LOGPS, batch), bare._cached.read(LOGPS, batch))
    online.train()
    cached.train()
    assert_same_history(cached, online)
    assert_scores_as(cached, online)


def test_trained_adapters_are_part_of_the_reference(tmp_path: Path, cache: str) -> None:
    """What they were at the start; their scale, which is no weight, counts too."""
    trained: dict[str, Any] = {"init_lora_weights": False}
    online = make_trainer(tmp_path, "dpo", model=adapted(**trained))
    cached = make_trainer(tmp_path, "dpo", model=adapted(**trained), reference_cache=cache)
    make_trainer(tmp_path, "dpop", model=adapted(**trained), reference_cache=cache)
    assert len(parts(cache)) == 1
    make_trainer(tmp_path, "dpo", model=adapted(lora_alpha=2, **trained), reference_cache=cache)
    make_trainer(tmp_path, "dpo", model=adapted(), reference_cache=cache)
    assert len(parts(cache)) == 3
    online.train()
    cached.train()
    assert_same_history(cached, online)
    assert_scores_as(cached, online)


def assert_scores_as(cached: POTrainer, online: POTrainer) -> None:
    """Assert that evaluation reports the same: a reference under adapters costs nothing to keep."""
    held_out = text_pairs(3, seed=2)
    for ours, expected in zip(
        cached.score_pairs(held_out), online.score_pairs(held_out), strict=True
    ):
        assert expected.chosen_kl is not None
        assert ours.chosen_kl == pytest.approx(expected.chosen_kl, rel=1e-2, abs=1e-7)
        assert ours.chosen_reward == pytest.approx(expected.chosen_reward, rel=1e-2, abs=1e-5)


# Evaluation


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model with its tokenizer on disk."""
    folder = tmp_path / "model"
    small_model("gpt_neox").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def trainer_of(
    model: Any, output: Path, cache: str | None, method: str = "dpo", **more: Any
) -> POTrainer:
    options = {key: more.pop(key) for key in ("ref_model", "eval_dataset") if key in more}
    return POTrainer(
        str(model) if isinstance(model, Path) else model,
        args=POConfig(
            output_dir=str(output), method=method, max_steps=3, learning_rate=1e-3, use_cpu=True,
            report_to="none", disable_tqdm=True, save_strategy="no", logging_steps=1,
            reference_cache=cache, **more,
        ),
        train_dataset=text_pairs(8),
        processing_class=small_tokenizer(),
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["folder", "model", "reference", "mapo"])
def test_evaluation_loads_the_reference_again(
    tmp_path: Path, cache: str, saved: Path, form: str
) -> None:
    """Pairs that no cache knows, and the KL: what is reported is what is reported online."""
    model: Any = saved
    options: dict[str, Any] = {"method": "mapo" if form == "mapo" else "dpo"}
    if form == "model":
        model = AutoModelForCausalLM.from_pretrained(saved)
    if form == "reference":
        model, options["ref_model"] = small_model("gpt_neox"), str(saved)
    held_out = text_pairs(5, seed=7)
    online = trainer_of(saved, tmp_path, None, options["method"])
    online.train()
    cached = trainer_of(model, tmp_path, cache, **options)
    cached.train()
    before = models_alive()
    ours, expected = cached.score_pairs(held_out), online.score_pairs(held_out)
    assert models_alive() == before
    assert (cached.reference is None) == (form != "mapo")
    for score, theirs in zip(ours, expected, strict=True):
        assert theirs.chosen_kl is not None and theirs.chosen_kl > 0
        for name in ("loss", "chosen_reward", "rejected_reward", "chosen_kl", "rejected_kl"):
            assert getattr(score, name) == pytest.approx(getattr(theirs, name), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("how", ["no folder", "overwritten", "removed"])
def test_without_a_reference_evaluation_reads_the_cache(
    tmp_path: Path, cache: str, saved: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own held-out pairs are in it; there is no KL, and unknown pairs are named."""
    held_out = text_pairs(4, seed=7)
    online = trainer_of(saved, tmp_path, None, eval_dataset=held_out)
    online.train()
    model: Any = small_model("gpt_neox") if how == "no folder" else saved
    cached = trainer_of(model, tmp_path, cache, eval_dataset=held_out)
    if how == "overwritten":
        small_model("gpt_neox", seed=1).save_pretrained(saved)
    if how == "removed":
        shutil.rmtree(saved)
    cached.train()
    metrics, expected = cached.evaluate(), online.evaluate()
    assert set(expected) - set(metrics) == {"eval_kl/chosen", "eval_kl/rejected"}
    clock = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
    for name in set(metrics) - {"epoch"} - clock:
        assert metrics[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name
    if how != "no folder":
        assert "Evaluation reports no KL" in caplog.text
        assert str(saved) in caplog.text
    with pytest.raises(UserError, match=r"lacks 2 of 2 pairs \(pair-0, pair-1\); use a model that"):
        cached.score_pairs(text_pairs(2, seed=8))


def test_held_out_pairs_may_have_the_ids_of_training_pairs(tmp_path: Path, cache: str) -> None:
    trainer = trainer_of(
        small_model("gpt_neox"), tmp_path, cache, eval_dataset=text_pairs(8, seed=1),
        eval_strategy="steps", eval_steps=1,
    )  # fmt: skip
    trainer.train()
    found = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(found) == 3
    online = trainer_of(small_model("gpt_neox"), tmp_path, None, eval_dataset=text_pairs(8, seed=1))
    online.train()
    assert found[-1]["eval_loss"] == pytest.approx(online.evaluate()["eval_loss"], rel=1e-4)


# What it is told


@pytest.mark.parametrize("method", NOT_CACHEABLE)
def test_a_method_that_cannot_read_it_refuses_it(tmp_path: Path, cache: str, method: str) -> None:
    with pytest.raises(UserError, match=f"Method '{method}' .*leave reference_cache out"):
        make_trainer(tmp_path, method, reference_cache=cache)
    assert not Path(cache).exists()


def test_a_sealed_cache_names_what_it_lacks(tmp_path: Path, cache: str) -> None:
    make_trainer(tmp_path, "dpo", reference_cache=cache)
    seal(Path(cache))
    make_trainer(tmp_path, "dpop", reference_cache=cache).train()
    before = parts(cache)
    with pytest.raises(UserError, match=r"lacks 1 of 13 pairs \(pair-12\), and it is marked"):
        make_trainer(tmp_path, "dpo", reference_cache=cache, pairs=text_pairs(13))
    with pytest.raises(UserError, match="computed with different max_length"):
        make_trainer(tmp_path, "dpo", reference_cache=cache, max_length=60)
    assert parts(cache) == before


def test_callbacks_are_told_how_far_it_is(tmp_path: Path, cache: str) -> None:
    class Told(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def on_reference_cache(self, done: int, total: int) -> None:
            self.seen.append((done, total))

    first, second = Told(), Told()
    make_trainer(tmp_path, "dpo", reference_cache=cache, callbacks=[first])
    make_trainer(tmp_path, "dpo", reference_cache=cache, callbacks=[second])
    assert first.seen[-1] == (12, 12)
    assert second.seen == []


# The command


def command(saved: Path, data: Path, output: Path, cache: str, *more: str) -> list[str]:
    settings = [
        "max_steps=2", "per_device_train_batch_size=2", "use_cpu=true", "learning_rate=1e-3",
        f"reference_cache={cache}",
    ]  # fmt: skip
    return [
        "train", "--model", str(saved), "--data", str(data), "--output", str(output),
        *(word for setting in settings for word in ("--set", setting)), *more,
    ]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in text_pairs(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_command_end_to_end(
    tmp_path: Path, saved: Path, data: Path, cache: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(saved, data, tmp_path / "one", cache, "--method", "dpo")) == 0
    assert "reference cache" in capsys.readouterr().err
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert main(command(saved, data, tmp_path / "two", cache, "--method", "dpop")) == 0
    assert "reference cache" not in capsys.readouterr().err
    (values,) = Path(cache).glob("*/part-*/values.safetensors")
    values.write_bytes(values.read_bytes()[:100])
    assert main(command(saved, data, tmp_path / "three", cache, "--method", "dpo")) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("Error: ")]
    assert f"{values} is damaged" in line
    assert main(command(saved, data, tmp_path / "four", cache, "--method", "simpo")) == 2
    assert "leave reference_cache out" in capsys.readouterr().err
    assert main(command(saved, data, tmp_path / "five", str(data), "--method", "dpo")) == 2
    assert "nothing can be written to the reference cache" in capsys.readouterr().err


def test_two_commands_at_once_share_a_cache(
    tmp_path: Path, saved: Path, data: Path, cache: str
) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "sparsepo",
             *command(saved, data, tmp_path / method, cache, "--method", method)],
            cwd=REPOSITORY, env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for method in ("dpo", "dpop")
    ]  # fmt: skip
    for run in runs:
        _, errors = run.communicate()
        assert run.returncode == 0, errors
    assert len(parts(cache)) == 1
    assert main(command(saved, data, tmp_path / "alone", str(tmp_path / "other"),
                        "--method", "dpo")) == 0  # fmt: skip
    ours, expected = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict()
        for name in ("dpo", "alone")
    )
    assert_same_weights(ours, expected, 1e-5)


# Several processes

RANK = """
import sys
from pathlib import Path
import torch
from tests.invariant.training import make_trainer, state
output = Path(sys.argv[1])
trainer = make_trainer(
    output, "dpo", reference_cache=str(output / "cache"), per_device_train_batch_size=2
)
rank = trainer.accelerator.process_index
assert trainer.accelerator.num_processes == 2
trainer.train()
torch.save(state(trainer), output / f"rank{rank}.pt")
"""


def test_processes_share_the_work(tmp_path: Path, cache: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone",
         "--no-python", sys.executable, "-c", RANK, str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(parts(cache)) == 2
    alone = make_trainer(tmp_path, "dpo", reference_cache=cache)
    alone.train()
    assert len(parts(cache)) == 2
    for rank in range(2):
        assert_same_weights(torch.load(tmp_path / f"rank{rank}.pt"), state(alone), 1e-4)
