"""The store and the local engine together: interruption, concurrency, corruption, full disks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.graph.engines import StageError, get_engine, make_all
from harness.graph.engines.local import LocalEngine
from harness.graph.engines.worker import Job, make, worker_environment
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.errors import UserError
from tests.tasks.sandbox.battery import temporary_files_in
from tests.tiny_disk import tiny_disk

pytestmark = pytest.mark.usefixtures("toy")

RUN = """
import sys
from pathlib import Path
from harness.graph.engines import make_all
from harness.graph.engines.local import LocalEngine
from harness.graph.progress import make_display
from harness.graph.stages import Stage
from harness.graph.store import Store

if __name__ == "__main__":
    root, trace, steps = sys.argv[1:]
    parts = {f"p{i}": Stage(f"slow{i}", "toy_stages:slow",
                            {"steps": int(steps), "which": i, "trace": trace}, resumable=True)
             for i in range(2)}
    first = Stage("first", "toy_stages:number", {"value": 1, "trace": trace})
    total = Stage("total", "toy_stages:add", {"trace": trace}, {**parts, "first": first})
    made = make_all([total], Store(Path(root)), LocalEngine(2), make_display())
    print((made[total.address] / "number.txt").read_text())
"""


def number(trace: Path, value: int) -> Stage:
    return Stage(f"n{value}", "toy_stages:number", {"value": value, "trace": str(trace)})


def total(trace: Path, *parts: Stage, name: str = "total") -> Stage:
    inputs = {f"p{i}": part for i, part in enumerate(parts)}
    return Stage(name, "toy_stages:add", {"trace": str(trace)}, inputs)


def read(folder: Path) -> str:
    return (folder / "number.txt").read_text()


def start(tmp_path: Path, steps: int) -> subprocess.Popen[str]:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "store"), str(tmp_path / "trace"), str(steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Any, process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something that must happen; the limit only keeps a broken build from hanging."""
    for _ in range(12_000):
        if condition():
            return
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("never happened")


