"""A cell starts no process, touches none but itself, and reaches no kernel interface that it does not need."""

from __future__ import annotations

import asyncio

import pytest

from sandbox import Jail, Value
from tests.sandbox.conftest import QUICK, RunCells

pytestmark = [pytest.mark.firejail, pytest.mark.asyncio(loop_scope="module")]

CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.syscall({number}, {arguments}), ctypes.get_errno())"


async def test_fork_is_refused(attack: RunCells) -> None:
    result = await attack("import os\nos.fork()")
    assert "BlockingIOError" in result.error


async def test_fork_bomb_ends_at_its_first_fork(attack: RunCells) -> None:
    result = await attack("import os\nwhile True: os.fork()")
    assert "BlockingIOError" in result.error


async def test_subprocess_is_refused(attack: RunCells) -> None:
    result = await attack("import subprocess\nsubprocess.run(['/usr/bin/python3', '-c', 'print(1)'])")
    assert "Error" in result.error


async def test_exec_is_refused(attack: RunCells) -> None:
    result = await attack("import os, sys\nos.execv(sys.executable, ['python'])")
    assert "PermissionError" in result.error


async def test_shell_command_is_refused(attack: RunCells) -> None:
    result = await attack("import os\nprint(os.system('id'))")
    assert "uid" not in result.output


async def test_multiprocessing_is_refused(attack: RunCells) -> None:
    result = await attack("import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()")
    assert "Error" in result.error


async def test_cell_is_not_root(attack: RunCells) -> None:
    result = await attack(
        "import os\nprint(os.getuid() != 0, os.geteuid() != 0)\nprint(open('/proc/self/status').read())"
    )
    assert result.output.startswith("True True\n")
    assert "CapEff:\t0000000000000000" in result.output
    assert "CapBnd:\t0000000000000000" in result.output
    assert "NoNewPrivs:\t1" in result.output


async def test_setuid_is_refused(attack: RunCells) -> None:
    result = await attack("import os\nos.setuid(0)")
    assert "PermissionError" in result.error


async def test_setuid_program_cannot_be_run(attack: RunCells) -> None:
    result = await attack(
        "import os\nprint([p for p in ('/usr/bin/sudo', '/usr/bin/su', '/bin/su', '/usr/bin/firejail', '/usr/bin/passwd') if os.path.exists(p)])"
    )
    assert result.output == "[]\n"


@pytest.mark.parametrize("signal", [0, 9, 19, 15])
async def test_signal_to_the_zygote_is_refused(attack: RunCells, signal: int) -> None:
    result = await attack(f"import os\nos.kill(os.getppid(), {signal})")
    assert "PermissionError" in result.error


async def test_signal_to_all_is_refused(attack: RunCells) -> None:
    result = await attack("import os\nos.kill(-1, 9)")
    assert "PermissionError" in result.error


async def test_killing_the_process_group_is_refused(attack: RunCells) -> None:
    result = await attack("import os\nos.killpg(os.getpgrp(), 9)")
    assert "PermissionError" in result.error


async def test_sibling_cannot_be_shot(any_jail: Jail) -> None:
    victim, killer = [await any_jail.start_repl(Value.of(i), limits=QUICK) for i in range(2)]
    await victim.run("kept = 7", 1)
    result = await killer.run(
        "import os\n"
        "refused = 0\n"
        "for pid in [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]:\n"
        "    try: os.kill(pid, 9)\n"
        "    except PermissionError: refused += 1\n"
        "print(refused > 1)",
        1,
    )
    assert result.output == "True\n"
    assert (await victim.run("print(kept)", 2)).output == "7\n"
    await victim.close()
    await killer.close()


async def test_sibling_memory_cannot_be_read(any_jail: Jail) -> None:
    victim, reader = [await any_jail.start_repl(Value.of(i), limits=QUICK) for i in range(2)]
    pid = (await victim.run("import os; secret = 'of this call alone'; print(os.getpid())", 1)).output.strip()
    result = await reader.run(
        "found = []\n"
        f"for name in ('mem', 'maps', 'environ', 'fd/3', 'root/etc', 'cwd/x', 'stack', 'syscall'):\n"
        "    try:\n"
        f"        with open('/proc/{pid}/' + name, 'rb') as file: found.append(file.read(1))\n"
        "    except OSError: pass\n"
        "print([f for f in found if f])",
        1,
    )
    assert result.output == "[]\n"
    await victim.close()
    await reader.close()


async def test_sibling_cannot_be_ptraced_or_read_by_system_call(any_jail: Jail) -> None:
    victim, reader = [await any_jail.start_repl(Value.of(i), limits=QUICK) for i in range(2)]
    pid = (await victim.run("import os; print(os.getpid())", 1)).output.strip()
    result = await reader.run(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"print([libc.syscall(n, a, {pid}, 0, 0) for n, a in ((101, 16), (310, {pid}), (311, {pid}), (434, {pid}), (438, {pid}))])",
        1,
    )
    assert result.output == "[-1, -1, -1, -1, -1]\n"
    await victim.close()
    await reader.close()


