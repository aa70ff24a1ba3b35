"""The system-call filters: which calls a jail and a REPL may make, and the BPF programs that hold them to it. x86-64."""

from __future__ import annotations

import ctypes
import platform
import struct

# What every process in the jail may call …
SHARED = {
    "access": 21, "alarm": 37, "brk": 12, "chdir": 80, "clock_getres": 229, "clock_gettime": 228,
    "clock_nanosleep": 230, "clone": 56, "close": 3, "close_range": 436, "creat": 85, "dup": 32, "dup2": 33,
    "dup3": 292, "epoll_create": 213, "epoll_create1": 291, "epoll_ctl": 233, "epoll_pwait": 281, "epoll_wait":
    232, "eventfd": 284, "eventfd2": 290, "exit": 60, "exit_group": 231, "faccessat": 269, "faccessat2": 439,
    "fadvise64": 221, "fallocate": 285, "fcntl": 72, "fdatasync": 75, "flock": 73, "fstat": 5, "fstatfs": 138,
    "fsync": 74, "ftruncate": 77, "futex": 202, "getcpu": 309, "getcwd": 79, "getdents": 78, "getdents64": 217,
    "getegid": 108, "geteuid": 107, "getgid": 104, "getgroups": 115, "getitimer": 36, "getpeername": 52,
    "getpgid": 121, "getpgrp": 111, "getpid": 39, "getppid": 110, "getrandom": 318, "getrlimit": 97,
    "getrusage": 98, "getsid": 124, "getsockname": 51, "getsockopt": 55, "gettid": 186, "gettimeofday": 96,
    "getuid": 102, "ioctl": 16, "lseek": 8, "lstat": 6, "madvise": 28, "membarrier": 324, "mincore": 27,
    "mkdir": 83, "mkdirat": 258, "mlock": 149, "mmap": 9, "mprotect": 10, "mremap": 25, "msync": 26, "munmap":
    11, "nanosleep": 35, "newfstatat": 262, "open": 2, "openat": 257, "pause": 34, "pipe": 22, "pipe2": 293,
    "poll": 7, "ppoll": 271, "pread64": 17, "preadv": 295, "pselect6": 270, "pwrite64": 18, "pwritev": 296,
    "read": 0, "readlink": 89, "readlinkat": 267, "readv": 19, "recvfrom": 45, "recvmsg": 47, "rename": 82,
    "renameat": 264, "renameat2": 316, "restart_syscall": 219, "rmdir": 84, "rseq": 334, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_getaffinity": 204, "sched_yield": 24, "select": 23,
    "sendfile": 40, "sendmsg": 46, "sendto": 44, "set_robust_list": 273, "set_tid_address": 218, "setitimer":
    38, "setsockopt": 54, "shutdown": 48, "sigaltstack": 131, "socketpair": 53, "stat": 4, "statfs": 137,
    "statx": 332, "sysinfo": 99, "time": 201, "times": 100, "truncate": 76, "umask": 95, "uname": 63, "unlink":
    87, "unlinkat": 263, "write": 1, "writev": 20,
}  # fmt: skip
# … and what only the zygote needs: to start, limit and end REPLs.
ZYGOTE = {
    "clone3": 435, "kill": 62, "tgkill": 234, "prctl": 157, "execve": 59, "memfd_create": 319, "seccomp": 317,
    "wait4": 61, "waitid": 247, "vfork": 58, "fork": 57, "arch_prctl": 158, "prlimit64": 302, "rt_sigtimedwait":
    128, "setrlimit": 160, "pidfd_open": 434,
}  # fmt: skip

ALLOW, DENY, KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, EAGAIN, ENOSYS = 1, 11, 38
ARCH = 0xC000003E
X32 = 0x40000000
CLONE_THREAD = 0x10000
PR_SET_NAME, PR_GET_NAME, PR_SET_VMA = 15, 16, 0x53564D41
LOAD, JEQ, JGE, JSET, JUMP, RET = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
PID = 0x7E57_0001  # stands for the process's own pid until the program is installed

