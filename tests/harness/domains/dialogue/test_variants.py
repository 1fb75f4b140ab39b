"""A table whose rows are variants of one method, as the paper's Tables 3 to 5 are."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.run import prepare, run_experiment
from harness.config.request import RunRequest
from harness.domains.common.spec import RowSpec, TableSpec
from harness.domains.dialogue.experiments import TABLE1
from harness.graph.store import Store
from sparsepo.errors import UserError
from tests.small_table import SMALL

METHOD = "sparsepo-common"
SETTINGS: dict[str, dict[str, Any]] = {
    "learned": {},
    "random": {"mask_kind": "random"},
    "faster": {"mask_layers": "last", "mask_weight_decay": 0.5, "learning_rate": 5e-3},
}
VARIANTS = TableSpec(
    id="table77",
    title="Kinds of mask",
    domain="dialogue",
    rows=tuple(RowSpec(id, METHOD, f"{id} mask", values) for id, values in SETTINGS.items()),
    columns=TABLE1.columns,
    average="avg",
    supplement=TABLE1.supplement,
    baseline="learned",
    reference="learned",
)


# Several steps, because the first one of a warm-up changes nothing; one benchmark is enough.
FEW = ("po.batch_size=8", "po.device_batch_size=8", "data.musr=world", "world.rows.musr=4")


def request(folder: Path, *assignments: str, methods: tuple[str, ...] | None = None) -> RunRequest:
    return RunRequest(
        methods=methods,
        seeds=1,
        assignments=(*SMALL, *FEW, *assignments),
        workers=1,
        out=folder / "out",
        store=folder / "store",
    )


def test_three_rows_of_one_method_are_three_results(
    tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    table = run_experiment(VARIANTS, request(tmp_path), recorder)
    folder = tmp_path / "out" / "tiny" / "table77"
    assert json.loads((folder / "table77.json").read_text()) == table
    assert [(row["id"], row["method"]) for row in table["rows"]] == [
        (id, METHOD) for id in SETTINGS
    ]
    assert {row["id"]: row["settings"] for row in table["rows"]} == SETTINGS
    trained = {name for name in recorder.made_stages if name.endswith("seed 42")}
    assert {f"{id} seed 42" for id in SETTINGS} <= trained

    # Each row is a run of its own, with its own values.
    store = Store(tmp_path / "store")
    runs = {
        store.record(address)["name"]: store.folder(address)
        for address in store.addresses()
        if store.record(address)["name"].split()[0] in SETTINGS
    }
    models = {(folder / "model" / "model.safetensors").read_bytes() for folder in runs.values()}
    assert len(runs) == len(models) == 3
    for id, values in SETTINGS.items():
        hyper_parameters = json.loads(
            (runs[f"{id} seed 42"] / "model" / "method.json").read_text()
        )["hyper_parameters"]
        for name, value in values.items():
            if name != "learning_rate":
                assert hyper_parameters[name] == value

    # Every comparison is with the baseline row, though all have the same method.
    compared = {entry["row"] for entry in table["significance"]}
    assert compared == {"random", "faster"}
    assert {entry["baseline"] for entry in table["significance"]} == {"learned"}
    assert [row["id"] for row in table["supplement"]["rows"]] == list(SETTINGS)
    text = (folder / "table77.md").read_text()
    assert all(f"| {id} mask |" in text for id in SETTINGS)
    # The paper's numbers are not shown, because the table names no setting of the paper.
    assert "published" not in text
    with (folder / "table77.csv").open() as stream:
        rows = [(row["row"], row["method"]) for row in csv.DictReader(stream)]
    assert set(rows) == {(id, METHOD) for id in SETTINGS}


def test_rows_are_chosen_by_id_or_by_method(tmp_path: Path) -> None:
    def rows(name: str) -> list[str]:
        return list(prepare(VARIANTS, request(tmp_path, methods=(name,))).graph.systems)

    assert rows("random") == ["random"]
    assert rows(METHOD) == list(SETTINGS)
    with pytest.raises(UserError, match="Did you mean 'random'"):
        rows("randon")


def test_a_value_that_every_row_sets_itself_cannot_be_set(tmp_path: Path) -> None:
    alone = ("random",)
    with pytest.raises(UserError, match=r"methods\.sparsepo-common\.mask_kind has no effect"):
        prepare(VARIANTS, request(tmp_path, f"methods.{METHOD}.mask_kind=binary", methods=alone))
    # Another row takes it.
    graph = prepare(VARIANTS, request(tmp_path, f"methods.{METHOD}.mask_kind=binary")).graph
    kinds = {
        row: systems[0].model.config["hyper_parameters"]["mask_kind"]
        for row, systems in graph.systems.items()
    }
    assert kinds == {"learned": "binary", "random": "random", "faster": "binary"}


def test_a_setting_that_the_method_does_not_have_is_named(tmp_path: Path) -> None:
    wrong = TableSpec(
        **{
            **{name: getattr(VARIANTS, name) for name in VARIANTS.__dataclass_fields__},
            "rows": (RowSpec("odd", METHOD, "Odd", {"mask_colour": "red"}),),
        }
    )
    with pytest.raises(UserError, match="does not use the hyper-parameter 'mask_colour'"):
        prepare(wrong, request(tmp_path))
