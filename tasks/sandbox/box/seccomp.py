"""The system calls that a program may not make: two filters in classic BPF.

The first is large and installed once, in the process from which all programs of a box are forked.
The second is small and installed in each fork: it allows no further process, and signals only to
itself. A refused call fails with EPERM; an unknown one fails with ENOSYS, as on an older kernel.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from .syscalls import (
    MACHINE,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    PR_SET_SECCOMP,
    checked,
    libc,
    prctl,
)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# name: (x86_64, aarch64); None if the architecture does not have the call.
_NEVER: dict[str, tuple[int | None, int | None]] = {
    # starting another program
    "execve": (59, 221), "execveat": (322, 281),
    # the network: all but socketpair
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242),
    "bind": (49, 200), "listen": (50, 201),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "get_robust_list": (274, 100), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51),
    # the kernel's larger interfaces
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "lookup_dcookie": (212, 18),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "quotactl": (179, 60),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "vhangup": (153, 58),
    "personality": (135, 92), "mknod": (133, None), "mknodat": (259, 33),
    # memory and messages that our limits do not count, or that outlive a program
    "memfd_create": (319, 279),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183), "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
# Changes of a file's nature that Landlock does not mediate, and descriptors that nobody holds:
# refused where it guards the files.
_UNGUARDED: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "truncate": (76, 45),
    # A descriptor that was sent through a socket and not received keeps a file that
    # `unnamed.unnamed_bytes` does not see.
    "sendmsg": (46, 211), "sendmmsg": (307, 269),
}  # fmt: skip
_CHECKED: dict[str, tuple[int | None, int | None]] = {
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "prctl": (157, 167), "prlimit64": (302, 261),
    "fcntl": (72, 25), "ioctl": (16, 29), "socketpair": (53, 199), "sendto": (44, 206),
    "fallocate": (285, 47),
}  # fmt: skip
# From 424 on numbers are the same on every architecture. Allowed there: close_range, openat2,
# faccessat2, epoll_pwait2, futex_waitv. clone3, io_uring, pidfd_*, the new mount calls,
# process_madvise, memfd_secret, fchmodat2, setxattrat and whatever comes later do not exist.
_NEW_FROM = 424
_NEW_ALLOWED = (436, 437, 439, 441, 449)
_CLOSE_RANGE, _LANDLOCK_RESTRICT_SELF = 436, 446

_NAMESPACE_FLAGS = 0x7E020080
_THREAD, _SHARED_FILES, _CLOSE_RANGE_UNSHARE = 0x00010000, 0x400, 2
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY = 8, 10, 15, 1024, 1026
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP, _FIOASYNC = 0x5412, 0x541C, 0x8901, 0x8902, 0x5452
_PR_SET_MM, _PR_SET_PTRACER = 35, 0x59616D61

_LOAD, _JEQ, _JGE, _JSET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW = 0x7FFF0000
_EPERM = 0x00050000 | errno.EPERM
_ENOSYS = 0x00050000 | errno.ENOSYS
_EOPNOTSUPP = 0x00050000 | errno.EOPNOTSUPP
_KILL = 0x80000000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _op(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value & 0xFFFFFFFF)


def _argument(number: int) -> bytes:
    """Load the low half of an argument; both architectures are little-endian."""
    return _op(_LOAD, 16 + 8 * number)


def _for_call(number: int, body: list[bytes]) -> list[bytes]:
    """Run `body` for one system call only; it must return on every path."""
    return [_op(_JEQ, number, 0, len(body)), *body]


def _refuse_values(argument: int, values: tuple[int, ...]) -> list[bytes]:
    """Refuse a call whose argument is one of the values, allow it otherwise."""
    tests = [_op(_JEQ, value, len(values) - place) for place, value in enumerate(values)]
    return [_argument(argument), *tests, _op(_RETURN, _ALLOW), _op(_RETURN, _EPERM)]


def _only_value(argument: int, value: int) -> list[bytes]:
    return [_argument(argument), _op(_JEQ, value, 0, 1), _op(_RETURN, _ALLOW), _op(_RETURN, _EPERM)]


def _unless(argument: int, flags: int) -> list[bytes]:
    """Refuse a call whose argument has one of the flags, allow it otherwise."""
    tests = [_op(_JSET, flags, 0, 1), _op(_RETURN, _EPERM), _op(_RETURN, _ALLOW)]
    return [_argument(argument), *tests]


def _numbers(table: dict[str, tuple[int | None, int | None]]) -> list[int]:
    place = _ARCHITECTURES[MACHINE][0]
    return sorted({number for row in table.values() if (number := row[place]) is not None})


def _head() -> list[bytes]:
    return [
        _op(_LOAD, 4),
        _op(_JEQ, _ARCHITECTURES[MACHINE][1], 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, 0),
    ]


def _special(name: str, body: list[bytes]) -> list[bytes]:
    number = _CHECKED[name][_ARCHITECTURES[MACHINE][0]]
    return [] if number is None else _for_call(number, body)


def supported() -> bool:
    """Return whether the filters support this machine's architecture."""
    return MACHINE in _ARCHITECTURES


