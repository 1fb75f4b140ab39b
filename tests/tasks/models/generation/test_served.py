"""The endpoint backend: a real `transformers serve`, and stand-ins of servers that differ."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from scipy.stats import chi2, chi2_contingency
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparsepo.errors import UserError
from tasks.models.generation import generate_responses
from tasks.models.generation_settings import GenerationSettings
from tests.endpoint_server import Body, Reply, completion_reply, endpoint
from tests.small_models import small_model, small_tokenizer

NAME = "tests/small"
DRAWS = 300
CLI = "from transformers.cli.transformers import main; main()"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with a small model."""
    home = tmp_path_factory.mktemp("home")
    place = home / "hub" / "models--tests--small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    folder = place / "snapshots" / ("0" * 40)
    small_model("gpt2", spread=10.0).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return home


@pytest.fixture(scope="module")
def folder(hub: Path) -> Path:
    return next((hub / "hub" / "models--tests--small" / "snapshots").iterdir())


@pytest.fixture(scope="module")
def served(hub: Path) -> Iterator[str]:
    """The URL of `transformers serve`."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", CLI, "serve", NAME, "--host", "127.0.0.1"]
    with (hub / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            env={**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            assert server.poll() is None, (hub / "log").read_text()[-2000:]
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/health")
                break
            except OSError:
                time.sleep(0.2)
        yield f"{url}/v1"
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_served_samples_have_the_distribution_of_the_model(served: str, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    settings = GenerationSettings(endpoint=served, model=NAME)
    found = generate_responses(
        folder,
        ["the cat sat"],
        samples=DRAWS,
        max_new_tokens=1,
        temperature=0.75,
        settings=settings,
    )
    ids = [tokenizer.bos_token_id, *tokenizer("the cat sat")["input_ids"]]
    with torch.no_grad():
        shares = (model(torch.tensor([ids])).logits[0, -1].double() / 0.75).softmax(-1)
    expected: Counter[str] = Counter()
    for token, share in enumerate(shares.tolist()):
        expected[tokenizer.decode([token], skip_special_tokens=True)] += DRAWS * share
    seen = Counter(found.texts)
    assert set(seen) <= set(expected)
    common = [text for text in expected if expected[text] >= 5]
    rest = DRAWS - sum(seen[text] for text in common)
    rare = DRAWS - sum(expected[text] for text in common)
    statistic = sum((seen[text] - expected[text]) ** 2 / expected[text] for text in common)
    statistic += (rest - rare) ** 2 / rare
    assert len(common) > 5
    assert chi2.sf(statistic, len(common)) > 0.001


@pytest.mark.slow
def test_served_responses_are_distributed_as_those_in_this_process(
    served: str, folder: Path
) -> None:
    shared = {"samples": 150, "max_new_tokens": 4, "temperature": 0.75, "top_p": 0.5}
    own = generate_responses(folder, ["the dog"], seed=1, **shared)
    theirs = generate_responses(
        folder,
        ["the dog"],
        seed=2,
        settings=GenerationSettings(endpoint=served, model=NAME, concurrency=2),
        **shared,
    )
    counts = [Counter(text[:1] for text in found.texts) for found in (own, theirs)]
    common = [text for text in counts[0] | counts[1] if counts[0][text] + counts[1][text] >= 10]
    table = [[count[text] for text in common] for count in counts]
    for row, count in zip(table, counts, strict=True):
        row.append(count.total() - sum(row) + 1)
    assert len(common) > 3
    assert chi2_contingency(table).pvalue > 0.001


def test_served_greedy_responses_are_those_in_this_process(served: str, folder: Path) -> None:
    prompts = ["the cat", "on the mat", "a dog saw it and"]
    own = generate_responses(folder, prompts, max_new_tokens=6, temperature=0)
    theirs = generate_responses(
        folder,
        prompts,
        max_new_tokens=6,
        temperature=0,
        settings=GenerationSettings(endpoint=served, model=NAME),
    )
    assert theirs == own


def test_a_model_that_is_not_served_is_named(served: str, folder: Path) -> None:
    settings = GenerationSettings(endpoint=served)
    with pytest.raises(UserError, match=f"does not serve .*{folder.name}.*It serves: {NAME}"):
        generate_responses(folder, ["a"], settings=settings)


def standing_in(url: str, concurrency: int = 1) -> GenerationSettings:
    return GenerationSettings(endpoint=url, model="judge", concurrency=concurrency)


def test_each_sample_is_a_request_with_its_own_seed(folder: Path) -> None:
    with endpoint(lambda path, body: completion_reply(f"<{body['seed']}>")) as server:
        found = generate_responses(
            folder,
            ["the cat", "a dog"],
            samples=2,
            max_new_tokens=5,
            temperature=0.5,
            top_p=0.9,
            stop=["\n"],
            settings=standing_in(server.url, 3),
        )
    bodies = [body for _, body in server.requests]
    assert (
        sorted(body["prompt"] for body in bodies)
        == ["<|endoftext|>a dog"] * 2 + ["<|endoftext|>the cat"] * 2
    )
    seeds = {body["seed"] for body in bodies}
    assert len(seeds) == 4 and all(0 <= seed < 2**31 for seed in seeds)
    # In the order of the prompts, whichever was answered first.
    at = {f"<{body['seed']}>": body["prompt"][13:] for body in bodies}
    assert [at[text] for text in found.texts] == ["the cat", "the cat", "a dog", "a dog"]
    for body in bodies:
        assert (body["max_tokens"], body["temperature"], body["top_p"]) == (5, 0.5, 0.9)
        assert body["stop"] == ["\n"]
        # Not llama.cpp's 40 most probable tokens.
        assert (body["top_k"], body["min_p"], body["include_stop_str_in_output"]) == (0, 0.0, True)


@pytest.mark.parametrize("refuses", [("top_k",), ("top_k", "generation_config")])
def test_servers_that_refuse_unknown_fields(folder: Path, refuses: tuple[str, ...]) -> None:
    def answer(path: str, body: Body) -> Reply:
        unknown = [name for name in refuses if name in body]
        if unknown:
            return Reply({"error": {"message": f"Unexpected fields: {unknown}"}}, status=422)
        return completion_reply("yes")

    with endpoint(answer) as server:
        found = generate_responses(folder, ["the cat"], samples=3, settings=standing_in(server.url))
    assert found.texts == ["yes"] * 3
    # It is found out once.
    assert len(server.requests) == 3 + len(refuses)
    last = server.requests[-1][1]
    assert ("generation_config" in last) == (len(refuses) == 1)
    if len(refuses) == 1:
        assert json.loads(last["generation_config"])["do_sample"] is True


def test_unfinished_responses_are_counted_and_a_refusal_is_passed_on(folder: Path) -> None:
    long = Reply(
        {"choices": [{"index": 0, "text": "and so on", "finish_reason": "length"}], "usage": {}}
    )
    with endpoint(lambda path, body: long) as server:
        found = generate_responses(folder, ["a", "the"], settings=standing_in(server.url))
    assert (found.texts, found.unfinished) == (["and so on"] * 2, 2)
    no = Reply({"error": {"message": "prompt too long"}}, status=400)
    with (
        endpoint(lambda path, body: no) as server,
        pytest.raises(UserError, match=r"rejects a request .*prompt too long"),
    ):
        generate_responses(folder, ["a"], settings=standing_in(server.url))


def test_nothing_is_asked_twice(folder: Path, tmp_path: Path) -> None:
    asked: Counter[int] = Counter()

    def answer(path: str, body: Body) -> Reply:
        asked[body["seed"]] += 1
        if asked.total() == 5 and not stopped:
            return Reply({"error": {"message": "no credit"}}, status=401)
        return completion_reply(f"<{body['seed']}>")

    stopped: list[bool] = []
    journal = tmp_path / "journal.jsonl"
    options = {"samples": 4, "journal": journal}
    with endpoint(answer) as server:
        settings = standing_in(server.url)
        with pytest.raises(UserError, match="key"):
            generate_responses(folder, ["the cat", "a dog"], settings=settings, **options)
        stopped.append(True)
        failed = list(asked)[4]
        found = generate_responses(folder, ["the cat", "a dog"], settings=settings, **options)
    assert len(found.texts) == 8
    assert {seed: count for seed, count in asked.items() if count > 1} == {failed: 2}
