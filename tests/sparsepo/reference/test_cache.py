"""The files of a reference cache: whole or not there, whoever is killed, and damage is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sparsepo import UserError
from sparsepo.batches.pack import pack_pairs, to_responses
from sparsepo.fused import token_stats
from sparsepo.methods import DPO, MaPO
from sparsepo.methods.base import Needs
from sparsepo.reference import cache as reference_cache
from sparsepo.reference.cache import LOGPS, ReferenceCache, mask_name, seal
from sparsepo.reference.fingerprint import reference_fingerprint
from sparsepo.reference.online import Reference
from sparsepo.training.cached_reference import fill
from sparsepo.types import TokenizedPair
from tests.small_models import small_model, small_tokenizer, token_pairs
from tests.tiny_disk import tiny_disk

REPOSITORY = Path(__file__).parents[3]
REMEDY = "fix it"


def open_cache(folder: Path, **settings: Any) -> ReferenceCache:
    """Open the small GPT-NeoX's cache."""
    return ReferenceCache(
        folder, reference_fingerprint(small_model("gpt_neox"), small_tokenizer(), settings)
    )


def fill_cache(
    cache: ReferenceCache, pairs: list[TokenizedPair], method: Any = None, **options: Any
) -> int:
    """Add what is missing with the small GPT-NeoX, and return how many pairs that were."""
    method = method or DPO()
    names = (mask_name(method),) if method.needs.mask == "activation" else (LOGPS,)
    lacking = cache.missing(pairs, names)
    if lacking:
        cache.begin(lacking, len(pairs))
        reference = Reference(small_model("gpt_neox"))
        fill(cache, reference, method, lacking, names, **{"batch_size": 4, **options})
    cache.refresh()
    return len(lacking)


def read(cache: ReferenceCache, pairs: list[TokenizedPair], name: str = LOGPS) -> Tensor:
    return cache.select(pairs, [name], REMEDY).read(name, pack_pairs(pairs))


