"""Recipes and evaluation data of `python -m sparsepo train`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparsepo.cli import train
from sparsepo.cli.main import main
from sparsepo.cli.recipe import OPTIONS, named_sources
from sparsepo.cli.yaml_core import load
from sparsepo.errors import UserError
from sparsepo.training.config import POConfig, own_hyper_parameters
from tests.small_models import small_model, small_tokenizer, text_pairs

pytestmark = pytest.mark.usefixtures("clean_registry")

QUICK = {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "logging_steps": 1}

Seen = list[Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small_model("gpt_neox").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def write_pairs(file: Path, count: int, seed: int = 0) -> Path:
    rows = [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in text_pairs(count, seed)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", 12)


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "held_out.jsonl", 4, seed=9)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


Recipe = Callable[..., Path]


@pytest.fixture
def recipe(model: Path, data: Path, output: Path, tmp_path: Path) -> Recipe:
    """Writes a recipe that trains two steps, with changes; a change to None leaves a key out."""

    def write(**changes: Any) -> Path:
        values = {
            "model": str(model), "data": str(data), "method": "dpo", "output": str(output),
            **QUICK, **changes,
        }  # fmt: skip
        file = tmp_path / "asked.yaml"
        file.write_text(
            yaml.safe_dump({k: v for k, v in values.items() if v is not None}, sort_keys=False)
        )
        return file

    return write


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The trainers of the commands that follow, which save nothing."""
    seen: Seen = []
    monkeypatch.setattr(train, "save_whole", lambda trainer, *rest: seen.append(trainer))
    return seen


def refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str], output: Path, *parts: str
) -> None:
    """Assert that a command is refused in one sentence, and that nothing was written."""
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in error
    assert error.count("Error: ") == 1
    assert error.endswith((".", "."))
    for part in parts:
        assert part in error.splitlines()[-1]
    assert not any(output.glob("*"))