Code = list[list[int]]


def _ret(value: int) -> list[int]:
    return [RET, 0, 0, value]


def _start() -> Code:
    """Refuse other architectures and the x32 table."""
    return [
        [LOAD, 0, 0, 4], [JEQ, 1, 0, ARCH], _ret(KILL),
        [LOAD, 0, 0, 0], [JGE, 0, 1, X32], _ret(DENY | EPERM),
    ]  # fmt: skip


def _case(number: int, body: Code) -> Code:
    """If the call is this one, decide in ``body``, which always returns."""
    return [[JEQ, 0, len(body), number], *body]


def _allow(numbers: list[int]) -> Code:
    count = len(numbers)  # jumps are one byte
    assert count <= 250
    code = [[JEQ, count - i, 0, n] for i, n in enumerate(numbers)]
    return [*code, [JUMP, 0, 0, 1], _ret(ALLOW), _ret(DENY | EPERM)]


def jail_program() -> Code:
    """The first layer, where the launcher has none of its own (bubblewrap)."""
    return _start() + _allow(sorted({*SHARED.values(), *ZYGOTE.values()}))


def repl_program() -> Code:
    """The second layer, of one REPL: no processes, no signals to others, no limits to move. Holds PID as a stand-in."""
    denied, argument = _ret(DENY | EPERM), [LOAD, 0, 0, 16]
    code = _start()
    code += _case(ZYGOTE["clone3"], [_ret(DENY | ENOSYS)])  # glibc then uses clone, whose flags can be read here
    code += _case(SHARED["clone"], [argument, [JSET, 0, 1, CLONE_THREAD], _ret(ALLOW), _ret(DENY | EAGAIN)])
    for name in ("fork", "vfork"):
        code += _case(ZYGOTE[name], [_ret(DENY | EAGAIN)])
    for name in ("kill", "tgkill"):
        code += _case(ZYGOTE[name], [argument, [JEQ, 0, 1, PID], _ret(ALLOW), denied])
    code += _case(
        ZYGOTE["prlimit64"],  # its own, to read
        [argument, [JEQ, 0, 3, 0], [LOAD, 0, 0, 32], [JEQ, 0, 1, 0], _ret(ALLOW), denied],
    )
    code += _case(
        ZYGOTE["prctl"],
        [argument, [JEQ, 2, 0, PR_SET_NAME], [JEQ, 1, 0, PR_GET_NAME], [JEQ, 0, 1, PR_SET_VMA], _ret(ALLOW), denied],
    )
    return code + _allow(sorted(set(SHARED.values()) - {SHARED["clone"]}))


def assemble(code: Code) -> bytes:
    return b"".join(struct.pack("<HBBI", *ins) for ins in code)


def supported() -> bool:
    return platform.machine() == "x86_64"


class Installer:
    """Assembles the REPL's program once, in the zygote; a fork only patches its pid in."""

    def __init__(self) -> None:
        code = repl_program()
        self._count = len(code)
        self._code = assemble(code)
        self._places = [8 * i + 4 for i, ins in enumerate(code) if ins[3] == PID]
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

    def prctl(self, option: int, value: int = 0, third: int = 0) -> None:
        if self._prctl(option, value, third, 0, 0):
            raise OSError(ctypes.get_errno(), f"prctl {option}")

    def install(self, pid: int) -> None:
        buffer = ctypes.create_string_buffer(self._code, len(self._code))
        for at in self._places:
            struct.pack_into("<I", buffer, at, pid)
        program = struct.pack("<HxxxxxxQ", self._count, ctypes.addressof(buffer))
        holder = ctypes.create_string_buffer(program, len(program))
        self.prctl(38, 1)  # no new privileges
        self.prctl(22, 2, ctypes.addressof(holder))