def files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of three pairs."""
    monkeypatch.setattr("sparsepo.training.cached_reference.PART_PAIRS", 3)


# What it holds


@pytest.mark.parametrize("rejected", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_what_is_read_is_what_the_reference_says(
    folder: Path, small_parts: None, batch_size: int, rejected: bool
) -> None:
    """In any order of the pairs, in rows of any layout, from parts of any size."""
    pairs = token_pairs(8)
    cache = open_cache(folder)
    assert fill_cache(cache, pairs, batch_size=batch_size) == 8
    some = [pairs[i] for i in (6, 0, 3, 5)]
    batch = pack_pairs(some, rejected=rejected, tokens_per_row=60)
    reference = Reference(small_model("gpt_neox"))
    states = reference.read(batch, DPO(), Needs())
    assert states.hidden is not None and states.head is not None
    expected = to_responses(
        token_stats(states.hidden, states.head, None, None, batch.targets).policy_logps, batch
    )
    found = open_cache(folder).select(pairs, [LOGPS], REMEDY).read(LOGPS, batch)
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found[~batch.response_mask] == 0).all()
    assert (found[batch.response_mask] < 0).all()


@pytest.mark.parametrize(
    "method", [MaPO(), MaPO(mask_families="mlp+logits", mask_mapping="sigmoid")], ids=str
)
def test_masks_are_kept_by_families_and_mapping(folder: Path, method: MaPO) -> None:
    pairs = token_pairs(6)
    cache = open_cache(folder)
    fill_cache(cache, pairs, method, batch_size=3)
    batch = pack_pairs(pairs)
    states = Reference(small_model("gpt_neox")).read(batch, method, Needs(mask="activation"))
    found = read(cache, pairs, mask_name(method))
    assert states.activation_mask is not None
    torch.testing.assert_close(found, states.activation_mask, rtol=1e-4, atol=1e-5)
    other = MaPO(mask_families="attention")
    assert len(cache.missing(pairs, [mask_name(other)])) == 6
    same = MaPO(mask_families="+".join(reversed(method.families)), mask_mapping=method.mask_mapping)
    assert cache.missing(pairs, [mask_name(same)]) == []


def test_log_probabilities_come_with_a_mask_but_not_the_other_way(folder: Path) -> None:
    pairs = token_pairs(4)
    cache = open_cache(folder)
    fill_cache(cache, pairs[:2])
    assert len(cache.missing(pairs, [mask_name(MaPO())])) == 4
    assert fill_cache(cache, pairs, MaPO()) == 4
    assert cache.missing(pairs, [LOGPS]) == []


def test_double_precision_is_kept(folder: Path) -> None:
    pairs = token_pairs(3)
    cache = open_cache(folder, of="double")
    cache.begin(pairs, 3)
    fill(cache, Reference(small_model("gpt_neox").double()), DPO(), pairs, [LOGPS], batch_size=3)
    assert read(cache, pairs).dtype == torch.float64


def test_a_cache_grows_and_computes_nothing_twice(folder: Path, small_parts: None) -> None:
    pairs = token_pairs(8)
    cache = open_cache(folder)
    assert fill_cache(cache, pairs[:5]) == 5
    before = {file: file.read_bytes() for file in files(folder)}
    assert fill_cache(cache, pairs) == 3
    assert fill_cache(open_cache(folder), pairs) == 0
    assert {file: file.read_bytes() for file in before} == before


def test_a_pair_whose_tokens_changed_is_computed_anew(folder: Path) -> None:
    pairs = token_pairs(4)
    cache = open_cache(folder)
    fill_cache(cache, pairs)
    edited = TokenizedPair("pair-2", pairs[2].prompt_ids, [5, 6, 7, 0], pairs[2].rejected_ids)
    changed = [*pairs[:2], edited, pairs[3]]
    assert cache.missing(changed, [LOGPS]) == [edited]
    assert fill_cache(cache, changed) == 1
    assert not torch.equal(read(cache, changed)[0, 2, :4], read(cache, pairs)[0, 2, :4])


def test_two_pairs_of_one_id_are_refused(folder: Path) -> None:
    one, two = token_pairs(2)
    twin = TokenizedPair(one.pair_id, two.prompt_ids, two.chosen_ids, two.rejected_ids)
    cache = open_cache(folder)
    fill_cache(cache, [one, twin])
    with pytest.raises(UserError, match="Two pairs have the id pair-0"):
        cache.select([one, twin], [LOGPS], REMEDY)
    assert cache.select([one, one], [LOGPS], REMEDY).names == (LOGPS,)


def test_the_fingerprint_stands_beside_it_in_clear(folder: Path) -> None:
    cache = open_cache(folder, max_length=64)
    fill_cache(cache, token_pairs(2))
    (text,) = [file for file in files(folder) if file.name == "fingerprint.json"]
    said = json.loads(text.read_text())
    assert said == cache.fingerprint
    assert said["max_length"] == 64
    assert said["config"]["hidden_size"] == 32
    assert said["versions"]["torch"] == torch.__version__


def test_files_are_json_and_safetensors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pickle: nothing is executed by reading a cache of somebody else's."""
    import pickle

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("pickled")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    monkeypatch.setattr(torch, "save", forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    pairs = token_pairs(3)
    fill_cache(open_cache(folder), pairs, MaPO())
    read(open_cache(folder), pairs)
    seen = set()
    for file in files(folder):
        seen.add(file.name)
        assert load_file(file) if file.suffix == ".safetensors" else json.loads(file.read_text())
    assert seen == {"fingerprint.json", "index.json", "values.safetensors"}


# What is missing


def test_missing_pairs_are_named(folder: Path) -> None:
    pairs = token_pairs(9)
    cache = open_cache(folder)
    fill_cache(cache, pairs[:1])
    with pytest.raises(UserError) as error:
        cache.select(pairs, [LOGPS], REMEDY)
    assert str(error.value) == (
        f"The reference cache {folder} lacks 8 of 9 pairs (pair-1, pair-2, pair-3, pair-4, pair-5 "
        "and 3 more); fix it, or leave out reference_cache."
    )
    with pytest.raises(UserError, match=r"lacks 1 of 2 pairs \(pair-1\);"):
        cache.select(pairs[:2], [LOGPS], REMEDY)


def test_another_fingerprint_is_another_cache_and_says_in_what(folder: Path) -> None:
    pairs = token_pairs(3)
    fill_cache(open_cache(folder, max_length=64, device="cpu"), pairs)
    other = open_cache(folder, max_length=32, device="cpu")
    assert other.missing(pairs, [LOGPS]) == pairs
    with pytest.raises(
        UserError, match=r"its values were computed with different max_length; fix it"
    ):
        other.select(pairs, [LOGPS], REMEDY)


def test_a_sealed_cache_is_read_and_not_extended(folder: Path) -> None:
    pairs = token_pairs(3)
    fill_cache(open_cache(folder), pairs[:2])
    seal(folder)
    before = files(folder)
    assert read(open_cache(folder), pairs[:2]).shape[1] == 2
    with pytest.raises(UserError, match=r"lacks 1 of 3 pairs \(pair-2\), and it is marked as comp"):
        fill_cache(open_cache(folder), pairs)
    with pytest.raises(UserError, match="computed with different max_length"):
        fill_cache(open_cache(folder, max_length=7), pairs[:1])
    assert files(folder) == before


def test_a_reference_that_is_not_finite_is_not_kept(folder: Path) -> None:
    cache = open_cache(folder)
    broken = small_model("gpt_neox")
    with torch.no_grad():
        broken.get_input_embeddings().weight[7] = torch.nan
    pairs = [TokenizedPair(f"p{i}", [1, 2], [i, 0], [3, 0]) for i in (5, 6, 7)]
    cache.begin(pairs, 3)
    with pytest.raises(UserError, match="not finite for p7; check these rows"):
        fill(cache, Reference(broken), DPO(), pairs, [LOGPS], batch_size=2)
    assert [file.name for file in files(folder)] == ["fingerprint.json"]


# Damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("values.safetensors", damage) for damage in (cut, empty, flip, remove)),
        *(("index.json", damage) for damage in (cut, empty, remove)),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(folder: Path, name: str, damage: Any) -> None:
    pairs = token_pairs(4)
    fill_cache(open_cache(folder), pairs)
    expected = read(open_cache(folder), pairs)
    (file,) = [file for file in files(folder) if file.name == name]
    damage(file)
    with pytest.raises(UserError) as error:
        open_cache(folder).select(pairs, [LOGPS], REMEDY)
    assert f"file {file} is damaged" in str(error.value)
    assert f"delete the folder {file.parent} and run the same command again" in str(error.value)
    assert str(error.value).count("\n") == 0
    # The remedy is one.
    shutil.rmtree(file.parent)
    assert fill_cache(open_cache(folder), pairs) == 4
    assert torch.equal(read(open_cache(folder), pairs), expected)


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": {"chosen": [1], "rejected": [1]}},
        {"pair_ids": ["pair-0"]},
        {"lengths": {}},
        {"values": ["mask"]},
    ],
    ids=str,
)
def test_an_index_that_does_not_fit_its_values_is_damaged(
    folder: Path, change: dict[str, Any]
) -> None:
    pairs = token_pairs(2)
    fill_cache(open_cache(folder), pairs)
    (file,) = [file for file in files(folder) if file.name == "index.json"]
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=r"is damaged|lacks 2 of 2 pairs"):
        open_cache(folder).select(pairs, [LOGPS], REMEDY)


