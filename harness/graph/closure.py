"""The code version of a stage: a hash of all source code that its function imports.

No module is imported to compute it. A file's syntax tree, which is hashed, also shows what the file
imports, at any level; following these imports from the stage function's module gives its import
closure. The rules are:

- Only the project's own packages are followed, and those that a stage names itself (a method's
  plug-in package). Libraries are represented by their versions.
- ``from package import name`` depends on the submodule ``name`` if it exists, otherwise on the
  package's ``__init__``. The ``__init__`` of a package whose submodule is imported also runs, but
  it only binds names and is not included.
- `NEUTRAL` is not followed, because it cannot affect a result.

A file or folder next to a module is included if the module names it in a string and uses its own
location (``__file__`` or ``importlib.resources``). These are templates, word lists, and code that
is run by path.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sparsepo.errors import UserError

PACKAGES = ("sparsepo", "tasks", "harness")
"""The packages whose modules are followed."""

NEUTRAL = (
    "harness.graph",
    "sparsepo.errors",
    "sparsepo.methods.search_space",
    "sparsepo.training.card",
    "sparsepo.training.hub",
)
"""Packages and modules that cannot affect a result: they run stages and report on them, word
errors, say what tuning may vary, describe a saved model or upload it. For a change in
`harness.graph` that does affect results, increase `harness.graph.stages.FORMAT`."""

_FILE_NAME = re.compile(r"\w[\w.-]*")
_IN_EXPRESSIONS = (b"import_module", b"__import__", b"__file__", b"resources")
"""What a file contains if any of its expressions decides on what it imports or reads."""
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Fields of syntax trees that hold statements, or what holds statements."""


@dataclass(frozen=True)
class Source:
    """The relevant content of a module's file."""

    digest: str
    """Hash of its syntax tree without docstrings."""
    imports: tuple[str, ...]
    """Imported names: modules, or names in modules."""
    beside: tuple[Path, ...]
    """Files and folders next to it that it reads or runs."""


@lru_cache(maxsize=1024)
def code_version(modules: tuple[str, ...], without: tuple[str, ...] = ()) -> str:
    """Return a hash of the source of modules and of everything that they import.

    The syntax tree without docstrings is hashed, because edits of comments, layout and docstrings
    must not discard results. Data files are hashed byte by byte.

    Args:
        modules: dotted names.
        without: modules that are not followed.

    Returns:
        64 hexadecimal digits.

    Raises:
        UserError: a module cannot be found.
    """
    digest = hashlib.sha256()
    for name, source in sorted(import_closure(modules, without).items()):
        digest.update(f"{name}\0{source.digest}\n".encode())
        for place in source.beside:
            for file in _files(place):
                label = file.relative_to(place.parent).as_posix()
                digest.update(f"{name}\0{label}\0{_hash_file(file)}\n".encode())
    return digest.hexdigest()


def import_closure(modules: Iterable[str], without: Iterable[str] = ()) -> dict[str, Source]:
    """Return all modules that the given modules import, directly or not, and these themselves.

    Args:
        modules: dotted names.
        without: modules that are not followed, although their submodules are.

    Returns:
        Module → the content of its file.

    Raises:
        UserError: one of ``modules`` cannot be found.
    """
    roots = list(modules)
    followed = {*PACKAGES, *(name.partition(".")[0] for name in roots)}
    left_out = set(without)
    found: dict[str, Source] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = find_module(name)
        if file is None:
            raise UserError(
                f"The module {name} is not installed, but its source is part of a stage's address; "
                "install it."
            )
        found[name] = source = read_source(name, file)
        for imported in source.imports:
            if imported.partition(".")[0] not in followed:
                continue
            module = imported if find_module(imported) else imported.rpartition(".")[0]
            if module not in left_out and not _is_neutral(module) and find_module(module):
                waiting.append(module)
    return found


def _is_neutral(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


@lru_cache(maxsize=4096)
def find_module(name: str) -> Path | None:
    """Return a module's file, or None if there is none, without importing anything.

    A package's file is its ``__init__.py``.
    """
    top, *rest = name.split(".")
    for place in find_top(top):
        if place.is_file():
            return None if rest else place
        path = place.joinpath(*rest)
        files = [path / "__init__.py", *([path.with_suffix(".py")] if rest else [])]
        found = [file for file in files if file.is_file()]
        if found:
            return found[0]
    return None


def find_top(name: str) -> list[Path]:
    """Return the folders of a top-level package, or the file of a top-level module."""
    # For a submodule, find_spec would import its parents.
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # the running script has no specification
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(location) for location in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin else []


def read_source(name: str, file: Path) -> Source:
    """Read a module's file; it is only read again after a change.

    Args:
        name: the module's name, against which relative imports are resolved.
        file: the module's file.
    """
    stat = file.stat()
    return _read(name, file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _read(name: str, file: Path, modified_ns: int, size: int) -> Source:
    if file.suffix != ".py":
        return Source(_hash_file(file), (), ())
    data = file.read_bytes()
    try:
        tree = ast.parse(data)
    except SyntaxError:
        # The stage that imports it will fail with this error.
        return Source(hashlib.sha256(data).hexdigest(), (), ())
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    # Expressions matter only in the few files that import by a call or use their own location.
    whole = any(word in data for word in _IN_EXPRESSIONS)
    nodes = list(_executed(tree, ast.iter_child_nodes if whole else _inner_statements))
    imports = dict.fromkeys(one for node in nodes for one in _imported(node, package))
    return Source(_hash_tree(tree), tuple(imports), tuple(_named_beside(nodes, file)))


def _executed(tree: ast.AST, inner: Callable[[ast.AST], Iterable[ast.AST]]) -> Iterator[ast.AST]:
    """Yield the nodes that `inner` leads to, except those that only a type checker reads."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _name_of(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(inner(node))


def _inner_statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements, handlers and cases that a statement directly contains."""
    for name in _BLOCKS:
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield from block


def _name_of(node: ast.AST) -> str | None:
    """Return the last part of a name such as ``importlib.import_module``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the absolute names that a node imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        yield from (base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and _name_of(node.func) in {"import_module", "__import__"}:
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def _named_beside(nodes: list[ast.AST], file: Path) -> list[Path]:
    """Return the files and folders next to a module that it names, if it uses its own location."""
    asks = any(
        (isinstance(node, ast.Name) and node.id == "__file__")
        or (isinstance(node, ast.alias) and node.name in {"resources", "importlib.resources"})
        for node in nodes
    )
    texts = {
        node.value.partition("/")[0]
        for node in nodes
        if asks and isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    places = (file.parent / text for text in sorted(texts) if _FILE_NAME.fullmatch(text))
    return [place for place in places if place != file and place.exists()]


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = (path for path in place.rglob("*") if path.is_file())
    return sorted(p for p in found if "__pycache__" not in p.parts and p.suffix != ".md")


def _hash_file(file: Path) -> str:
    if file.suffix == ".py":
        return read_source("", file).digest
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _hash_tree(tree: ast.AST) -> str:
    """Return the hash of a syntax tree without its docstrings."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        # Any string that is a statement counts as a docstring, because it has no effect.
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_docstring(s)]  # type: ignore[attr-defined]
        waiting.extend(_inner_statements(node))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
