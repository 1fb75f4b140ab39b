"""What is a pass, and what a program's values may do on their way to the tests."""

from __future__ import annotations

import pytest

from tasks.sandbox import Program, Verdict, run_programs

Case = tuple[str, str]


def judged(cases: dict[str, Case], **settings: object) -> dict[str, Verdict]:
    programs = [Program(name, code, tests) for name, (code, tests) in cases.items()]
    return {v.id: v for v in run_programs(programs, workers=1, **settings)}  # type: ignore[arg-type]


RIGHT: dict[str, Case] = {
    "plain": (
        "def f(x): return [x, {x: (1, 2.5, None)}]",
        "assert f(1) == [1, {1: (1, 2.5, None)}]",
    ),
    "in place": (
        "def f(a): a.append(len(a)); a[0].add(9)",
        "a=[set()]\nf(a)\nassert a == [{9}, 1]",
    ),
    "identity": ("def f(a): return a", "a=[1]\nassert f(a) is a"),
    "cycle": ("def f(a): a.append(a); return a", "a=[]\nassert f(a)[0] is a"),
    "big": ("def f(n): return 7 ** n", "assert f(9000) == 7 ** 9000"),
    "surrogate": ("def f(): return '\\ud800x'", "assert f() == '\\ud800x'"),
    "bytes": ("def f(b): return bytearray(b + b'\\0')", "assert f(b'\\xff') == b'\\xff\\0'"),
    "nan": ("def f(): return float('nan'), float('inf')", "a, b = f()\nassert a != a and b > 0"),
    "types": ("def f(x, t): return isinstance(x, t)", "assert f(1, int) and f('', (int, str))"),
    "library": (
        "from collections import Counter, deque, OrderedDict\nfrom fractions import Fraction\n"
        "from decimal import Decimal\nimport datetime\n"
        "def f(): return [Counter('aab'), deque([1], 3), OrderedDict(a=1), Fraction(1, 3), "
        "Decimal('0.1'), datetime.date(2020, 1, 2), datetime.timedelta(1), 1j, range(3)]",
        "from collections import Counter, deque, OrderedDict\nfrom fractions import Fraction\n"
        "from decimal import Decimal\nimport datetime\n"
        "assert f() == [Counter('aab'), deque([1], 3), OrderedDict(a=1), Fraction(1, 3), "
        "Decimal('0.1'), datetime.date(2020, 1, 2), datetime.timedelta(1), 1j, range(3)]",
    ),
    "generator": ("def f(n):\n  for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2]"),
    "function": ("def f(n): return lambda x: x + n", "assert f(1)(2) == 3"),
    "callback": ("def f(g, a): return [g(x) for x in a]", "assert f(lambda x: x * 2, [1]) == [2]"),
    "builtin": ("def f(g, a): return g(a)", "assert f(max, [1, 3]) == 3"),
    "class": (
        "class N:\n  def __init__(self, v): self.v = v; self.next = None\n"
        "def f(n):\n  t = 0\n  while n: t += n.v; n = n.next\n  return t",
        "a = N(1)\na.next = N(2)\na.next.v = 5\n"
        "assert f(a) == 6 and a.v == 1 and a.next.next is None",
    ),
    "own error": (
        "class E(ValueError): pass\ndef f(): raise E('no')",
        "try:\n  f()\n  assert False\nexcept E as e:\n  assert str(e) == 'no'",
    ),
    "its module": ("import math\ndef f(x): return math.sqrt(x)", "assert math.isclose(f(4), 2)"),
    "a constant": ("N = 3\ndef f(): return N", "assert f() == N"),
}


def test_right_programs_pass_confirmed() -> None:
    found = judged(RIGHT)
    wrong = {n: (v.outcome, v.detail) for n, v in found.items() if not v.passed}
    assert wrong == {}
    assert {v.form for v in found.values()} == {"strict"}


