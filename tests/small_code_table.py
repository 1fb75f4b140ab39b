"""Values of the tiny profile with which Table 2 takes seconds, and nothing is learned."""

from __future__ import annotations

from pathlib import Path

from tasks.code.pairs import Answers, write_answers
from tasks.code.world import CodeWorldConfig
from tasks.code.world.problems import definition, mbpp_row
from tasks.code.world.write import problem_sets

SMALL_CODE = (
    "world.documents=300",
    "world.humaneval_problems=4",
    "world.mbpp_test=4",
    "world.mbpp_train=6",
    "world.mbpp_validation=2",
    "base.steps=3",
    "base.layers=1",
    "base.width=32",
    "base.heads=2",
    "base.vocabulary_size=400",
    "base.context=224",
    "po.max_length=200",
    "po.max_prompt_length=150",
    "po.device_batch_size=4",
    "po.batch_size=4",
    "po.validation_steps=2",
    "po.logging_steps=1",
    "data.epochs=2",
    "sampling.train_samples=3",
    "sampling.test_samples=2",
    "sampling.max_new_tokens=8",
    "sampling.stop_early=true",
    "tuning.problems=2",
    "tuning.samples=2",
    "tuning.betas=0.2,0.8",
    "tuning.simpo_betas=1.0,2.0",
    "statistics.replicates=100",
)


def solutions(folder: Path) -> Path:
    """Right and wrong solutions in the authors' schema; a model of three steps writes none."""
    made = problem_sets(
        CodeWorldConfig(humaneval_problems=1, mbpp_test=1, mbpp_train=6, mbpp_validation=2)
    )
    for split in ("train", "validation"):
        answers = []
        for number, (composition, cases) in enumerate(made[f"mbpp_{split}"]):
            row = mbpp_row(number, composition, cases)
            wrong = [definition(composition, text) for text in composition.mistaken()]
            prompt = f'"""\n{row["text"]}\n"""\n'
            answers.append(
                Answers("", prompt, (row["code"], f"{row['code']}\n"), tuple(wrong or ["pass\n"]))
            )
        (folder / split).mkdir(parents=True)
        write_answers(answers, folder / split / "merged.json")
    return folder
