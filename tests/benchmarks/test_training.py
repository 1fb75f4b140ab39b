"""The benchmark's machinery, on a model that takes no time: nothing here asserts a speed."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import training
from benchmarks.card import Card, Curve, hardware, markdown, read_card, write_card
from benchmarks.measure import Measurement, measure, real_pairs
from benchmarks.process import BenchmarkError
from benchmarks.shapes import FULL, NARROW, Shape, write_model, write_pairs, write_real_pairs
from benchmarks.worker import build_ours
from sparsepo.errors import UserError

SMALL = Shape("small", "small", "gpt2", 2, 16, 2, 200, prompt=6, response=9, pairs=2)
SYSTEMS = ("ours:sparsepo-common", "ours-cached:dpo", "ours-single:dpo", "plain:sparsepo-common")


def made_up(label: str = "made up", factor: float = 1.0) -> Measurement:
    return Measurement(
        SMALL,
        label,
        {
            "ours:sparsepo-common": [1.0 * factor, 2.0 * factor, 9.0 * factor],
            "plain:sparsepo-common": [3.0, 3.0, 3.0],
            "trl:dpo": [4.0, 4.0, 10.0],
        },
        {"ours:sparsepo-common": 10**8, "plain:sparsepo-common": 10**9, "trl:dpo": 2 * 10**9},
        {"ours:sparsepo-common": 12.0},
    )


def card(**changes: Any) -> Card:
    fields: dict[str, Any] = {
        "date": "2026-01-01",
        "command": "python -m benchmarks.training",
        "hardware": {"CPU": "one", "threads": "2"},
        "versions": {"torch": "2"},
        "dtype": "float32",
        "matmul_flops": 1e11,
        "peer": "trl:dpo",
        "measurements": [made_up()],
        "real": [made_up("real")],
        "curves": [Curve("words", [1, 2], [made_up(), made_up(factor=2)])],
    }
    return Card(**{**fields, **changes})


def test_each_system_takes_its_steps_in_a_process_of_its_own(tmp_path: Path) -> None:
    told: list[str] = []
    found = measure(SMALL, SYSTEMS, 2, threads=1, progress=told.append)
    assert set(found.seconds) == set(found.peak_bytes) == set(SYSTEMS)
    assert all(len(times) == 2 and min(times) > 0 for times in found.seconds.values())
    assert all(peak > 0 for peak in found.peak_bytes.values())
    # The same model, masks and pairs: both forms of the computation start equally sparse.
    ours, plain = found.sparsity["ours:sparsepo-common"], found.sparsity["plain:sparsepo-common"]
    assert ours == pytest.approx(plain, abs=2)
    assert "small: step 4 of 4" in told


def spec_in(folder: Path, architecture: str, dtype: str) -> dict[str, Any]:
    """Write a model and pairs; return what benchmarks.worker needs to know of them."""
    write_model(replace(SMALL, architecture=architecture), folder / "model")
    write_pairs(SMALL, 2, folder / "pairs.jsonl")
    return {
        "model": str(folder / "model"),
        "pairs": str(folder / "pairs.jsonl"),
        "output": str(folder / "out"),
        "device": "cpu",
        "dtype": dtype,
        "batch_size": 2,
        "steps": 1,
    }


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_our_systems_have_the_dtype_that_the_peer_is_given(tmp_path: Path, kind: str) -> None:
    spec = spec_in(tmp_path, "gpt2", "bfloat16")
    assert build_ours(spec, kind, "dpo").policy.dtype == torch.bfloat16


def test_the_reference_implementation_is_not_measured_under_another_name(tmp_path: Path) -> None:
    """BLOOM cannot run packed rows, and the trainer by itself would fall back to `plain`."""
    spec = spec_in(tmp_path, "bloom", "float32")
    with pytest.raises(UserError, match="set computation=plain, or auto"):
        build_ours(spec, "ours", "dpo")
    assert build_ours(spec, "plain", "dpo").model.computation == "plain"


def test_a_system_that_stops_is_named_with_its_last_words() -> None:
    with pytest.raises(BenchmarkError, match=r"ours:no-such stopped: .*Unknown method"):
        measure(SMALL, ["ours:no-such"], 1, threads=1)


def test_ratios_are_taken_within_a_round() -> None:
    assert made_up().time_ratio("ours:sparsepo-common", "trl:dpo") == (0.5, 0.25, 0.9)
    assert made_up().memory_ratio("ours:sparsepo-common", "trl:dpo") == 0.05


def test_a_card_is_read_back_and_drawn_again(tmp_path: Path) -> None:
    page, data, picture = write_card(card(), tmp_path, "card")
    assert read_card(data) == card()
    before = page.read_text(), picture.stat().st_size
    page.unlink()
    picture.unlink()
    assert training.main(["--redraw", str(data)]) == 0
    assert (page.read_text(), picture.stat().st_size) == before


def test_a_card_says_what_was_measured() -> None:
    page = markdown(card(), "card.png")
    row = next(line for line in page.splitlines() if line.startswith("| sparsepo, sparsepo-common"))
    assert "2.00" in row and "0.50 [0.25, 0.90]" in row and "0.05" in row and "100" in row
    assert "12 %" in page and "Growth with words" in page and "Real length variation" in page


def test_a_peer_that_was_not_measured_leaves_its_cells_empty() -> None:
    lone = Measurement(SMALL, "lone", {"ours:dpo": [1.0]}, {"ours:dpo": 10**6})
    page = markdown(card(measurements=[lone], real=[], curves=[]), "card.png")
    assert "|  |  |" in next(line for line in page.splitlines() if "sparsepo, dpo |" in line)


def test_pairs_have_the_lengths_of_the_shape(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    write_pairs(SMALL, 5, file)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 5
    for row in rows:
        assert len(row["prompt"].split()) == SMALL.prompt
        assert len(row["chosen"].split()) == len(row["rejected"].split()) == SMALL.response - 1


def test_real_pairs_keep_their_lengths_and_fit(tmp_path: Path) -> None:
    rows = [("a b c", "d e", "f"), ("x " * 50, "y " * 40, "z " * 3)]
    file = tmp_path / "pairs.jsonl"
    write_real_pairs(SMALL, rows, file, longest=40)
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert [len(first[name].split()) for name in ("prompt", "chosen", "rejected")] == [3, 2, 1]
    assert len(second["prompt"].split()) + len(second["chosen"].split()) + 1 == 40
    real_pairs(SMALL, rows, 2)(file)
    assert len(file.read_text().splitlines()) == 2


def test_useful_operations_are_counted_as_the_page_says() -> None:
    shape = replace(SMALL, layers=1, width=2, vocabulary=10, prompt=3, response=2, pairs=1)
    assert shape.useful_flops() == 8 * (12 * 4 * (3 + 4) + 10 * 2 * 4)


def test_the_full_shapes_are_the_papers_models() -> None:
    assert [shape.name for shape in FULL] == [shape.name for shape in NARROW]
    assert {(s.prompt, s.response) for s in FULL} == {(8, 48), (120, 120), (350, 40), (120, 90)}


def test_an_unknown_shape_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert training.main(["--device", "cpu", "--shapes", "no-such"]) == 2
    assert "Unknown shape 'no-such'" in capsys.readouterr().err


def test_a_missing_peer_is_one_line_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.measure.find_spec", lambda name: None)
    assert training.main(["--device", "cpu", "--shapes", "imdb"]) == 2
    assert ".[benchmark]" in capsys.readouterr().err


def test_a_card_grows_with_each_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long run that is stopped keeps what it has measured."""
    taken = 0

    def measured(shape: Shape, systems: Any, rounds: int, **options: Any) -> Measurement:
        nonlocal taken
        taken += 1
        if taken == 3:
            raise KeyboardInterrupt
        return made_up(shape.name)

    monkeypatch.setattr(training, "measure", measured)
    monkeypatch.setattr(training, "matmul_flops", lambda *_: 1e11)
    monkeypatch.setattr("benchmarks.measure.find_spec", lambda name: True)
    arguments = ["--device", "cpu", "--out", str(tmp_path), "--name", "cut"]
    assert training.main(arguments) == 130
    kept = read_card(tmp_path / "cut.json")
    assert [found.label for found in kept.measurements] == ["imdb", "hh"]
    assert "stopped" in kept.note
    assert kept.note in (tmp_path / "cut.md").read_text()


def test_a_card_names_what_allocates_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    library = " ".join(platform.libc_ver())
    for name in ("LD_PRELOAD", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert hardware("cpu", 1)["allocator"] == library
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
    assert hardware("cpu", 1)["allocator"] == f"{library} with glibc.malloc.tcache_count=0"
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2:libother.so")
    assert hardware("cpu", 1)["allocator"] == "libjemalloc.so.2, libother.so"
