"""Recipes are YAML 1.2: numbers are numbers, words are words, and no key is given twice."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sparsepo.cli.yaml_core import dump, load

# PyYAML itself reads U+0085 in quotes as a line break, and refuses control characters.
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]))
SCALARS = (
    TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)
    | st.sampled_from(["1e-6", "no", "012", "1_000", "1:30", "2024-01-01", "<<", "=", "~", ".inf"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8
)


@given(st.dictionaries(TEXTS, VALUES))
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    found = load(dump(values))
    assert found == values
    assert repr(found) == repr(values)


@given(st.dictionaries(TEXTS, SCALARS))
def test_other_readers_find_the_same_values(values: dict[str, Any]) -> None:
    assert yaml.safe_load(dump(values)) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6), ("1E+3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-7", -7), ("012", 12),
        ("0o17", 15), ("0x1F", 31), ("1_000", "1_000"), ("no", "no"), ("yes", "yes"),
        ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("true", True), ("False", False),
        ("~", None), ("", None), ("null", None), ("'1e-6'", "1e-6"), ("-.inf", float("-inf")),
    ],
)  # fmt: skip
def test_scalars_have_the_type_that_they_look_like(text: str, value: object) -> None:
    found = load(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: 2\na: 3", 3), ("a:\n  b: 1\n  b: 1", 3), ("a: {b: 1, b: 2}", 1), ("? [1]\n: 2", 1)],
)
def test_a_key_that_is_given_twice_or_no_scalar_is_refused(text: str, line: int) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as error:
        load(text)
    assert error.value.problem_mark is not None
    assert error.value.problem_mark.line + 1 == line


def test_a_document_makes_no_python_objects() -> None:
    with pytest.raises(yaml.YAMLError):
        load("a: !!python/object/apply:os.getcwd []")
