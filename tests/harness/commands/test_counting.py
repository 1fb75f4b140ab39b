from __future__ import annotations

import io
from collections import Counter

import pytest

from harness.commands.counting import Count, make_count
from harness.graph.screen import Bars, Lines


def test_pace_and_estimate_are_those_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    count = Count(40, Counter(passed=10))
    assert (count.done, count.left()) == (10, "")
    now[0] += 5.0
    for outcome in ["passed", "failed", "failed", "timeout", "failed"]:
        count.add(outcome)
    assert count.state() == "15/40 passed 11 failed 3 timeout 1"
    assert count.per_second() == 1.0
    assert count.left() == "about 25 s left"
    count.replace("timeout", "passed")
    assert count.state() == "15/40 passed 12 failed 3"
    for _ in range(25):
        count.add("passed")
    assert count.left() == ""


def test_a_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    count = Count(100, Counter(), Lines(stream))
    for _ in range(50):
        now[0] += 1.0
        count.add("passed")
    assert stream.getvalue() == (
        "programs: 20/100 passed 20, 1/s, about 1 min 20 s left\n"
        "programs: 40/100 passed 40, 1/s, about 1 min 0 s left\n"
    )


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    count = make_count(3, Counter(passed=1))
    assert isinstance(count._screen, Bars)
    count.note("a [note]")
    count.add("failed")
    count._screen._bars.refresh()
    count.close()
    assert "a [note]" in stream.getvalue()
    assert "2/3 passed 1 failed 1" in stream.getvalue()


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    count = make_count(2, Counter(), quiet=True)
    count.note("x")
    count.add("passed")
    count.close()
    assert capsys.readouterr() == ("", "")
