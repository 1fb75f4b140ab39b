"""Isolated execution of model-generated programs.

    from tasks.sandbox import Program, run_programs
    programs = [Program("a", "def add(a, b): return a + b", "assert add(1, 2) == 3")]
    for verdict in run_programs(programs):
        print(verdict.id, verdict.outcome, verdict.tier)

A pool of boxes, each started once, forks a new child for every program. A box has no network, none
of the user's files, environment or processes, one small in-memory folder to write to, no
capabilities, and a seccomp filter that prevents programs from starting others. Its strength depends
on the machine; `available_tiers` lists the tiers that work, and every verdict names its tier:

- `namespaces`: user, process, network, mount, IPC, UTS and cgroup namespaces, set up directly;
- `bubblewrap`: the same with Debian's bubblewrap, where only it may create namespaces;
- `landlock`: Landlock and seccomp, where user namespaces are forbidden;
- `unprotected`: limits only; used only if it is requested by name.

A pass counts only if the strict form has confirmed it, in which the trusted tests run in a process
that executes none of the candidate's code, and values are exchanged as plain data.

What this does not cover:

- the kernel is shared: an exploit that works from an unprivileged process without exec, sockets and
  most newer system calls escapes the box. Use a virtual machine if that matters;
- side channels (timing, caches, the load of the machine) between concurrent programs;
- processor time: a program may use every core until its wall-clock limit;
- memory is bounded by address space per process (two processes in the strict form), not by a
  cgroup; the content of the scratch folder is additional;
- under `landlock` the scratch folder is on the machine's disk, and its size is monitored every 20
  milliseconds and when a program ends, not enforced: a program can exceed it by what it writes
  within that time. Files without a name count while the program holds them. Names and metadata of
  files outside are visible, but not their contents; process ids are shared;
- the strict form cannot decide tests that compare or calculate with objects that are not plain
  data, or that patch the candidate's modules: `unsupported`, never `passed`;
- tests are trusted: a test that is wrong, or that computes the expected value with one of the
  candidate's functions, is believed;
- determinism: hash and `random` seeds are fixed, but clock and thread order are not.
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
