"""`python -m sparsepo train`: what it writes, and one plain line for whatever a user can mend."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparsepo.cli import train
from sparsepo.cli.main import main
from tests.small_models import small_model, small_tokenizer, text_pairs
from tests.tiny_disk import tiny_disk

pytestmark = pytest.mark.usefixtures("clean_registry")

REPOSITORY = Path(__file__).parents[3]
QUICK = ["max_steps=2", "save_steps=1", "per_device_train_batch_size=2", "use_cpu=true"]

Train = Callable[..., int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its tokenizer, as a user has it on disk."""
    folder = tmp_path_factory.mktemp("model")
    small_model("gpt_neox").save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in text_pairs(count)  # type: ignore[misc]
    ]


def write_rows(file: Path, content: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in content))
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", rows(8))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def words(
    model: Path | str,
    data: Path | str,
    output: Path,
    *settings: str,
    method: str = "sparsepo-common",
    more: list[str] | None = None,
) -> list[str]:
    return [
        "train", "--model", str(model), "--data", str(data), "--method", method,
        "--output", str(output), *(more or []),
        *(word for setting in (*QUICK, *settings) for word in ("--set", setting)),
    ]  # fmt: skip


def written(output: Path) -> set[str]:
    """Return the files under a folder; an empty set also where it does not exist."""
    return {str(f.relative_to(output)) for f in output.rglob("*") if f.is_file()}


def assert_one_line(capsys: pytest.CaptureFixture[str], *parts: str) -> str:
    """Assert that the error is one plain line with these parts, and return it."""
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, captured.err
    assert captured.err.rstrip().endswith(errors[0]), captured.err
    assert "Traceback" not in captured.err + captured.out
    for part in parts:
        assert part in errors[0]
    assert errors[0].rstrip().endswith((".", ").")), errors[0]
    return errors[0]


# What it does


def test_the_output_is_a_plain_model_with_its_masks_beside_it(
    model: Path, data: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(model, data, output, "learning_rate=1e-2")) == 0
    trained = AutoModelForCausalLM.from_pretrained(output)
    start = AutoModelForCausalLM.from_pretrained(model)
    ids = torch.arange(1, 9)[None]
    assert not torch.equal(trained(ids).logits, start(ids).logits)
    assert AutoTokenizer.from_pretrained(output).get_vocab() == small_tokenizer().get_vocab()
    assert load_file(output / "masks.safetensors")
    description = json.loads((output / "method.json").read_text())
    assert description["method"] == "sparsepo-common"
    assert not (output / ".saving").exists()
    assert "8 of 8 rows kept" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["sft", "simpo", "dpo", "mapo"])
def test_every_kind_of_method_trains(model: Path, data: Path, output: Path, method: str) -> None:
    assert main(words(model, data, output, method=method)) == 0
    assert AutoModelForCausalLM.from_pretrained(output)
    assert json.loads((output / "method.json").read_text())["method"] == method


def test_settings_reach_method_and_trainer(
    model: Path, data: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train, "save_whole", lambda trainer, *rest: seen.append(trainer))
    assert main(words(model, data, output, "beta=0.7", "mask_layers=last", "seed=5")) == 0
    (trainer,) = seen
    assert (trainer.method.beta, trainer.method.mask_layers) == (0.7, "last")
    assert trainer.args.seed == 5
    assert trainer.args.max_steps == 2


def test_rows_that_are_no_preference_are_skipped_and_counted(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rows(6)
    content[2]["rejected"] = ""
    assert main(words(model, write_rows(tmp_path / "d.jsonl", content), output)) == 0
    said = capsys.readouterr().err
    assert "5 of 6 rows kept" in said
    assert "1" in said.split("5 of 6 rows kept")[1].splitlines()[0]
    assert "empty" in said


def test_one_pair_with_a_tool_call_trains_in_batches_larger_than_the_data(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = {"role": "user", "content": "How is Oslo?"}
    call = {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {}}]}
    answer = {"role": "tool", "content": [{"type": "text", "text": "rain"}]}
    pair = {"prompt": [user, call, answer], "chosen": "It rains.", "rejected": "Sun.", "score": 1}
    data = write_rows(tmp_path / "one.jsonl", [pair])
    batch = "per_device_train_batch_size=16"
    assert main(words(model, data, output, batch, "max_length=256", method="dpo")) == 0
    said = capsys.readouterr().err
    assert "1 of 1 rows kept; columns not used: score" in said
    assert "1 of 1 pairs tokenized; " in said
    assert "the chat template does not use tool_calls (1 pairs)" in said


