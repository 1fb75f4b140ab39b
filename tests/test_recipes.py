"""The recipes under configs/recipes: one for each method, and each of them trains."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from sparsepo.cli.main import build_parser, main
from sparsepo.cli.recipe import collect_options, read_recipe
from sparsepo.cli.train import make_config
from sparsepo.cli.yaml_core import load
from sparsepo.methods import PAPER
from tests.small_models import small_model, small_tokenizer, text_pairs

FOLDER = Path(__file__).parents[1] / "configs" / "recipes"
RECIPES = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
PARTS = ["--model", "MODEL", "--data", "pairs.jsonl", "--output", "OUT"]


def test_every_method_has_a_recipe() -> None:
    assert set(RECIPES) == set(PAPER)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_configuration_of_its_method(name: str, tmp_path: Path) -> None:
    arguments = ["train", "--config", str(RECIPES[name]), *PARTS]
    options = collect_options(build_parser().parse_args(arguments))
    config = make_config(dataclasses.replace(options, output=str(tmp_path)))
    method = config.make_method()
    recipe = read_recipe(RECIPES[name])
    assert method.name == name
    for key, value in recipe.items():
        found = getattr(method, key, None)
        assert (found if found is not None else getattr(config, key)) == value, key


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_of_a_recipe_names_its_source(name: str) -> None:
    lines = [line for line in RECIPES[name].read_text().splitlines() if line and line[0] != "#"]
    for line in lines:
        if not line.startswith("method:"):
            assert re.search(r"\[(paper|code|ours)\]", line), line


def test_a_recipe_trains(tmp_path: Path) -> None:
    small_model("gpt_neox").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    rows = [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in text_pairs(6)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        "train", "--config", str(RECIPES["sparsepo-common"]), "--model", str(tmp_path / "model"),
        "--data", str(tmp_path / "pairs.jsonl"), "--output", str(tmp_path / "out"),
        "--set", "max_steps=2", "gradient_accumulation_steps=1", "use_cpu=true",
        "max_length=64", "max_prompt_length=32",
    ]  # fmt: skip
    assert main(command) == 0
    found = load((tmp_path / "out" / "recipe.yaml").read_text())
    assert (found["max_steps"], found["l1_reward"], found["max_length"]) == (2, 1e-3, 64)
