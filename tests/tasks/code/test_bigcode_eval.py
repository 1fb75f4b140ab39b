"""The adapter to bigcode_eval, on a small package that stands in for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsepo.errors import UserError
from tasks.code.conventions import get_convention
from tasks.code.problems import Problem, read_problems
from tests.tasks.code.rows import HUMANEVAL, MBPP, PLAIN, write_rows

# The interface of the package's tasks, in miniature: rows from load_dataset, five methods.
BASE = """
def load_dataset(path, name=None):
    raise OSError("the hub is not to be reached")


class Task:
    def __init__(self, stop_words):
        self.stop_words = stop_words
        self.dataset = load_dataset(path=self.DATASET_PATH, name=None)

    def postprocess_generation(self, generation, idx):
        prompt = self.get_prompt(self.dataset["test"][idx])
        answer = generation[len(prompt):]
        ends = [answer.find(word) for word in self.stop_words if word in answer]
        return prompt + answer[: min(ends, default=len(answer))]
"""
TASKS = r'''
from bigcode_eval.base import Task


class HumanEval(Task):
    DATASET_PATH = "openai_humaneval"

    def __init__(self):
        super().__init__(["\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```"])

    def get_prompt(self, doc):
        return doc["prompt"].strip()

    def get_reference(self, doc):
        return "\n" + doc["test"] + "\n" + f"check({doc['entry_point']})"


class MBPP(Task):
    DATASET_PATH = "mbpp"

    def __init__(self):
        super().__init__(["\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```"])

    def get_prompt(self, doc):
        return f'"""\n{doc["text"]}\n{doc["test_list"][0]}\n"""\n'

    def get_reference(self, doc):
        return "\n".join(doc["test_list"])


def get_task(name, args=None):
    return {"humaneval": HumanEval, "mbpp": MBPP}[name]()
'''


@pytest.fixture
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "site" / "bigcode_eval"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text(BASE)
    (folder / "tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(folder.parent))
    _forget()
    yield
    _forget()


def _forget() -> None:
    for name in ("bigcode_eval", "bigcode_eval.base", "bigcode_eval.tasks"):
        sys.modules.pop(name, None)


def problems(tmp_path: Path, rows: list[dict[str, object]]) -> list[Problem]:
    return read_problems(write_rows(tmp_path / "rows.jsonl", rows))


ANSWERS = {
    "humaneval": "\n    return 1\n\n\ndef other():\n    pass\n",
    "mbpp": "def triple(n):\n    return 3 * n\n\nassert triple(1) == 3\n",
}


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize("rows", [HUMANEVAL, MBPP], ids=["humaneval", "mbpp"])
def test_its_classes_and_ours_do_the_same(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    given = problems(tmp_path, rows)
    theirs, ours = get_convention("bigcode_eval", given), get_convention("bigcode", given)
    for problem in given:
        answer = ANSWERS[problem.kind]
        assert theirs.prompt(problem) == ours.prompt(problem)
        assert theirs.parts(problem, answer) == ours.parts(problem, answer)
        assert set(theirs.stops(problem)) <= set(ours.stops(problem))
    assert theirs.tests(given[0]).split() == ours.tests(given[0]).split()


@pytest.mark.usefixtures("_package")
def test_its_mbpp_knows_no_set_up_code(tmp_path: Path) -> None:
    given = problems(tmp_path, MBPP)
    theirs = get_convention("bigcode_eval", given)
    assert theirs.tests(given[1]) == "assert count(root) == 2"


@pytest.mark.usefixtures("_package")
def test_the_network_is_not_asked_and_the_package_is_left_as_it_was(tmp_path: Path) -> None:
    get_convention("bigcode_eval", problems(tmp_path, MBPP))
    with pytest.raises(OSError, match="hub"):
        sys.modules["bigcode_eval.base"].load_dataset("mbpp")


@pytest.mark.usefixtures("_package")
def test_another_release_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "bigcode_eval" / "base.py").write_text("class Task:\n    pass\n")
    with pytest.raises(UserError, match=r"This version of bigcode_eval .* convention 'bigcode'"):
        get_convention("bigcode_eval", problems(tmp_path, MBPP))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bigcode_eval", "bigcode_eval.base"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as caught:
        get_convention("bigcode_eval", problems(tmp_path, HUMANEVAL))
    assert "pip install git+https" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_its_own_benchmarks(tmp_path: Path) -> None:
    for rows in (PLAIN, [*HUMANEVAL, *MBPP]):
        with pytest.raises(UserError, match="all HumanEval's or all"):
            get_convention("bigcode_eval", problems(tmp_path, rows))