def test_a_response_that_is_cut_is_counted(
    model: Path, data: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(model, data, output, "max_length=16", "on_long_response=truncate")) == 0
    said = capsys.readouterr().err
    assert "8 of 8 pairs tokenized" in said
    assert "truncated" in said or "cut" in said


# Wrong names and values

BAD_OPTIONS: list[tuple[list[str], dict[str, Any], list[str]]] = [
    ([], {"method": "sparsepo-comon"}, ["Unknown method", "Did you mean 'sparsepo-common'?"]),
    (["gamma=1"], {}, ["'sparsepo-common' does not use", "'gamma'"]),
    (["beta=0.1"], {"method": "sft"}, ["'sft' does not use", "'beta'"]),
    (["l1_kl=0.1"], {"method": "dpo"}, ["'dpo' does not use", "'l1_kl'"]),
    (["bta=0.1"], {}, ["Unknown option 'bta'", "Did you mean 'beta'?"]),
    (["learning_rat=0.1"], {}, ["Unknown option", "'learning_rate'"]),
    (["beta=0"], {}, ["beta must be greater than 0"]),
    (["beta=NaN"], {}, ["beta must be"]),
    (["beta=much"], {}, ["beta must be", "'much'"]),
    (["mask_kind=sprase"], {}, ["mask_kind", "'sprase'"]),
    (["mask_feed_forward=3"], {}, ["mask_feed_forward", "1, 2"]),
    (["mask_families=5"], {"method": "mapo"}, ["mask_families"]),
    (["beta"], {}, ["--set takes key=value"]),
    (["output_dir=x"], {}, ["'output_dir'", "--output"]),
    (["method=dpo"], {}, ["--method"]),
    (["save_strategy=sometimes"], {}, ["Invalid options", "sometimes"]),
    (["lr_scheduler_type=wavy"], {}, ["Invalid options", "wavy"]),
    (["on_long_response=ignore"], {}, ["on_long_response", "truncate, skip, error"]),
    (["model_dtype=float64"], {}, ["model_dtype", "Did you mean 'float", "bfloat16, float16"]),
    (["computation=3"], {}, ["computation cannot be 3", "packed, plain"]),
    (["attention=flex"], {}, ["attention", "auto, eager, sdpa, flex_attention"]),
    (["learning_rate=fast"], {}, ["learning_rate"]),
    (["num_train_epochs=many"], {}, ["num_train_epochs"]),
    (["per_device_train_batch_size=0"], {}, ["per_device_train_batch_size"]),
    (["per_device_train_batch_size=two"], {}, ["per_device_train_batch_size"]),
    (["gradient_accumulation_steps=0"], {}, ["gradient_accumulation_steps"]),
    (["max_length=long"], {}, ["max_length"]),
    (["max_length=0"], {}, ["max_length"]),
    (["chunk_size=0"], {}, ["chunk_size"]),
    (["seed=x"], {}, ["seed"]),
]


