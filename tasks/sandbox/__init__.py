"""Isolated execution of programs that a model wrote.

    from tasks.sandbox import Program, run_programs
    programs = [Program("a", "def add(a, b): return a + b", "assert add(1, 2) == 3")]
    for verdict in run_programs(programs):
        print(verdict.id, verdict.outcome, verdict.tier)

A pool of boxes, each started once, forks a fresh child for every program. A box has no network,
none of the user's files, environment or processes, one small folder in memory to write to, no
capabilities, and a seccomp filter under which no program starts another. Its strength depends on
the machine; `available_tiers` lists what works, and every verdict names the tier it was reached in:

- `namespaces`: user, process, network, mount, IPC, UTS and cgroup namespaces, set up directly;
- `bubblewrap`: the same through Debian's bubblewrap, where only that may make namespaces;
- `landlock`: Landlock and seccomp, where user namespaces are forbidden;
- `unprotected`: limits only; never chosen unless asked for by name.

A pass counts when the strict form has confirmed it: there the trusted tests run in a process that
executes nothing of the candidate's, and values cross as plain data.

What this does not cover:

- the kernel is shared: who can exploit it from an unprivileged process without exec, sockets and
  most newer system calls, gets out. Run it in a virtual machine if that matters;
- side channels (timing, caches, the load of the machine) between programs that run at once;
- processor time beyond the wall-clock limit: a program may use every core until then;
- memory is bounded by address space per process (two processes in the strict form), not by a
  cgroup; what is written to the scratch folder comes on top;
- under `landlock` the scratch folder is on the machine's disk and its size is watched, not
  enforced; unnamed files in it are bounded by the size of one and the number of open files;
  file names and metadata outside are visible though contents are not; process numbers are shared;
- the strict form cannot decide tests that compare or calculate with objects that are not plain
  data, or that patch the candidate's modules: `unsupported`, never `passed`;
- tests are trusted: a test that is wrong, or that computes its expectation with a function of the
  candidate's, is believed;
- determinism: hash and `random` seeds are fixed, the clock and thread order are not.
"""

from __future__ import annotations

from .pool import run_programs
from .program import Limits, Outcome, Program, Verdict, scaled_seconds
from .tiers import TIERS, UNPROTECTED, available_tiers, choose_tier

__all__ = [
    "TIERS",
    "UNPROTECTED",
    "Limits",
    "Outcome",
    "Program",
    "Verdict",
    "available_tiers",
    "choose_tier",
    "run_programs",
    "scaled_seconds",
]
