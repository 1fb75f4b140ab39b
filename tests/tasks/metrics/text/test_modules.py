"""The metrics as modules of the package evaluate, in a process without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.metrics.text import METRICS, TextMetricSettings, make_metric, score_groups
from tests.summac.stand_in import StandIn
from tests.tasks.metrics.text.texts import CANDIDATES, GROUPS, POST, REFERENCES

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "tasks" / "metrics" / "text" / "modules"
NAMES = {
    "rouge_l": "rougeL", "bertscore": "bertscore", "self_bleu": "self_bleu", "edna": "edna",
    "summac": "summac", "length": "length",
}  # fmt: skip

WORKER = """
import json, socket, sys

def refuse(*arguments, **options):
    raise OSError("this process has no network")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse
socket.getaddrinfo = refuse

import evaluate
from tests.summac.stand_in import StandIn
from tests.tasks.metrics.text.texts import CANDIDATES, GROUPS, POST, REFERENCES

folder, names = sys.argv[1], sys.argv[2].split(",")
settings = {"nli": StandIn(), "summac": "zs"}
modules = {name: evaluate.load(f"{folder}/{name}") for name in names}
result = {
    "single": {
        "rouge_l": modules["rouge_l"].compute(predictions=CANDIDATES, references=REFERENCES),
        "bertscore": modules["bertscore"].compute(predictions=CANDIDATES, references=REFERENCES),
        "length": modules["length"].compute(predictions=CANDIDATES),
    },
    "combined": evaluate.combine(list(modules.values())).compute(
        predictions=GROUPS, references=REFERENCES[:2], documents=[POST] * 2, settings=settings
    ),
    "info": {
        name: [module.description, module.citation, module.inputs_description, str(module.features)]
        for name, module in modules.items()
    },
}
try:
    modules["rouge_l"].compute(predictions=["a"], references=["a"], settings={"encodr": "x"})
except Exception as error:
    result["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(FOLDER), ",".join(NAMES)],
        capture_output=True, text=True, env=environment, cwd=tmp_path_factory.mktemp("cwd"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_there_is_a_module_for_every_metric() -> None:
    folders = {file.parent.name for file in FOLDER.glob("*/*.py")}
    assert folders == set(NAMES)
    assert set(NAMES.values()) == set(METRICS)


def test_modules_describe_themselves(computed: dict[str, Any]) -> None:
    for name, (description, citation, inputs, features) in computed["info"].items():
        assert len(description) > 30
        assert "title = {" in citation
        assert f"{NAMES[name]}_signature" in inputs
        assert "predictions" in features


def test_modules_give_the_metrics_own_values(computed: dict[str, Any]) -> None:
    for name in ("rouge_l", "bertscore", "length"):
        metric: Any = make_metric(NAMES[name])
        found = metric.score(CANDIDATES, references=REFERENCES)
        given = computed["single"][name]
        assert given[f"{NAMES[name]}_values"] == pytest.approx(found.values, abs=1e-6)
        assert given[NAMES[name]] == pytest.approx(found.mean(), abs=1e-6)


def test_combined_modules_give_the_same_values(computed: dict[str, Any]) -> None:
    settings = TextMetricSettings(nli=StandIn(), summac="zs")
    for name in METRICS:
        metric = make_metric(name, settings)
        found = score_groups(metric, GROUPS, references=REFERENCES[:2], documents=[POST] * 2)
        assert computed["combined"][f"{name}_values"] == pytest.approx(found.values, abs=1e-6)
        assert computed["combined"][name] == pytest.approx(found.mean(), abs=1e-6)
        assert computed["combined"][f"{name}_missing"] == found.missing
        assert f"metric:{name}|" in computed["combined"][f"{name}_signature"]


def test_a_setting_that_does_not_exist_is_refused(computed: dict[str, Any]) -> None:
    assert computed["error"].startswith(
        "UserError: Text metrics have no setting 'encodr'. Did you mean 'encoder'?"
    )
