"""A rehearsal: the profile's own stages on stand-ins, in folders of their own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.commands.rehearse import command as module
from harness.commands.rehearse.models import write_model
from harness.commands.rehearse.reduced import reductions
from harness.commands.rehearse.rows import texts_of, write_rows
from harness.commands.run import describe
from harness.config.request import RunRequest
from harness.domains.catalogue import EXPERIMENTS
from sparsepo.errors import UserError


def test_a_rehearsal_executes_every_stage_of_a_hub_profile(tmp_path: Path) -> None:
    """Figure 7 of `small`: GPT-2 from the hub, IMDB from the hub, two runs, a picture."""
    out = tmp_path / "rehearsal"
    request = RunRequest(profile="small", quiet=True)
    assert module.rehearse([EXPERIMENTS["figure7"]], request, out) == 0
    result = json.loads((out / "small" / "figure7" / "figure7.json").read_text())
    assert "lvwerra/gpt2-imdb" in json.dumps(result)
    timings = json.loads((out / "small" / "figure7" / "timings.json").read_text())
    names = set(timings["seconds"])
    assert {"reviews", "samples seed 42", "preference pairs seed 42"} <= names
    # The first and the last value of the sweep, and the one that maps show.
    assert {name for name in names if "sparsepo" in name} == {
        f"sparsepo-independent β {beta} seed 42" for beta in ("0.05", "0.8", "5")
    }
    assert (out / "small" / "figure7" / "figure7.png").is_file()
    assert (out / "hub" / "hub" / "models--lvwerra--gpt2-imdb").is_dir()


def test_a_temporary_folder_is_removed_unless_the_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = iter([0, 1])
    seen: list[Path] = []

    def run(one: Any, changes: Any, folder: Path) -> int:
        seen.append(folder)
        return next(codes)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "_run", run)
    experiments, request = [EXPERIMENTS["table1"]], RunRequest()
    assert module.rehearse(experiments, request, None) == 0
    assert not seen[0].exists()
    assert module.rehearse(experiments, request, None) == 1
    assert seen[1].is_dir()
    assert str(seen[1]) in capsys.readouterr().err


def test_a_rehearsal_asks_for_what_the_user_asks_for() -> None:
    experiment = EXPERIMENTS["winrate-dialogue"]
    request = RunRequest(
        profile="small",
        methods=("sft", "dpo"),
        seeds=2,
        workers=1,
        allow_code_execution=False,
        assignments=("judge.model=m", "judge.url=http://localhost:1/v1"),
        quiet=True,
    )
    asked = module._options(describe(experiment, request))
    assert asked == [
        "--table",
        "winrate-dialogue",
        "--profile",
        "small",
        "--engine",
        "local",
        "--methods",
        "sft,dpo",
        "--seeds",
        "2",
        "--workers",
        "1",
        "--quiet",
    ]
    tuned = RunRequest(tune="profile", methods=("dpo",))
    assert "--tune" in module._options(describe(EXPERIMENTS["table1"], tuned))


@pytest.mark.parametrize("profile", ["small", "paper"])
@pytest.mark.parametrize("name", ["table1", "table3", "figure2", "figure5", "transfer"])
def test_a_reduced_profile_is_smaller_and_otherwise_the_same(name: str, profile: str) -> None:
    experiment = EXPERIMENTS[name]
    whole = describe(experiment, RunRequest(profile=profile)).profile
    changes = tuple(reductions(whole, experiment.judged, None))
    small = describe(experiment, RunRequest(profile=profile, assignments=changes)).profile
    for part in ("batch_size", "device_batch_size", "epochs", "precision", "max_length", "lora_r"):
        assert getattr(small.po, part) == getattr(whole.po, part)
    assert small.model == whole.model
    assert small.methods == whole.methods
    # A checkpoint is written where the profile writes one.
    assert (small.po.save_steps is None) == (whole.po.save_steps is None)


def test_a_stand_in_is_read_by_the_id_of_what_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = list(texts_of("Anthropic/hh-rlhf"))
    write_model("EleutherAI/pythia-410m", texts, tmp_path / "hub")
    place = next((tmp_path / "hub").glob("models--*/snapshots/*"))
    model: Any = AutoModelForCausalLM.from_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    assert model.config.model_type == "gpt_neox"
    assert model.config.max_position_embeddings == 2048
    # As published, and not as one would like to train it.
    assert model.dtype == torch.float16
    assert tokenizer.chat_template is None
    assert tokenizer.eos_token == "<|endoftext|>"

    write_rows("openai/summarize_from_feedback", tmp_path / "datasets")
    rows = datasets.load_dataset(
        "openai/summarize_from_feedback",
        "axis",
        split="validation",
        cache_dir=str(tmp_path / "datasets"),
    )
    assert {"info", "summary"} <= set(rows.column_names)


def test_what_has_no_stand_in_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no stand-in for you/model"):
        write_model("you/model", ["a"], tmp_path)
    with pytest.raises(UserError, match=r"no stand-in for the data set you/rows"):
        write_rows("you/rows", tmp_path)
