import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparsepo.batches.chat import CHAT_TEMPLATE
from tasks.models.base_model import train_tokenizer
from tasks.models.chat_text import render_chat
from tasks.models.special_tokens import EOS
from tasks.summarization.posts.post import read_post
from tasks.summarization.readers import read_prompts, read_tldr
from tasks.summarization.truth import assess, compare
from tasks.summarization.world import PostWorldConfig, write_world
from tasks.summarization.world.nli import LABELS
from tasks.summarization.world.write import is_held_out

SMALL = PostWorldConfig(
    documents=200,
    sft_rows=50,
    train_pairs=120,
    test_pairs=60,
    test_prompts=30,
    nli_rows=300,
    nli_held_out=60,
)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posts")
    write_world(SMALL, folder)
    return folder


def test_equal_configurations_write_equal_bytes(world: Path, tmp_path: Path) -> None:
    write_world(SMALL, tmp_path / "again")
    write_world(replace(SMALL, seed=1), tmp_path / "other")
    write_world(replace(SMALL, documents=100), tmp_path / "shorter")
    names = sorted(path.name for path in world.iterdir())
    assert len(names) == 6
    for name in names:
        own = (world / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == own
        assert (tmp_path / "other" / name).read_bytes() != own
        assert ((tmp_path / "shorter" / name).read_bytes() == own) == (name != "corpus.jsonl")


def test_sizes_and_schemas(world: Path) -> None:
    assert len(rows(world / "corpus.jsonl")) == SMALL.documents
    train, test = (read_tldr(world, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (SMALL.train_pairs, SMALL.test_pairs)
    assert not train.report.skipped
    assert len(read_prompts(world / "prompts.jsonl").prompts) == SMALL.test_prompts
    assert len(read_prompts(world / "sft.jsonl").prompts) == SMALL.sft_rows


def test_no_held_out_post_is_trained_on(world: Path) -> None:
    def keys(name: str) -> set[str]:
        found = [read_post(row["prompt"]) for row in rows(world / name)]
        return {post.key for post in found if post is not None and (len(found) > 0)}

    for name in ("pairs_test.jsonl", "prompts.jsonl"):
        assert not keys(name) & (keys("pairs_train.jsonl") | keys("sft.jsonl"))
        posts = [read_post(row["prompt"]) for row in rows(world / name)]
        assert all(post is not None and is_held_out(post) for post in posts)
    corpus = {
        row["text"].split("<|user|>\n")[1].split(EOS)[0] for row in rows(world / "corpus.jsonl")
    }
    assert not any(
        is_held_out(post) for prompt in corpus if (post := read_post(prompt)) is not None
    )
    assert all(read_post(prompt) is not None for prompt in corpus)


def test_references_are_perfect_and_sft_is_not(world: Path) -> None:
    values = {
        name: [assess(r["prompt"], r["summary"]).preference for r in rows(world / name)]
        for name in ("prompts.jsonl", "sft.jsonl")
    }
    assert set(values["prompts.jsonl"]) == {1.0}
    assert 0.5 < sum(values["sft.jsonl"]) / len(values["sft.jsonl"]) < 0.95


def test_labels_are_true_but_for_the_noise(tmp_path: Path) -> None:
    config = replace(SMALL, test_pairs=600)
    write_world(config, tmp_path)
    found = [
        compare(row["prompt"], row["chosen"].strip(), row["rejected"].strip())
        for row in rows(tmp_path / "pairs_test.jsonl")
    ]
    assert 0.5 not in found
    assert 0.04 < found.count(0.0) / len(found) < 0.13
    write_world(replace(config, label_noise=0.0), tmp_path)
    clean = rows(tmp_path / "pairs_test.jsonl")
    assert all(compare(r["prompt"], r["chosen"], r["rejected"]) == 1.0 for r in clean)


def test_every_defect_occurs_and_is_named(world: Path) -> None:
    named = Counter(
        defect
        for row in rows(world / "pairs_train.jsonl")
        for side in ("chosen_policy", "rejected_policy")
        for defect in row[side].split("+")
    )
    assert named.keys() == {
        "good",
        "omits",
        "confuses",
        "contradicts",
        "invents",
        "digresses",
    }
    for row in rows(world / "pairs_train.jsonl"):
        if row["chosen_policy"] == "good":
            assert assess(row["prompt"], row["chosen"]).preference == 1.0


def test_lengths_do_not_tell_the_chosen_one(world: Path) -> None:
    pairs = rows(world / "pairs_train.jsonl")
    chosen, rejected = (
        sum(len(row[side].split()) for row in pairs) / len(pairs) for side in ("chosen", "rejected")
    )
    assert abs(chosen - rejected) < 0.3 * chosen


def test_answers_are_the_summary_and_its_end(world: Path) -> None:
    for row in rows(world / "corpus.jsonl"):
        ((start, end),) = row["answers"]
        assert row["text"][:start].endswith("<|assistant|>\n")
        assert row["text"][start:end].endswith(EOS)
        assert row["text"][end:] == "\n"


def test_chat_text_is_the_template(world: Path) -> None:
    tokenizer = train_tokenizer(["a b"], 300)
    tokenizer.chat_template = CHAT_TEMPLATE
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == render_chat(
        [("user", "a"), ("assistant", "b")]
    )
    assert tokenizer.apply_chat_template(
        messages[:1], tokenize=False, add_generation_prompt=True
    ) == render_chat([("user", "a")], generation_prompt=True)


def test_statements_and_their_labels(world: Path) -> None:
    from tasks.summarization.posts.facts import read_sentence

    found = rows(world / "nli.jsonl")
    assert Counter(row["split"] for row in found) == {"train": 240, "held_out": 60}
    assert set(Counter(row["label"] for row in found)) == set(LABELS)
    texts: dict[str, set[tuple[str, str]]] = {"train": set(), "held_out": set()}
    for row in found:
        texts[row["split"]].add((row["premise"], row["hypothesis"]))
    assert not texts["train"] & texts["held_out"]
    counts = Counter(row["label"] for row in found)
    assert min(counts.values()) > 0.2 * len(found)
    for row in found:
        premise, hypothesis = (read_sentence(row[name]) for name in ("premise", "hypothesis"))
        assert hypothesis is not None
        if premise is None or premise.fact.kind != hypothesis.fact.kind:
            assert row["label"] == "neutral"
        else:
            same = premise.fact == hypothesis.fact
            assert row["label"] == ("entailment" if same else "contradiction")
