"""The engine for a cluster: real nodes of Ray on this machine, each with a core of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.graph.engines import Share, StageError, StageUserError, get_engine, make_all
from harness.graph.engines import ray as engine
from harness.graph.engines.cluster import Amount, Node, _refusal, connect, places, widest
from harness.graph.engines.ray import RayEngine, uses_gpu
from harness.graph.progress import Display
from harness.graph.screen import Lines
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.errors import UserError
from tests.harness.conftest import write_toy

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from tests.ray_nodes import Nodes, local_nodes  # noqa: E402

REPOSITORY = Path(__file__).parents[3]

WHERE = '''

def count(context):
    """Counts as `slow` does, and says where."""
    import ray
    if ray.is_initialized():
        with open(context.config["trace"] + ".nodes", "a") as stream:
            print(context.name, ray.get_runtime_context().get_node_id(), file=stream)
    slow(context)


def where(context):
    """Says which node it ran on."""
    import ray
    (context.work / "number.txt").write_text(ray.get_runtime_context().get_node_id())
    time.sleep(context.config["seconds"])
'''


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = write_toy(tmp_path_factory.mktemp("cluster") / "modules")
    with (folder / "toy_stages.py").open("a") as stream:
        stream.write(WHERE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(REPOSITORY)]))
        with local_nodes() as nodes:
            yield nodes


def number(trace: Path, value: int, **more: Any) -> Stage:
    config = {"value": value, "trace": str(trace)}
    return Stage(f"n{value}", "toy_stages:number", config, **more)


def slow(trace: Path, which: int, steps: int, function: str = "slow") -> Stage:
    config = {"steps": steps, "which": which, "trace": str(trace)}
    return Stage(f"slow{which}", f"toy_stages:{function}", config, resumable=True)


def total(trace: Path, *parts: Stage, **more: Any) -> Stage:
    inputs = {f"p{i}": part for i, part in enumerate(parts)}
    return Stage("total", "toy_stages:add", {"trace": str(trace)}, inputs, **more)


def content(store: Store, address: str) -> dict[str, bytes]:
    """Return an artefact's files, without the record of how long it took."""
    folder = store.folder(address)
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "stage.json"}


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen; the limit only keeps a broken build from hanging."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never happened")


# Without a cluster


def test_what_fits_where() -> None:
    one, two = Node("a" * 9, "10.0.0.1", Amount(4, 1)), Node("b" * 9, "10.0.0.2", Amount(2))
    assert widest([one, two]) == Amount(4, 1)
    assert widest([]) == Amount(0, 0)
    assert Amount(2).fits(two.has) and not Amount(2, 1).fits(two.has)
    assert places([one, two], Amount(2)) == 3
    assert places([one, two], Amount(1, 0.5)) == 2
    assert one.name == "10.0.0.1 (aaaaaa)"
    assert [str(amount) for amount in (Amount(), Amount(2, 1), Amount(0.5, 0.5))] == [
        "1 core", "2 cores and 1 GPU", "0.5 cores and 0.5 GPUs",
    ]  # fmt: skip


def test_a_stage_uses_a_gpu_if_its_configuration_says_so() -> None:
    assert uses_gpu(Stage("a", "m:f", {"device": "cuda"}))
    assert uses_gpu(Stage("a", "m:f", {"deep": {"device": "cuda"}}))
    assert uses_gpu(Stage("a", "m:f", options={"device": "cuda"}))
    assert not uses_gpu(Stage("a", "m:f", {"device": "cpu", "text": "cuda"}))


