"""What goes in and what comes out: programs, limits, verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["passed", "failed", "timeout", "memory", "refused", "unsupported"]
Form = Literal["fast", "strict", "none"]


@dataclass(frozen=True)
class Program:
    """One program that a model wrote, with the trusted tests that judge it.

    What runs is `prompt + completion`, then `tests` in the same namespace.

    Attributes:
        id: names the program in its verdict; need not be unique.
        completion: what the model wrote. Not trusted.
        tests: code that raises if the program is wrong. Trusted.
        prompt: what stood before the completion. Trusted; the tests may use its helpers.
        entry_points: names that the tests test: always the candidate's own, also where the prompt
            or the language has something of that name.
        seconds: its time limit, in place of the limits' own.
    """

    id: str
    completion: str
    tests: str
    prompt: str = ""
    entry_points: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def candidate(self) -> str:
        """The text that is not trusted as a whole: the prompt with its completion."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: wall-clock time, for each form of the judgement.
        memory_bytes: memory of its process beyond an idle interpreter's.
        scratch_bytes: what it may write to its folder.
        scratch_files: how many files it may make there.
        open_files: descriptors.
        threads: threads, and where no namespaces are, all processes of the user besides.
        text_bytes: length of program and tests together; longer ones are refused.
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
    """What came of one program.

    Attributes:
        id: the program's.
        outcome: `passed`; `failed`; `timeout`; `memory`; `refused` (not run, or not to its end
            for reasons that are not the program's alone); `unsupported` (it passed where it shared
            a process with its tests, and the strict form cannot decide).
        detail: why, in a line: of a failure the error's last line.
        tier: the isolation it ran under.
        form: the form of execution that decided.
        seconds: wall-clock time of the deciding run.
        cpu_seconds: processor time of it.
        peak_bytes: its resident memory at most, the interpreter's shared pages included.
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
        """Whether the program passed, confirmed."""
        return self.outcome == "passed"


def scaled_seconds(
    reference_seconds: float, *, factor: float = 10.0, least: float = 1.0, most: float = 60.0
) -> float:
    """Return a time limit from what the reference solution took on this machine.

    limit = min(max(factor · reference, least), most), and never less than twice the reference.

    Args:
        reference_seconds: measured by running the reference through the same executor.
        factor: how much slower than the reference a right solution may be.
        least: what every program gets, so that a busy machine fails none.
        most: what no program gets more than.
    """
    return max(min(max(factor * reference_seconds, least), most), 2 * reference_seconds)
