"""What the hub's libraries say is shown, unless an error says it better."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import huggingface_hub
import pytest

from sparsepo.cli.main import main
from sparsepo.data import hub
from sparsepo.data.hub import LIBRARIES, defer_messages, require_model
from sparsepo.errors import UserError

REPOSITORY = Path(__file__).parents[3]


def talk() -> None:
    for name in LIBRARIES:
        logging.getLogger(f"{name}.file_download").warning("Retrying in 1s")
    warnings.warn("careful", UserWarning, stacklevel=1)


def test_messages_are_dropped_where_an_error_follows(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [list(logging.getLogger(name).handlers) for name in LIBRARIES]

    def fail() -> None:
        with defer_messages():
            talk()
            raise OSError("gone")

    with warnings.catch_warnings(record=True) as warned, pytest.raises(OSError, match="gone"):
        fail()
    assert caplog.records == []
    assert warned == []
    assert capsys.readouterr() == ("", "")
    assert [list(logging.getLogger(name).handlers) for name in LIBRARIES] == before


def test_messages_are_shown_where_none_does(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: seen.append(record.name))
    for name in LIBRARIES:
        logging.getLogger(name).addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with defer_messages():
                talk()
                assert seen == []
    finally:
        for name in LIBRARIES:
            logging.getLogger(name).removeHandler(handler)
    assert seen == [f"{name}.file_download" for name in LIBRARIES]
    assert [str(warning.message) for warning in warned] == ["careful"]


NO_NETWORK = {
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_OFFLINE": "0",
    "HF_DATASETS_OFFLINE": "0",
}
"""A hub that refuses every connection, as one does on a machine without a network."""

COMMANDS = """
import time
time.sleep = lambda seconds: None  # the pauses between the hub client's retries
from sparsepo.cli.main import main
rest = ["--method", "dpo", "--output", "out"]
assert main(["train", "--model", ".", "--data", "my/pairs", *rest]) == 2
assert main(["train", "--model", "my/model", "--data", "pairs.jsonl", *rest]) == 2
"""


def test_names_that_do_not_exist_are_one_sentence_each(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    environment = {**os.environ, **NO_NETWORK, "HF_HOME": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    data, model = done.stderr.splitlines()
    assert data.startswith("Error: 'my/pairs' is neither a local file or folder nor an accessible")
    assert model.startswith(
        "Error: There is no folder 'my/model', and no model of that name can be"
    )
    assert "127.0.0.1" not in model
    assert done.stdout == ""


NO_MODELS = ["/no/such/dir", "./no-such", "no/such/dir", "~/none", "my model"]
"""Paths that do not exist, and cannot be hub ids."""


@pytest.mark.parametrize("source", NO_MODELS)
def test_a_path_without_a_model_is_named_as_such(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"There is no folder '{source}', and it is not a hub id either; give a model's folder,"
    for offline in (False, True):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(UserError) as refused:
            require_model(source)
        assert str(refused.value).startswith(said)


def test_the_hub_is_asked_only_for_models_that_are_not_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    hub._ask_hub.cache_clear()
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name, **_: asked.append(name))
    cached = tmp_path / "models--my--cached"
    (cached / "snapshots" / "1").mkdir(parents=True)
    (cached / "snapshots" / "1" / "config.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1")
    with pytest.raises(UserError, match="no model of that name in the hub's local cache; check"):
        require_model("my/new", cache_dir=tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    require_model("my/new", cache_dir=tmp_path)
    require_model("my/new", cache_dir=tmp_path)  # as for the model, then for its tokenizer
    require_model("my/cached", cache_dir=tmp_path)
    require_model(tmp_path)
    assert asked == ["my/new"]


@pytest.mark.parametrize("source", ["/no/such/dir", "my/model"])
def test_every_command_that_takes_a_model_says_that_there_is_none(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (tmp_path / "empty").mkdir()
    data = ["--data", str(pairs)]
    run = ["train", *data, "--method", "dpo", "--output", str(tmp_path / "out")]
    show = ["inspect", *data, "--method", "dpo", "--out", str(tmp_path / "page.html")]
    for words in (
        [*run, "--model", source],
        [*run, "--model", str(tmp_path / "empty"), "--ref-model", source],
        ["inspect", "--points", source],
        [*show, "--model", source],
        [*show, "--model", str(tmp_path / "empty"), "--reference", source],
    ):
        assert main(words) == 2
        *before, error = capsys.readouterr().err.splitlines()
        assert all("rows kept" in line for line in before)
        assert error.startswith(f"Error: There is no folder '{source}', and ")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "page.html").exists()
