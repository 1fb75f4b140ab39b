"""Conventions: the prompt of a problem, where an answer ends, and the program that is run.

`as-given` runs completions unchanged, after the code that they continue; it is meant for samples
that are ready to run. `chat` (`chat.py`) extracts the code from chat models' answers. `bigcode` and
`bigcode-unstripped` reproduce the published behaviour of bigcode-evaluation-harness (tasks
`humaneval`, `humaneval-unstripped` and `mbpp`):

- HumanEval's prompt is the row's, stripped of surrounding white space (unstripped: unchanged);
  MBPP's is a docstring with the description and the first test;
- an answer ends before the first occurrence of any stop sequence;
- a program consists of prompt, answer, newline and tests.

There is one difference: MBPP's set-up code, which bigcode-evaluation-harness ignores, runs before
the tests. `tasks.code.conventions.bigcode_eval` runs that harness' own classes instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

from tasks.code.problems import Kind, Problem

STOP_SEQUENCES: Final[dict[Kind, tuple[str, ...]]] = {
    "humaneval": (
        "\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>",
    ),
    "mbpp": ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```"),
    "plain": (),
}  # fmt: skip
"""Stop sequences of BigCode. Plain rows are not one of its tasks and are not cut."""


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """Return the part of a text before the first occurrence of any stop sequence.

    Args:
        text: an answer without its prompt, which may contain stop sequences.
        stops: the stop sequences.
    """
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(found, default=len(text))]


class Convention(ABC):
    """Turns a problem into a prompt, and a model's answer into the code that is run."""

    name: ClassVar[str]

    @abstractmethod
    def prompt(self, problem: Problem) -> str:
        """Return the prompt for the model."""

    def stops(self, problem: Problem) -> tuple[str, ...]:
        """Return the sequences at which generation may end."""
        return ()

    @abstractmethod
    def parts(self, problem: Problem, completion: str) -> tuple[str, str]:
        """Return the two parts of the code to run: the code before the answer, and the answer.

        Args:
            problem: the problem.
            completion: the model's output after the prompt.
        """

    def whole_parts(self, problem: Problem, program: str) -> tuple[str, str]:
        """Return the code to run for a whole program, in the same two parts as `parts`.

        Args:
            problem: the problem.
            program: the model's output with its prompt.
        """
        return "", program

    def candidate(self, problem: Problem, completion: str) -> str:
        """Return the code to test, with both parts joined."""
        return "".join(self.parts(problem, completion))

    def tests(self, problem: Problem) -> str:
        """Return the statements that test the candidate; they run after it."""
        return problem.tests

    def mistake(self, problems: Sequence[Problem], completions: Sequence[str]) -> str | None:
        """Return why completions do not fit this convention, or None if they do.

        Args:
            problems: one per completion.
            completions: the generated completions.
        """
        return None


class AsGiven(Convention):
    """Runs completions unchanged, after the code that they continue."""

    name = "as-given"

    def prompt(self, problem: Problem) -> str:
        """Return the row's own prompt."""
        return problem.prompt

    def parts(self, problem: Problem, completion: str) -> tuple[str, str]:
        """Return prefix and completion."""
        return problem.prefix, completion


class BigCode(Convention):
    """bigcode-evaluation-harness' `humaneval` and `mbpp`."""

    name = "bigcode"
    stripped: ClassVar[bool] = True

    def prompt(self, problem: Problem) -> str:
        """Return the stripped prompt of HumanEval, MBPP's docstring, a plain row's own prompt."""
        if problem.kind == "humaneval":
            return problem.prompt.strip() if self.stripped else problem.prompt
        if problem.kind == "mbpp":
            first = problem.row["test_list"][0]
            return f'"""\n{problem.prompt}\n{first}\n"""\n'
        return problem.prompt

    def stops(self, problem: Problem) -> tuple[str, ...]:
        """Return BigCode's stop sequences."""
        return STOP_SEQUENCES[problem.kind]

    def parts(self, problem: Problem, completion: str) -> tuple[str, str]:
        """Return the prompt and the completion up to its first stop sequence."""
        prefix = problem.prefix if problem.kind == "plain" else self.prompt(problem)
        return prefix, cut_at_stop(completion, self.stops(problem))

    def whole_parts(self, problem: Problem, program: str) -> tuple[str, str]:
        """Return the prompt, and what follows it up to its first stop sequence.

        A program that does not begin with the prompt is run unchanged, because it is unknown where
        its answer begins.
        """
        prompt = self.prompt(problem).strip()
        end = program.find(prompt) + len(prompt)
        if not prompt or not program.lstrip().startswith(prompt):
            return "", program
        return program[:end], cut_at_stop(program[end:], self.stops(problem))

    def mistake(self, problems: Sequence[Problem], completions: Sequence[str]) -> str | None:
        """Detect completions that begin after HumanEval's line end, missing in the prompt."""
        bodies = [
            completion
            for problem, completion in zip(problems, completions, strict=True)
            if problem.kind == "humaneval" and completion.strip()
        ]
        if self.stripped and bodies and all(body.startswith((" ", "\t")) for body in bodies):
            return (
                f"the convention '{self.name}' ends HumanEval's prompts with the docstring, but "
                "these completions begin on the next line: use 'bigcode-unstripped'"
            )
        return None


class BigCodeUnstripped(BigCode):
    """bigcode-evaluation-harness' `humaneval-unstripped`, and `mbpp`."""

    name = "bigcode-unstripped"
    stripped = False