# Writing is interrupted

KILLED = """
import os, signal, sys
from pathlib import Path
import sparsepo.training.cached_reference, sparsepo.reference.cache as files
from tests.sparsepo.reference.test_cache import fill_cache, open_cache
from tests.small_models import token_pairs

sparsepo.training.cached_reference.PART_PAIRS = 3
folder, moment, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original, calls = getattr(files, moment), []

def killed(*arguments):
    calls.append(1)
    if len(calls) == count:
        if moment == "_write_synced":
            arguments[0].write_bytes(arguments[1][:-7])
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

setattr(files, moment, killed)
fill_cache(open_cache(folder), token_pairs(8))
"""


@pytest.mark.parametrize(
    ("moment", "count", "kept"),
    [
        ("_write_synced", 1, 0),  # the fingerprint
        ("_write_synced", 2, 0),  # the first part's values
        ("_write_synced", 3, 0),  # its index
        ("_synchronise", 1, 0),  # before it is renamed
        ("_synchronise", 2, 3),  # after that
        ("_write_synced", 5, 3),  # the second part's index
    ],
)
def test_a_killed_builder_leaves_nothing_that_is_taken_for_whole(
    folder: Path, moment: str, count: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), moment, str(count)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pairs = token_pairs(8)
    cache = open_cache(folder)
    assert len(cache.missing(pairs, [LOGPS])) == 8 - kept
    assert list(folder.glob("*/.writing-*")) or kept
    monkeypatch.setattr("sparsepo.training.cached_reference.PART_PAIRS", 3)
    assert fill_cache(cache, pairs) == 8 - kept
    assert list(folder.glob("*/.*")) == []
    torch.testing.assert_close(read(open_cache(folder), pairs), whole(pairs))


def whole(pairs: list[TokenizedPair]) -> Tensor:
    """Return the log-probabilities without any file."""
    batch = pack_pairs(pairs)
    states = Reference(small_model("gpt_neox")).read(batch, DPO(), Needs())
    assert states.hidden is not None and states.head is not None
    stats = token_stats(states.hidden, states.head, None, None, batch.targets)
    return to_responses(stats.policy_logps, batch)


