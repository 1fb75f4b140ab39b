"""What a result says of its making."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.commands.made_by import command_of, stage_codes
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from harness.graph.stages import Stage
from sparsepo.registry import method_class
from tests.small_results import FUNCTION


def test_the_command_can_be_given_again(tmp_path: Path) -> None:
    data = tmp_path / "my pairs.jsonl"
    data.write_text("")
    request = RunRequest(
        methods=("sft", "dpo"),
        seeds=2,
        tune=4,
        assignments=(f"data.hh_rlhf={data}", "model.dialogue=owner/model", "po.epochs=2"),
        plugins=(str(tmp_path / "mine.py"),),
        workers=3,
        out=tmp_path,
        quiet=True,
    )
    found = command_of(EXPERIMENTS["table1"], request)
    # Without what cannot affect the result, and without folders of this machine.
    assert shlex.split(found) == [
        *("python", "-m", "harness", "run", "--table", "1", "--profile", "tiny"),
        *("--methods", "sft,dpo", "--seeds", "2"),
        *("--tune", "4", "--set", "data.hh_rlhf=my pairs.jsonl", "model.dialogue=owner/model"),
        *("po.epochs=2", "--plugin", "mine.py"),
    ]


def test_tables_beyond_the_paper_and_figures_have_their_option() -> None:
    request = RunRequest(tune="profile")
    assert "--table noise --profile tiny --tune" in command_of(EXPERIMENTS["noise"], request)
    assert "--figure 2 " in command_of(EXPERIMENTS["figure2"], request)
    winrate = command_of(EXPERIMENTS["winrate-dialogue"], RunRequest(profile="small"))
    assert winrate == "python -m harness run --table winrate-dialogue --profile small"


def test_stage_codes_do_not_depend_on_the_method() -> None:
    function = "harness.domains.common.work.train:train_policy"
    code = {
        name: stage_codes(
            [
                Stage(
                    name,
                    function,
                    code=(method_class(name).__module__,),
                    without=("sparsepo.methods",),
                    inputs={"other": Stage("link", FUNCTION)},
                )
            ]
        )
        for name in ("dpo", "simpo")
    }
    assert code["dpo"] == code["simpo"]
    assert list(code["dpo"]) == sorted([FUNCTION, function])
    assert all(len(one) == 16 for one in code["dpo"].values())