def box_filter(*, layers: bool = False) -> bytes:
    """Return the filter of a whole box.

    Args:
        layers: allow a process to restrict itself further with Landlock, as each program's does.
    """
    body = _head()
    allowed = [*_NEW_ALLOWED, *((_LANDLOCK_RESTRICT_SELF,) if layers else ())]
    new = [_op(_JEQ, number, len(allowed) - place) for place, number in enumerate(allowed)]
    new += [_op(_RETURN, _ENOSYS), _op(_RETURN, _ALLOW)]
    body += [_op(_JGE, _NEW_FROM, 0, len(new)), *new]
    for number in _numbers(_NEVER):
        body += [_op(_JEQ, number, 0, 1), _op(_RETURN, _EPERM)]
    body += _special("clone", _unless(0, _NAMESPACE_FLAGS))
    body += _special("prlimit64", _only_value(0, 0))
    body += _special("prctl", _refuse_values(0, (_PR_SET_MM, _PR_SET_PTRACER)))
    owners = (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY)
    body += _special("fcntl", _refuse_values(1, owners))
    terminals = (_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP, _FIOASYNC)
    body += _special("ioctl", _refuse_values(1, terminals))
    # A datagram socket of a pair can be pointed at another address; a stream one cannot.
    stream = [_argument(1), _op(_AND, 0xF), _op(_JEQ, 1, 0, 1), _op(_RETURN, _ALLOW)]
    body += _special(
        "socketpair",
        [_argument(0), _op(_JEQ, 1, 0, len(stream)), *stream, _op(_RETURN, _EPERM)],
    )
    body += _special("sendto", _only_value(4, 0))
    return b"".join([*body, _op(_RETURN, _ALLOW)])


def program_filter(pid: int, *, guard_files: bool) -> bytes:
    """Return the filter of one program's process.

    Args:
        pid: its own process id, the only one to which it may send signals.
        guard_files: also refuse the changes to files that Landlock does not see, and what would
            hide a file from `unnamed.unnamed_bytes`.
    """
    body = _head()
    if guard_files:
        for number in _numbers(_UNGUARDED):
            body += [_op(_JEQ, number, 0, 1), _op(_RETURN, _EPERM)]
        # Reserved space is not counted as written and may exceed the limit of a file's size; libc
        # writes zeros instead.
        body += _special("fallocate", [_op(_RETURN, _EOPNOTSUPP)])
        body += _for_call(_LANDLOCK_RESTRICT_SELF, [_op(_RETURN, _ENOSYS)])
    # A thread with descriptors of its own could hide files.
    body += _for_call(_CLOSE_RANGE, _unless(2, _CLOSE_RANGE_UNSHARE))
    body += _special("fork", [_op(_RETURN, _EPERM)])
    body += _special("vfork", [_op(_RETURN, _EPERM)])
    body += _special(
        "clone",
        [
            _argument(0),
            _op(_JSET, _THREAD, 0, 2),
            _op(_JSET, _SHARED_FILES, 0, 1),
            _op(_RETURN, _ALLOW),
            _op(_RETURN, _EPERM),
        ],
    )
    for name in ("kill", "tkill", "tgkill"):
        body += _special(name, _only_value(0, pid))
    # /proc does not show the files of a process that is not dumpable.
    options = (PR_SET_PDEATHSIG, PR_SET_DUMPABLE, _PR_SET_MM, _PR_SET_PTRACER)
    body += _special("prctl", _refuse_values(0, options))
    return b"".join([*body, _op(_RETURN, _ALLOW)])


class ProgramFilter:
    """The filter of one program's process, built once and completed in each fork.

    A forked process copies every memory page that it touches; building the filter there took a
    third of the processor time of an empty program.

    Args:
        guard_files: as in `program_filter`.
    """

    def __init__(self, *, guard_files: bool) -> None:
        own = 0x5AFEC0DE  # placeholder for the process id, which is unknown before the fork
        self._code = bytearray(program_filter(own, guard_files=guard_files))
        blank = struct.pack("=I", own)
        size = len(self._code)
        self._places = [at for at in range(4, size, 8) if self._code[at : at + 4] == blank]
        self._number = struct.Struct("=I")
        self._instructions = (ctypes.c_char * size).from_buffer(self._code)
        program = _Program(size // 8, ctypes.addressof(self._instructions))
        rest = ctypes.c_ulong(0)
        self._call = (PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(program), rest, rest)

    def install(self, pid: int) -> None:
        """Install the filter in this process.

        Args:
            pid: its own process id.

        Raises:
            OSError: the kernel refused.
        """
        for place in self._places:
            self._number.pack_into(self._code, place, pid)
        checked("prctl(seccomp)", libc.prctl(*self._call))


def install(instructions: bytes) -> None:
    """Install a filter in this process and its future children; it cannot be removed.

    Raises:
        OSError: the kernel has no seccomp filters, or new privileges were not given up before.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = _Program(len(instructions) // 8, ctypes.addressof(code))
    prctl(PR_SET_SECCOMP, 2, ctypes.byref(program))
