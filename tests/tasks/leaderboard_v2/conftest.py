"""Invented rows in the hub's schemas, and a small random model that can read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.small_models import small_model

VOCABULARY = 400
CONTEXT = 2048

Rows = list[dict[str, Any]]


def bbh_rows() -> Rows:
    expressions = ["not True is", "True and True is", "False or not False is", "False and True is"]
    rows: Rows = [
        {"subset": "boolean_expressions", "input": text, "target": str(index % 2 == 1)}
        for index, text in enumerate(expressions)
    ]
    rows += [
        {
            "subset": "tracking_shuffled_objects_three_objects",
            "input": f"Alice, Bob and Claire play. Swap {n}. Who?\nOptions:\n(A) a\n(B) b\n(C) c",
            "target": f"({'ABC'[n % 3]})",
        }
        for n in range(4)
    ]
    rows.append({"subset": "ruin_names", "input": "Which edit of 'abba'?", "target": "(A)"})
    # As in the real file: a target that is no choice, and a subset that the leaderboard leaves out.
    rows.append({"subset": "ruin_names", "input": "Which edit?", "target": "dearth, wind, & fire"})
    rows.append({"subset": "word_sorting", "input": "b a", "target": "a b"})
    return rows


def math_rows() -> Rows:
    return [
        {
            "problem": f"What is ${n} + {n}$?",
            "solution": f"It is $\\boxed{{{2 * n}}}$.",
            "level": "Level 5",
            "type": kind,
        }
        for n, kind in enumerate(["Algebra", "Counting & Probability", "Algebra"], start=2)
    ] + [
        {"problem": "1?", "solution": "$\\boxed{1}$", "level": "Level 1", "type": "Algebra"},
        {"problem": "2?", "solution": "two", "level": "Level 5", "type": "Algebra"},
    ]


def gpqa_rows() -> Rows:
    return [
        {
            "Question": f"Which metal is number {n}?",
            "Correct Answer": f"metal {n}",
            "Incorrect Answer 1": "wood [note]",
            "Incorrect Answer 2": "a very much longer wrong answer",
            "Incorrect Answer 3": "glass",
            "subset": subset,
        }
        for n, subset in enumerate(["main", "main", "main", "diamond", "main", "main"])
    ]


def musr_rows() -> Rows:
    choices = {
        "murder_mysteries": ["Ann", "Robert"],
        "object_placements": ["shelf", "box", "drawer", "bag", "car"],
        "team_allocation": ["Ann cooks", "Bob cooks, Ann sings", "Cid cooks"],
    }
    return [
        {
            "split": split,
            "narrative": f"Once upon a time, story {n}.",
            "question": "Which one?",
            "choices": repr(names),
            "answer_index": n % len(names),
            "answer_choice": names[n % len(names)],
        }
        for split, names in choices.items()
        for n in range(3)
    ]


def mmlu_pro_rows() -> Rows:
    return [
        {
            "question_id": 70 + n,
            "question": f"Number {n}?",
            "options": [f"option {i}" for i in range(3 + n % 3)],
            "answer": "ABC"[n % 3],
            "answer_index": n % 3,
            "cot_content": "",
            "category": "math",
        }
        for n in range(9)
    ]


def ifeval_rows() -> Rows:
    return [
        {
            "key": 1000,
            "prompt": "Write without commas.",
            "instruction_id_list": ["punctuation:no_comma"],
            "kwargs": [{}],
        },
        {
            "key": 1001,
            "prompt": "Use at least two sentences and at most fifty words.",
            "instruction_id_list": [
                "length_constraints:number_sentences",
                "length_constraints:number_words",
            ],
            "kwargs": [
                {"num_sentences": 2, "relation": "at least"},
                {"num_words": 50, "relation": "less than", "num_sentences": None},
            ],
        },
        {
            "key": 1002,
            "prompt": "Name the keyword cat, in capitals at least once.",
            "instruction_id_list": ["keywords:existence", "change_case:capital_word_frequency"],
            "kwargs": [
                {"keywords": ["cat"]},
                {"capital_frequency": 1, "capital_relation": "at least"},
            ],
        },
        {
            "key": 1003,
            "prompt": "Answer in English small letters.",
            "instruction_id_list": ["change_case:english_lowercase"],
            "kwargs": [{}],
        },
    ]


ROWS = {
    "bbh": bbh_rows(),
    "math_hard": math_rows(),
    "gpqa": gpqa_rows(),
    "musr": musr_rows(),
    "mmlu_pro": mmlu_pro_rows(),
    "ifeval": ifeval_rows(),
}


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file for each of the six benchmarks."""
    folder = tmp_path_factory.mktemp("leaderboard-rows")
    return {name: write_jsonl(folder / f"{name}.jsonl", rows) for name, rows in ROWS.items()}


def make_tokenizer(vocabulary: int = VOCABULARY, **special: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = [value for rows in ROWS.values() for row in rows for value in map(str, row.values())]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>", **special
    )


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A saved GPT-NeoX with random weights, without a chat template of its own."""
    folder = tmp_path_factory.mktemp("model")
    small_model("gpt_neox", vocab_size=VOCABULARY, max_position_embeddings=CONTEXT).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder
