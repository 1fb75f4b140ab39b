"""Names → methods, and what is said when a name or a file is wrong."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

import sparsepo
from sparsepo import UserError, registry
from sparsepo.methods import BUILT_IN, DPO, PAPER
from sparsepo.registry import load_plugin, method_class, method_origin, register_method

pytestmark = pytest.mark.usefixtures("clean_registry")

NAMES = ["sft", "dpo", "tdpo1", "tdpo2", "simpo", "dpop", "mapo", "sparsepo-common",
         "sparsepo-independent"]  # fmt: skip

METHOD = '''
"""A method in a file."""
from dataclasses import dataclass
from typing import ClassVar
from sparsepo.methods import DPO

@dataclass(frozen=True)
class Mine(DPO):
    """Mine."""
    name: ClassVar[str] = "mine"
    extra: float = 2.0
'''


def subclass(name: str, **attributes: Any) -> Any:
    made = type("Made", (DPO,), {"name": name, "__doc__": "Made.", **attributes})
    return dataclasses.dataclass(frozen=True)(made)


class EntryPoint:
    """What importlib.metadata gives of an installed plug-in."""

    def __init__(self, loaded: Any) -> None:
        self.name, self.value = "point", "package:Class"
        self.dist = type("Distribution", (), {"name": "some-package"})()
        self._loaded = loaded

    def load(self) -> Any:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def install(monkeypatch: pytest.MonkeyPatch, loaded: Any) -> None:
    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint(loaded)] if group == "sparsepo.methods" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry._entry_points.cache_clear()


def test_the_papers_methods_are_built_in_in_the_order_of_its_tables() -> None:
    assert list(PAPER) == NAMES
    assert list(BUILT_IN)[:9] == NAMES
    assert list(sparsepo.available_methods())[: len(BUILT_IN)] == list(BUILT_IN)
    assert [method_origin(name) for name in NAMES] == ["built in"] * 9


def test_hyper_parameters_are_recorded() -> None:
    method = sparsepo.get_method("sparsepo-independent", beta=0.8, l1_kl=1e-3)
    recorded = dataclasses.asdict(method)
    assert recorded["beta"] == 0.8
    assert recorded["l1_kl"] == 1e-3
    assert recorded["mask_layers"] == "all"
    assert sparsepo.get_method("sparsepo-independent", **recorded) == method


def test_defaults_are_the_papers() -> None:
    expected = {"dpo": {"beta": 0.1}, "tdpo1": {"beta": 0.1}, "tdpo2": {"beta": 0.1, "alpha": 0.5},
                "simpo": {"beta": 2.0, "gamma": 1.0}, "dpop": {"beta": 0.3, "lam": 50.0},
                "sft": {}}  # fmt: skip
    for name, values in expected.items():
        assert dataclasses.asdict(sparsepo.get_method(name)) == values
    masked = dataclasses.asdict(sparsepo.get_method("sparsepo-common"))
    assert masked["mask_weight_decay"] == masked["mask_dropout"] == 0.01


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sparsepo-comon", "Did you mean 'sparsepo-common'?"),
        ("DPO", "Known: sft, dpo"),
        ("tdpo", "Did you mean 'tdpo"),
        ("", "Known: sft"),
    ],
)
def test_an_unknown_name_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        method_class(name)
    assert str(error.value).startswith(f"Unknown method '{name}'.")
    assert hint in str(error.value)


def test_an_unused_hyper_parameter_gets_a_hint() -> None:
    with pytest.raises(UserError, match=r"'dpo' does not use .* 'betta'\. Did you mean 'beta'\?"):
        sparsepo.get_method("dpo", betta=0.1)
    with pytest.raises(UserError, match=r"'sft' does not use .* 'beta'\. It uses: none\."):
        sparsepo.get_method("sft", beta=0.1)


# Registering


def test_a_registered_method_is_available() -> None:
    cls = subclass("made")
    assert register_method(cls) is cls
    assert list(sparsepo.available_methods())[-1] == "made"
    assert sparsepo.get_method("made", beta=3).beta == 3  # type: ignore[attr-defined]
    assert method_origin("made") == "registered in this process"
    register_method(cls, origin="again")
    assert method_origin("made") == "again"


@pytest.mark.parametrize("thing", [object, DPO(), type("Nameless", (sparsepo.Method,), {}), 3])
def test_what_is_no_method_is_refused(thing: Any) -> None:
    with pytest.raises(
        UserError, match=r"is not a method: it must subclass sparsepo\.Method and set"
    ):
        register_method(thing)
    assert len(sparsepo.available_methods()) == len(BUILT_IN)


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"'dpo' is already taken by sparsepo\.methods\.dpo\.DPO"):
        register_method(subclass("dpo"))
    register_method(subclass("made"))
    other = subclass("made")
    other.__qualname__ = "Other"
    with pytest.raises(UserError, match=r"already taken.*give Other another name"):
        register_method(other)


# Entry points


def test_an_entry_point_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, subclass("installed"))
    assert list(sparsepo.available_methods()) == [*BUILT_IN, "installed"]
    assert method_origin("installed") == "package some-package"


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (
            ImportError("no such thing"),
            r"'point' \(package:Class\) cannot be loaded \(ImportErr.*un",
        ),
        (SyntaxError("bad"), "cannot be loaded"),
        (dict, "not a subclass of sparsepo.Method"),
        (type("Nameless", (sparsepo.Method,), {}), "not a subclass of sparsepo.Method with a name"),
        (subclass("dpo"), "uses the name 'dpo' of a built-in method"),
    ],
)
def test_a_broken_entry_point_is_a_users_error(
    monkeypatch: pytest.MonkeyPatch, loaded: Any, message: str
) -> None:
    install(monkeypatch, loaded)
    with pytest.raises(UserError, match=message):
        sparsepo.available_methods()


# Files


def write(folder: Path, text: str, name: str = "plugin_file.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_file_adds_its_own_methods_only(tmp_path: Path) -> None:
    """DPO, which it imports, is not its own."""
    file = write(tmp_path, METHOD)
    assert load_plugin(file) == ["mine"]
    assert sparsepo.get_method("mine", extra=5).extra == 5  # type: ignore[attr-defined]
    assert method_origin("mine") == "file plugin_file.py"


def test_a_file_may_be_loaded_again(tmp_path: Path) -> None:
    """The classes are new objects then, of the same name and file."""
    file = write(tmp_path, METHOD)
    load_plugin(file)
    write(tmp_path, METHOD.replace("2.0", "4.0"))
    assert load_plugin(str(file)) == ["mine"]
    assert sparsepo.get_method("mine").extra == 4.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_to_be_found", r"cannot be loaded \(ModuleNotFoundError: .*fix the file"),
        ("def broken(:", "cannot be loaded .SyntaxError"),
        ("raise ValueError('at import')", "cannot be loaded .ValueError: at import"),
        ("x = 1", "defines no subclass of sparsepo.Method"),
        ("from sparsepo.methods import DPO", "defines no subclass of sparsepo.Method"),
        (METHOD.replace('"mine"', '"dpo"'), "'dpo' is already taken"),
    ],
)
def test_a_broken_file_is_a_users_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_plugin(write(tmp_path, text))
    assert list(sparsepo.available_methods()) == list(BUILT_IN)


def test_a_missing_file_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.py does not exist"):
        load_plugin(tmp_path / "nothing.py")
    with pytest.raises(UserError, match="does not exist"):
        load_plugin(tmp_path)
    with pytest.raises(UserError, match=r"must end in \.py"):
        load_plugin(write(tmp_path, METHOD, "plugin.txt"))
