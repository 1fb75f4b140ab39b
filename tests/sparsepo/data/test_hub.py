"""What the hub's libraries say is shown, unless an error says it better."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from sparsepo.data.hub import LIBRARIES, defer_messages

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
assert main(["train", "--model", "my/model", "--data", "my/pairs", *rest]) == 2
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
    data, _, model = done.stderr.splitlines()
    assert data.startswith("Error: 'my/pairs' is neither a local file or folder nor an accessible")
    assert model.startswith("Error: No tokenizer can be loaded from 'my/model'")
    assert done.stdout == ""
