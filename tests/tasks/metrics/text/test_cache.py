from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sparsepo import UserError
from tasks.metrics.text.cache import Key, ScoreCache

SIGNATURE = {"metric": "lengths", "version": "1"}


def lengths(keys: Sequence[Key]) -> list[float | None]:
    return [float(len(key[0])) for key in keys]


def refuse(keys: Sequence[Key]) -> list[float | None]:
    raise AssertionError(f"{len(keys)} values were computed again")


def keys_of(*texts: str) -> list[Key]:
    return [(text,) for text in texts]


def test_values_come_in_the_order_of_the_keys_and_are_computed_once(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "lengths", SIGNATURE)
    asked = keys_of("ccc", "a", "bb", "a")
    assert cache.values(asked, lengths, batch=2) == [3.0, 1.0, 2.0, 1.0]
    assert cache.computed == 3
    assert cache.values(asked, refuse, batch=2) == [3.0, 1.0, 2.0, 1.0]
    again = ScoreCache(tmp_path, "lengths", SIGNATURE)
    assert again.values(asked, refuse, batch=7) == [3.0, 1.0, 2.0, 1.0]
    assert again.computed == 0


def test_without_a_folder_values_stay_in_memory() -> None:
    cache = ScoreCache(None, "lengths", SIGNATURE)
    assert cache.values(keys_of("a"), lengths, batch=1) == [1.0]
    assert cache.values(keys_of("a"), refuse, batch=1) == [1.0]


def test_another_signature_is_another_file(tmp_path: Path) -> None:
    ScoreCache(tmp_path, "lengths", SIGNATURE).values(keys_of("a"), lengths, batch=1)
    other = ScoreCache(tmp_path, "lengths", {**SIGNATURE, "version": "2"})
    assert other.values(keys_of("a"), lambda keys: [7.0], batch=1) == [7.0]
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_keys_of_several_texts_do_not_run_together(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "lengths", SIGNATURE)
    asked: list[Key] = [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c")]
    assert len(set(cache.values(asked, lambda keys: [float(i) for i in range(4)], 9))) == 4


def test_missing_values_are_kept_as_missing(tmp_path: Path) -> None:
    asked = keys_of("a", "b", "c")
    cache = ScoreCache(tmp_path, "lengths", SIGNATURE)
    found = cache.values(asked, lambda keys: [None, float("nan"), float("inf")], batch=9)
    assert found == [None, None, None]
    assert ScoreCache(tmp_path, "lengths", SIGNATURE).values(asked, refuse, 9) == [None] * 3
    assert "NaN" not in cache.file.read_text()  # type: ignore[union-attr]


def test_an_incomplete_last_line_is_cut_off(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "lengths", SIGNATURE)
    cache.values(keys_of("a", "bb"), lengths, batch=1)
    assert cache.file is not None
    whole = cache.file.read_bytes()
    cache.file.write_bytes(whole[:-5])
    again = ScoreCache(tmp_path, "lengths", SIGNATURE)
    assert again.values(keys_of("a", "bb"), lengths, batch=1) == [1.0, 2.0]
    assert again.computed == 1
    assert cache.file.read_bytes() == whole


def test_a_first_line_that_was_not_finished_is_written_again(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "lengths", SIGNATURE)
    cache.values(keys_of("a"), lengths, batch=1)
    assert cache.file is not None
    whole = cache.file.read_bytes()
    cache.file.write_bytes(whole[:4])
    ScoreCache(tmp_path, "lengths", SIGNATURE).values(keys_of("a"), lengths, batch=1)
    assert cache.file.read_bytes() == whole


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path, "lengths", SIGNATURE)
    cache.values(keys_of("a"), lengths, batch=1)
    assert cache.file is not None
    cache.file.write_text('{"signature": {}}\n')
    with pytest.raises(UserError, match="damaged, or not a cache of this metric; delete it"):
        ScoreCache(tmp_path, "lengths", SIGNATURE).values(keys_of("a"), lengths, batch=1)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another folder"):
        ScoreCache(tmp_path / "file" / "cache", "lengths", SIGNATURE)


def test_two_processes_share_what_is_computed(tmp_path: Path) -> None:
    one, other = (ScoreCache(tmp_path, "lengths", SIGNATURE) for _ in range(2))
    one.values(keys_of("a"), lengths, batch=1)
    other.values(keys_of("bb"), lengths, batch=1)
    assert one.values(keys_of("a", "bb"), refuse, batch=1) == [1.0, 2.0]


WORKER = """
import sys, time
from pathlib import Path
from tasks.metrics.text.cache import ScoreCache

folder, journal = Path(sys.argv[1]), Path(sys.argv[2])

def slowly(keys):
    time.sleep(0.05)
    with journal.open("a") as file:
        file.writelines(key[0] + "\\n" for key in keys)
    return [len(key[0]) / 7 for key in keys]

cache = ScoreCache(folder, "lengths", {"metric": "lengths"})
values = cache.values([(f"text {i:03d}" + "x" * i,) for i in range(200)], slowly, batch=10)
print(values)
"""


def test_kill_9_loses_one_batch_at_most_and_changes_no_value(tmp_path: Path) -> None:
    def start(folder: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, str(tmp_path / folder), str(tmp_path / "journal")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    journal = tmp_path / "journal"
    for stop_after in (30, 80, 130):
        process = start("killed")
        while not journal.exists() or len(journal.read_text().splitlines()) < stop_after:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    resumed, _ = start("killed").communicate()
    computed = journal.read_text().splitlines()
    assert len(set(computed)) == 200
    # Each kill may have hit between the computation of a batch and its line.
    assert len(computed) <= 200 + 3 * 10
    journal.unlink()
    whole, _ = start("whole").communicate()
    assert json.loads(resumed) == json.loads(whole)