@pytest.mark.parametrize(
    ("error", "address", "said"),
    [
        (
            RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n"
                         "    Python: 3.12.1\nThis process was started with:\n    Ray: 2.60.0\n"
                         "    Python: 3.11.7\n"),
            "10.0.0.1:6379",
            "The Ray cluster at 10.0.0.1:6379 runs Ray 2.50.0 and Python 3.12.1, but this process "
            "Ray 2.60.0 and Python 3.11.7; install the same versions on both.",
        ),
        (
            ConnectionError("Failed to connect to Ray cluster at 127.0.0.1:1"),
            None,
            "No connection to a Ray cluster on this machine (Failed to connect to Ray cluster at "
            "127.0.0.1:1); run `ray stop` if a cluster has crashed here, or set "
            "RAY_ADDRESS=HOST:PORT.",
        ),
    ],
)  # fmt: skip
def test_why_there_is_no_connection(error: Exception, address: str | None, said: str) -> None:
    assert _refusal(error, address) == said


def test_an_address_for_clients_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    with pytest.raises(UserError, match="must be started on a node of the cluster"):
        connect()


# Two nodes


def test_two_nodes_make_what_one_machine_makes(
    cluster: Nodes, tmp_path: Path, recorder: Any
) -> None:
    """Two threads on nodes of one core, inputs from another node, and a name with a space."""
    cluster.pair()
    trace = tmp_path / "trace"
    parts = [number(trace, value) for value in (1, 2, 3)]
    wide = number(trace, 5, threads=2)
    noise = [Stage(f"random {i}", "toy_stages:noise", {"i": i}) for i in range(2)]
    stages = [total(trace, *parts, wide), *noise]
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    make_all(stages, here, get_engine("local", 2), recorder)
    recorder.notes.clear()
    make_all(stages, there, get_engine("ray"), recorder)
    for stage in (*stages, *parts, wide):
        assert content(here, stage.address) == content(there, stage.address)
    assert "Ray cluster: 2 nodes with 2 cores" in recorder.notes
    said = "No node has 2 cores: stages with 2 threads run on 1, with the same results."
    assert recorder.notes.count(said) == 1
    assert not list((there.root / "locks").glob(".cluster-*"))


def test_both_nodes_work(cluster: Nodes, store: Store, recorder: Any) -> None:
    cluster.pair()
    stages = [Stage(f"w{i}", "toy_stages:where", {"i": i, "seconds": 5}) for i in range(2)]
    made = make_all(stages, store, get_engine("ray"), recorder)
    assert len({(made[s.address] / "number.txt").read_text() for s in stages}) == 2