def descendants(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found += [int(entry.name), *descendants(int(entry.name))]
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_graph_is_made_once(tmp_path: Path, store: Store, recorder: Any, workers: int) -> None:
    trace = tmp_path / "trace"
    parts = [number(trace, value) for value in (1, 2, 3)]
    top = total(trace, *parts, total(trace, parts[0], parts[1], name="inner"))
    made = make_all([top], store, LocalEngine(workers), recorder)
    assert read(made[top.address]) == "9"
    assert sorted(recorder.made_stages) == ["inner", "n1", "n2", "n3", "total"]
    lines = trace.read_text()
    make_all([top], store, LocalEngine(workers), recorder)
    assert trace.read_text() == lines


def test_wide_stage_is_not_starved_and_results_agree(
    tmp_path: Path, store: Store, recorder: Any
) -> None:
    trace = tmp_path / "trace"
    wide = Stage("wide", "toy_stages:number", {"value": 5, "trace": str(trace)}, threads=2)
    stages = [number(trace, 1), wide, number(trace, 2), number(trace, 3)]
    made = make_all(stages, store, LocalEngine(2), recorder)
    assert [read(made[s.address]) for s in stages] == ["1", "5", "2", "3"]


def test_unseeded_randomness_follows_the_address(tmp_path: Path, recorder: Any) -> None:
    stages = [Stage(f"r{i}", "toy_stages:noise", {"i": i}) for i in range(3)]
    results = []
    for workers, order in ((1, stages), (2, stages[::-1])):
        store = Store(tmp_path / f"store{workers}")
        made = make_all(order, store, LocalEngine(workers), recorder)
        results.append([read(made[s.address]) for s in stages])
    assert results[0] == results[1]
    assert len(set(results[0])) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_workers_are_forked_with_the_libraries_and_todays_environment(
    store: Store, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("TOY_VARIABLE", value)
        stage = Stage(value, "toy_stages:surroundings", {"name": "TOY_VARIABLE", "run": value})
        folder = make_all([stage], store, LocalEngine(1), recorder)[stage.address]
        seen, *modules = (folder / "lines.txt").read_text().splitlines()
        assert seen == value
        assert "sparsepo.training.trainer" in modules


def test_a_forked_process_makes_workers_of_its_own(
    tmp_path: Path, store: Store, recorder: Any
) -> None:
    trace = tmp_path / "trace"
    make_all([number(trace, 1)], store, LocalEngine(1), recorder)
    process = os.fork()
    if not process:
        code = 1
        try:
            make_all([number(trace, 2)], store, LocalEngine(1), recorder)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_folder_of_temporary_files_may_have_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with temporary_files_in(folder):
        process = start(tmp_path, steps=1)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.strip() == "3"


def test_a_process_that_sees_a_gpu_loads_its_own_libraries(store: Store, recorder: Any) -> None:
    name = "CUDA_VISIBLE_DEVICES"
    stage = Stage("gpu", "toy_stages:surroundings", {"name": name})
    made = make_all([stage], store, LocalEngine(1, gpus=1), recorder)
    seen, *modules = (made[stage.address] / "lines.txt").read_text().splitlines()
    assert seen == "0"
    assert "sparsepo.training.trainer" not in modules


def test_kill_9_then_again(tmp_path: Path) -> None:
    process = start(tmp_path, steps=3000)
    trace, partial = tmp_path / "trace", tmp_path / "store" / "partial"
    wait_until(lambda: len(list(partial.glob("*/state.txt"))) == 2, process)
    workers = descendants(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(running(pid) for pid in workers))
    states = list(partial.glob("*/state.txt"))
    assert all(0 < int(state.read_text()) < 3000 for state in states)
    finished = [line for line in trace.read_text().splitlines() if line == "first run"]

    # Move both close to the end: the second run is only quick if it goes on from there.
    for state in states:
        state.write_text("2990")
    again = start(tmp_path, steps=3000)
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert out.strip() == "6001"
    lines = trace.read_text().splitlines()
    assert lines.count("slow0 from 2990") == lines.count("slow1 from 2990") == 1
    assert lines.count("first run") == max(1, len(finished))


def test_two_runs_at_once_make_each_stage_once(tmp_path: Path) -> None:
    runs = [start(tmp_path, steps=100) for _ in range(2)]
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert [out.strip() for out, _ in outputs] == ["201", "201"]
    lines = (tmp_path / "trace").read_text().splitlines()
    assert sorted(lines) == ["first run", "slow0 from 0", "slow1 from 0", "total run"]


@pytest.mark.parametrize("damage", ["flip", "delete", "record", "no record"])
def test_corrupted_artefact_is_reported_and_made_again(
    tmp_path: Path, store: Store, recorder: Any, damage: str
) -> None:
    trace = tmp_path / "trace"
    part = number(trace, 7)
    top = total(trace, part)
    make_all([top], store, LocalEngine(1), recorder)
    folder = store.folder(part.address)
    if damage == "flip":
        (folder / "number.txt").write_text("8")
    elif damage == "delete":
        (folder / "number.txt").unlink()
    elif damage == "record":
        (folder / "stage.json").write_text("{")
    else:
        (folder / "stage.json").unlink()
    recorder.made_stages.clear()
    made = make_all([top], store, LocalEngine(1), recorder)
    assert recorder.made_stages == ["n7"]
    notes = [note for note in recorder.notes if "Corrupted artefact of stage n7" in note]
    assert len(notes) == 1
    assert read(folder) == "7"
    assert read(made[top.address]) == "7"


def test_removed_intermediate_is_not_made_again(
    tmp_path: Path, store: Store, recorder: Any
) -> None:
    trace = tmp_path / "trace"
    part = number(trace, 7)
    top = total(trace, part)
    make_all([top], store, LocalEngine(1), recorder)
    store.remove(part.address)
    recorder.made_stages.clear()
    make_all([top], store, LocalEngine(1), recorder)
    assert recorder.made_stages == []


def test_user_error_comes_back_as_it_was(store: Store, recorder: Any) -> None:
    with pytest.raises(UserError, match=r"^the file x has no column y: rename it$"):
        make_all([Stage("bad", "toy_stages:user_error")], store, LocalEngine(1), recorder)


def test_other_errors_are_one_line_and_leave_a_log(store: Store, recorder: Any) -> None:
    stage = Stage("bad stage", "toy_stages:crash")
    with pytest.raises(StageError) as caught:
        make_all([stage], store, LocalEngine(1), recorder)
    text = str(caught.value)
    assert "\n" not in text
    assert "Stage bad stage failed with ValueError: something odd" in text
    log = store.log("bad stage", stage.address)
    assert str(log) in text
    assert "a line of output" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_killed_worker_is_reported(store: Store, recorder: Any) -> None:
    with pytest.raises(StageError, match=r"The process of stage d was killed by signal 9"):
        make_all([Stage("d", "toy_stages:die")], store, LocalEngine(1), recorder)


def test_a_finished_stage_survives_the_failure_of_another(
    tmp_path: Path, store: Store, recorder: Any
) -> None:
    good = number(tmp_path / "trace", 1)
    bad = Stage("bad", "toy_stages:crash", inputs={"good": good})
    with pytest.raises(StageError):
        make_all([bad], store, LocalEngine(1), recorder)
    assert store.find(good.address) is not None
    assert store.find(bad.address) is None


def test_wrapped_full_disk_is_a_user_error_and_leaves_nothing(store: Store, recorder: Any) -> None:
    stage = Stage("full", "toy_stages:wrapped_full", resumable=True)
    with pytest.raises(UserError, match="No space left on the disk"):
        make_all([stage], store, LocalEngine(1), recorder)
    assert store.addresses() == []
    assert not store.partial(stage.address).exists()


def test_really_full_disk(tmp_path: Path, recorder: Any) -> None:
    with tiny_disk(tmp_path / "disk", 256) as disk:
        store = Store(disk / "store")
        small = Stage("small", "toy_stages:fill", {"bytes": 10})
        big = Stage("big", "toy_stages:fill", {"bytes": 1_000_000}, {"small": small})
        with pytest.raises(UserError, match="No space left on the disk"):
            make_all([big], store, LocalEngine(1), recorder)
        assert store.addresses() == [small.address]
        assert store.find(small.address) is not None
        with contextlib.suppress(OSError):
            (disk / "rest").write_bytes(b"x" * 1_000_000)
        with pytest.raises(UserError, match="No space left on the disk"):
            Store(disk / "store")


def test_store_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(UserError, match="No permission to write or read"):
        Store(tmp_path / "store")


def test_store_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(UserError, match="a file has its name"):
        Store(tmp_path / "store")


def test_a_store_that_cannot_be_made_for_another_reason() -> None:
    with pytest.raises(UserError, match=r"cannot be created .*choose another folder"):
        Store(Path("/proc/no-such-folder"))


def test_stage_record_keeps_time_apart_and_names_its_inputs(
    tmp_path: Path, store: Store, recorder: Any
) -> None:
    part = number(tmp_path / "trace", 7)
    top = total(tmp_path / "trace", part)
    make_all([top], store, LocalEngine(1), recorder)
    record = json.loads((store.folder(top.address) / "stage.json").read_text())
    assert record["stage"] == top.record
    assert record["stage"]["inputs"] == {"p0": part.address}
    assert set(record["hashes"]) == {"number.txt"}
    assert record["seconds"] >= 0
    assert "seconds" not in record["stage"]


def test_clean_leaves_artefacts_unless_told(tmp_path: Path, store: Store, recorder: Any) -> None:
    stage = number(tmp_path / "trace", 7)
    make_all([stage], store, LocalEngine(1), recorder)
    store.begin("0" * 64, keep=False)
    store.clean()
    assert not store.partial("0" * 64).exists()
    assert store.addresses() == [stage.address]
    store.clean(everything=True)
    assert store.addresses() == []


def test_work_folder_of_a_stage_that_cannot_resume_is_emptied(tmp_path: Path, store: Store) -> None:
    stage = number(tmp_path / "trace", 7)
    (store.begin(stage.address, keep=False) / "left-over").write_text("x")
    assert make(store, Job.of(stage), lambda done, total, what: None)
    assert not (store.folder(stage.address) / "left-over").exists()


def test_unknown_engine() -> None:
    with pytest.raises(UserError, match="Did you mean 'local'"):
        get_engine("locl")


def test_ray_says_how_to_install_it(
    tmp_path: Path, store: Store, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[ray\]'"):
        make_all([number(tmp_path / "trace", 1)], store, get_engine("ray"), recorder)


def test_workers_keep_freed_memory_unless_the_user_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")

    environment = worker_environment()

    assert environment["MALLOC_MMAP_THRESHOLD_"] == "65536"
    assert int(environment["MALLOC_TRIM_THRESHOLD_"]) > 2**24
    assert "tcache_count=0" in environment["GLIBC_TUNABLES"]
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    assert worker_environment()["GLIBC_TUNABLES"] == "glibc.malloc.check=1"
