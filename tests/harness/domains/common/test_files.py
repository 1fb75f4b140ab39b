"""What stage functions share about files and models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.domains.common.work.files import starting_model
from harness.graph.stages import StageContext
from sparsepo.errors import UserError


def context(tmp_path: Path, model: str | None, **places: Any) -> StageContext:
    inputs, files = places.get("inputs", {}), places.get("files", {})
    return StageContext("t", {"model": model}, inputs, files, tmp_path, lambda *_: None, 1)


def test_a_stage_takes_its_model_from_an_input_or_a_file(tmp_path: Path) -> None:
    assert starting_model(context(tmp_path, None, inputs={"model": tmp_path})) == tmp_path / "model"
    assert starting_model(context(tmp_path, None, files={"model": tmp_path})) == tmp_path


def test_a_model_that_the_hub_does_not_have_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder 'my/model', and no model of that name"):
        starting_model(context(tmp_path, "my/model"))
