"""`report_to`: our metrics reach trackers as numbers, the configuration too, and the run ends.

The packages are stand-ins that note what transformers' own callbacks hand to them.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparsepo.cli.main import main
from tests.small_models import small_model, small_tokenizer, text_pairs

WANDB = {
    "wandb/__init__.py": '''
"""A stand-in."""
events = []
run = None
summary = {}

class _Config(dict):
    def update(self, values, allow_val_change=False):
        events.append(("config", dict(values)))
        super().update(values)

config = _Config()

class _Run:
    id = name = url = "run"
    summary = {}
    def _label(self, **labels):
        pass

def init(**options):
    global run
    run = _Run()
    events.append(("init", options))

def define_metric(*args, **options):
    pass

def log(values):
    events.append(("log", dict(values)))

def termwarn(*args, **options):
    pass
''',
    "wandb/sdk/__init__.py": "",
    "wandb/sdk/lib/__init__.py": "",
    "wandb/sdk/lib/config_util.py": "class ConfigError(Exception): pass",
}
TRACKIO = {
    "trackio/__init__.py": '''
"""A stand-in."""
import types
__version__ = "0.30.0"
events = []

class _Variable:
    def get(self):
        return None

context_vars = types.SimpleNamespace(current_space_id=_Variable(), current_project=_Variable())

class _Config(dict):
    def update(self, values, allow_val_change=False):
        events.append(("config", dict(values)))
        super().update(values)

config = _Config()

def init(**options):
    events.append(("init", options))

def log(values):
    events.append(("log", dict(values)))

def finish():
    events.append(("finish", {}))
''',
}
TENSORBOARD = {
    "tensorboardX/__init__.py": '''
"""A stand-in."""
import json
events = []

class SummaryWriter:
    def __init__(self, log_dir=None):
        events.append(("init", {"log_dir": log_dir}))

    def add_text(self, name, text, step=None):
        if name == "args":
            events.append(("config", json.loads(text)))

    def add_scalar(self, name, value, step):
        events.append(("log", {name: value}))

    def flush(self):
        pass

    def close(self):
        events.append(("finish", {}))
''',
}

Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str]], Any]]:
    """Installs a package from its source for one test, and returns it."""
    names: list[str] = []

    def install(files: dict[str, str]) -> Any:
        for name, source in files.items():
            file = tmp_path / "packages" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        monkeypatch.syspath_prepend(tmp_path / "packages")
        names.append(next(iter(files)).partition("/")[0])
        return importlib.import_module(names[-1])

    yield install
    for module in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[module]


def train(tmp_path: Path, tracker: str, *settings: str) -> None:
    """Train SparsePO for two steps, with an evaluation, reporting to a tracker."""
    small_model("gpt_neox").save_pretrained(tmp_path / "model")
    small_tokenizer().save_pretrained(tmp_path / "model")
    rows = [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in text_pairs(8)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        "train", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "pairs.jsonl"),
        "--method", "sparsepo-common", "--output", str(tmp_path / "out"), "--eval-share", "0.25",
        "--set", "max_steps=2", "logging_steps=1", "use_cpu=true", "l1_reward=0.001",
        "per_device_train_batch_size=2", f"report_to={tracker}", *settings,
    ]  # fmt: skip
    assert main(command) == 0


def assert_told(events: Events) -> None:
    """Assert that metrics came as numbers, with the method's values and one end."""
    logged: dict[str, list[Any]] = {}
    for kind, values in events:
        for name, value in values.items() if kind == "log" else []:
            logged.setdefault(name, []).append(value)
    for side in ("chosen", "rejected"):
        for name in (f"rewards/{side}", f"kl/{side}", f"sparsity/reward/{side}", f"logps/{side}"):
            assert len(logged[f"train/{name}"]) == 2
    assert len(logged["train/loss"]) == 2
    assert len(logged["eval/rewards/accuracies"]) == 1
    ours = [value for name, values in logged.items() for value in values]
    assert all(isinstance(value, int | float) and not isinstance(value, bool) for value in ours)
    (config,) = [values for kind, values in events if kind == "config"]
    # What was set, and what the method takes by default.
    assert (config["method"], config["l1_reward"]) == ("sparsepo-common", 0.001)
    assert (config["beta"], config["mask_dropout"]) == (0.1, 0.01)
    assert [kind for kind, _ in events].count("init") == 1


def test_wandb_is_told(tmp_path: Path, stand_in: Any) -> None:
    wandb = stand_in(WANDB)
    train(tmp_path, "wandb", "run_name=mine")
    assert_told(wandb.events)
    assert ("init", {"project": "huggingface", "name": "mine"}) in wandb.events
    assert wandb.run.summary["train_loss"] > 0


def test_trackio_is_told_and_its_run_ends(tmp_path: Path, stand_in: Any) -> None:
    trackio = stand_in(TRACKIO)
    train(tmp_path, "trackio")
    assert_told(trackio.events)
    # Nothing is reported after the end, which would begin another run.
    assert [kind for kind, _ in trackio.events].index("finish") == len(trackio.events) - 1


def test_tensorboard_is_told_and_its_file_closed(
    tmp_path: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorboard = stand_in(TENSORBOARD)
    # transformers takes torch's writer where the real package is installed.
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(tmp_path, "tensorboard")
    assert_told(tensorboard.events)
    assert tensorboard.events[-1][0] == "finish"