def test_progress_inside_a_stage_is_shown(
    cluster: Nodes, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("harness.graph.screen.LINES_EVERY", 0.0)
    with (tmp_path / "shown").open("w") as stream:
        display = Display(Lines(stream))
        make_all([slow(tmp_path / "trace", 0, 150)], store, get_engine("ray"), display)
    lines = [x for x in (tmp_path / "shown").read_text().splitlines() if x.startswith("slow0: ")]
    steps = [int(line.split()[2].partition("/")[0]) for line in lines]
    assert len(steps) >= 2 and steps == sorted(steps)
    assert all("/150, about " in line and line.endswith(" left") for line in lines)


def test_what_no_node_has_is_refused_at_once(
    cluster: Nodes, tmp_path: Path, store: Store, recorder: Any
) -> None:
    stage = number(tmp_path / "trace", 1)
    with pytest.raises(StageUserError) as caught:
        make_all([stage], store, RayEngine(share=Share(cpus=3)), recorder)
    assert str(caught.value) == (
        "Stage n1 asks for 3 cores, but a node has at most 1, and no autoscaler adds nodes; "
        "lower --cpus-per-stage, or add a node that has them."
    )
    assert caught.value.address == stage.address
    gpu = Stage("trained", "toy_stages:number", {"device": "cuda"})
    with pytest.raises(
        StageUserError, match=r"asks for 1 core and 1 GPU, but a node has at most 0"
    ):
        make_all([gpu], store, RayEngine(share=Share(gpus=1)), recorder)
    assert not (tmp_path / "trace").exists()


def test_errors_are_those_of_the_local_engine(cluster: Nodes, store: Store, recorder: Any) -> None:
    with pytest.raises(StageUserError, match=r"^the file x has no column y: rename it$") as caught:
        make_all([Stage("bad", "toy_stages:user_error")], store, get_engine("ray"), recorder)
    assert caught.value.address == Stage("bad", "toy_stages:user_error").address
    with pytest.raises(StageError, match="Stage bad failed with ValueError: something odd"):
        make_all([Stage("bad", "toy_stages:crash")], store, get_engine("ray"), recorder)
    with pytest.raises(StageError, match=r"The process of stage d died .*details in") as died:
        make_all([Stage("d", "toy_stages:die")], store, get_engine("ray"), recorder)
    assert "\n" not in str(died.value)


def test_a_killed_node_and_its_stage_made_elsewhere(
    cluster: Nodes, tmp_path: Path, recorder: Any
) -> None:
    """The stage goes on from its files in the store; the values are those of the local engine."""
    trace, store = tmp_path / "trace", Store(tmp_path / "store")
    parts = [slow(trace, which, 300, "count") for which in range(2)]
    top = total(trace, *parts)
    cluster.pair()

    def begun_on_second() -> bool:
        nodes = Path(f"{trace}.nodes")
        lines = nodes.read_text().splitlines() if nodes.exists() else []
        names = [line.split()[0] for line in lines if cluster.second.node_id in line]
        states = [store.partial(p.address) / "state.txt" for p in parts if p.name in names]
        return any(state.exists() for state in states)

    def kill() -> None:
        wait_until(begun_on_second)
        cluster.kill_second()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    made = make_all([top], store, get_engine("ray"), recorder)
    killer.join()
    assert (made[top.address] / "number.txt").read_text() == "600"
    (lost,) = [note for note in recorder.notes if "it will be run elsewhere" in note]
    name = lost.split()[1]
    begun = [line for line in trace.read_text().splitlines() if line.startswith(name)]
    assert begun[0] == f"{name} from 0"
    assert int(begun[1].split()[-1]) > 0
    assert sum("from" in line for line in trace.read_text().splitlines()) == 3
    other = Store(tmp_path / "other")
    make_all([top], other, get_engine("local", 2), recorder)
    for stage in (*parts, top):
        assert content(store, stage.address) == content(other, stage.address)


def test_waiting_for_a_node_is_shown(
    cluster: Nodes, tmp_path: Path, store: Store, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An autoscaler is asked for a GPU, and the node that has one comes later."""
    monkeypatch.setattr(engine, "autoscaled", lambda: True)
    monkeypatch.setattr(engine, "_FIRST_NOTE", 1.0)
    # Longer than the time between two looks at the nodes, so that the new one is seen.
    seconds = 2 * engine._LOOK_EVERY
    stage = Stage("w", "toy_stages:where", {"device": "cuda", "seconds": seconds})
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(make_all, [stage], store, RayEngine(share=Share(gpus=1)), recorder)
        wait_until(
            lambda: run.done() or any(note.startswith("Waiting for") for note in recorder.notes)
        )
        # Ray starts nodes in the main thread alone.
        added = cluster.add(num_gpus=1)
        made = run.result()
    waited = next(note for note in recorder.notes if note.startswith("Waiting for"))
    assert "for the autoscaler to add a node: 1 stage (1 core and 1 GPU each)" in waited
    assert any(note.endswith("has joined: 1 core and 1 GPU.") for note in recorder.notes)
    assert (made[stage.address] / "number.txt").read_text() == added.node_id
    cluster.cluster.remove_node(added)


def test_a_node_without_the_store(
    cluster: Nodes, tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that sees an empty disk where the others have the store."""
    monkeypatch.setattr(engine, "_PATIENCE", 2)
    place = tmp_path / "disk"
    store = Store(place / "store")
    start = [
        str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus", "1",
        "--resources", '{"elsewhere": 1}', "--address", cluster.address,
    ]  # fmt: skip
    hide = 'mount -t tmpfs none "$0" && mkdir "$0/store" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, str(place), *start]
    try:
        tried = subprocess.run(
            ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0"', str(place)],
            capture_output=True, check=False,
        )  # fmt: skip
    except OSError:
        pytest.skip("there is no unshare command")
    if tried.returncode:
        pytest.skip("a disk of its own for a process needs root")
    connect()
    before = len(ray.nodes())
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(ray.nodes()) > before)
        stages = [Stage(f"w{i}", "toy_stages:where", {"i": i, "seconds": 3}) for i in range(6)]
        with pytest.raises(StageUserError) as caught:
            make_all(stages, store, get_engine("ray"), recorder)
    finally:
        process.terminate()
        process.wait()
    assert f"does not have the store {store.root}; put the store on a disk" in str(caught.value)
    assert "\n" not in str(caught.value)


# The command's own process


SCRIPT = """
import sys
from pathlib import Path
from harness.graph.engines import get_engine, make_all
from harness.graph.progress import make_display
from harness.graph.stages import Stage
from harness.graph.store import Store
from sparsepo.errors import UserError

try:
    stage = Stage("n", "toy_stages:number", {"value": 7, "trace": sys.argv[2]})
    made = make_all([stage], Store(Path(sys.argv[1])), get_engine("ray"), make_display())
    print((made[stage.address] / "number.txt").read_text())
except UserError as error:
    print(error)
"""


def run_script(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "store"), str(tmp_path / "trace")],
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Ray's own files in a folder of their own, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        token = tmp_path / "token"
        token.write_text("a" * 64)
        yield {"RAY_TMPDIR": folder, "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ADDRESS": ""}


