from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.commands.draw import redraw
from sparsepo.errors import UserError
from tests.harness.render.test_table import table


def test_a_result_is_drawn_again_from_its_json_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table1.json"
    file.write_text(json.dumps(table()))
    assert main(["draw", str(file)]) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(made) == {f"table1.{kind}" for kind in ("json", "md", "csv", "tex", "png")}
    assert f"{tmp_path / 'table1'}.{{csv,json,md,png,tex}}" in capsys.readouterr().out
    redraw(file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "table1", "rows"', "not valid JSON"),
        ('{"id": "table77"}', "not the result of an experiment"),
        ("[1]", "not the result of an experiment"),
        ('{"id": "table1"}', "another version"),
    ],
)
def test_other_files_are_refused_and_nothing_is_written(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "table1.json"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        redraw(file)
    assert [path.name for path in tmp_path.iterdir()] == ["table1.json"]
