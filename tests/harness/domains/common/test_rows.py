"""Which rows an experiment has, and which of them are shown."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness.commands.run import select_rows, set_by_rows
from harness.domains.catalogue import EXPERIMENTS
from harness.domains.common import rows
from harness.domains.common.rows import PAPER_METHODS, method_rows
from harness.domains.common.spec import ColumnSpec, RowSpec, TableSpec
from harness.domains.dialogue import experiments
from sparsepo.errors import UserError
from sparsepo.methods import BUILT_IN
from sparsepo.methods.dpo import DPO

VARIANTS = TableSpec(
    id="table3",
    title="Variants",
    domain="dialogue",
    rows=(
        RowSpec("all", "sparsepo-common", "all layers", {"mask_layers": "all"}),
        RowSpec("last", "sparsepo-common", "last layer", {"mask_layers": "last"}),
        *method_rows("dpo"),
    ),
    columns=(ColumnSpec("avg", "Avg"),),
    baseline="all",
    reference="all",
)


def shown(*names: str, spec: TableSpec = VARIANTS) -> list[str]:
    return [row.id for row in select_rows(spec, names or None, {})]


def test_a_method_that_is_added_to_the_library_adds_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tenth = type("Tenth", (DPO,), {"name": "tenth", "title": "Tenth"})
    monkeypatch.setitem(BUILT_IN, "tenth", tenth)
    try:
        importlib.reload(rows)
        table = importlib.reload(experiments).TABLE1
        assert [row.method for row in table.rows] == list(PAPER_METHODS)
        assert [row.id for row in select_rows(table, None, {})][:9] == list(PAPER_METHODS)
        assert "tenth" not in [row.id for row in select_rows(table, None, {})]
        assert "tenth" in [row.id for row in select_rows(table, ("tenth",), {})]
    finally:
        monkeypatch.undo()
        importlib.reload(rows)
        importlib.reload(experiments)


def test_the_base_model_of_table_1_is_shown_first_and_only_by_name() -> None:
    table = experiments.TABLE1
    assert "base" not in shown(spec=table)
    assert "base" not in shown("all", spec=table)
    assert shown("dpo", "base", "sft", spec=table) == ["base", "sft", "dpo"]


def test_a_methods_row_is_called_by_the_methods_own_title() -> None:
    for experiment in EXPERIMENTS.values():
        for row in experiment.rows:
            if row.id in BUILT_IN:
                assert row.label == BUILT_IN[row.id].title


def test_rows_are_selected_by_id_or_by_method() -> None:
    assert shown()[:3] == ["all", "last", "dpo"]
    assert shown("last") == ["last"]
    assert shown("sparsepo-common") == ["all", "last"]
    assert shown("dpo", "all") == ["all", "dpo"]
    # A method that the table has no row for becomes one.
    assert shown("simpo", "last") == ["last", "simpo"]


def test_an_unknown_row_is_one_plain_sentence_with_the_closest_name() -> None:
    with pytest.raises(UserError, match=r"^Unknown row or method 'lasst'. Did you mean 'last'\?"):
        shown("lasst")
    with pytest.raises(UserError, match="Did you mean 'sparsepo-common'"):
        shown("sparsepo-comon")


def test_a_plug_in_is_a_row_after_the_experiments_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugged = type("Mine", (DPO,), {"name": "mine", "title": "Mine"})
    monkeypatch.setattr("sparsepo.registry._plugged_in", {"mine": plugged})
    row = select_rows(VARIANTS, None, {"mine": tmp_path})[-1]
    assert row == RowSpec("mine", "mine", "Mine")


def test_two_rows_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="several rows are called dpo"):
        TableSpec(
            id="table3",
            title="",
            domain="dialogue",
            rows=(*method_rows("dpo"), RowSpec("dpo", "simpo", "")),
            columns=(),
            baseline="dpo",
            reference="dpo",
        )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("methods.sparsepo-common.mask_layers", True),
        ("methods.sparsepo-common.beta", False),
        ("methods.dpo.beta", False),
        ("methods.simpo.gamma", False),
        ("po.epochs", False),
    ],
)
def test_values_that_all_rows_of_a_method_set_themselves_are_known(
    key: str, expected: bool
) -> None:
    assert set_by_rows(VARIANTS.rows, key) is expected
