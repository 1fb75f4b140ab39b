"""The input and output of the sandbox: programs, limits, verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["passed", "failed", "timeout", "memory", "refused", "unsupported"]
Form = Literal["fast", "strict", "none"]


@dataclass(frozen=True)
class Program:
    """A model-generated program with the trusted tests that judge it.

    `prompt + completion` is run first, then `tests` in the same namespace.

    Attributes:
        id: identifies the program in its verdict; need not be unique.
        completion: the model's output. Not trusted.
        tests: code that raises if the program is wrong. Trusted.
        prompt: the text before the completion. Trusted; the tests may use its helpers.
        entry_points: names under test, which always refer to the candidate's definitions, even if
            the prompt or the language defines the same name.
        seconds: its own time limit, instead of that of the limits.
    """

    id: str
    completion: str
    tests: str
    prompt: str = ""
    entry_points: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def candidate(self) -> str:
        """The prompt with its completion, which together are not trusted."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Limits:
    """The limits of one program.

    Attributes:
        seconds: wall-clock time, for each form of execution.
        memory_bytes: memory of its process beyond that of an idle interpreter.
        scratch_bytes: bytes that it may write to its folder.
        scratch_files: number of files that it may create there.
        open_files: number of file descriptors.
        threads: number of threads; without namespaces, all processes of the user are added.
        text_bytes: length of program and tests together; longer programs are refused.
        packages: installed packages that programs may import besides the standard library.
    """

    seconds: float = 3.0
    memory_bytes: int = 1 << 30
    scratch_bytes: int = 64 << 20
    scratch_files: int = 4096
    open_files: int = 256
    threads: int = 256
    text_bytes: int = 32 << 20
    packages: tuple[str, ...] = ("numpy",)


@dataclass(frozen=True)
class Verdict:
    """The result of one program.

    Attributes:
        id: the program's id.
        outcome: `passed`; `failed`; `timeout`; `memory`; `refused` (not run, or not completed, for
            reasons that are not only the program's); `unsupported` (it passed in the same process
            as its tests, and the strict form cannot decide).
        detail: the reason, in one line; for a failure the last line of the error.
        tier: the isolation.
        form: the form of execution that decided.
        seconds: wall-clock time of the deciding run.
        cpu_seconds: processor time of the deciding run.
        peak_bytes: its peak resident memory, including the interpreter's shared pages.
        suspected_forgery: it passed in the fast form and failed in the strict one.
    """

    id: str
    outcome: Outcome
    detail: str
    tier: str
    form: Form = "none"
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    suspected_forgery: bool = field(default=False)

    @property
    def passed(self) -> bool:
        """Whether the program passed and the pass was confirmed."""
        return self.outcome == "passed"


def scaled_seconds(
    reference_seconds: float, *, factor: float = 10.0, least: float = 1.0, most: float = 60.0
) -> float:
    """Return a time limit computed from the time of the reference solution on this machine.

    limit = min(max(factor · reference, least), most), and never less than twice the reference.

    Args:
        reference_seconds: measured by running the reference in the same executor.
        factor: how much slower than the reference a correct solution may be.
        least: the smallest limit, which prevents failures on a busy machine.
        most: the largest limit.
    """
    return max(min(max(factor * reference_seconds, least), most), 2 * reference_seconds)
