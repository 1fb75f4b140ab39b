"""An interrupted run loses at most one batch, and draws no sample twice."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparsepo.generation.requests import Request, Response, Sampling
from tasks.models.generation import Responses, generate_responses
from tasks.models.generation.journal import Journal, model_identity, sample_keys
from tasks.models.generation_settings import GenerationSettings

PROMPTS = ["A dog", "Why?", "A dog can", "bark at me.", "No"]
TOTAL = 15

# It reports each batch and then waits until it is told to go on.
CHILD = """
import sys
from pathlib import Path
from tasks.models.generation import generate_responses
from tasks.models.generation_settings import GenerationSettings

def report(done, total):
    print(done, flush=True)
    sys.stdin.readline()

generate_responses(
    sys.argv[1], PROMPTS, samples=3, max_new_tokens=8, seed=5, journal=Path(sys.argv[2]),
    settings=GenerationSettings(batch_size=2), progress=report,
)
"""


def generate(model: Path, journal: Path | None, **options: Any) -> Responses:
    return generate_responses(
        model,
        PROMPTS,
        **{"samples": 3, "max_new_tokens": 8, "seed": 5, "journal": journal, **options},
    )


def keys_of(journal: Path) -> list[str]:
    return [json.loads(line)["key"] for line in journal.read_text().splitlines()]


def test_a_killed_run_continues_where_it_was(model_dir: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.replace("PROMPTS", repr(PROMPTS)), model_dir, journal],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None
    for done in ("2", "4", "6"):
        assert child.stdout.readline().strip() == done
        if done != "6":
            child.stdin.write("\n")
            child.stdin.flush()
    child.kill()
    child.wait()
    before = keys_of(journal)
    assert len(before) == 6
    # As if it had been killed while it wrote the next batch.
    with journal.open("a") as stream:
        stream.write('{"key":"0123","end":"eos","i')
    seen: list[int] = []
    resumed = generate(model_dir, journal, progress=lambda done, _: seen.append(done))
    assert seen == [TOTAL]
    after = keys_of(journal)
    assert after[:6] == before
    assert len(set(after)) == len(after) == TOTAL
    assert resumed == generate(model_dir, None)
    # A finished run draws nothing.
    assert generate(model_dir, journal, progress=lambda *_: pytest.fail("drew again")) == resumed
    assert keys_of(journal) == after


def test_a_journal_serves_only_what_determines_its_samples(model_dir: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    generate(model_dir, journal, temperature=1.0)
    seen: list[int] = []
    for options in ({"temperature": 0.5}, {"seed": 6}, {"top_p": 0.9}, {"stop": ["x"]}):
        found = generate(model_dir, journal, progress=lambda done, _: seen.append(done), **options)
        assert found == generate(model_dir, None, **options)
    assert seen == [TOTAL] * 4
    assert len(keys_of(journal)) == 5 * TOTAL
    # More samples of the same prompts need only the new ones.
    generate(model_dir, journal, samples=4)
    assert len(keys_of(journal)) == 5 * TOTAL + len(PROMPTS)
    # Batch size and order are no part of a sample.
    generate(model_dir, journal, settings=GenerationSettings(batch_size=3))
    assert len(keys_of(journal)) == 5 * TOTAL + len(PROMPTS)


def test_lines_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    assert journal.read({"a"}) == {}
    first, second = Response("eos", (1, 2)), Response("length", text="x \u2028 \ud800")
    journal.append([("a", first)])
    with path.open("a") as stream:
        stream.write('nonsense\n{"key":"c"}\n[1]\n\n')
    journal.append([("b", second), ("z", first)])
    assert journal.read({"a", "b", "c"}) == {"a": first, "b": second}
    assert journal.read({"a"}) == {"a": first}


def test_keys_follow_everything_that_determines_a_sample() -> None:
    sampling, request = Sampling(8), Request((1, 23), 7)
    found = [
        sample_keys("model", [request], sampling),
        sample_keys("other", [request], sampling),
        sample_keys("model", [replace(request, seed=8)], sampling),
        sample_keys("model", [replace(request, prompt=(12, 3))], sampling),
        sample_keys("model", [request], replace(sampling, max_new_tokens=9)),
        sample_keys("model", [request], replace(sampling, temperature=0.5)),
        sample_keys("model", [request], replace(sampling, top_p=0.5)),
        sample_keys("model", [request], replace(sampling, stop=("\n",))),
    ]
    assert len({key for (key,) in found}) == len(found)


def test_a_model_is_identified_by_its_contents(model_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in model_dir.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert model_identity(copy, "auto") == model_identity(model_dir, "auto")
    assert model_identity(copy, "bfloat16") != model_identity(copy, "auto")
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert model_identity(copy, "auto") != model_identity(model_dir, "auto")
    assert model_identity("some/model", "auto") != model_identity("other/model", "auto")