async def test_limits_of_a_sibling_cannot_be_moved(any_jail: Jail) -> None:
    victim, killer = [await any_jail.start_repl(Value.of(i), limits=QUICK) for i in range(2)]
    pid = (await victim.run("import os; print(os.getpid())", 1)).output.strip()
    result = await killer.run(
        "import os, resource\n"
        f"for act in (lambda: resource.prlimit({pid}, resource.RLIMIT_NOFILE, (0, 0)), lambda: os.setpriority(os.PRIO_PROCESS, {pid}, 19),\n"
        f"            lambda: os.sched_setaffinity({pid}, {{0}})):\n"
        "    try: act(); print('moved')\n"
        "    except PermissionError: print('refused')",
        1,
    )
    assert result.output == "refused\n" * 3
    await victim.close()
    await killer.close()


async def test_own_limits_cannot_be_raised(attack: RunCells) -> None:
    result = await attack("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))")
    assert "Error" in result.error


async def test_becoming_dumpable_is_refused(attack: RunCells) -> None:
    result = await attack(CALL.format(number=157, arguments="4, 1, 0, 0, 0"))
    assert result.output == "-1 1\n"


@pytest.mark.parametrize(
    ("name", "number", "arguments"),
    [
        ("io_uring_setup", 425, "1, 0"),
        ("bpf", 321, "0, 0, 0"),
        ("perf_event_open", 298, "0, 0, 0, 0, 0"),
        ("userfaultfd", 323, "0"),
        ("keyctl", 250, "0, 0, 0, 0, 0"),
        ("add_key", 248, "b'user', b'x', b'y', 1, -3"),
        ("unshare", 272, "0x10000000"),
        ("setns", 308, "0, 0"),
        ("mq_open", 240, "b'/x', 66, 438, 0"),
        ("shmget", 29, "0, 4096, 0o1600"),
        ("msgget", 68, "0, 0o1600"),
        ("semget", 64, "0, 1, 0o1600"),
        ("kexec_load", 246, "0, 0, 0, 0"),
        ("init_module", 175, "0, 0, 0"),
        ("reboot", 169, "0, 0, 0, 0"),
        ("landlock_create_ruleset", 444, "0, 0, 1"),
        ("seccomp", 317, "0, 0, 0"),
        ("pidfd_open", 434, "1, 0"),
        ("process_vm_readv", 310, "1, 0, 0, 0, 0, 0"),
        ("name_to_handle_at", 303, "0, b'/', 0, 0, 0"),
        ("open_by_handle_at", 304, "0, 0, 0"),
        ("fanotify_init", 300, "0, 0"),
        ("personality", 135, "0x0040000"),
        ("settimeofday", 164, "0, 0"),
        ("sethostname", 170, "b'x', 1"),
        ("swapon", 167, "b'/x', 0"),
        ("quotactl", 179, "0, 0, 0, 0"),
        ("acct", 163, "0"),
        ("ioperm", 173, "0, 1, 1"),
        ("modify_ldt", 154, "0, 0, 0"),
        ("memfd_secret", 447, "0"),
        ("execveat", 322, "-1, b'/usr/bin/python3', 0, 0, 0"),
    ],
)
async def test_kernel_interface_is_refused(attack: RunCells, name: str, number: int, arguments: str) -> None:
    result = await attack(CALL.format(number=number, arguments=arguments))
    assert result.output == "-1 1\n", name


async def test_foreign_system_call_table_is_refused(attack: RunCells) -> None:
    """x32 numbers would pass a filter that only knows the native ones."""
    result = await attack(CALL.format(number=0x40000000 + 41, arguments="2, 1, 0"))
    assert result.output.startswith("-1 ")


async def test_32_bit_system_call_ends_the_process(attack: RunCells) -> None:
    """int 0x80 enters through another table."""
    result = await attack(
        "import ctypes, mmap\n"
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(address)())"
    )
    assert not result.output
    assert result.killed == "exit" or result.error


async def test_clone_with_new_namespaces_is_refused(attack: RunCells) -> None:
    result = await attack(CALL.format(number=56, arguments="0x10000000 | 17, 0, 0, 0, 0"))
    assert result.output == "-1 11\n"


async def test_clone3_is_not_there(attack: RunCells) -> None:
    result = await attack(CALL.format(number=435, arguments="0, 0"))
    assert result.output == "-1 38\n"


async def test_threads_are_bounded(attack: RunCells) -> None:
    result = await attack(
        "import threading, time\n"
        "started = 0\n"
        "try:\n"
        "    for started in range(10_000): threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
        "except RuntimeError as error: print(started < 100, error)"
    )
    assert result.output.startswith("True can't start new thread")


async def test_zygote_code_in_a_cell_gains_nothing(attack: RunCells) -> None:
    result = await attack(
        "import sys\nsys.modules['rlm_guest.zygote'] if 'rlm_guest.zygote' in sys.modules else None\nfrom rlm_guest.filter import Installer\nInstaller().install(1)"
    )
    assert "PermissionError" in result.error or "OSError" in result.error


async def test_other_runs_are_not_to_be_seen(attack: RunCells, any_jail: Jail) -> None:
    other = await Jail.start(any_jail.backend, _prefix(), 1024)
    try:
        repl = await other.start_repl(Value.of("secret"), limits=QUICK)
        mine = await attack("import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))")
        theirs = await repl.run("import os\nprint(os.getpid(), open('/proc/self/comm').read())", 1)
        assert theirs.output and len(mine.output.split(",")) < 12
        await asyncio.sleep(0)
    finally:
        await other.close()


def _prefix():  # type: ignore[no-untyped-def]
    from sandbox.install import installed

    return installed()
