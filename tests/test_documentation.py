"""The pages say what the code does: commands, links, methods, hyper-parameters, extras."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sparsepo.methods import BUILT_IN, PAPER
from tests.small_results import small_result, write_result

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("docs", "examples", ".github")
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(p for name in FOLDERS for p in (REPOSITORY / name).rglob("*.md"))]
)
TEST_COMMAND = "python -m pip install tox && python -m tox"
# docs/ is no package.
_spec = importlib.util.spec_from_file_location("method_pages", REPOSITORY / "docs/method_pages.py")
assert _spec is not None and _spec.loader is not None
method_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(method_pages)
METHODS_PAGE = (REPOSITORY / "docs" / "methods.md").read_text()


def project() -> dict[str, object]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        content: dict[str, object] = tomllib.load(file)["project"]
    return content


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as hosts of repositories make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        if not target.startswith("http"):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(path), f"{page.name} links to {target}#{anchor}"


def test_the_index_leads_to_every_page() -> None:
    index = (REPOSITORY / "docs" / "index.md").read_text()
    site = (REPOSITORY / "properdocs.yml").read_text()
    for page in (REPOSITORY / "docs").glob("*.md"):
        if page.name != "index.md":
            assert f"]({page.name})" in index
        assert f": {page.name}\n" in site


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    assert TEST_COMMAND in (REPOSITORY / "README.md").read_text()
    # Standard input is closed there, which changes nothing else.
    script = (REPOSITORY / ".ci" / "run").read_text().replace(" </dev/null", "")
    assert TEST_COMMAND in script


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_has_a_current_page_with_its_traps(name: str) -> None:
    text = (method_pages.PAGES / f"{name}.md").read_text()
    made = "run `python docs/method_pages.py`"
    assert text == method_pages.page(BUILT_IN[name]), made
    assert len(text.partition(method_pages.MARKER)[2]) > 60
    if name not in PAPER:
        assert f"](methods/{name}.md)" in METHODS_PAGE
    assert f": methods/{name}.md" in (REPOSITORY / "properdocs.yml").read_text()


def test_the_table_of_all_methods_is_the_published_one() -> None:
    assert "| `sparsepo-common` | " in METHODS_PAGE
    assert method_pages.with_overview(METHODS_PAGE) == METHODS_PAGE, (
        "run `python docs/method_pages.py`"
    )


def test_pages_have_the_numbers_of_the_published_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written by hand stays; a second time changes nothing; the largest table counts."""
    pages = tmp_path / "docs" / "methods"
    shutil.copytree(method_pages.PAGES, pages)
    monkeypatch.setattr(method_pages, "PAGES", pages)
    monkeypatch.setattr(method_pages, "PUBLISHED", tmp_path / "results")
    write_result(tmp_path / "results", small_result(levels={"dpo": 50.0, "mapo": 60.0}))
    table = small_result(seed=1)
    file = write_result(tmp_path / "results", table, name="all")
    write_result(tmp_path / "results", {**small_result(), "profile": "small"}, name="z")
    before = {page.stem: page.read_text() for page in pages.glob("*.md")}
    method_pages.main()
    texts = {page.stem: page.read_text() for page in pages.glob("*.md")}
    method_pages.main()
    assert {page.stem: page.read_text() for page in pages.glob("*.md")} == texts
    for name, text in texts.items():
        by_hand = before[name].partition(method_pages.RESULT_MARKER)[0].rstrip("\n")
        assert text.startswith(f"{by_hand}\n\n{method_pages.RESULT_MARKER}\n")
    (mapo,) = (row["values"]["bbh"] for row in table["rows"] if row["id"] == "mapo")
    assert f"\n| BBH | {mapo['mean']:.2f}" in texts["mapo"]
    assert f"]({Path('../..', file.relative_to(tmp_path)).as_posix()})" in texts["mapo"]
    assert "its result is in [`--table on-policy`](../on_policy.md#" in texts["grpo"]
    assert "does not give what it needs, a score of each response" in texts["odpo"]
    assert "None: Table 1 was run without it." in texts["ipo"]
    # Without a result there is no such section.
    monkeypatch.setattr(method_pages, "PUBLISHED", tmp_path / "none")
    method_pages.main()
    assert method_pages.RESULT_MARKER not in (pages / "mapo.md").read_text()


