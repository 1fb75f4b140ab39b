"""Solutions of the embedded world, in the schema in which the authors published theirs."""

from __future__ import annotations

from pathlib import Path

from harness.commands.rehearse.rows import code_world
from tasks.code.pairs import Answers, write_answers
from tasks.code.world.problems import definition, mbpp_row
from tasks.code.world.write import problem_sets


def write_answers_of_world(folder: Path) -> None:
    """Write train/merged.json and validation/merged.json with passing and failing solutions.

    Args:
        folder: created.
    """
    made = problem_sets(code_world())
    for split in ("train", "validation"):
        answers = []
        for number, (composition, cases) in enumerate(made[f"mbpp_{split}"]):
            row = mbpp_row(number, composition, cases)
            wrong = tuple(definition(composition, text) for text in composition.mistaken())
            prompt = f'"""\n{row["text"]}\n"""\n'
            passing = (row["code"], f"{row['code']}\n")
            answers.append(Answers("", prompt, passing, wrong or ("pass\n",)))
        (folder / split).mkdir(parents=True)
        write_answers(answers, folder / split / "merged.json")
