"""The laptop benchmark's machinery, on models that take no time: nothing here asserts a speed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.laptop import command, models, samples, steps
from benchmarks.laptop.found import Samples, Shares
from benchmarks.process import BenchmarkError
from benchmarks.products import Products
from sparsepo.errors import UserError

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_models = tuple(
        replace(
            model,
            vocabulary=vocabulary,
            pairs=2,
            config={**model.config, **SMALL, **({"head_dim": 8} if "gemma" in model.name else {})},
        )
        for model, vocabulary in zip(models.MODELS, (300, 40_000), strict=True)
    )
    work = tuple(
        replace(one, prompts=2, samples=2, lengths=(3, 5), new_tokens=4) for one in samples.WORK
    )
    for module in (models, command):
        monkeypatch.setattr(module, "MODELS", small_models)
    for module in (command, steps):
        monkeypatch.setattr(module, "LENGTHS", {"hh": ("HH", 6, 5)})
    monkeypatch.setattr(samples, "WORK", work)


# The products


def test_every_product_of_a_step_is_recorded_and_computed_again() -> None:
    layer = torch.nn.Linear(5, 7)
    x = torch.randn(3, 4, 5, requires_grad=True)
    with Products() as products:
        layer(x).sum().backward()
    # Forward, the gradient of the input, the gradient of the weight.
    assert products.flops(attention=True) == 3 * 2 * 12 * 5 * 7
    assert len(products.found) == 3
    assert products.timer(attention=True)() > 0


def test_the_products_of_attention_are_counted_apart() -> None:
    query = torch.randn(2, 3, 6, 4, requires_grad=True)
    with Products() as products:
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    assert products.flops(attention=False) == 0
    # Two forward, five backward, each of the same size.
    assert products.flops(attention=True) == 7 * 2 * (2 * 3) * 6 * 6 * 4
    assert products.timer(attention=True)() > 0
    assert products.timer(attention=False)() >= 0


# The command


@pytest.mark.slow
def test_the_card_has_steps_products_and_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--systems", "ours:dpo,ours:sparsepo-common", "--rounds", "1", "--threads", "1"]
    assert command.main([*words, "--shapes", "hh", "--name", "card", "--out", str(tmp_path)]) == 0
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["weights"] == {"SmolLM2 135M": "random", "Gemma 3 270M": "random"}
    assert len(card["steps"]) == 2
    assert len(card["shares"]) == 4
    for shares in card["shares"]:
        assert shares["products"][0] > 0
        assert 0 < shares["flops"][0] <= shares["flops"][1]
    assert [len(one["ours"]) for one in card["samples"]] == [1, 1, 1, 1]
    page = (tmp_path / "card.md").read_text()
    for text in (
        "## Steps",
        "## Matrix products alone",
        "## Samples",
        "Weights: SmolLM2 135M: random",
    ):
        assert text in page
    # A folder on this machine is no part of a card.
    assert str(tmp_path) not in page


def test_what_was_measured_before_an_error_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise BenchmarkError("The machine has no memory left.")

    monkeypatch.setattr(command, "measure_samples", stopped)
    words = ["--models", "smollm2", "--systems", "ours:dpo", "--rounds", "1", "--threads", "1"]
    assert command.main([*words, "--name", "card", "--out", str(tmp_path)]) == 2
    assert "Error: The machine has no memory left." in capsys.readouterr().err
    card = json.loads((tmp_path / "card.json").read_text())
    assert len(card["steps"]) == 1 and not card["samples"]
    assert card["command"].endswith("# stopped by an error")


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    first, second = models.MODELS
    models.write_laptop_model(first, None, tmp_path)
    with pytest.raises(UserError, match="is not Gemma 3 270M: its vocab_size is 300"):
        models.write_laptop_model(second, str(tmp_path), tmp_path / "other")
    models.write_laptop_model(first, str(tmp_path), tmp_path / "same")
    assert (tmp_path / "same" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "gpt5"], "Unknown name 'gpt5'; choose from smollm2, gemma"),
        (["--shapes", "imdb"], "Unknown name 'imdb'; choose from hh"),
        (["--parts", "all"], "Unknown name 'all'; choose from steps, samples"),
        (["--smollm2", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*words, "--systems", "ours:dpo"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_peer_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.measure.find_spec", lambda _name: None)
    assert command.main(["--systems", "trl:dpo"]) == 2
    assert "TRL is not installed" in capsys.readouterr().err


def test_shares_and_ratios_are_taken_within_a_round() -> None:
    shares = Shares("one", "ours:dpo", [1.0, 2.0, 4.0], [0.5, 1.5, 3.0], [0.9, 1.8, 3.6])
    assert shares.share(shares.products) == 0.75
    assert shares.share(shares.with_attention) == 0.9
    taken: Any = Samples("one", "two", [30.0, 20.0], [10.0, 10.0])
    assert taken.ratios == [3.0, 2.0]
