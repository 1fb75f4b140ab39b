"""A program's files have a common limit, including those that no longer have a name."""

from __future__ import annotations

import textwrap

import pytest

from tasks.sandbox import Limits, Program, Verdict, available_tiers, run_programs

LIMITS = Limits(seconds=10.0, scratch_bytes=4 << 20, packages=())
TOO_MUCH = "wrote more than the scratch folder may hold"

BEGIN = """
import ctypes, mmap, os, platform, posix, socket, sys, tempfile, threading, time
kept = []
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
intel = platform.machine() == "x86_64"
"""
# 12 MiB in six files; the limit is 4 MiB, for one file as well.
NAMED = "for n in range(6): kept.append(posix.open(str(n), posix.O_RDWR | posix.O_CREAT))\n"
UNLINK = "for n in range(6): posix.unlink(str(n))\n"
UNNAMED = "for n in range(6): kept.append(posix.open('.', posix.O_RDWR | posix.O_TMPFILE))\n"
WRITE = "for file in kept: posix.write(file, bytes(2 << 20))\n"
WAYS = {
    "named": NAMED + WRITE,
    "unlinked": NAMED + UNLINK + WRITE,
    "never named": UNNAMED + WRITE,
    # The mapping of one page keeps the whole file.
    "closed but mapped": NAMED + UNLINK + WRITE + """
for file in kept:
    libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file, ctypes.c_long(0))
    posix.close(file)
""",
}  # fmt: skip


def judged(code: str, *, confirm: bool = True) -> Verdict:
    """Return the verdict under the tier that monitors the folder, if this machine has it."""
    if trouble := available_tiers()["landlock"]:
        pytest.skip(f"landlock: {trouble}")
    program = Program("p", BEGIN + code, "")
    options = {"workers": 1, "limits": LIMITS, "tier": "landlock"}
    (verdict,) = run_programs([program], confirm=confirm, **options)  # type: ignore[arg-type]
    return verdict


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["", "time.sleep(60)\n"], ids=["then ends", "then sleeps"])
@pytest.mark.parametrize("form", ["fast", "strict"])
def test_too_much_is_a_failure(way: str, end: str, form: str) -> None:
    code = WAYS[way] + end
    if form == "strict":  # it passes in the fast form
        guard = "if sys._getframe(1).f_code.co_name == 'carry_out':\n"
        code = guard + textwrap.indent(code, "    ")
    verdict = judged(code, confirm=form == "strict")
    assert (verdict.outcome, verdict.detail, verdict.form) == ("failed", TOO_MUCH, form)


def test_files_of_a_thread_count_after_the_first_thread_has_ended() -> None:
    work = NAMED + UNLINK + "time.sleep(0.1)\n" + WRITE + "time.sleep(60)\n"
    code = f"def work():\n{textwrap.indent(work, '    ')}threading.Thread(target=work).start()\n"
    verdict = judged(code + "libc.syscall(60 if intel else 93, 0)\n")
    assert (verdict.outcome, verdict.detail) == ("failed", TOO_MUCH)


ALLOWED = {
    "a temporary file": """
with tempfile.TemporaryFile() as file:
    file.write(bytes(3 << 20))
    file.seek(0)
    assert len(file.read()) == 3 << 20
    time.sleep(0.1)
""",
    "more than the limit, but never at once": """
for n in range(6):
    with tempfile.TemporaryFile() as file:
        file.write(bytes(3 << 20))
""",
    "a mapped temporary file": """
with tempfile.TemporaryFile() as file:
    file.write(bytes(1 << 20))
    file.flush()
    memory = mmap.mmap(file.fileno(), 1 << 20)
memory[:3] = b"abc"
time.sleep(0.1)
""",
    "the same file twice": """
kept.append(posix.open(".", posix.O_RDWR | posix.O_TMPFILE))
posix.write(kept[0], bytes(3 << 20))
kept.append(posix.dup(kept[0]))
time.sleep(0.1)
""",
    "space reserved in advance": """
kept.append(posix.open(".", posix.O_RDWR | posix.O_TMPFILE))
posix.posix_fallocate(kept[0], 0, 1 << 20)
assert posix.fstat(kept[0]).st_size == 1 << 20
""",
    "a thread": """
threads = [threading.Thread(target=kept.append, args=[n]) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert sorted(kept) == list(range(8))
""",
}


@pytest.mark.parametrize("use", ALLOWED)
def test_a_modest_use_of_files_passes(use: str) -> None:
    verdict = judged(ALLOWED[use])
    assert verdict.passed, verdict.detail


# What would keep a file out of sight, or show a program the files of others.
REFUSED = {
    "sending a descriptor": """
import array
one, other = socket.socketpair()
file = posix.open("x", posix.O_RDWR | posix.O_CREAT)
one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
""",
    "descriptors of its own": "call(436, 900, 1000, 2)",
    "a thread with descriptors of its own": "call(56 if intel else 220, 0x10900, 0, 0, 0, 0)",
    "not being dumpable": "call(157 if intel else 167, 4, 0, 0, 0, 0)",
    "reserving space beyond a file's size": """
file = posix.open("x", posix.O_RDWR | posix.O_CREAT)
call(285 if intel else 47, file, 1, ctypes.c_long(0), ctypes.c_long(1 << 30))
""",
    "a descriptor for a process": "call(434, posix.getppid(), 0)",
    "the descriptors of another process": "call(438, 3, 0, 0)",
    "its own descriptors in /proc": "posix.listdir('/proc/self/fd')",
    "the descriptors of its parent": "posix.listdir(f'/proc/{posix.getppid()}/fd')",
    "the memory of its parent": "posix.open(f'/proc/{posix.getppid()}/mem', posix.O_RDONLY)",
    "the mappings of its parent": "posix.open(f'/proc/{posix.getppid()}/maps', posix.O_RDONLY)",
    "a further restriction": "call(446, 3, 0)",
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_program_may_not_hide_files_or_look_at_others(what: str) -> None:
    verdict = judged(f"""
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

try:
{textwrap.indent(REFUSED[what].strip(), "    ")}
except OSError as error:
    assert error.errno in (1, 13, 38, 95), error  # EPERM, EACCES, ENOSYS, EOPNOTSUPP
else:
    raise AssertionError("it was not refused")
""")
    assert verdict.passed, verdict.detail