def test_a_cluster_that_refuses_the_token(
    tmp_path: Path, toy: Path, temporary: dict[str, str]
) -> None:
    """Without a token, with a wrong one, and with its own."""
    guarded = {**os.environ, **temporary, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ray_nodes"],
        cwd=REPOSITORY,
        env=guarded,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    other = tmp_path / "other-token"
    other.write_text("b" * 64)
    own = {**temporary, "RAY_ADDRESS": address}
    try:
        without = run_script(tmp_path, **own, RAY_AUTH_MODE="disabled")
        wrong = run_script(
            tmp_path, **{**own, "RAY_AUTH_TOKEN_PATH": str(other)}, RAY_AUTH_MODE="token"
        )
        right = run_script(tmp_path, **own, RAY_AUTH_MODE="token")
    finally:
        process.communicate("")
    for refused in (without, wrong):
        assert refused.stdout.strip() == (
            f"The Ray cluster at {address} refused the connection, because this process does not "
            "have its token; set RAY_AUTH_MODE=token and give the token of the cluster by "
            "RAY_AUTH_TOKEN_PATH=FILE, or as ~/.ray/auth_token."
        )
        assert "Traceback" not in refused.stderr
    assert right.stdout.strip() == "7", right.stderr


@pytest.mark.slow
def test_without_a_cluster_one_is_started(
    tmp_path: Path, toy: Path, temporary: dict[str, str]
) -> None:
    done = run_script(tmp_path, **temporary)
    assert done.stdout.strip() == "7", done.stderr
    assert "Ray cluster: 1 node with" in done.stderr


# The examples


EXAMPLES = REPOSITORY / "configs" / "ray"


def test_the_autoscaling_example_is_one_that_ray_accepts() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    example = yaml.safe_load((EXAMPLES / "autoscaling.yaml").read_text())
    jsonschema.validate(example, json.loads(schema.read_text()))
    types = example["available_node_types"]
    assert example["head_node_type"] in types
    assert {"CPU", "GPU"} <= types["gpu"]["resources"].keys()
    assert sum(one["max_workers"] for one in types.values()) == example["max_workers"]


def test_the_slurm_example_is_a_script() -> None:
    subprocess.run(["bash", "-n", str(EXAMPLES / "slurm.sh")], check=True)
    for example in EXAMPLES.iterdir():
        assert "RAY_USAGE_STATS_ENABLED=0" in example.read_text(), example.name
        assert "RAY_AUTH_MODE=token" in example.read_text(), example.name
