"""A run is resumed only with the data that it began with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsepo.cli.main import main
from sparsepo.errors import UserError
from sparsepo.training.data_record import DATA_FILE, check_same_data, data_record
from sparsepo.types import PreferencePair, TokenizedPair
from tests.invariant.training import StopAt, make_trainer
from tests.small_models import small_model, small_tokenizer, text_pairs

TOKENS = st.lists(st.integers(0, 60_000), min_size=1, max_size=4)
TOKENIZED = st.lists(st.builds(TokenizedPair, st.text(), TOKENS, TOKENS, TOKENS), max_size=3)
TEXTS = st.lists(st.builds(PreferencePair, st.text(), st.text(), st.text(), st.text()), max_size=3)


@given(TOKENIZED, TOKENIZED, TEXTS, TEXTS)
def test_records_are_equal_exactly_if_the_pairs_are(
    first: list[TokenizedPair],
    second: list[TokenizedPair],
    held_out: list[PreferencePair],
    other: list[PreferencePair],
) -> None:
    one, two = data_record(first, held_out), data_record(second, other)
    assert (one["training"] == two["training"]) == (first == second)
    assert (one["evaluation"] == two["evaluation"]) == (held_out == other)
    assert one == data_record(list(first), list(held_out))


def test_ids_messages_and_arguments_of_the_template_count() -> None:
    pair = PreferencePair("1", [{"role": "user", "content": "a"}], [], [], {"tools": []})
    others = [
        replace(pair, pair_id="2"),
        replace(pair, prompt=[{"role": "system", "content": "a"}]),
        replace(pair, chat_template_kwargs={}),
    ]
    records = [data_record([], [one])["evaluation"] for one in (pair, *others)]
    assert all(record != records[0] for record in records[1:])


def test_a_checkpoint_without_a_record_and_a_stream_pass(tmp_path: Path) -> None:
    record = data_record([], None)
    check_same_data(tmp_path, record)
    (tmp_path / DATA_FILE).write_text(json.dumps(data_record(iter(()), None)))
    check_same_data(tmp_path, record)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("training", {"pairs": text_pairs(12, seed=9)}),
    ("training", {"pairs": text_pairs(11)}),
    ("training", {"pairs": text_pairs(12)[::-1]}),
    ("training", {"max_length": 8, "on_long_response": "truncate"}),
    ("evaluation", {"eval_pairs": text_pairs(2, seed=9)}),
    ("evaluation", {"eval_pairs": None}),
    ("evaluation", {"eval_pairs": {"near": text_pairs(2, seed=5)}}),
]


@pytest.mark.parametrize(("what", "change"), CHANGES)
def test_a_run_on_other_pairs_is_not_resumed(
    what: str, change: dict[str, Any], interrupted: Path
) -> None:
    trainer = make_trainer(interrupted, **{**RUN, **change})
    said = rf"checkpoint-2 was written by a run with other {what} pairs; use the same data"
    with pytest.raises(UserError, match=said):
        trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 0


RUN: dict[str, Any] = {
    "method": "dpo", "save_strategy": "steps", "save_steps": 1, "max_steps": 3,
    "pairs": text_pairs(12), "eval_pairs": text_pairs(2, seed=5),
}  # fmt: skip


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run that stopped after its second checkpoint."""
    folder = tmp_path_factory.mktemp("interrupted")
    trainer = make_trainer(folder, **RUN, callbacks=[StopAt(2)])
    with pytest.raises(InterruptedError):
        trainer.train()
    assert (folder / "checkpoint-2" / DATA_FILE).is_file()
    return folder


def test_other_settings_than_the_data_may_change(interrupted: Path) -> None:
    trainer = make_trainer(interrupted, **{**RUN, "logging_steps": 3, "save_strategy": "no"})
    trainer.train(resume_from_checkpoint=str(interrupted / "checkpoint-1"))
    assert trainer.state.global_step == 3
    trainer.save_model()
    assert not (interrupted / DATA_FILE).exists()


def test_the_command_refuses_other_data_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    small_model("gpt_neox").save_pretrained(model)
    small_tokenizer().save_pretrained(model)
    rows = [
        {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in text_pairs(12)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [
        "train", "--model", str(model), "--data", str(data), "--method", "dpo",
        "--output", str(tmp_path / "out"),
        "--set", "max_steps=2", "save_steps=1", "use_cpu=true", "save_total_limit=5",
    ]  # fmt: skip

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sparsepo.cli.train.save_whole", stop)
        assert main(words) == 130
    capsys.readouterr()
    assert main([*words, "--eval-share", "0.2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: ")
    assert "checkpoint-2 was written by a run with other training pairs" in error
    assert "choose another output folder" in error
    assert main(words) == 0
