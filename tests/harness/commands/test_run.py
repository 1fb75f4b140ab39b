"""Several experiments in one command: each takes the changes that it knows."""

from __future__ import annotations

import pytest

from harness.commands.run import split_request
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from sparsepo.errors import UserError

ALL = list(EXPERIMENTS.values())


def given(request: RunRequest) -> dict[str, tuple[str, ...]]:
    return {experiment.id: own.assignments for experiment, own in split_request(ALL, request)}


def test_each_experiment_gets_the_values_that_its_domain_has() -> None:
    own = given(RunRequest(assignments=("data.bbh=x", "sweep.beta=0.1", "seeds=1", "po.epochs=2")))
    assert list(own) == list(EXPERIMENTS)
    assert own["table1"] == ("data.bbh=x", "seeds=1", "po.epochs=2")
    assert own["table2"] == ("seeds=1", "po.epochs=2")
    assert own["figure2"] == ("sweep.beta=0.1", "seeds=1", "po.epochs=2")


def test_values_of_methods_are_everybodys() -> None:
    own = given(RunRequest(assignments=("methods.dpo.max_length=9",)))
    assert set(own.values()) == {("methods.dpo.max_length=9",)}


def test_a_value_that_no_experiment_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"--set data\.bbhh=x: no experiment has this setting"):
        given(RunRequest(assignments=("data.bbh=x", "data.bbhh=x")))


def test_permission_reaches_only_what_runs_programs() -> None:
    request = RunRequest(allow_code_execution=True)
    allowed = {e.id for e, own in split_request(ALL, request) if own.allow_code_execution}
    assert allowed == {"table2", "figure6", "figure8"}
    others = [experiment for experiment in ALL if experiment.id not in allowed]
    with pytest.raises(UserError, match="No experiment runs model-generated programs"):
        split_request(others, request)


def test_one_experiment_alone_gets_the_request_as_it_is() -> None:
    request = RunRequest(assignments=("nothing.knows=1",), allow_code_execution=True)
    assert split_request(ALL[:1], request) == [(ALL[0], request)]


def test_seeds_are_for_the_experiments_that_have_several_chains() -> None:
    seeds = {
        experiment.id: own.seeds for experiment, own in split_request(ALL, RunRequest(seeds=2))
    }
    assert seeds.pop("figure6") is None
    assert seeds.pop("figure8") is None
    assert set(seeds.values()) == {2}
    own = given(RunRequest(assignments=("seeds=2",)))
    assert [name for name, texts in own.items() if not texts] == ["figure6", "figure8"]
