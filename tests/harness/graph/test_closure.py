"""Which modules a stage's code version is made of."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import grimp
import pytest

from harness.graph import closure
from harness.graph.closure import NEUTRAL, PACKAGES, code_version, import_closure
from sparsepo.errors import UserError

ROOT = Path(__file__).parents[3]

TOY = {
    "__init__.py": "from toy.unused import nothing\n",
    "unused.py": "nothing = 1\n",
    "stage.py": "from toy.data import rows\nfrom toy import helper, NAME\nimport torch\n",
    "helper.py": "def late():\n    from . import table\n    return table\n",
    "table.py": "import importlib\nHERE = importlib.import_module('toy.dynamic')\n",
    "dynamic.py": "",
    "data/__init__.py": "from toy.data.pairs import pair\n",
    "data/rows.py": "from ..typed import *\n",
    "data/pairs.py": "pair = 1\n",
    "typed.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import toy.only_types\n"
        "else:\n    import toy.otherwise\n"
    ),
    "only_types.py": "",
    "otherwise.py": "import sparsepo.errors, harness.graph.store\n",
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a package and make it known; its files may be changed by further calls."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**changes: str) -> Path:
        for name, text in {**TOY, **changes}.items():
            file = tmp_path / "toy" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        code_version.cache_clear()
        closure.find_module.cache_clear()
        return tmp_path / "toy"

    return write


def test_imports_are_followed_at_any_level_and_in_any_form(toy: Callable[..., Path]) -> None:
    toy()
    assert sorted(import_closure(["toy.stage"])) == [
        # For NAME, which is no submodule; and with it what it imports.
        "toy",
        "toy.data.rows",
        "toy.dynamic",
        "toy.helper",
        "toy.otherwise",
        "toy.stage",
        "toy.table",
        "toy.typed",
        "toy.unused",
    ]


def test_modules_left_out_are_not_followed_but_their_submodules_are(
    toy: Callable[..., Path],
) -> None:
    toy()
    found = set(import_closure(["toy.stage"], without=["toy", "toy.table"]))
    assert found == {
        "toy.stage", "toy.data.rows", "toy.helper", "toy.typed", "toy.otherwise"
    }  # fmt: skip
    # Unless the stage names them.
    assert "toy.table" in import_closure(["toy.stage", "toy.table"], without=["toy.table"])


def test_other_packages_are_followed_only_from_a_stage_that_names_them(
    toy: Callable[..., Path],
) -> None:
    toy(**{"stage.py": "import sparsepo.types\n"})
    assert set(import_closure(["toy.stage"])) == {"toy.stage", "sparsepo.types"}
    toy(**{"stage.py": "import json, numpy, not_installed.at_all\n"})
    assert set(import_closure(["toy.stage"])) == {"toy.stage"}


def test_the_version_ignores_comments_only(toy: Callable[..., Path]) -> None:
    def version(text: str) -> str:
        toy(**{"data/rows.py": text})
        return code_version(("toy.stage",))

    base = version("def f(x):\n    return x + 1\n")
    assert version('"""Doc."""\ndef f(x):\n    """More."""\n    # why\n    return x+1\n') == base
    assert version("def f(x):\n    return x + 2\n") != base


def test_data_counts_for_the_modules_that_name_it(toy: Callable[..., Path]) -> None:
    folder = toy(
        **{
            "helper.py": "from pathlib import Path\nHERE = Path(__file__).parent / 'words'\n",
            "table.py": "HERE = 'words'\n",
            "words/a/list.txt": "a",
            "words/README.md": "about",
        }
    )

    def versions() -> list[str]:
        code_version.cache_clear()
        return [code_version((f"toy.{name}",)) for name in ("helper", "table", "stage")]

    before = versions()
    (folder / "words" / "README.md").write_text("more")
    assert versions() == before
    (folder / "words" / "a" / "list.txt").write_text("b")
    after = versions()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, False]


def test_a_file_that_python_cannot_read_counts_byte_by_byte(toy: Callable[..., Path]) -> None:
    toy(**{"helper.py": "def ("})
    before = code_version(("toy.stage",))
    toy(**{"helper.py": "def (("})
    assert code_version(("toy.stage",)) != before


def test_a_missing_module_is_named() -> None:
    with pytest.raises(UserError, match="The module no_such_module is not installed"):
        code_version(("no_such_module",))


def modules() -> dict[str, Path]:
    """Every module of the project's packages; `evaluate` loads its modules by their paths."""
    found = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if not (file.parent / "__init__.py").is_file():
                continue
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def test_each_modules_imports_are_those_that_grimp_finds() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    everything = modules()
    for name, file in everything.items():
        own = {
            imported if imported in everything else imported.rpartition(".")[0]
            for imported in closure.read_source(name, file).imports
        }
        found = graph.find_modules_directly_imported_by(name)
        assert own & set(everything) - {name} == found - {name}, name


def test_a_package_only_binds_names() -> None:
    """Why the `__init__` of a package whose submodule is imported does not count."""
    bindings = (
        ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef
    )  # fmt: skip
    for name, file in modules().items():
        for statement in ast.parse(file.read_bytes()).body if file.name == "__init__.py" else ():
            checked = isinstance(statement, ast.If) and ast.unparse(statement.test)
            assert (
                isinstance(statement, bindings)
                or closure._is_docstring(statement)
                or checked == "TYPE_CHECKING"
            ), f"{name}: {ast.unparse(statement)}"


def test_every_data_file_counts_for_some_module() -> None:
    counted = {
        file
        for name, file in modules().items()
        for place in closure.read_source(name, file).beside
        for file in closure._files(place)
    }
    data = {
        file
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc", ".md"} and file.name != "py.typed"
    }
    assert data
    assert data <= counted


def test_what_runs_stages_imports_nothing_that_could_decide_a_result() -> None:
    running = ("harness.graph", "sparsepo.errors")
    assert set(running) <= set(NEUTRAL)
    outside = {
        imported
        for name, file in modules().items()
        if name.startswith(running)
        for imported in closure.read_source(name, file).imports
        if imported.startswith(PACKAGES) and not imported.startswith(running)
    }
    assert not outside


def test_the_version_does_not_depend_on_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_version(("harness.domains.dialogue.work.leaderboard",))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    monkeypatch.setattr(closure, "find_top", lambda name: [tmp_path / name])
    code_version.cache_clear()
    closure.find_module.cache_clear()
    try:
        assert code_version(("harness.domains.dialogue.work.leaderboard",)) == before
    finally:
        code_version.cache_clear()
        closure.find_module.cache_clear()
