"""Every form in which people keep models is trained, and what is saved loads without us."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sparsepo import UserError
from sparsepo.cli.main import main
from sparsepo.training.gguf import GGUF
from sparsepo.training.loading import load_policy, load_tokenizer, origin_of
from tests.invariant.training import make_trainer
from tests.small_gguf import write_gguf
from tests.small_models import VOCABULARY, separate_logps, small_model, small_tokenizer, text_pairs

REPOSITORY = Path(__file__).parents[3]
IDS = torch.arange(1, 20)[None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pairs, a model with its tokenizer, and both as a GGUF file."""
    model, tokenizer = small_model("llama"), small_tokenizer()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write_gguf(tmp_path / "model.gguf", model, tokenizer)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in text_pairs(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def train(folder: Path, model: str, output: str, *settings: str) -> int:
    every = ["use_cpu=true", "learning_rate=1e-2", "max_steps=2", "logging_steps=1",
             "per_device_train_batch_size=4", "disable_tqdm=true", "save_strategy=no",
             *settings]  # fmt: skip
    return main(
        ["train", "--model", str(folder / model), "--data", str(folder / "pairs.jsonl"),
         "--method", "sparsepo-common", "--output", str(folder / output),
         *(word for setting in every for word in ("--set", setting))]
    )  # fmt: skip


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


def loaded(folder: Path) -> Any:
    """Return a model as somebody without this library loads it."""
    return AutoModelForCausalLM.from_pretrained(folder)


# GGUF


def test_a_gguf_file_trains_as_the_model_that_it_was_made_from(folder: Path) -> None:
    """The same weights and the same words give the same trained model, in safetensors."""
    assert train(folder, "model.gguf", "out") == 0
    assert train(folder, "model", "same") == 0
    out = folder / "out"
    assert {"model.safetensors", "config.json", "masks.safetensors"} <= {
        file.name for file in out.iterdir()
    }
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    torch.testing.assert_close(logits(loaded(out)), logits(loaded(folder / "same")))
    assert (logits(loaded(out)) - logits(small_model("llama"))).abs().max() > 1e-3
    tokens = load_tokenizer(str(out))("the cat sat").input_ids
    assert tokens == small_tokenizer()("the cat sat").input_ids


def test_a_gguf_file_is_where_its_model_comes_from(folder: Path) -> None:
    file = folder / "model.gguf"
    policy = load_policy(str(file), dtype="bfloat16")
    assert policy.dtype == torch.bfloat16
    assert origin_of(policy) == origin_of(str(file)) == str(file.resolve())


def test_adapters_on_a_gguf_file_are_a_start(folder: Path) -> None:
    assert train(folder, "model.gguf", "adapters", "lora_r=4") == 0
    config = json.loads((folder / "adapters" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str((folder / "model.gguf").resolve())
    assert train(folder, "adapters", "further") == 0
    assert train(folder, "model.gguf", "merged", "lora_r=4", "merge_adapters=true") == 0
    trained = logits(load_policy(str(folder / "adapters")))
    torch.testing.assert_close(logits(loaded(folder / "merged")), trained, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [0, 3, 200, 60_000])
def test_a_truncated_gguf_file_is_one_plain_sentence(
    folder: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "model.gguf"
    whole = file.read_bytes()
    assert size < len(whole)
    file.write_bytes(whole[:size])
    assert train(folder, "model.gguf", "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert [line for line in said if line.startswith("Error: ")] == said[-1:]
    problem = "is not a GGUF file" if size < 4 else "is cut short"
    assert f"model.gguf' {problem}; download" in said[-1]
    assert not (folder / "out" / "config.json").exists()


def test_what_a_gguf_file_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(folder / "model.gguf")
    with pytest.raises(UserError, match=r"^There is no file 'none\.gguf'; give"):
        load_policy("none.gguf")
    if importlib.util.find_spec("bitsandbytes") is not None:
        with pytest.raises(UserError, match="cannot be quantized again; leave load_in_4bit"):
            load_policy(file, bits=4)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as refused:
        load_policy(file)
    assert str(refused.value) == f"Reading '{file}' needs gguf: run `{GGUF}`."
    requirement = GGUF.split("'")[1]
    assert f'gguf = ["{requirement}"]' in (REPOSITORY / "pyproject.toml").read_text()


# Safetensors


def test_shards_are_read_and_a_missing_one_is_named(folder: Path) -> None:
    small_model("llama").save_pretrained(folder / "model", max_shard_size="40KB")
    (folder / "model" / "model.safetensors").unlink()
    shards = sorted((folder / "model").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert train(folder, "model", "out") == 0
    assert logits(loaded(folder / "out")).isfinite().all()
    shards[1].unlink()
    with pytest.raises(UserError, match=f"No causal language model .*{shards[1].name}"):
        load_policy(str(folder / "model"))


def test_weights_that_are_missing_are_not_drawn_at_random(folder: Path) -> None:
    file = folder / "model" / "model.safetensors"
    weights = load_file(file)
    for name in list(weights):
        if "layers.1.mlp" in name:
            del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"incomplete: model\.layers\.1\.mlp\.\S+ and 2 more miss"):
        load_policy(str(folder / "model"))


def test_tied_weights_are_not_missing(folder: Path) -> None:
    small_model("llama", tie_word_embeddings=True).save_pretrained(folder / "model")
    assert train(folder, "model", "out") == 0


def test_a_cut_off_file_is_one_plain_sentence(folder: Path) -> None:
    file = folder / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="No causal language model can be loaded from"):
        load_policy(str(folder / "model"))


def test_a_generation_config_is_not_needed(folder: Path) -> None:
    (folder / "model" / "generation_config.json").unlink()
    assert train(folder, "model", "out") == 0
    assert logits(loaded(folder / "out")).isfinite().all()


def test_padded_vocabularies_stay_in_the_softmax(tmp_path: Path) -> None:
    """The model's head is larger than its tokenizer; its own distribution covers all of it."""
    model = small_model("llama")
    assert len(small_tokenizer()) < VOCABULARY
    trainer = make_trainer(tmp_path, "dpo", model=model)
    (pair, *_) = text_pairs(12)
    (score,) = trainer.score_pairs([pair])
    (tokens, *_) = trainer._tokenize([pair])[0]
    own = separate_logps(model, tokens.prompt_ids, tokens.chosen_ids)
    assert score.chosen_logps == pytest.approx(float(own.detach().sum()), rel=1e-5)
    with torch.no_grad():
        states = model(torch.tensor([tokens.prompt_ids + tokens.chosen_ids])).logits[0]
    cut = states[:, : len(small_tokenizer())].log_softmax(-1)[len(tokens.prompt_ids) - 1 : -1]
    without = cut.gather(-1, torch.tensor(tokens.chosen_ids)[:, None]).sum()
    assert abs(score.chosen_logps - float(without)) > 0.1


# Adapters


def adapters(folder: Path, base: Any, named: str) -> str:
    """Save adapters that were trained on a model, and let them name a base model."""
    adapted: Any = get_peft_model(
        base, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    adapted.save_pretrained(folder)
    config = folder / "adapter_config.json"
    content = {**json.loads(config.read_text()), "base_model_name_or_path": named}
    config.write_text(json.dumps(content))
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden_size": 64}, "other sizes"),
        ({"num_hidden_layers": 2}, "adapters for fewer layers, which PEFT only warns of"),
    ],
    ids=["width", "layers"],
)
def test_adapters_of_another_model_are_refused(
    folder: Path, changes: dict[str, int], why: str
) -> None:
    source = adapters(folder / "a", small_model("llama", **changes), str(folder / "model"))
    with pytest.raises(UserError) as refused:
        load_policy(source)
    assert str(refused.value) == (
        f"The adapters in '{source}' do not fit their base model '{folder / 'model'}'; correct "
        "base_model_name_or_path in adapter_config.json."
    )


def test_adapters_whose_base_model_is_gone(folder: Path) -> None:
    source = adapters(folder / "a", small_model("llama"), str(folder / "moved"))
    with pytest.raises(UserError, match=r"were trained on '\S+moved', which cannot be loaded; cor"):
        load_policy(source)
    source = adapters(folder / "a", small_model("llama"), "")
    with pytest.raises(UserError, match="do not name their base model"):
        load_policy(source)


def test_adapters_are_a_reference(folder: Path, tmp_path: Path) -> None:
    source = adapters(folder / "a", small_model("llama"), str(folder / "model"))
    trainer = make_trainer(tmp_path / "o", "dpo", model=small_model("llama"), ref_model=source)  # type: ignore[arg-type]
    trainer.train()
    # Fresh adapters are without effect: the reference is the policy's start.
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)
