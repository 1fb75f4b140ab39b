"""A domain is a folder and one row: nothing else knows the names of the domains."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

import harness.domains
from harness.cli import main
from harness.domains.catalogue import EXPERIMENTS, load_experiments

FILES = {
    "experiments.py": """
        from harness.domains.common.rows import method_rows
        from harness.domains.common.spec import ColumnSpec, RowSpec, TableSpec

        TABLE99 = TableSpec(
            id="table99",
            title="A toy",
            domain="toy",
            rows=(*method_rows("dpo"), RowSpec("cheap", "dpo", "DPO, cheap", {"beta": 0.5})),
            columns=(ColumnSpec("cost", "Cost", higher_is_better=False),),
            baseline="dpo",
            reference="dpo",
        )
        EXPERIMENTS = (TABLE99,)
    """,
    "__init__.py": """
        from dataclasses import dataclass

        import numpy as np

        from harness.config.profiles import Profile, TrainingSettings
        from harness.domains.common.cells import Statistic
        from harness.domains.common.domain import Domain
        from harness.domains.common.table import block_json, column_facts
        from harness.graph.stages import Stage
        from harness.render.table import print_table, table_files
        from tasks.metrics.chains import ChainValues


        @dataclass(frozen=True)
        class Graph:
            systems: dict

            @property
            def targets(self):
                return list(self.systems.values())


        def tiny():
            training = TrainingSettings(1e-3, 1, 8, 8, 64, 32)
            return Profile(
                name="tiny", description="a toy", data=Sources(), model=Sources(), po=training,
                methods={}, seeds=1, device="cpu", workers=1,
            )


        @dataclass(frozen=True)
        class Sources:
            toy: str = "toy"


        class Toy(Domain):
            profiles = {"tiny": tiny}

            def build(self, experiment, profile, rows, plugins, request):
                trace = str(request.out.absolute() / "trace.txt")
                return Graph({
                    row.id: Stage(
                        row.id,
                        "toy_stages:number",
                        {"value": 10 * row.settings.get("beta", 1.0), "trace": trace},
                    )
                    for row in rows
                })

            def result(self, run):
                values = {
                    row: float((run.store.folder(stage.address) / "number.txt").read_text())
                    for row, stage in run.graph.systems.items()
                }
                cells = {
                    row: {
                        "cost": Statistic(
                            ChainValues(np.full(1, value), np.full((1, 9), value), 1)
                        )
                    }
                    for row, value in values.items()
                }
                columns = run.table.columns
                return {
                    "id": run.table.id,
                    "title": run.table.title,
                    "profile": run.profile.name,
                    **column_facts(columns),
                    **block_json(
                        run.rows, columns, cells, run.profile.statistics,
                        baselines=(run.table.baseline,),
                    ),
                    "baseline": run.table.baseline,
                    "notes": [],
                }

            def files(self, experiment, result):
                return table_files(result)

            def show(self, experiment, result, console):
                print_table(result, console)


        DOMAIN = Toy()
    """,
}


@pytest.mark.usefixtures("toy")
def test_a_folder_and_a_row_are_a_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "domains" / "toy"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(textwrap.dedent(text))
    places = [*harness.domains.__path__, str(folder.parent)]
    monkeypatch.setattr(harness.domains, "__path__", places)
    monkeypatch.setattr(harness.domains, "DOMAINS", (*harness.domains.DOMAINS, "toy"))
    out = tmp_path / "out"
    out.mkdir()
    for id, experiment in load_experiments(["toy"]).items():
        monkeypatch.setitem(EXPERIMENTS, id, experiment)
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "table99" in listed and "tiny, toy" in listed
    assert main(["run", "--table", "99", "--out", str(out), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "DPO, cheap" in shown and "Cost ↓" in shown
    written = out / "tiny" / "table99" / "table99.json"
    rows = json.loads(written.read_text())["rows"]
    means = {row["id"]: row["values"]["cost"]["mean"] for row in rows}
    assert means == {"dpo": 10.0, "cheap": 5.0}
    page = written.with_suffix(".md")
    assert "| DPO, cheap | **5.00** " in page.read_text()
    page.unlink()
    assert main(["draw", str(written)]) == 0
    assert page.is_file()
