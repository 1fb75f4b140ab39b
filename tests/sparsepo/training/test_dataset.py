"""What a trainer takes as data: pairs, rows in TRL's columns, data sets, streams without end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sparsepo
from sparsepo import POTrainer, PreferencePair, UserError, read_pairs
from sparsepo.training.dataset import ROWS_AHEAD, Stream, eval_sets, is_stream, to_pairs
from sparsepo.types import TokenizedPair
from tests.invariant.training import make_trainer, steps
from tests.small_models import text_pairs

PAIRS = text_pairs(12)
ROWS = [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in PAIRS]
CHAT = [
    {
        "prompt": [{"role": "user", "content": pair.prompt}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }
    for pair in PAIRS
]
IMPLICIT = [
    {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]}
    for row in CHAT
]


class TorchRows(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return ROWS[index]


def texts(pairs: Sequence[PreferencePair]) -> list[Any]:
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs]


@pytest.mark.parametrize(
    "data",
    [
        PAIRS,
        tuple(PAIRS),
        ROWS,
        datasets.Dataset.from_list(ROWS),
        datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}),
        {"anything": ROWS},
        TorchRows(),
    ],
    ids=["pairs", "tuple", "rows", "Dataset", "DatasetDict", "one split", "torch"],
)
def test_the_same_pairs_come_of_every_form(data: Any) -> None:
    assert texts(to_pairs(data, "train_dataset")) == texts(PAIRS)


def test_what_read_pairs_returns_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    datasets.Dataset.from_list(ROWS).to_json(file)
    data = read_pairs(file)
    assert to_pairs(data, "train_dataset") is data
    assert texts(data.pairs) == texts(PAIRS)


@pytest.mark.parametrize("rows", [CHAT, IMPLICIT], ids=["prompt", "implicit prompt"])
def test_conversations_are_taken_with_and_without_a_prompt(rows: list[Any]) -> None:
    found = to_pairs(datasets.Dataset.from_list(rows), "train_dataset")
    assert [pair.prompt for pair in found] == [row["prompt"] for row in CHAT]
    assert [pair.chosen for pair in found] == [row["chosen"] for row in CHAT]


def test_read_pairs_is_there_without_the_trainer() -> None:
    assert sparsepo.read_pairs is read_pairs
    assert "read_pairs" in sparsepo.__all__


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": ROWS, "b": ROWS}, r"several splits \(a, b\); give one of them, such as dataset\['a"),
        ("pairs.jsonl", r"is of type str; give a datasets\.Dataset, a list of rows"),
        (7, "is of type int"),
        ([], "contains no rows"),
        ([1, 2], "row 0 is of type int; all rows must be dictionaries"),
        ([{"prompt": "a", "chosen": "b"}], "has no column 'rejected'"),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], "No usable row"),
        (iter(ROWS), r"is a stream, which may be endless; take a part of it"),
        (datasets.Dataset.from_list(ROWS).to_iterable_dataset(), "is a stream"),
    ],
)
def test_other_data_is_refused_with_what_to_give(data: Any, message: str) -> None:
    if data == []:
        assert to_pairs(data, "train_dataset") == []
        return
    with pytest.raises(UserError, match=message):
        to_pairs(data, "train_dataset")


def test_evaluation_sets_keep_their_names() -> None:
    sets = eval_sets({"short": ROWS[:2], "long": datasets.Dataset.from_list(ROWS[2:5])})
    assert isinstance(sets, dict)
    assert [(name, len(pairs)) for name, pairs in sets.items()] == [("short", 2), ("long", 3)]
    assert eval_sets(None) is None
    with pytest.raises(UserError, match=r"eval_dataset\['b'\] is of type int"):
        eval_sets({"a": ROWS, "b": 3})


def test_rows_that_are_left_out_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS, {"prompt": "a", "chosen": "b", "rejected": "b"}]
    assert len(to_pairs(rows, "train_dataset")) == 12
    assert "train_dataset: 12 of 13 rows kept; skipped: 1 identical responses" in caplog.text


# Streams


def tokens_of(pairs: Any) -> list[TokenizedPair]:
    return [TokenizedPair(pair.pair_id, [1], [2], [3]) for pair in pairs]


def endless(taken: list[int]) -> Iterator[dict[str, Any]]:
    for number in itertools.count():
        taken.append(number)
        yield ROWS[number % len(ROWS)]


def test_streams_are_known_by_having_no_length() -> None:
    assert is_stream(iter(ROWS))
    assert is_stream(endless([]))
    assert is_stream(datasets.IterableDataset.from_generator(lambda: iter(ROWS)))
    for data in (ROWS, PAIRS, datasets.Dataset.from_list(ROWS), {"train": ROWS}, TorchRows()):
        assert not is_stream(data)


@given(count=st.integers(1, 150), ahead=st.integers(0, 150))
def test_looking_ahead_loses_no_row_and_repeats_none(count: int, ahead: int) -> None:
    rows = [{**ROWS[0], "id": f"row-{number}"} for number in range(count)]
    stream = Stream(iter(rows), tokens_of)
    first = stream.first(ahead) if ahead else []
    assert [pair.pair_id for pair in first] == [f"row-{n}" for n in range(min(ahead, count))]
    assert [pair.pair_id for pair in stream] == [f"row-{n}" for n in range(count)]


def test_a_stream_that_can_be_read_again_is() -> None:
    stream = Stream(datasets.IterableDataset.from_generator(lambda: iter(ROWS)), tokens_of)
    assert [pair.pair_id for pair in stream] == [f"row {n}" for n in range(12)]
    assert len(list(stream)) == 12


def test_rows_without_a_preference_are_left_out_even_if_a_whole_chunk_is() -> None:
    same = {"prompt": "a", "chosen": "b", "rejected": "b"}
    stream = Stream(iter([same] * (3 * ROWS_AHEAD) + [ROWS[0]]), tokens_of)
    assert len(stream.first(1)) == 1
    with pytest.raises(UserError, match="None of the last 10048 rows of train_dataset is usable"):
        list(Stream(itertools.repeat(same), tokens_of))
    with pytest.raises(UserError, match="has no usable row"):
        Stream(iter([same]), tokens_of).first(1)


def test_an_endless_stream_trains_for_max_steps_and_is_read_little_further(tmp_path: Path) -> None:
    taken: list[int] = []
    trainer = make_trainer(tmp_path, "sparsepo-common", pairs=endless(taken), max_steps=3)
    trainer.train()
    assert trainer.state.global_step == 3
    assert 12 <= len(taken) <= 12 + 2 * ROWS_AHEAD
    assert len(steps(trainer)) == 3


@pytest.mark.parametrize("kind", ["IterableDataset", "IterableDatasetDict", "generator"])
def test_a_stream_trains_as_the_same_rows_in_order_do(tmp_path: Path, kind: str) -> None:
    stream: Any = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    if kind == "IterableDatasetDict":
        stream = datasets.IterableDatasetDict({"train": stream})
    if kind == "generator":
        stream = (row for row in ROWS)
    run: dict[str, Any] = {"max_steps": 3, "train_sampling_strategy": "sequential"}
    whole = make_trainer(tmp_path / "whole", "dpo", **run)
    whole.train()
    streamed = make_trainer(tmp_path / "streamed", "dpo", pairs=stream, **run)
    streamed.train()
    ours, expected = ([s["loss"] for s in steps(trainer)] for trainer in (streamed, whole))
    assert ours == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "A stream has no length; set max_steps"),
        ({"max_steps": 2, "reference_cache": "cache"}, "reference_cache needs all pairs"),
        (
            {"max_steps": 2, "train_sampling_strategy": "group_by_length"},
            "group_by_length needs all pairs",
        ),
    ],
)
def test_what_needs_all_pairs_is_refused_on_a_stream(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, "dpo", pairs=iter(ROWS), **settings)


def test_a_broken_row_of_a_stream_is_named(tmp_path: Path) -> None:
    rows = [*ROWS * 6, {"prompt": "a", "chosen": 3, "rejected": "b"}]
    trainer = make_trainer(tmp_path, "dpo", pairs=iter(rows), max_steps=30)
    with pytest.raises(UserError, match=r"train_dataset from row 64, row 8: 'chosen' is a num"):
        trainer.train()


def test_workers_of_a_loader_share_a_stream(tmp_path: Path) -> None:
    rows = [{**row, "id": str(number)} for number, row in enumerate(ROWS)]
    loader = torch.utils.data.DataLoader(
        Stream(rows.__iter__(), tokens_of), batch_size=None, num_workers=2
    )
    assert sorted(int(pair.pair_id) for pair in loader) == list(range(12))


# In a trainer


def test_evaluation_sets_are_reported_by_name(tmp_path: Path) -> None:
    sets = {"short": ROWS[:3], "long": datasets.Dataset.from_list(ROWS[3:])}
    trainer = make_trainer(tmp_path, "dpo", eval_pairs=sets, eval_strategy="steps", eval_steps=3)
    trainer.train()
    logged = {name for entry in trainer.state.log_history for name in entry}
    assert {"eval_short_loss", "eval_long_rewards/accuracies"} <= logged
    metrics = trainer.evaluate()
    assert metrics["eval_short_loss"] == trainer.evaluate(ROWS[:3])["eval_loss"]
    assert trainer.evaluate({"other": ROWS[:2]})["eval_other_loss"] > 0


def test_a_set_of_rows_may_be_evaluated_and_scored(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "dpo", pairs=ROWS)  # type: ignore[arg-type]
    expected = trainer.evaluate(PAIRS)["eval_loss"]
    for data in (ROWS, datasets.Dataset.from_list(ROWS)):
        assert trainer.evaluate(data)["eval_loss"] == expected


def test_evaluation_without_pairs_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for missing in (None, {}, []):
        with pytest.raises(UserError, match="eval_strategy=steps needs held-out pairs"):
            POTrainer(
                "no-such-model",
                args=sparsepo.POConfig(str(tmp_path), eval_strategy="steps", use_cpu=True),
                train_dataset=PAIRS,
                eval_dataset=missing,
            )