@pytest.mark.parametrize(("settings", "options", "parts"), BAD_OPTIONS, ids=str)
def test_wrong_names_and_values(
    model: Path, data: Path, output: Path, settings: list[str], options: dict[str, Any],
    parts: list[str], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(words(model, data, output, *settings, **options)) == 2
    assert_one_line(capsys, *parts)
    assert not written(output)


@pytest.mark.parametrize(
    "arguments",
    [[], ["train"], ["train", "--model", "x"], ["train", "--beta", "0.1"]],
    ids=str,
)
def test_the_usage_is_not_printed_for_wrong_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert_one_line(capsys, "--help")


def test_an_unknown_command_has_the_closest_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert_one_line(capsys, "Did you mean 'train'?")


def test_help_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["train", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
    assert "--plugin" in capsys.readouterr().out


# Wrong data


def test_a_missing_data_file(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(model, tmp_path / "nothing.jsonl", output)) == 2
    assert_one_line(capsys, "nothing.jsonl")
    assert not output.exists()


def test_a_missing_column(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = [{"prompt": "a", "chosen": "b", "rejcted": "c"}]
    assert main(words(model, write_rows(tmp_path / "d.jsonl", content), output)) == 2
    assert_one_line(capsys, "rejected", "rejcted", "d.jsonl")
    assert not output.exists()


def test_all_responses_empty(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = [{**row, "chosen": ""} for row in rows(3)]
    assert main(words(model, write_rows(tmp_path / "d.jsonl", content), output)) == 2
    assert_one_line(capsys, "3", "empty")
    assert not output.exists()


def test_a_broken_line(
    model: Path, data: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data.write_text(data.read_text() + '{"prompt": "a", "chosen"')
    assert main(words(model, data, output)) == 2
    assert_one_line(capsys, "line 9")
    assert not output.exists()


def test_a_response_longer_than_the_context(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rows(3)
    content[1]["chosen"] = " cat" * 500
    file = write_rows(tmp_path / "d.jsonl", content)
    assert main(words(model, file, output)) == 2
    assert_one_line(capsys, "response", "on_long_response")
    assert not written(output)
    # Asked to, it goes on without the row and says so.
    assert main(words(model, file, output, "on_long_response=skip")) == 0
    assert "2 of 3 pairs tokenized" in capsys.readouterr().err


def test_every_response_longer_than_the_context(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = [{**row, "chosen": " cat" * 500} for row in rows(3)]
    file = write_rows(tmp_path / "d.jsonl", content)
    assert main(words(model, file, output, "on_long_response=skip")) == 2
    assert_one_line(capsys)
    assert not written(output)


def test_a_max_length_beyond_the_models_context(
    model: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default, 1024, is longer than this model's 96 positions: what fits is used."""
    content = rows(3)
    content[1]["chosen"] = " cat" * 500
    file = write_rows(tmp_path / "d.jsonl", content)
    assert main(words(model, file, output, "on_long_response=truncate")) == 0
    assert "3 of 3 pairs tokenized" in capsys.readouterr().err


# Wrong models


def test_a_missing_model(
    data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path / "no-model", data, output)) == 2
    assert_one_line(capsys, "no-model")
    assert not written(output)


def test_a_model_without_a_tokenizer(
    model: Path, data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare, ignore=shutil.ignore_patterns("*token*"))
    assert main(words(bare, data, output)) == 2
    assert_one_line(capsys, "okenizer")
    assert not written(output)


def test_a_tokenizer_that_is_larger_than_the_model(
    data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_model("gpt_neox", vocab_size=50).save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    assert main(words(tmp_path / "model", data, output)) == 2
    assert_one_line(capsys, "50", "tokenizer")
    assert not written(output)


def test_weights_that_are_cut_short(
    model: Path, data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert main(words(tmp_path / "cut", data, output)) == 2
    assert_one_line(capsys, "cut")
    assert not written(output)


def test_a_foreign_reference(
    model: Path, data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_model("gpt_neox", seed=3).save_pretrained(tmp_path / "other")
    foreign = words(model, data, output, more=["--ref-model", str(tmp_path / "other")])
    assert main(foreign) == 2
    assert_one_line(capsys, "not the initial policy")
    assert not written(output)
    assert main([*foreign, "--set", "check_reference=false"]) == 0


def test_a_model_of_nan(
    data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = small_model("gpt_neox")
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    broken.save_pretrained(tmp_path / "nan")
    small_tokenizer().save_pretrained(tmp_path / "nan")
    assert main(words(tmp_path / "nan", data, output, method="dpo")) == 2
    assert_one_line(capsys, "not finite at step 0 for pairs pairs:")
    assert not written(output)


def test_a_learning_rate_that_explodes_keeps_the_last_checkpoint(
    model: Path, data: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["learning_rate=1e30", "max_steps=6", "warmup_steps=2", "max_grad_norm=0"]
    assert main(words(model, data, output, *settings, method="dpo")) == 2
    assert_one_line(capsys, "not finite at step", "last checkpoint is kept")
    assert not (output / "config.json").exists()
    (checkpoint,) = output.iterdir()
    saved = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert checkpoint.name.startswith("checkpoint-")
    assert all(parameter.isfinite().all() for parameter in saved.parameters())


# Wrong output


def test_an_output_that_holds_a_model_is_left_alone(
    model: Path, data: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, output)
    before = {name: (output / name).read_bytes() for name in written(output)}
    assert main(words(model, data, output)) == 2
    assert_one_line(capsys, "already contains a trained model")
    assert {name: (output / name).read_bytes() for name in written(output)} == before


def test_an_output_that_cannot_be_written(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file stands where the folder should be; root may write wherever permissions forbid it."""
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    for place in (blocked, blocked / "below"):
        assert main(words(model, data, place)) == 2
        assert_one_line(capsys, "Nothing can be written to", "choose another --output")
    assert blocked.read_text() == "mine"


def test_an_output_without_permission(
    model: Path,
    data: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def forbidden(self: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", forbidden)
    assert main(words(model, data, output)) == 2
    assert_one_line(capsys, "Nothing can be written to", "Permission denied")


@pytest.mark.parametrize("where", ["weights", "optimizer", "state"])
def test_a_disk_that_fills_up(
    model: Path, data: Path, output: Path, monkeypatch: pytest.MonkeyPatch, where: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Each writer has its own way of saying that no space is left; afterwards the run goes on."""
    import safetensors
    import transformers

    full = True

    def failing(original: Any, error: Exception) -> Any:
        def write(*args: Any, **kwargs: Any) -> Any:
            if full:
                raise error
            return original(*args, **kwargs)

        return write

    no_space = OSError(28, "No space left on device")
    if where == "weights":
        # What safetensors raises for it.
        error: Exception = safetensors.SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )
        owner: Any = transformers.modeling_utils
        name = "safe_save_file"
    elif where == "optimizer":
        # And what torch does.
        error = RuntimeError("[enforce fail at inline_container.cc] . unexpected pos 64 vs 0")
        owner, name = torch, "save"
    else:
        error, owner, name = no_space, transformers.TrainerState, "save_to_json"
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), error))
    assert main(words(model, data, output)) == 2
    assert_one_line(capsys, "run the same command again")
    assert not (output / "config.json").exists()
    full = False
    assert main(words(model, data, output)) == 0
    assert AutoModelForCausalLM.from_pretrained(output)


def test_a_disk_that_is_full(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The small model's checkpoint does not fit."""
    with tiny_disk(tmp_path / "disk", 256) as disk:
        assert main(words(model, data, disk / "out")) == 2
        assert_one_line(capsys, "run the same command again")
        assert not (disk / "out" / "config.json").exists()


@pytest.mark.parametrize("moved", [0, 1, 3])
def test_saving_that_is_interrupted_leaves_nothing_that_loads(
    model: Path, data: Path, output: Path, monkeypatch: pytest.MonkeyPatch, moved: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The folder counts as a model only when all of it is there; then the command goes on."""
    replace, count = Path.replace, 0

    def limited(self: Path, target: Any) -> Any:
        nonlocal count
        if self.parent.name == ".saving":
            count += 1
            if count > moved:
                raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", limited)
    assert main(words(model, data, output)) == 2
    assert_one_line(capsys, "run the same command again")
    with pytest.raises((OSError, ValueError)):
        AutoModelForCausalLM.from_pretrained(output)
    monkeypatch.setattr(Path, "replace", replace)
    assert main(words(model, data, output)) == 0
    assert AutoModelForCausalLM.from_pretrained(output)
    assert not (output / ".saving").exists()


# Ctrl-C

STOPPER = '''
"""DPO that is interrupted at its third loss."""
import os, signal
from dataclasses import dataclass
from typing import ClassVar
from sparsepo.methods import DPO

calls = []

@dataclass(frozen=True)
class Interrupted(DPO):
    """DPO."""
    name: ClassVar[str] = "interrupted"

    def __call__(self, chosen, rejected):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__call__(chosen, rejected)
'''


def test_ctrl_c_stops_with_one_line(model: Path, data: Path, tmp_path: Path, output: Path) -> None:
    """In a process of its own, as a terminal does it; the last checkpoint is kept."""
    plugin = tmp_path / "stopper.py"
    plugin.write_text(STOPPER)
    arguments = words(
        model, data, output, "max_steps=50", method="interrupted", more=["--plugin", str(plugin)]
    )
    done = subprocess.run(
        [sys.executable, "-m", "sparsepo", *arguments],
        cwd=REPOSITORY, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
        # A process started in the background inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip().endswith(
        "Stopped; run the same command again to resume from the last checkpoint."
    )
    assert "checkpoint-2/trainer_state.json" in written(output)
    assert not (output / "config.json").exists()


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread()
    or signal.getsignal(signal.SIGINT) is not signal.default_int_handler,
    reason="signals need the main thread of a process that does not ignore them",
)
def test_ctrl_c_and_the_same_command_again(
    model: Path, data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "stopper.py"
    plugin.write_text(STOPPER)
    arguments = words(
        model, data, output, "max_steps=4", method="interrupted", more=["--plugin", str(plugin)]
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert main(arguments) == 130
    assert "Traceback" not in capsys.readouterr().err
    # Its third loss after the restart is the fourth step's: interrupted once more at most.
    plugin.write_text(STOPPER.replace("== 3", "== 30"))
    assert main(arguments) == 0
    assert "Resuming from" in capsys.readouterr().err
    assert AutoModelForCausalLM.from_pretrained(output)


# Plug-ins


def test_a_plugin_trains_with_its_own_hyper_parameter(
    model: Path, data: Path, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        STOPPER.replace("interrupted", "mine")
        .replace("== 3", "== -1")
        .replace("    def __call__", "    own: float = 1.0\n\n    def __call__")
    )
    arguments = words(model, data, output, "own=3.5", method="mine", more=["--plugin", str(plugin)])
    assert main(arguments) == 0
    description = json.loads((output / "method.json").read_text())
    assert description == {
        "method": "mine",
        "hyper_parameters": {"beta": 0.1, "own": 3.5},
        "reference": str(model.resolve()),
    }
    assert main([*arguments, "--set", "onw=1"]) == 2
    assert_one_line(capsys, "Unknown option 'onw'", "Did you mean 'own'?")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "does not exist"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "defines no subclass"),
    ],
)
def test_broken_plugins(
    model: Path, data: Path, tmp_path: Path, output: Path, text: str | None, part: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plugin = tmp_path / "broken_plugin.py"
    if text is not None:
        plugin.write_text(text)
    assert main(words(model, data, output, more=["--plugin", str(plugin)])) == 2
    assert_one_line(capsys, "broken_plugin.py", part)
    assert not output.exists()


def test_the_module_is_the_command(data: Path, tmp_path: Path) -> None:
    """`python -m sparsepo` returns the exit code; a wrong name costs no import of transformers."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sparsepo",
         *words(tmp_path, data, tmp_path / "out", method="simp")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Error: Unknown method 'simp'. Did you mean 'simpo'?" in done.stderr
    assert "| transformers.trainer" not in done.stderr
    assert done.stdout == ""


# Samples of the policy

REWARD = """
def vowels(prompts, responses):
    return [sum(response.count(v) for v in "aeiou") / (len(response) + 1) for response in responses]
"""


@pytest.fixture
def reward(tmp_path: Path) -> str:
    (tmp_path / "rewards.py").write_text(REWARD)
    return f"{tmp_path / 'rewards.py'}:vowels"


SAMPLING = ["samples_per_prompt=4", "max_new_tokens=6", "rollout_epochs=2", "max_steps=3"]


def test_a_reward_trains_on_samples_and_its_recipe_repeats_it(
    model: Path, data: Path, output: Path, reward: str, tmp_path: Path
) -> None:
    more = ["--reward", reward]
    assert main(words(model, data, output, *SAMPLING, method="grpo", more=more)) == 0
    again = tmp_path / "again"
    assert main(["train", "--config", str(output / "recipe.yaml"), "--output", str(again)]) == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (output, again))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert AutoModelForCausalLM.from_pretrained(output)


@pytest.mark.parametrize(
    ("method", "more", "settings", "message"),
    [
        ("grpo", [], [], "give --reward FILE.py:FUNCTION or --reward-model DIR"),
        ("grpo", ["--reward", "no.py:f"], [], "No such file: no.py"),
        ("grpo", ["--reward", "no.py:f", "--reward-model", "x"], [], "exclude each other"),
        ("grpo", ["--reward-model", "no/such"], [], "no/such"),
        ("dpo", ["--reward", "REWARD", "--eval-share", "0.1"], [], "eval_share holds out pairs"),
        ("dpo", ["--reward", "REWARD"], ["samples_per_prompt=1"], "must be an even number, not 1"),
        ("dpo", [], ["samples_per_prompt=2"], "Unknown option 'samples_per_prompt'"),
        ("rto", ["--reward", "REWARD"], [], "needs a model that was trained on the preferences"),
    ],
)
def test_rewards_that_cannot_be_used(
    model: Path, data: Path, output: Path, reward: str, capsys: pytest.CaptureFixture[str],
    method: str, more: list[str], settings: list[str], message: str,
) -> None:  # fmt: skip
    more = [reward if word == "REWARD" else word for word in more]
    assert main(words(model, data, output, *settings, method=method, more=more)) == 2
    assert_one_line(capsys, message)
    assert not (output / "config.json").exists()
