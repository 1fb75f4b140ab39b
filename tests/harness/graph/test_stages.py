from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.graph.files import canonical_json, content_hash
from harness.graph.stages import Stage, topological


def stage(**changes: object) -> Stage:
    values: dict[str, object] = {"name": "a", "function": "harness.graph.files:sha256_file"}
    return Stage(**(values | changes))  # type: ignore[arg-type]


def test_address_depends_on_what_changes_a_result(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("1\n")
    addresses = {
        stage().address,
        stage(function="harness.graph.files:content_hash").address,
        stage(config={"lr": 1}).address,
        stage(inputs={"base": stage()}).address,
        stage(inputs={"base": stage(config={"lr": 1})}).address,
        stage(files={"rows": file}).address,
        stage(code=("sparsepo.data.rows",)).address,
        stage(code=("sparsepo.registry",)).address,
        stage(code=("sparsepo.registry",), without=("sparsepo.methods",)).address,
        stage(libraries=("numpy",)).address,
        stage(threads=2).address,
    }
    assert len(addresses) == 11


def test_address_ignores_names_places_and_hints(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text("same")
    two.write_text("same")
    first = stage(files={"rows": one}, seconds_hint=1.0)
    second = stage(name="b", files={"rows": two}, resumable=True, options={"batch_size": 8})
    assert first.address == second.address


def test_address_follows_file_contents(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("1")
    before = stage(files={"rows": file}).address
    file.write_text("22")
    assert stage(files={"rows": file}).address != before


def test_folder_hash_sees_names_and_contents(tmp_path: Path) -> None:
    def make(name: str, files: dict[str, str]) -> str:
        folder = tmp_path / name
        for inner, text in files.items():
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            (folder / inner).write_text(text)
        return content_hash(folder)

    assert make("a", {"x/1": "t", "2": "u"}) == make("b", {"x/1": "t", "2": "u"})
    assert make("c", {"x/1": "t", "2": "v"}) != make("a", {})
    assert make("d", {"y/1": "t", "2": "u"}) != make("a", {})


def test_topological_puts_inputs_first_and_shares_equal_stages() -> None:
    base = stage(name="base")
    left = stage(name="left", config={"side": 1}, inputs={"base": base})
    right = stage(name="right", config={"side": 2}, inputs={"base": stage(name="base")})
    top = stage(name="top", inputs={"l": left, "r": right})
    assert [s.name for s in topological([top, left])] == ["base", "left", "right", "top"]


@given(
    st.dictionaries(
        st.text(),
        st.integers()
        | st.booleans()
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_canonical_json_does_not_depend_on_order(value: dict[str, object]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})
