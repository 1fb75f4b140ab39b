"""The README.md of a saved model says what the model is, for people and for the hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from huggingface_hub import ModelCard

from sparsepo import POConfig, POTrainer
from sparsepo.data import PairData, read_pairs
from sparsepo.data.hub import is_hub_id
from sparsepo.methods import BUILT_IN, DPO, PAPER
from sparsepo.methods.base import Method
from sparsepo.methods.formula import formula, notation
from sparsepo.registry import register_method
from sparsepo.training.citations import bibtex
from tests.small_models import small_model, small_tokenizer, text_pairs

REPOSITORY = Path(__file__).parents[3]
METHODS_PAGE = (REPOSITORY / "docs" / "methods.md").read_text()


def pairs_on_disk(file: Path, count: int, seed: int = 0, empty: int = 0) -> PairData:
    rows: list[dict[str, Any]] = [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in text_pairs(count, seed)
    ]
    rows += [{"prompt": "a", "chosen": "", "rejected": "b"}] * empty
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_pairs(file)


def trainer_of(output: Path, data: Any, **settings: Any) -> POTrainer:
    arguments: dict[str, Any] = {
        "output_dir": str(output), "method": "dpo", "max_steps": 2, "report_to": "none",
        "per_device_train_batch_size": 2, "use_cpu": True, "disable_tqdm": True,
        "save_strategy": "no", "logging_steps": 1, **settings,
    }  # fmt: skip
    held_out = arguments.pop("eval_dataset", None)
    model = arguments.pop("model", None) or small_model("gpt_neox")
    return POTrainer(
        model,
        args=POConfig(**arguments),
        train_dataset=data,
        eval_dataset=held_out,
        processing_class=small_tokenizer(),
    )


def test_the_card_of_a_trained_model_has_its_method_data_values_and_results(
    tmp_path: Path,
) -> None:
    data = pairs_on_disk(tmp_path / "pairs.jsonl", 8, empty=2)
    held_out = pairs_on_disk(tmp_path / "held_out.jsonl", 3, seed=5)
    trainer = trainer_of(
        tmp_path / "out", data, method="sparsepo-independent", l1_reward=1e-3,
        learning_rate=2e-3, gradient_accumulation_steps=2, eval_dataset=held_out,
    )  # fmt: skip
    trainer.train()
    values = trainer.evaluate()
    trainer.save_model(str(tmp_path / "saved"))
    card = ModelCard.load(tmp_path / "saved" / "README.md")
    text = card.content
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert {"sparsepo", "sparsepo-independent", "arxiv:2410.05102"} <= set(card.data.tags or [])
    assert formula(BUILT_IN["sparsepo-independent"]) is not None
    assert str(formula(BUILT_IN["sparsepo-independent"])) in text
    assert "pairs.jsonl: 8 of 10 rows kept; skipped: 2 empty response" in text
    assert "held_out.jsonl: 3 of 3 rows kept" in text
    assert "Trained on 8 pairs" in text
    assert "Evaluated on 3 pairs" in text
    shown = {
        "l1_reward": "0.001", "beta": "0.1", "learning_rate": "0.002", "pairs in a step": "4",
        "mask_dropout": "0.01", "mask_learning_rate": "auto", "seed": "42", "max_steps": "2",
    }  # fmt: skip
    for name, value in shown.items():
        assert f"| `{name}` | {value} |" in text
    for name, value in values.items():
        if name.startswith("eval_"):
            assert f"| {name.removeprefix('eval_')} | {value:.4g} |" in text
    assert "Trained for 2 steps" in text
    assert "christopoulou-etal-2025-sparsepo" in text
    assert "masks.safetensors" in text
    assert re.search(r"transformers \d", text) and re.search(r"torch \d", text)
    # A card may be shared; where things were on this disk is nobody's business.
    assert str(tmp_path) not in text


def test_hub_names_become_metadata_and_local_ones_do_not(tmp_path: Path) -> None:
    data = pairs_on_disk(tmp_path / "pairs.jsonl", 4)
    local = trainer_of(tmp_path / "local", data)
    local.save_model()
    card = ModelCard.load(tmp_path / "local" / "README.md")
    assert card.data.base_model is None
    assert card.data.datasets is None
    assert "made in memory" in card.content

    model = small_model("gpt_neox")
    model.config.name_or_path = "acme/tiny-neox"
    hub_data = replace(data, report=replace(data.report, source="acme/preferences"))
    trainer = trainer_of(tmp_path / "hub", hub_data, model=model)
    trainer.save_model()
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.base_model == "acme/tiny-neox"
    assert card.data.datasets == ["acme/preferences"]

    trainer.create_model_card(
        model_name="me/mine", dataset_name="a/b", tags=["mine"], license="mit", language="en"
    )
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert (card.data.datasets, card.data.license, card.data.language) == (["a/b"], "mit", "en")
    assert "mine" in (card.data.tags or [])
    assert "# me/mine" in card.content
    assert 'from_pretrained("me/mine")' in card.content


def test_a_model_on_disk_is_named_by_its_folder_alone(tmp_path: Path) -> None:
    start = tmp_path / "starting-point"
    small_model("gpt_neox").save_pretrained(start)
    trainer = trainer_of(tmp_path / "out", text_pairs(4), model=str(start))
    trainer.save_model()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "`starting-point`" in text
    assert str(tmp_path) not in text


def test_adapters_have_this_card_and_not_pefts(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path / "out", text_pairs(4), lora_r=2, save_strategy="steps", save_steps=1
    )
    trainer.train()
    trainer.save_model()
    for folder in (tmp_path / "out", tmp_path / "out" / "checkpoint-2"):
        card = ModelCard.load(folder / "README.md")
        assert card.data.library_name == "peft"
        assert "AutoPeftModelForCausalLM" in card.content
        assert str(formula(DPO)) in card.content
        assert "[More Information Needed]" not in card.content
    assert "| `lora_r` | 2 |" in card.content


def test_several_evaluation_sets_are_columns(tmp_path: Path) -> None:
    sets = {"near": text_pairs(3, 5), "near_by": text_pairs(2, 6)}
    trainer = trainer_of(tmp_path / "out", text_pairs(4), eval_dataset=sets)
    trainer.train()
    values = trainer.evaluate()
    trainer.save_model()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "|  | near | near_by |" in text
    losses = [f"{values[f'eval_{name}_loss']:.4g}" for name in sets]
    assert f"| loss | {losses[0]} | {losses[1]} |" in text


def test_results_are_metadata_by_evaluation_set(tmp_path: Path) -> None:
    near = pairs_on_disk(tmp_path / "near.jsonl", 3, seed=5)
    hub = pairs_on_disk(tmp_path / "hub.jsonl", 2, seed=6)
    hub = replace(hub, report=replace(hub.report, source="acme/preferences"))
    sets = {"near": near, "again": near, "hub": hub, "memory": text_pairs(2, 7)}
    trainer = trainer_of(tmp_path / "out", text_pairs(4), eval_dataset=sets)
    trainer.train()
    values = trainer.evaluate()
    trainer.save_model()
    results = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results or []
    assert {result.dataset_name for result in results} == {
        "near.jsonl (near)", "near.jsonl (again)", "acme/preferences (hub)", "memory",
    }  # fmt: skip
    for result in results:
        name = f"eval_{result.dataset_config}_{result.metric_type}"
        assert result.metric_value == pytest.approx(values[name])
    metrics = {result.metric_type for result in results}
    assert {"loss", "accuracies"} <= {metric.rpartition("/")[2] for metric in metrics}
    assert not {metric for metric in metrics if "second" in metric or "runtime" in metric}


def test_a_metric_without_a_finite_value_is_not_metadata(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "out", text_pairs(4), eval_dataset=text_pairs(2, 5))
    trainer.compute_metrics = lambda _: {"good": 0.5, "bad": float("nan")}
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    results = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results or []
    found = {result.metric_type: result.metric_value for result in results}
    assert found["good"] == 0.5
    assert "bad" not in found


def test_a_model_that_was_not_evaluated_has_no_results(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "out", text_pairs(4))
    trainer.save_model()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "was not evaluated" in text
    assert "model-index" not in text
    assert "Trained for 0 steps" in text


# One source for formulas


def squeezed(text: str) -> str:
    return re.sub(r"[\s\\]", "", text)


@pytest.mark.parametrize("name", PAPER)
def test_the_formula_of_the_docstring_is_the_one_of_the_documentation(name: str) -> None:
    found = formula(PAPER[name])
    assert found is not None
    assert found.startswith("L = ")
    assert not found.endswith(".")
    headings = re.split(r"^## ", METHODS_PAGE, flags=re.MULTILINE)[1:]
    (section,) = [part for part in headings if name in re.split(r"[,\s]+", part.splitlines()[0])]
    assert squeezed(found) in squeezed(section)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_symbol_of_a_formula_is_explained(name: str) -> None:
    method = BUILT_IN[name]
    needs = method.needs
    told = notation(needs)
    text = str(method.__doc__).partition("Source")[0]
    if name in PAPER:
        text = str(formula(method))
        assert ("r_t" in told) == ("Σ r" in text or "Σ m" in text)
    for symbol in ("R", "ℓ̄", "R̄"):
        # A symbol of the formula is explained beside it.
        if re.search(rf"(?<!\w){symbol}_[wl]", str(formula(method))):
            assert re.search(rf"(?<!\w){symbol}(?:,| =| is| the)", text), symbol
    assert ("KL" in told) == needs.kl
    assert ("mask" in told) == (needs.mask != "none")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_has_its_papers_to_cite(name: str) -> None:
    entries = bibtex(BUILT_IN[name].source)
    assert "2410.05102" in entries[-1]
    number = re.search(r"\d{4}\.\d{5}", BUILT_IN[name].source)
    if number is not None:
        assert number[0] in entries[0]
    for entry in entries:
        assert entry.count("{") == entry.count("}")


@pytest.mark.usefixtures("clean_registry")
def test_a_method_of_ones_own_needs_no_docstring(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Bare(DPO):
        name: ClassVar[str] = "bare"
        title: ClassVar[str] = "Bare"
        source: ClassVar[str] = "unpublished"

    register_method(Bare)
    trainer = trainer_of(tmp_path / "out", text_pairs(4), method="bare")
    trainer.save_model()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Bare (`bare`) Source: unpublished." in text
    assert "float" not in text.split("## Method")[1].split("## Data")[0]
    assert issubclass(Bare, Method)


@pytest.mark.parametrize(
    ("source", "expected"),
    [("acme/model", True), ("gpt2", True), ("", False), ("/tmp/nothing/here", False),
     ("a/b/c", False), ("pairs of mine", False), (".", False)],
)  # fmt: skip
def test_what_the_hub_could_have(source: str, expected: bool) -> None:
    assert is_hub_id(source) is expected
