from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from harness.graph.progress import Display
from harness.graph.store import Store

TOY = '''
import os, time
from pathlib import Path
from sparsepo.errors import UserError


def trace(context, text):
    with open(context.config["trace"], "a") as stream:
        stream.write(f"{context.name} {text}\\n")


def number(context):
    trace(context, "run")
    (context.work / "number.txt").write_text(str(context.config["value"]))


def add(context):
    trace(context, "run")
    total = sum(int((p / "number.txt").read_text()) for p in context.inputs.values())
    (context.work / "number.txt").write_text(str(total))


def slow(context):
    """Counts in its work folder, and goes on from there."""
    state = context.work / "state.txt"
    begin = int(state.read_text()) if state.exists() else 0
    trace(context, f"from {begin}")
    for step in range(begin, context.config["steps"]):
        context.progress(step, context.config["steps"], "steps")
        new = context.work / "state.new"
        new.write_text(str(step + 1))
        os.replace(new, state)
        time.sleep(0.02)
    (context.work / "number.txt").write_text(state.read_text())


def noise(context):
    import random
    (context.work / "number.txt").write_text(str(random.random()))


def surroundings(context):
    """Writes an environment variable, and the modules that were there before it ran."""
    import sys
    lines = [os.environ.get(context.config["name"], ""), *sorted(sys.modules)]
    (context.work / "lines.txt").write_text("\\n".join(lines))


def user_error(context):
    raise UserError("the file x has no column y: rename it")


def crash(context):
    print("a line of output")
    raise ValueError("something\\nodd")


def die(context):
    os.kill(os.getpid(), 9)


def fill(context):
    (context.work / "big.bin").write_bytes(b"x" * context.config["bytes"])


def wrapped_full(context):
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        raise RuntimeError("writer failed") from error
'''


class Recorder(Display):
    """Keeps what a run would have shown."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.made_stages: list[str] = []
        self.found_stages: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finished(self, address: str, seconds: float, made: bool) -> None:
        name = self._remaining[address].name
        (self.made_stages if made else self.found_stages).append(name)
        super().finished(address, seconds, made)


def write_toy(folder: Path) -> Path:
    """Write a module of toy stage functions, `toy_stages`, to a new folder."""
    folder.mkdir()
    (folder / "toy_stages.py").write_text(textwrap.dedent(TOY))
    return folder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of toy stage functions that worker processes can import."""
    folder = write_toy(tmp_path / "modules")
    monkeypatch.syspath_prepend(str(folder))
    repository = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), repository]))
    return folder