ADD = "assert add(1, 2) == 3"
FORGED: dict[str, Case] = {
    "equal to all": (
        "class Y(int):\n  def __eq__(s, o): return True\ndef add(a, b): return Y()",
        ADD,
    ),
    "a string": (
        "class Y(str):\n  def __eq__(s, o): return True\n  __hash__ = str.__hash__\n"
        "def f(): return Y()",
        "assert f() == 'x'",
    ),
    "in a list": (
        "class Y(float):\n  def __eq__(s, o): return True\ndef f(): return [Y(0)]",
        "assert f() == [1.0]",
    ),
    "a list": (
        "class Y(list):\n  def __eq__(s, o): return True\n  def __len__(s): return 3\n"
        "def f(): return Y()",
        "assert f() == [1, 2, 3] and len(f()) == 3",
    ),
    "a module": (
        "class M:\n  def isclose(*a): return True\nmath = M()\ndef f(): return 0",
        "import math\nassert math.isclose(f(), 1)",
    ),
    "builtins": (
        "import builtins\nbuiltins.abs = lambda x: 0\ndef f(): return 5",
        "assert abs(f()) < 1",
    ),
    "own abs": ("def abs(x): return 0\ndef f(): return 5", "assert f() == 5 and abs(f()) < 1"),
    "frames": (
        "import sys\ndef add(a, b):\n  f = sys._getframe(1)\n  f.f_globals['add'] = lambda *a: 3\n"
        "  f.f_builtins['AssertionError'] = SystemExit\n  return 0",
        ADD,
    ),
    "exit": ("import os\ndef add(a, b): os._exit(0)", ADD),
    "channel": (
        "import os\ndef add(a, b):\n  for n in range(3, 64):\n    try: os.write(n, b'P' * 64)\n"
        "    except OSError: pass\n  return 0",
        ADD,
    ),
    "planted module": (
        "open('copy.py', 'w').write('deepcopy = lambda x: 3')\ndef f(): return 0",
        "import copy\nassert copy.deepcopy(f()) == 3",
    ),
}


@pytest.mark.parametrize("confirm", [True])
def test_forged_passes_do_not_count(confirm: bool) -> None:
    found = judged(FORGED, confirm=confirm)
    assert [n for n, v in found.items() if v.passed] == []


def test_a_forgery_that_the_fast_form_believes_is_named() -> None:
    cases = {name: FORGED[name] for name in ("equal to all", "a string", "in a list", "builtins")}
    assert all(v.passed for v in judged(cases, confirm=False).values())
    for verdict in judged(cases).values():
        assert (verdict.outcome, verdict.suspected_forgery) == ("failed", True)


def test_what_the_strict_form_cannot_decide_is_told() -> None:
    cases = {
        "object": (
            "class Y:\n  def __eq__(s, o): return True\ndef f(): return Y()",
            "assert f() == 1",
        ),
        "swallowed": (
            "class Y:\n  def __eq__(s, o): return True\ndef f(): return Y()",
            "try: f() == 1\nexcept: pass",
        ),
        "arithmetic": (
            "class Y:\n  def __sub__(s, o): return 0\ndef f(): return Y()",
            "assert f() - 7 == 0",
        ),
        "builtin name": ("def sum(a, b): return a + b", "assert sum(1, 2) == 3"),
    }
    found = judged(cases)
    assert {v.outcome for v in found.values()} == {"unsupported"}
    assert all(v.detail and not v.suspected_forgery for v in found.values())


def test_an_entry_point_may_be_called_like_a_builtin() -> None:
    program = Program(
        "p", "def sum(a, b): return a + b", "assert sum(1, 2) == 3", entry_points=("sum",)
    )
    assert [v.outcome for v in run_programs([program], workers=1)] == ["passed"]


def test_the_prompts_helpers_are_the_prompts_own() -> None:
    prompt = "def helper(x):\n    return x + 1\n\ndef f(x):\n    '''Add two.'''\n"
    tests = "assert helper(f(1)) == 4"
    right = Program("right", "    return x + 2\n", tests, prompt=prompt, entry_points=("f",))
    forged = Program(
        "forged",
        "    return 0\ndef helper(x): return 4\n",
        tests,
        prompt=prompt,
        entry_points=("f",),
    )
    outcomes = [v.outcome for v in run_programs([right, forged], workers=1)]
    assert outcomes == ["passed", "failed"]


def test_a_failure_names_the_errors_last_line() -> None:
    cases = {
        "assertion": ("def f(): return 1", "x = 1\nassert f() == 2"),
        "message": ("def f(): return 1", "assert f() == 2, 'one\\ntwo'"),
        "name": ("def f(): return y", "f()"),
        "syntax": ("def f(:", "f()"),
        "undefined": ("g = 1", "f()"),
    }
    found = {name: verdict.detail for name, verdict in judged(cases).items()}
    assert found["assertion"] == "AssertionError: assert f() == 2"
    assert found["message"] == "AssertionError: two"
    assert found["name"] == "NameError: name 'y' is not defined"
    assert found["syntax"].startswith("SyntaxError: ")
    assert found["undefined"] == "NameError: name 'f' is not defined"
