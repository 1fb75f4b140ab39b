"""The pages say what the code does: commands, links, methods, hyper-parameters, extras."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from sparsepo.methods import BUILT_IN

REPOSITORY = Path(__file__).parents[1]
FOLDERS = (REPOSITORY, REPOSITORY / "docs", REPOSITORY / "examples")
PAGES = sorted(page for folder in FOLDERS for page in folder.glob("*.md"))
TEST_COMMAND = "python -m pip install tox && python -m tox"
METHODS_PAGE = (REPOSITORY / "docs" / "methods.md").read_text()


def project() -> dict[str, object]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        content: dict[str, object] = tomllib.load(file)["project"]
    return content


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    assert TEST_COMMAND in (REPOSITORY / "README.md").read_text()
    # Standard input is closed there, which changes nothing else.
    script = (REPOSITORY / ".ci" / "run").read_text().replace(" </dev/null", "")
    assert TEST_COMMAND in script


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_has_a_section_that_names_its_hyper_parameters(name: str) -> None:
    headings = re.split(r"^## ", METHODS_PAGE, flags=re.MULTILINE)[1:]
    sections = {
        title: section
        for section in headings
        for title in section.splitlines()[0].replace(",", " ").split()
    }
    assert name in sections
    for field in dataclasses.fields(BUILT_IN[name]):
        # beta's default is stated for all methods at the head of the page.
        assert f"`{field.name}`" in sections[name] or field.name == "beta"


def test_the_readme_names_the_extras_and_methods_that_there_are() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    extras = set(re.findall(r"\.\[(\w+)\]", readme))
    declared = project()["optional-dependencies"]
    assert isinstance(declared, dict)
    assert extras <= set(declared)
    assert set(declared) - {"dev"} <= extras


def test_every_dependency_has_a_floor_and_torch_its_upper_bound() -> None:
    """Without floors pip goes back silently to releases of years ago."""
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    assert "torch>=2.8,<2.14" in dependencies
    for dependency in dependencies:
        assert re.search(r">=\d.*,<\d", dependency), dependency


def test_the_summac_environment_has_the_projects_bounds() -> None:
    section = (REPOSITORY / "tox.ini").read_text().split("[testenv:summac]")[1]
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    bounds = {re.split(r"[>\[]", item)[0]: item for item in dependencies}
    shared = ("torch", "transformers", "nltk", "numpy")
    for name in shared:
        assert f"\n    {bounds[name]}\n" in section