def test_there_are_pages_of_known_methods_only() -> None:
    assert {page.stem for page in method_pages.PAGES.glob("*.md")} == set(BUILT_IN)


@pytest.mark.parametrize("name", PAPER)
def test_every_method_has_a_section_that_names_its_hyper_parameters(name: str) -> None:
    headings = re.split(r"^## ", METHODS_PAGE, flags=re.MULTILINE)[1:]
    sections = {
        title: section
        for section in headings
        for title in section.splitlines()[0].replace(",", " ").split()
    }
    assert name in sections
    for field in dataclasses.fields(PAPER[name]):
        # beta's default is stated for all methods at the head of the page.
        assert f"`{field.name}`" in sections[name] or field.name == "beta"


def test_the_readme_names_the_extras_and_methods_that_there_are() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    extras = set(re.findall(r"\.\[(\w+)\]", readme))
    declared = project()["optional-dependencies"]
    assert isinstance(declared, dict)
    assert extras <= set(declared)
    assert set(declared) - {"dev"} <= extras
    assert "python -m pip install -e '.[harness]' && python -m harness run --table 1 " in readme


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
    declared = project()["optional-dependencies"]
    assert isinstance(declared, dict)
    bounds |= {re.split(r"[>\[]", item)[0]: item for item in declared["harness"]}
    for name in shared:
        assert f"\n    {bounds[name]}\n" in section


def test_contributing_names_tests_and_environments_that_there_are() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"(?<![\w/])tests/[\w/.]+", page):
        assert (REPOSITORY / path).exists(), path
    environments = set(re.findall(r"\[testenv:(\w+)\]", (REPOSITORY / "tox.ini").read_text()))
    assert environments == set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))


def test_the_citation_names_this_version_and_the_paper() -> None:
    text = (REPOSITORY / "CITATION.cff").read_text()
    assert f"\nversion: {project()['version']}\n" in text
    assert "2410.05102" in text


def test_commits_are_checked_by_the_versions_that_tox_installs() -> None:
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    for tool, bounds in re.findall(
        r"^    (ruff|typos)(\S+)$", (REPOSITORY / "tox.ini").read_text(), flags=re.MULTILINE
    ):
        (revision,) = re.findall(rf"/{tool}\S*\n    rev: v(\S+)", hooks)
        assert SpecifierSet(bounds).contains(revision), tool


def test_the_workflow_runs_the_entry_on_every_python_that_is_promised() -> None:
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: .ci/run\n" in workflow
    (matrix,) = re.findall(r"python: \[(.*)\]", workflow)
    versions = re.findall(r"3\.\d+", matrix)
    classifiers = project()["classifiers"]
    assert isinstance(classifiers, list)
    assert [f"Programming Language :: Python :: {v}" for v in versions] == [
        line for line in classifiers if re.search(r":: 3\.\d+$", line)
    ]


def test_the_docs_environment_has_the_packages_of_the_extra() -> None:
    section = (REPOSITORY / "tox.ini").read_text().split("[testenv:docs]")[1].split("[testenv")[0]
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    # With --quiet, a strict build counts no warning.
    assert "commands = properdocs build --strict {posargs}\n" in section
    assert re.findall(r"^    (properdocs\S+)$", section, flags=re.MULTILINE) == extras["docs"]


def test_the_lock_file_pins_every_dependency_within_its_bounds() -> None:
    """`python -m tox -e lock` renews it."""
    pins: dict[str, set[str]] = {}
    for line in (REPOSITORY / "requirements" / "locked.txt").read_text().splitlines():
        if found := re.match(r"([\w.-]+)==([^\s;]+)", line):
            pins.setdefault(canonicalize_name(found[1]), set()).add(found[2])
    extras = project()["optional-dependencies"]
    dependencies = project()["dependencies"]
    assert isinstance(extras, dict)
    assert isinstance(dependencies, list)
    locked = ("harness", "dev", "ray", "benchmark")
    for line in [*dependencies, *(line for extra in locked for line in extras[extra])]:
        requirement = Requirement(line)
        if requirement.name != "sparsepo":
            versions = pins[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions), line