# The effective configuration


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("sparsepo-common", ["l1_reward=1e-3", "mask_layers=last"]),
        ("dpo", ["lora_r=2", "beta=0.3"]),
    ],
    ids=["masks", "adapters"],
)
def test_the_saved_recipe_repeats_the_run_bit_by_bit(
    model: Path, data: Path, tmp_path: Path, method: str, settings: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    quick = [f"{key}={json.dumps(value)}" for key, value in QUICK.items()]
    # Paths are given in one folder, and the recipe is used in another.
    monkeypatch.chdir(data.parent)
    first = [
        "train", "--model", str(model), "--data", data.name, "--method", method,
        "--output", "first", "--eval-share", "0.2",
        "--set", *settings, *quick, "learning_rate=1e-2", "eval_strategy=steps", "eval_steps=1",
    ]  # fmt: skip
    assert main(first) == 0
    monkeypatch.chdir("/")
    one, two = tmp_path / "first", tmp_path / "second"
    assert main(["train", "--config", str(one / "recipe.yaml"), "--output", str(two)]) == 0
    weights = [file.name for file in one.glob("*.safetensors")]
    assert weights
    for name in weights:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    written = [load((folder / "recipe.yaml").read_text()) for folder in (one, two)]
    assert [recipe.pop("output") for recipe in written] == [str(one), str(two)]
    assert written[0] == written[1]


def test_the_saved_recipe_has_every_value_that_was_used(recipe: Recipe, output: Path) -> None:
    file = recipe(method="tdpo2", alpha=0.25, hub_token="secret-token")
    assert main(["train", "--config", str(file)]) == 0
    text = (output / "recipe.yaml").read_text()
    found = load(text)
    assert (found["method"], found["beta"], found["alpha"]) == ("tdpo2", 0.1, 0.25)
    assert found["learning_rate"] == 1e-6
    assert set(OPTIONS) <= set(found)
    # Each field of POConfig is there unless it belongs to another method or repeats another one.
    # pad_token is TRL's and has no effect.
    elsewhere = {"output_dir", "method_args", "local_rank", "hub_token", "pad_token"}
    others = {name for name in own_hyper_parameters(POConfig) if name not in ("beta", "alpha")}
    missing = set(POConfig.field_types()) - set(found) - elsewhere - others
    assert not {name for name in missing if not name.startswith("gradient_checkpointing")}
    assert "secret-token" not in text
    assert found["report_to"] == []


def test_a_recipe_is_written_with_the_model_or_not_at_all(
    recipe: Recipe, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def fails(self: Path, target: Any) -> Any:
        if self.name == "recipe.yaml":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails)
    assert main(["train", "--config", str(recipe())]) == 2
    assert not (output / "recipe.yaml").exists()
    assert not (output / "config.json").exists()
    monkeypatch.setattr(Path, "replace", replace)
    assert main(["train", "--config", str(recipe())]) == 0
    assert (output / "recipe.yaml").exists()


# What overrides what


def test_options_of_the_command_line_override_the_recipe(recipe: Recipe, trainers: Seen) -> None:
    file = recipe(beta=0.5, seed=1, learning_rate=1e-3)
    assert (
        main(["train", "--config", str(file), "--method", "dpop", "--set", "beta=0.7", "seed=2"])
        == 0
    )
    (trainer,) = trainers
    assert trainer.method.name == "dpop"
    assert (trainer.method.beta, trainer.args.seed, trainer.args.learning_rate) == (0.7, 2, 1e-3)


def test_several_settings_may_follow_one_set(recipe: Recipe, trainers: Seen) -> None:
    more = ["--set", "beta=0.4", "seed=7", "--set", "seed=8"]
    assert main(["train", "--config", str(recipe()), *more]) == 0
    assert (trainers[0].method.beta, trainers[0].args.seed) == (0.4, 8)


def test_null_in_a_recipe_is_the_default(recipe: Recipe, trainers: Seen) -> None:
    file = recipe()
    file.write_text(file.read_text() + "beta: null\nref_model:\neval_data: ~\nplugin: null\n")
    assert main(["train", "--config", str(file)]) == 0
    assert trainers[0].method.beta == 0.1


@pytest.mark.parametrize("number", ["1e-5", '"1e-5"', "0.00001", "1.0e-05", ".00001"])
def test_numbers_may_be_written_as_people_write_them(
    recipe: Recipe, trainers: Seen, number: str
) -> None:
    file = recipe()
    file.write_text(file.read_text() + f"learning_rate: {number}\neval_strategy: no\n")
    assert main(["train", "--config", str(file)]) == 0
    assert trainers[0].args.learning_rate == 1e-5
    assert trainers[0].args.eval_strategy == "no"


def test_keys_may_be_written_as_the_options_are(
    recipe: Recipe, held_out: Path, trainers: Seen
) -> None:
    file = recipe()
    file.write_text(file.read_text() + f"eval-data: {held_out}\neval-split: test\n")
    assert main(["train", "--config", str(file)]) == 0
    assert len(trainers[0].eval_dataset) == 4


def test_a_plugin_of_the_recipe_brings_its_method(
    recipe: Recipe, tmp_path: Path, output: Path
) -> None:
    source = Path(__file__).parents[2] / "plugin_pkg" / "sparsepo_squared" / "__init__.py"
    plugin = tmp_path / "squared.py"
    shutil.copy(source, plugin)
    file = recipe(method="squared-margin", plugin=str(plugin), beta=0.2)
    assert main(["train", "--config", str(file)]) == 0
    found = load((output / "recipe.yaml").read_text())
    assert found["plugin"] == [str(plugin)]
    assert found["beta"] == 0.2


# Recipes that are refused


@pytest.mark.parametrize(
    ("addition", "parts"),
    [
        ("learning_rat: 1", ["Unknown option 'learning_rat' in", "'learning_rate'"]),
        ("evaldata: x", ["Unknown option 'evaldata'", "Did you mean 'eval_data'?"]),
        ("gamma: 1", ["'dpo' does not use", "'gamma'"]),
        ("output_dir: x", ["'output_dir'", "write output"]),
        ("method_args: {a: 1}", ["'method_args'", "a key of its own"]),
        ("set: {beta: 1}", ["'set'", "a key of its own", "beta: 0.1"]),
        ("beta: much", ["beta must be", "'much'"]),
        ("learning_rate: fast", ["learning_rate must be a number, not 'fast'"]),
        ("max_length: 12.5", ["max_length must be a whole number"]),
        ("lora_r: [1]", ["lora_r must be"]),
        ("disable_dropout: no", ["disable_dropout must be true or false, not 'no'"]),
        ("split: 3", ["split must be text, not 3"]),
        ("ref_model: [a]", ["ref_model must be text"]),
        ("plugin: 3", ["plugin must be the path of a Python file, not 3"]),
        ("plugin: [3]", ["plugin must be the path of a Python file"]),
        ("eval_data: [a, b]", ["eval_data must be a file, a folder, a hub id"]),
        ("eval_data: {a: 1}", ["eval_data must be a file, a folder, a hub id"]),
        ("eval_share: much", ["eval_share must be above 0 and below 1, not 'much'"]),
        ("eval_share: 1", ["eval_share must be above 0 and below 1, not 1"]),
        ("eval_share: 0.1\neval_data: x", ["exclude each other"]),
        ("seed: 1\nseed: 2", ["line", "the key 'seed' is given twice"]),
        ("eval-split: a\neval_split: b", ["The key 'eval_split' occurs twice"]),
        ("beta: [", ["is not valid YAML", "line"]),
        ("\tbeta: 1", ["is not valid YAML", "line"]),
        ("1: x", ["The key 1 in"]),
        ("? [1]\n: x", ["not valid YAML"]),
        ("eval_strategy: steps", ["eval_strategy=steps needs evaluation pairs", "--eval-share"]),
        ("hub_strategy: sometimes", ["Invalid options", "sometimes"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_recipe_with_a_mistake_is_refused(
    recipe: Recipe, output: Path, addition: str, parts: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = recipe()
    file.write_text(f"{file.read_text()}{addition}\n")
    refused(["--config", str(file)], capsys, output, *parts)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"- a\n- b\n", "must contain a key and a value per line"),
        (b"just words\n", "must contain a key and a value per line"),
        (b"a: \xff\xfe\n", "not UTF-8"),
        (b"a: \x00\n", "not valid YAML"),
        (b"[" * 3000, "not valid YAML"),
        (b"", "must be given on the command line or"),
    ],
    ids=["list", "text", "bytes", "control", "deep", "empty"],
)
def test_a_file_that_is_no_recipe_is_refused(
    tmp_path: Path, output: Path, content: bytes, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    refused(["--config", str(file)], capsys, output, part)


def test_a_recipe_that_does_not_exist_or_is_a_folder_is_refused(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["--config", str(tmp_path / "none.yaml")], capsys, output, "none.yaml does not exist")
    refused(["--config", str(tmp_path)], capsys, output, "cannot be read (Is a directory)")


def test_what_neither_recipe_nor_command_line_gives_is_named(
    recipe: Recipe, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recipe(model=None, data=None)
    refused(["--config", str(file)], capsys, output, "--model and --data must be given", "--help")


# Evaluation pairs


def test_evaluation_pairs_from_a_file_are_scored_during_and_after_training(
    recipe: Recipe, held_out: Path, trainers: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--eval-data", str(held_out), "--set", "eval_strategy=steps", "eval_steps=1"]
    assert main(["train", "--config", str(recipe()), *more]) == 0
    assert "4 of 4 rows kept (evaluation)" in capsys.readouterr().err
    steps = [entry["step"] for entry in trainers[0].state.log_history if "eval_loss" in entry]
    assert steps == [1, 2]


def test_the_trained_policy_is_evaluated_also_without_an_eval_strategy(
    recipe: Recipe, held_out: Path, trainers: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", str(recipe()), "--eval-data", str(held_out)]) == 0
    steps = [entry["step"] for entry in trainers[0].state.log_history if "eval_loss" in entry]
    assert steps == [2]
    assert "Evaluation: eval_loss 0.6931" in capsys.readouterr().err


def test_several_sets_are_scored_by_name(
    recipe: Recipe, held_out: Path, tmp_path: Path, trainers: Seen
) -> None:
    other = write_pairs(tmp_path / "other.jsonl", 3, seed=5)
    more = ["--eval-data", f"near={held_out}", "--eval-data", f"far={other}"]
    assert main(["train", "--config", str(recipe()), *more]) == 0
    names = {name for entry in trainers[0].state.log_history for name in entry}
    assert {"eval_near_loss", "eval_far_loss", "eval_far_rewards/accuracies"} <= names
    # The same from a recipe.
    file = recipe(eval_data={"near": str(held_out), "far": str(other)})
    assert main(["train", "--config", str(file)]) == 0
    assert list(trainers[1].eval_dataset) == ["near", "far"]


def test_a_share_is_held_out_and_told(
    recipe: Recipe, trainers: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", str(recipe(eval_share=0.25))]) == 0
    assert "9 pairs to train on, 3 held out for evaluation" in capsys.readouterr().err
    assert (len(trainers[0].train_dataset), len(trainers[0].eval_dataset)) == (9, 3)


def test_evaluation_data_given_as_an_option_replaces_the_recipes_share(
    recipe: Recipe, held_out: Path, tmp_path: Path, trainers: Seen
) -> None:
    file = recipe(eval_share=0.25)
    assert main(["train", "--config", str(file), "--eval-data", str(held_out)]) == 0
    file = recipe(eval_data=str(held_out))
    other = ["--output", str(tmp_path / "other")]
    assert main(["train", "--config", str(file), "--eval-share", "0.25", *other]) == 0
    assert [len(trainer.eval_dataset) for trainer in trainers] == [4, 3]


def test_evaluation_pairs_of_a_folder_are_its_test_split(
    recipe: Recipe, tmp_path: Path, trainers: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_pairs(folder / "train.jsonl", 8)
    write_pairs(folder / "test.jsonl", 3, seed=4)
    file = recipe(data=str(folder), eval_data=str(folder))
    assert main(["train", "--config", str(file)]) == 0
    assert (len(trainers[0].train_dataset), len(trainers[0].eval_dataset)) == (8, 3)
    capsys.readouterr()
    assert main(["train", "--config", str(file), "--eval-split", "train"]) == 2
    assert "Every evaluation pair of" in capsys.readouterr().err


def test_training_pairs_are_no_evaluation_pairs(
    recipe: Recipe, data: Path, held_out: Path, tmp_path: Path, output: Path, trainers: Seen,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The same file, or a copy of some of it under another name, is refused; a part is told."""
    copied = tmp_path / "copied.jsonl"
    copied.write_text("".join(data.read_text().splitlines(keepends=True)[3:7]))
    for source in (data, copied):
        refused(
            ["--config", str(recipe()), "--eval-data", str(source)], capsys, output,
            f"Every evaluation pair of {source} is also a training pair", "--eval-share",
        )  # fmt: skip
    copied.write_text(copied.read_text() + held_out.read_text())
    assert main(["train", "--config", str(recipe()), "--eval-data", str(copied)]) == 0
    assert f"4 of 8 evaluation pairs of {copied} are also training pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--eval-share", "0"], ["eval_share must be above 0 and below 1, not 0.0"]),
        (["--eval-share", "1.5"], ["eval_share must be above 0"]),
        (["--eval-share", "nan"], ["eval_share must be above 0"]),
        (["--eval-share", "few"], ["--eval-share", "--help"]),
        (["--eval-share", "0.1", "--eval-data", "x.jsonl"], ["exclude each other"]),
        (["--eval-data", "nothing.jsonl"], ["nothing.jsonl"]),
        (["--eval-data", "a.jsonl", "--eval-data", "b.jsonl"], ["NAME=a.jsonl"]),
        (["--eval-data", "a=x", "--eval-data", "a=y"], ["uses the name 'a' twice"]),
        (["--set", "eval_data=x"], ["--set cannot set 'eval_data'; use --eval-data"]),
        (["--set", "eval_strategy=epoch"], ["eval_strategy=epoch needs evaluation pairs"]),
    ],
    ids=str,
)
def test_evaluation_options_that_do_not_fit_are_refused(
    recipe: Recipe, output: Path, more: list[str], parts: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    refused(["--config", str(recipe()), *more], capsys, output, *parts)


def test_an_equals_sign_in_a_path_is_no_name(tmp_path: Path) -> None:
    file = tmp_path / "beta=1.jsonl"
    file.touch()
    assert named_sources([str(file)]) == str(file)
    assert named_sources([f"name={file}"]) == {"name": str(file)}
    assert named_sources(["owner/name"]) == "owner/name"
    with pytest.raises(UserError, match="need names"):
        named_sources([str(file), "owner/name"])
