"""Time, memory, output, files and threads have bounds, and each verdict has its right word."""

from __future__ import annotations

from itertools import count, islice

import pytest

from tasks.sandbox import Limits, Program, run_programs, scaled_seconds

LIMITS = Limits(seconds=1.0, memory_bytes=256 << 20, scratch_bytes=1 << 20, packages=())
ADD = "def add(a, b): return a + b\n"
TEST = "assert add(1, 2) == 3"


@pytest.mark.parametrize(
    ("code", "outcome", "detail"),
    [
        ("while True: pass", "timeout", ""),
        ("x = bytearray(1 << 30)", "memory", "MemoryError"),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", "memory", "MemoryError"),
        ("open('x', 'wb').write(b'x' * (2 << 20))", "failed", "OSError"),
        (
            "import posix\nheld = []\nfor _ in range(8):\n"
            "    file = open('u', 'wb', buffering=0)\n    posix.unlink('u')\n"
            "    held.append(file)\n    file.write(b'x' * (1 << 19))\n"
            "import time\ntime.sleep(0.2)",
            "failed",
            "OSError",
        ),
        (
            "import tempfile\nheld = [tempfile.TemporaryFile(buffering=0) for _ in range(8)]\n"
            "for file in held: file.write(b'x' * (1 << 19))\n"
            "import time\ntime.sleep(0.2)",
            "failed",
            "OSError",
        ),
        ("import tempfile\nheld = tempfile.TemporaryFile()\nheld.write(b'x' * 1000)", "passed", ""),
        ("import ctypes\nctypes.string_at(0)", "failed", "crashed: SIGSEGV"),
        ("import os\nos._exit(0)", "failed", "ended before its tests did"),
        ("import sys\nsys.exit(0)", "failed", "SystemExit: 0"),
        ("import posix\nposix.fork()", "failed", "PermissionError"),
        ("import socket\nsocket.socket()", "failed", "PermissionError"),
        ("print('x' * (50 << 20))", "passed", ""),
        ("for n in range(10): open(str(n), 'w').close()", "passed", ""),
    ],
)
def test_each_bound_has_its_word(tier: str, code: str, outcome: str, detail: str) -> None:
    program = Program("p", ADD + code, TEST)
    (verdict,) = run_programs([program], workers=1, limits=LIMITS, tier=tier)
    assert (verdict.outcome, verdict.tier) == (outcome, tier), verdict.detail
    assert verdict.detail.startswith(detail) or (
        detail == "OSError" and "wrote more" in verdict.detail
    )


def test_a_program_cannot_take_the_descriptors_of_another(tier: str) -> None:
    code = """
import ctypes, posix
call = ctypes.CDLL(None, use_errno=True).syscall
opened = [call(434, process, 0) for process in (posix.getppid(), posix.getpid(), 1)]
taken = [call(438, descriptor, number, 0) for descriptor in range(20) for number in range(20)]
"""
    tests = "assert add(1, 2) == 3"
    program = Program("p", ADD + code + "assert set(opened + taken) == {-1}\n", tests)
    (verdict,) = run_programs([program], workers=1, limits=LIMITS, tier=tier)
    assert verdict.outcome == "passed", verdict.detail


def test_a_text_too_long_is_refused_and_the_rest_runs() -> None:
    limits = Limits(text_bytes=1000, packages=())
    programs = [Program("long", ADD + "#" * 1000, TEST), Program("short", ADD, TEST)]
    found = [(v.id, v.outcome) for v in run_programs(programs, workers=1, limits=limits)]
    assert found == [("long", "refused"), ("short", "passed")]


def test_a_program_may_bring_its_own_time_limit() -> None:
    slow = ADD + "import time\ntime.sleep(0.6)"
    programs = [Program("less", slow, TEST, seconds=0.3), Program("more", slow, TEST, seconds=20.0)]
    found = [v.outcome for v in run_programs(programs, workers=2, limits=LIMITS)]
    assert found == ["timeout", "passed"]


def test_verdicts_come_in_order_from_an_endless_source() -> None:
    programs = (Program(str(n), f"while {n % 5 == 0}: pass", "", seconds=0.2) for n in count())
    verdicts = run_programs(programs, workers=3, limits=LIMITS)
    found = [(v.id, v.outcome) for v in islice(verdicts, 12)]
    assert found == [(str(n), "timeout" if n % 5 == 0 else "passed") for n in range(12)]
    verdicts.close()  # type: ignore[attr-defined]


def test_the_limit_follows_the_reference() -> None:
    assert scaled_seconds(0.001) == 1.0
    assert scaled_seconds(0.5) == 5.0
    assert scaled_seconds(20.0) == 60.0
    assert scaled_seconds(50.0) == 100.0


def test_nothing_passes_from_one_program_to_the_next(tier: str) -> None:
    leave = (
        "import sys, posix, builtins\nopen('left', 'w').close()\nposix.mkdir('d', 0o000)\n"
        "builtins.left = 1\nsys.modules['left'] = sys\n"
    )
    look = (
        "import posix, sys, builtins\ndef f():\n"
        "  return posix.listdir('.'), hasattr(builtins, 'left'), 'left' in sys.modules\n"
    )
    programs = [Program("a", leave, ""), Program("b", look, "assert f() == ([], False, False)")] * 3
    verdicts = list(run_programs(programs, workers=1, limits=LIMITS, tier=tier))
    assert [(v.id, v.outcome) for v in verdicts if v.id == "b"] == [("b", "passed")] * 3