def test_a_living_builders_folder_is_left_alone(folder: Path) -> None:
    cache = open_cache(folder)
    cache.begin(token_pairs(1), 1)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        mine = cache._staging_folder()
        theirs = mine.with_name(mine.name.replace(str(os.getpid()), str(other.pid)))
        elsewhere = mine.with_name(f".writing-other-host-{os.getpid()}")
        theirs.mkdir()
        elsewhere.mkdir()
        cache.begin(token_pairs(1), 1)
        assert theirs.exists() and elsewhere.exists()
    finally:
        other.communicate()
    cache.begin(token_pairs(1), 1)
    assert not theirs.exists() and elsewhere.exists()


def test_processes_that_build_the_same_at_once(folder: Path) -> None:
    program = """
import sys
from pathlib import Path
import sparsepo.training.cached_reference
from tests.sparsepo.reference.test_cache import fill_cache, open_cache
from tests.small_models import token_pairs
sparsepo.training.cached_reference.PART_PAIRS = 3
cache = open_cache(Path(sys.argv[1]))
print("ready", flush=True)
input()
fill_cache(cache, token_pairs(40))
"""
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for builder in builders:
        assert builder.stdout is not None
        while "ready" not in (line := builder.stdout.readline()):
            assert line, builder.communicate()
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
    for builder in builders:
        _, errors = builder.communicate()
        assert builder.returncode == 0, errors
    pairs = token_pairs(40)
    torch.testing.assert_close(read(open_cache(folder), pairs), whole(pairs))
    assert len(list(folder.glob("*/part-*"))) == 14
    assert list(folder.glob("*/.*")) == []


def test_the_slower_of_two_builders_keeps_the_other_ones_part(folder: Path) -> None:
    pairs = token_pairs(3)
    cache = open_cache(folder)
    fill_cache(cache, pairs)
    (part,) = folder.glob("*/part-*")
    index = (part / "index.json").stat().st_ino
    values = [(torch.zeros(len(p.chosen_ids)), torch.zeros(len(p.rejected_ids))) for p in pairs]
    cache.write(pairs, {LOGPS: values})
    assert (part / "index.json").stat().st_ino == index
    assert (read(open_cache(folder), pairs)[0, :, 0] < 0).all()
    assert list(folder.glob("*/.*")) == []


# The disk


def test_a_disk_that_fills_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever write fails: one sentence, nothing half-written, and afterwards it goes on."""
    pairs = token_pairs(4)
    original = reference_cache._write_synced

    def full(path: Path, data: bytes) -> None:
        if path.name == "index.json":
            path.write_bytes(data[:10])
            raise OSError(28, "No space left on device")
        original(path, data)

    monkeypatch.setattr(reference_cache, "_write_synced", full)
    with pytest.raises(
        UserError, match=r"to the reference cache .* \(No space left on device\); fr"
    ):
        fill_cache(open_cache(folder), pairs)
    assert [file.name for file in files(folder)] == ["fingerprint.json"]
    assert list(folder.glob("*/.*")) == []
    monkeypatch.setattr(reference_cache, "_write_synced", original)
    assert fill_cache(open_cache(folder), pairs) == 4


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """The fingerprint fits, the values do not."""
    with tiny_disk(tmp_path / "disk", 32) as disk:
        with pytest.raises(UserError, match="No space left on device"):
            fill_cache(open_cache(disk), token_pairs(900))
        assert [file.name for file in files(disk)] == ["fingerprint.json"]


def test_a_place_that_cannot_be_written_is_found_before_computing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    pairs = token_pairs(2)
    with pytest.raises(UserError, match=r"lacks 2 of 2 pairs \(pair-0, pair-1\), and nothing can"):
        open_cache(tmp_path / "file").begin(pairs, 2)
    assert (tmp_path / "file").read_text() == "mine"


# Shares


def test_the_shares_of_several_processes_are_the_whole(folder: Path) -> None:
    pairs = token_pairs(7)
    cache = open_cache(folder)
    for process in range(3):
        assert len(cache.missing(pairs, [LOGPS])) == (7, 4, 1)[process]
        reference = Reference(small_model("gpt_neox"))
        cache.begin(pairs, 7)
        fill(cache, reference, DPO(), pairs, [LOGPS], batch_size=2, share=(process, 3))
    torch.testing.assert_close(read(cache, pairs), whole(pairs))


def test_progress_counts_the_pairs(folder: Path, small_parts: None) -> None:
    told: list[tuple[int, int]] = []
    fill_cache(
        open_cache(folder), token_pairs(8), batch_size=2, progress=lambda *now: told.append(now)
    )
    assert told == sorted(told)
    assert told[0] == (2, 8) and told[-1] == (8, 8)
    assert {total for _, total in told} == {8}
