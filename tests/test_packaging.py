"""What an installation brings: training alone by default, the experiments with an extra."""

from __future__ import annotations

import ast
import email
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.__main__ import NEEDED

REPOSITORY = Path(__file__).parents[1]
OURS = {"sparsepo", "tasks", "harness", "benchmarks"}
# Imported behind a check that names the remedy, or present only where a user put them.
OPTIONAL = {"ray", "trl", "bitsandbytes", "bigcode_eval", "summac", "openai", "gguf"}
with (REPOSITORY / "pyproject.toml").open("rb") as _file:
    PROJECT = tomllib.load(_file)["project"]


def imported(*folders: str) -> dict[str, set[str]]:
    """Third-party modules → the files that import them, by statement anywhere in the file."""
    found: dict[str, set[str]] = {}
    for file in (path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in OURS and top not in sys.stdlib_module_names:
                    found.setdefault(top, set()).add(str(file.relative_to(REPOSITORY)))
    return found


def declared(*extras: str) -> set[str]:
    """Return the distributions that the base installation and these extras name themselves."""
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def undeclared(modules: dict[str, set[str]], distributions: set[str]) -> dict[str, set[str]]:
    """Return the modules that none of the distributions installs."""
    providers = importlib.metadata.packages_distributions()
    return {
        module: files
        for module, files in modules.items()
        if not distributions & {canonicalize_name(name) for name in providers.get(module, [module])}
    }


def test_training_imports_only_what_the_base_installation_declares() -> None:
    modules = {k: v for k, v in imported("sparsepo").items() if k not in OPTIONAL}
    assert {"torch", "transformers"} <= set(modules)
    assert undeclared(modules, declared()) == {}


def test_the_base_installation_declares_nothing_that_training_does_not_import() -> None:
    providers = importlib.metadata.packages_distributions()
    used = {canonicalize_name(d) for module in imported("sparsepo") for d in providers[module]}
    assert declared() - used == set()


def test_experiments_import_only_what_the_extra_harness_declares() -> None:
    modules = {k: v for k, v in imported("tasks", "harness").items() if k not in OPTIONAL}
    assert {"lm_eval", "matplotlib"} <= set(modules)
    assert undeclared(modules, declared("harness")) == {}


def test_the_benchmark_imports_only_what_its_extra_declares() -> None:
    modules = {k: v for k, v in imported("benchmarks").items() if k not in OPTIONAL}
    assert undeclared(modules, declared("benchmark")) == {}


def test_the_command_checks_every_module_that_an_experiment_imports() -> None:
    modules = set(imported("sparsepo", "tasks", "harness")) - OPTIONAL
    assert modules - set(NEEDED) == set()


def test_every_extra_says_within_which_bounds() -> None:
    for extra, lines in PROJECT["optional-dependencies"].items():
        for line in lines:
            requirement = Requirement(line)
            if requirement.name != PROJECT["name"]:
                assert ">=" in str(requirement.specifier), f"{extra}: {line}"


@pytest.mark.parametrize("module", ["torch", "lm_eval", "math_verify", "rich", "vaderSentiment"])
def test_without_a_package_the_command_says_how_to_install_it(module: str, tmp_path: Path) -> None:
    hide = f"import runpy, sys; sys.modules[{module!r}] = None; sys.argv = ['harness', 'list']; "
    done = subprocess.run(
        [sys.executable, "-c", hide + "runpy.run_module('harness', run_name='__main__')"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert f"({module})" in line
    assert "python -m pip install -e '.[harness]'" in line


def test_importing_the_library_loads_no_package_of_the_experiments() -> None:
    code = (
        "import sys, sparsepo; sparsepo.available_methods(); "
        "from sparsepo.cli import main; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    providers = importlib.metadata.packages_distributions()
    extra = declared("harness") - declared()
    assert "torch" in loaded
    # `packaging` is everybody's.
    brought = {m for m in loaded if extra & {canonicalize_name(d) for d in providers.get(m, [])}}
    assert brought <= {"packaging"}
    # Loading these takes seconds; looking up a name or reading the help must not wait for them.
    assert not loaded & {"transformers", "datasets", "peft", "tasks", "harness"}


@pytest.mark.parametrize("module", ["sparsepo", "sparsepo.data", "harness.commands.passk"])
def test_reading_files_and_scoring_programs_do_not_wait_for_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_every_public_name_is_found_where_the_package_says() -> None:
    import sparsepo

    assert {*sparsepo.__all__} <= {*dir(sparsepo)}
    for name in [*sparsepo.__all__, "fused", "methods", "registry", "types"]:
        assert getattr(sparsepo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = sparsepo.Trainer


@pytest.mark.parametrize("package", ["sparsepo", "sparsepo.analysis"])
def test_a_public_name_stays_what_it_is_when_submodules_are_imported(package: str) -> None:
    code = (
        f"import inspect, pkgutil, {package} as package; from importlib import import_module\n"
        "modules = [m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != '_']\n"
        "[import_module(package.__name__ + '.' + name) for name in modules]\n"
        "public = {*package.__all__} - {'masks'}\n"
        "print(*[name for name in public if inspect.ismodule(getattr(package, name))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the development extra builds the package")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Iterator[zipfile.ZipFile]:
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_the_wheel_installs_no_name_but_its_own(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"sparsepo", f"sparsepo-{PROJECT['version']}.dist-info"}


def test_the_wheel_holds_every_file_of_the_library(wheel: zipfile.ZipFile) -> None:
    sources = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "sparsepo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(wheel.namelist())
    assert any(name.startswith("sparsepo/analysis/templates/") for name in sources)


def test_the_wheel_requires_what_training_needs_and_no_more(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(wheel.read(name).decode())
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    always = {canonicalize_name(each.name) for each in requirements if each.marker is None}
    assert always == declared()
    assert "harness" in metadata.get_all("Provides-Extra", [])


def test_the_source_distribution_can_run_the_experiments_and_the_tests(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert len(names) == len(set(names))
    tops = {name.partition("/")[0] for name in names}
    assert {"sparsepo", "tasks", "harness", "benchmarks", "configs", "tests", "docs"} <= tops
    assert {"results/paper/table1.json", "tox.ini", "tests/test_packaging.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(".tox")]
    source = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("paper", "published")
        for path in (REPOSITORY / "results" / folder).rglob("*")
        if path.is_file()
    }
    assert {name for name in names if name.startswith("results/")} == source
