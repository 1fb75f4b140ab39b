"""What the library relies on inside transformers.Trainer, against the transformers installed here.

After an upgrade, a failure in this file names the method or attribute that moved. Everything of
that kind is in sparsepo/training/hooks.py.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from transformers import Trainer

from sparsepo.training import trainer
from sparsepo.training.hooks import OVERRIDDEN, READ, TrainerHooks
from sparsepo.training.trainer import POTrainer

FOLDER = Path(trainer.__file__).parent
SUBCLASSES = {
    "TrainerHooks", "CheckpointedTrainer", "SharingTrainer", "ScoringTrainer", "POTrainer",
}  # fmt: skip


def parameters(function: object) -> list[str]:
    """Return the names of a function's parameters."""
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def attributes_of_trainer() -> set[str]:
    """Return what Trainer's methods and its instances have: names that it sets on `self`."""
    source = ast.parse(inspect.getsource(Trainer))
    assigned = {
        node.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and isinstance(node.ctx, ast.Store)
    }
    return assigned | {name for name in vars(Trainer) if not name.startswith("__")}


def classes() -> dict[str, ast.ClassDef]:
    """Return the source of the classes that make up POTrainer."""
    found = {}
    for file in FOLDER.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name in SUBCLASSES:
                found[node.name] = node
    assert found.keys() == SUBCLASSES
    return found


@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_an_overridden_method_has_the_parameters_that_it_had(name: str) -> None:
    """In order, and none more; the oldest supported release may lack one of the newest."""
    known = OVERRIDDEN[name].strip("()").split(", ")
    theirs = parameters(getattr(Trainer, name))
    assert theirs == [parameter for parameter in known if parameter in theirs]


@pytest.mark.parametrize("name", sorted(READ))
def test_an_attribute_that_is_read_is_still_set(name: str) -> None:
    assert name in attributes_of_trainer()


def test_every_override_is_named() -> None:
    """Methods of POTrainer and its bases that replace one of transformers.Trainer's."""
    own = {name for kind in SUBCLASSES for name in vars(class_of(kind))}
    theirs = {name for name in vars(Trainer) if inspect.isfunction(vars(Trainer)[name])}
    assert own & theirs - {"__init__"} == set(OVERRIDDEN)


def test_an_override_accepts_what_transformers_passes() -> None:
    for name in OVERRIDDEN:
        theirs = parameters(getattr(Trainer, name))
        ours = inspect.signature(getattr(POTrainer, name)).parameters
        keywords = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in ours.values())
        assert keywords or list(ours)[: len(theirs)] == theirs, name


def test_private_names_are_touched_in_one_file_alone() -> None:
    private = {name for name in attributes_of_trainer() if name.startswith("_")}
    for name, node in classes().items():
        if name == "TrainerHooks":
            continue
        touched = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
        defined = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        assert not (touched | defined) & private, f"{name} touches {(touched | defined) & private}"


def test_every_attribute_that_is_read_is_named() -> None:
    theirs = attributes_of_trainer() - set(OVERRIDDEN)
    public = {
        "add_callback",  # part of Trainer's documentation, with a signature of one argument
    }
    for name, node in classes().items():
        own = {n for kind in SUBCLASSES for n in vars(class_of(kind))}
        touched = {
            n.attr
            for n in ast.walk(node)
            if isinstance(n, ast.Attribute)
            and isinstance(n.value, ast.Name)
            and n.value.id == "self"
        }
        unnamed = touched & theirs - set(READ) - own - public
        assert not unnamed, f"{name} reads {unnamed}; add it to READ in hooks.py"


def class_of(name: str) -> type:
    """Return one of the classes that make up POTrainer."""
    return next(kind for kind in POTrainer.__mro__ if kind.__name__ == name)


def test_the_loss_is_not_divided_once_more() -> None:
    """transformers reads this name where it decides about gradient accumulation."""
    assert TrainerHooks.loss_is_scaled_for_ga is True
    assert "loss_is_scaled_for_ga" in inspect.getsource(Trainer.training_step)


def test_callbacks_are_told_after_the_sums_are_reset_and_before_the_first_step() -> None:
    """`begin` relies on the order in Trainer's inner loop."""
    source = inspect.getsource(Trainer._inner_training_loop)
    places = [source.index(text) for text in ("_prepare_for_training(", "_tr_loss = ",
                                              "on_train_begin(", "_run_epoch(")]  # fmt: skip
    assert places == sorted(places)
