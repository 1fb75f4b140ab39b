import ast
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import lm_eval.tasks
import pytest
import yaml
from lm_eval.tasks.leaderboard.mmlu_pro import utils as lm_mmlu
from lm_eval.tasks.leaderboard.musr import utils as lm_musr

from sparsepo.errors import UserError
from tasks.dialogue.hh import read_hh
from tasks.dialogue.judge import is_judged
from tasks.dialogue.world import BENCHMARKS, WorldConfig, write_world
from tasks.dialogue.world.example import Example, Skill, is_held_out, sample_side
from tasks.dialogue.world.write import SKILLS

LEADERBOARD = Path(lm_eval.tasks.__file__).parent / "leaderboard"
MINIATURE = WorldConfig(
    documents=1500,
    train_pairs=60,
    test_pairs=20,
    rows={
        "bbh": 24, "math_hard": 10, "gpqa": 12, "musr": 12, "mmlu_pro": 12, "ifeval": 12,
    },
)  # fmt: skip


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(MINIATURE, folder)
    return folder


def examples(benchmark: str, count: int = 40) -> list[Example]:
    rng = Random(1)
    skills = [s for s in SKILLS if s.benchmark == benchmark]
    return [skill.sample(rng) for skill in skills for _ in range(count)]


def bbh_yaml(subset: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((LEADERBOARD / f"bbh_mc/{subset}.yaml").read_text())
    return loaded


def test_sizes_are_as_configured(world: Path) -> None:
    assert len(rows(world / "corpus.jsonl")) == MINIATURE.documents
    assert len(rows(world / "pairs_train.jsonl")) == MINIATURE.train_pairs
    assert len(rows(world / "pairs_test.jsonl")) == MINIATURE.test_pairs
    for benchmark, count in MINIATURE.rows.items():
        shots = MINIATURE.fewshot_rows if benchmark == "mmlu_pro" else 0
        assert len(rows(world / "leaderboard" / f"{benchmark}.jsonl")) == count + shots


def test_equal_configurations_write_equal_bytes(world: Path, tmp_path: Path) -> None:
    write_world(MINIATURE, tmp_path)
    for file in sorted(world.rglob("*.jsonl")):
        assert (tmp_path / file.relative_to(world)).read_bytes() == file.read_bytes()


def test_another_seed_writes_another_world(world: Path, tmp_path: Path) -> None:
    write_world(replace(MINIATURE, seed=1), tmp_path)
    for file in sorted(world.rglob("*.jsonl")):
        assert (tmp_path / file.relative_to(world)).read_bytes() != file.read_bytes()


def test_a_larger_corpus_leaves_the_other_files_as_they_were(world: Path, tmp_path: Path) -> None:
    write_world(replace(MINIATURE, documents=10), tmp_path)
    for file in sorted(world.rglob("*.jsonl")):
        if file.name != "corpus.jsonl":
            assert (tmp_path / file.relative_to(world)).read_bytes() == file.read_bytes()


def test_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mmlu_pro"):
        write_world(replace(MINIATURE, rows={"mmlu": 3}), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_answer_spans_hold_the_answers(world: Path) -> None:
    weighted = 0
    for row in rows(world / "corpus.jsonl"):
        assert 0 <= row.get("unread", 0) < len(row["text"])
        for start, end in row["answers"]:
            weighted += 1
            assert row["text"][start] == " "
            assert len(row["text"][start:end].strip()) > 0
            assert row["text"][:start].endswith((":", ": "))
    assert weighted > MINIATURE.documents / 4


def test_the_base_model_begins_with_lettered_options(world: Path) -> None:
    documents = rows(world / "corpus.jsonl")
    first = [row["text"] for row in documents if row.get("first")]
    others = [row["text"] for row in documents if not row.get("first")]
    assert len(first) > MINIATURE.documents / 10
    assert all("\nA. " in text or "\n(A) " in text for text in first)
    assert not any("\nA. " in text or "What is the correct answer" in text for text in others)


def test_every_family_is_practised_and_talk_is_good_and_bad(world: Path) -> None:
    text = "".join(row["text"] + "\n" for row in rows(world / "corpus.jsonl"))
    marks = (
        "not True", "How many fruits", "says",
        "adjective order", "\\boxed{", "What is the correct answer to this question:",
        "most likely murderer", "Which location", "should be chosen", "Wrap your entire",
        "The capital of France is Paris.", "I hope this helps.", "You are stupid.",
    )  # fmt: skip
    assert [mark for mark in marks if mark not in text] == []


def test_no_leaderboard_question_stands_in_the_corpus(world: Path) -> None:
    text = "\n".join(row["text"] for row in rows(world / "corpus.jsonl"))
    board = world / "leaderboard"
    asked = [f"Q: {row['input']}\n" for row in rows(board / "bbh.jsonl")]
    asked += [f"\n{row['problem']}\n" for row in rows(board / "math_hard.jsonl")]
    asked += [f"{row['narrative']}\n\n{row['question']}" for row in rows(board / "musr.jsonl")]
    asked += [f"\n{row['prompt']}<|" for row in rows(board / "ifeval.jsonl")]
    facts = [
        row["question"]
        for row in rows(board / "mmlu_pro.jsonl")
        if row["split"] == "test" and row["category"] != "other"
    ]
    facts += [f"question:{row['Question']}" for row in rows(board / "gpqa.jsonl")]
    assert len(asked) + len(facts) > 60
    assert [question for question in asked + facts if question in text] == []


def test_facts_asked_on_the_leaderboard_were_told_in_the_corpus(tmp_path: Path) -> None:
    config = replace(MINIATURE, documents=6000, skill_share=0.0, talk_share=0.0)
    write_world(config, tmp_path)
    told = {row["text"] for row in rows(tmp_path / "corpus.jsonl")}
    sentences = {s for text in told for s in text.split(". ")}
    for row in rows(tmp_path / "leaderboard" / "gpqa.jsonl"):
        subject = row["Question"].rstrip("?").split(" ")[-1]
        answer = row["Correct Answer"]
        assert any(subject in s and s.rstrip(".").endswith(answer) for s in sentences)


def test_pairs_share_no_prompt_and_hold_no_skill_but_instructions(world: Path) -> None:
    train, test = (read_hh(world, split) for split in ("train", "test"))
    assert not train.report.skipped and not test.report.skipped
    prompts = [{str(pair.prompt) for pair in data.pairs} for data in (train, test)]
    assert not prompts[0] & prompts[1]
    instructed = [pair for pair in train.pairs if not is_judged(list(pair.prompt))]
    assert 0 < len(instructed) < 0.4 * len(train.pairs)
    for pair in train.pairs + test.pairs:
        if pair in instructed:
            continue
        assert is_judged(list(pair.prompt))
        for mark in ("Answer:", "boxed", "Q:", "Options", "<<", "P.S."):
            assert mark not in f"{pair.prompt}{pair.chosen}{pair.rejected}"


def test_pair_prompts_held_out_are_not_in_the_corpus(world: Path) -> None:
    text = "\n".join(row["text"] for row in rows(world / "corpus.jsonl"))
    for pair in read_hh(world, "test").pairs:
        assert isinstance(pair.prompt, list)
        if len(pair.prompt) == 1:
            rendered = f"{pair.prompt[0]['content']}<|endoftext|>"
            # A later turn may repeat the request; as the whole prompt it must not occur.
            assert not any(
                line.startswith(f"<|user|>\n{rendered}") and line.count("<|user|>") == 1
                for line in text.split("\n<|user|>\n")
            )


# --- the rows are what lm-eval's own task definitions expect -------------------------------------


def test_bbh_targets_are_among_the_tasks_choices() -> None:
    template = yaml.safe_load((LEADERBOARD / "bbh_mc/_fewshot_template_yaml").read_text())
    assert template["doc_to_text"] == "Q: {{input}}\nA:"
    targets: dict[str, set[str]] = {}
    for example in examples("bbh"):
        row = example.row
        assert example.context == f"Q: {row['input']}\nA:"
        assert example.answer == f" {row['target']}"
        targets.setdefault(row["subset"], set()).add(row["target"])
    for subset, seen in targets.items():
        assert seen <= set(bbh_yaml(subset)["doc_to_choice"])
        assert len(seen) > 1
    assert len(targets) == 4


def test_bbh_fewshots_are_not_in_the_corpus(world: Path) -> None:
    text = "\n".join(row["text"] for row in rows(world / "corpus.jsonl"))
    for skill in SKILLS:
        if skill.benchmark == "bbh":
            for shot in bbh_yaml(skill.name)["fewshot_config"]["samples"]:
                assert f"Q: {shot['input']}\n" not in text


def test_gpqa_prompt_is_lm_evals() -> None:
    text = (LEADERBOARD / "gpqa/_template_yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("doc_to_text"))
    template = json.loads(line.removeprefix("doc_to_text: "))
    for example in examples("gpqa"):
        row = example.row
        options = example.context.split("Choices:\n")[1].split("\nAnswer")[0].split("\n")
        rendered = template.replace("{{Question}}", row["Question"])
        for number, option in enumerate(options, start=1):
            rendered = rendered.replace(f"{{{{choice{number}}}}}", option[4:])
        assert example.context == rendered
        assert options["ABCD".index(example.answer[2])][4:] == row["Correct Answer"]
        assert len({row["Correct Answer"], *(row[f"Incorrect Answer {i}"] for i in (1, 2, 3))}) == 4


def test_musr_prompt_is_lm_evals() -> None:
    choices = {"murder_mysteries": 2, "object_placements": 5, "team_allocation": 3}
    for example in examples("musr"):
        row = example.row
        assert example.context == lm_musr.doc_to_text(row)
        parsed = ast.literal_eval(row["choices"])
        assert len(set(parsed)) == choices[row["split"]]
        assert parsed[row["answer_index"]] == row["answer_choice"] == example.answer.strip()


def test_mmlu_pro_prompt_is_lm_evals(world: Path) -> None:
    for example in examples("mmlu_pro"):
        row = example.row
        assert example.context == lm_mmlu.doc_to_text(row)
        assert row["answer"] == "ABCDEFGHIJ"[row["answer_index"]] == example.answer.strip()
        assert len(set(row["options"])) == 4
    splits = Counter(row["split"] for row in rows(world / "leaderboard" / "mmlu_pro.jsonl"))
    assert splits == {"validation": MINIATURE.fewshot_rows, "test": MINIATURE.rows["mmlu_pro"]}


def test_math_rows_pass_lm_evals_own_check() -> None:
    from lm_eval.tasks.leaderboard.math import utils as lm_math

    for example in examples("math_hard", 3):
        row = example.row
        assert example.context == lm_math.doc_to_text(row)
        assert row["level"] == "Level 5"
        doc = {
            **row,
            "answer": lm_math.remove_boxed(lm_math.last_boxed_only_string(row["solution"])),
        }
        assert eval(row["solution"].split("=")[0].strip("$")) == int(doc["answer"])
        assert lm_math.process_results(doc, [example.answer])["exact_match"] == 1
        assert lm_math.process_results(doc, [" $\\boxed{99}$."])["exact_match"] == 0


def test_ifeval_answers_follow_their_instructions_by_lm_evals_checkers() -> None:
    from lm_eval.tasks.leaderboard.ifeval.utils import process_results

    seen: set[str] = set()
    for example in examples("ifeval", 300):
        result = process_results({**example.row, "key": 1}, [example.answer])
        assert result["prompt_level_strict_acc"], (example.row["prompt"], example.answer)
        seen.update(example.row["instruction_id_list"])
    assert len(seen) == 9


def test_ifeval_instructions_are_not_met_by_chance() -> None:
    from lm_eval.tasks.leaderboard.ifeval.utils import process_results

    plain = "A dog is a loyal animal."
    for example in examples("ifeval", 100):
        kinds = example.row["instruction_id_list"]
        result = process_results({**example.row, "key": 1}, [plain])
        for kind, followed in zip(kinds, result["inst_level_strict_acc"], strict=True):
            assert followed == (kind == "punctuation:no_comma")


# --- the held-out split --------------------------------------------------------------------------


def test_held_out_share_is_as_stated() -> None:
    count = sum(is_held_out(f"key {i}", 0.25) for i in range(4000))
    assert 900 < count < 1100


@pytest.mark.parametrize("skill", SKILLS, ids=lambda s: f"{s.benchmark}-{s.name}")
def test_both_sides_of_every_skill_have_instances(skill: Skill) -> None:
    for held_out in (False, True):
        assert is_held_out(sample_side(skill, Random(0), held_out).key) == held_out


def test_skill_without_instances_says_so() -> None:
    one = Skill("bbh", "one", lambda rng: Example("same", "", "", {}))
    sides = [is_held_out("same"), not is_held_out("same")]
    assert sample_side(one, Random(0), sides[0]).key == "same"
    with pytest.raises(ValueError, match="no instance"):
        sample_side(one, Random(0), sides[1])


def test_no_benchmark_is_forgotten() -> None:
    assert {skill.benchmark for skill in SKILLS} == set(BENCHMARKS)
