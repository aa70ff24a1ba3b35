"""A cell sees no file of the host but a read-only interpreter, and can write none at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sandbox.conftest import RunCells

pytestmark = [pytest.mark.firejail, pytest.mark.asyncio(loop_scope="module")]

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/ssl", "/root/.bashrc", "/root/.ssh", "/var/log", "/var/lib/dpkg",
        "/boot", "/sys/kernel", "/run/lock", "/usr/bin/env", "/bin/sh", "/usr/sbin/useradd", "/usr/share/doc",
        "/proc/kallsyms", "/proc/meminfo", "/proc/modules", "/proc/keys", "/proc/version",
        "/proc/cmdline", "/proc/1/environ", "/proc/1/root/etc/passwd", "/dev/mem", "/dev/kvm", "/dev/vda", "/dev/fuse",
        str(PROJECT), str(PROJECT / "pyproject.toml"),
    ],
)  # fmt: skip
async def test_host_file_cannot_be_read(attack: RunCells, path: str) -> None:
    result = await attack(
        "import os\n"
        f"path = {path!r}\n"
        "try:\n"
        "    found = os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1)\n"
        "except OSError as error:\n"
        "    found = None\n"
        "print(bool(found))"
    )
    assert (result.output, result.error) == ("False\n", "")


@pytest.mark.parametrize(
    "where", ["/", "/tmp", "/dev/shm", "/var/tmp", "/dev", "/proc", "~", "/usr/lib", "site", "guest"]
)
async def test_nothing_can_be_written(attack: RunCells, where: str) -> None:
    result = await attack(
        "import os, sys, numpy\n"
        f"where = {{'site': os.path.dirname(numpy.__file__), 'guest': os.path.dirname(sys.modules['rlm_guest'].__file__)}}.get({where!r}, {where!r})\n"
        "open(os.path.join(os.path.expanduser(where), 'scratch'), 'w').write('x')\n"
    )
    assert "Error" in result.error.splitlines()[-1]


async def test_temporary_file_fails_with_a_clear_error(attack: RunCells) -> None:
    result = await attack("import tempfile\ntempfile.TemporaryFile()")
    assert "FileNotFoundError: [Errno 2] No usable temporary directory" in result.error


async def test_interpreter_cannot_be_changed(attack: RunCells) -> None:
    result = await attack("import os, json\nopen(json.__file__, 'a').write('x')")
    assert "Error" in result.error


async def test_module_cannot_be_deleted(attack: RunCells) -> None:
    result = await attack("import os, json\nos.unlink(json.__file__)")
    assert "Error" in result.error


async def test_symlink_is_refused(attack: RunCells) -> None:
    result = await attack("import os\nos.symlink('/etc/passwd', '/tmp/link')")
    assert "Error" in result.error


async def test_device_node_is_refused(attack: RunCells) -> None:
    result = await attack("import os, stat\nos.mknod('/tmp/disk', stat.S_IFBLK | 0o600, os.makedev(254, 0))")
    assert "Error" in result.error


async def test_mount_is_refused(attack: RunCells) -> None:
    result = await attack(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), ctypes.get_errno())"
    )
    assert result.output == "-1 1\n"


async def test_remounting_writable_is_refused(attack: RunCells) -> None:
    result = await attack(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.mount(None, b'/', None, 32, None), libc.umount2(b'/tmp', 2), ctypes.get_errno())"
    )
    assert result.output == "-1 -1 1\n"


async def test_chroot_and_pivot_root_are_refused(attack: RunCells) -> None:
    result = await attack(
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nprint([libc.syscall(n, b'/', b'/') for n in (161, 155)])"
    )
    assert result.output == "[-1, -1]\n"


async def test_memfd_is_refused(attack: RunCells) -> None:
    """It would be memory that no limit of the process counts."""
    result = await attack("import os\nos.memfd_create('x')")
    assert "PermissionError" in result.error


async def test_context_memory_cannot_be_written(attack: RunCells) -> None:
    """A large context comes as a sealed memfd, and its descriptor is closed once it is read."""
    result = await attack(
        "import os\nprint(len(context), sorted(int(f) for f in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{f}') and int(f) > 3))",
        context="x" * 500_000,
    )
    assert result.output.startswith("500000 ") or "PermissionError" in result.error


async def test_descriptors_of_the_host_are_not_there(attack: RunCells) -> None:
    with (PROJECT / "pyproject.toml").open() as file:
        os.set_inheritable(file.fileno(), True)
        result = await attack(
            "import os\n"
            "def is_open(fd):\n"
            "    try: os.fstat(fd)\n"
            "    except OSError: return False\n"
            "    return True\n"
            "print([fd for fd in range(1024) if is_open(fd)])"
        )
    assert result.output == "[0, 1, 2, 3]\n"


async def test_environment_of_the_host_is_not_there(attack: RunCells) -> None:
    os.environ["DJANGO_SECRET_KEY"] = "for this test"
    try:
        result = await attack(
            "import os\nprint(os.environ.get('DJANGO_SECRET_KEY'), [k for k in os.environ if 'KEY' in k or 'TOKEN' in k])"
        )
    finally:
        del os.environ["DJANGO_SECRET_KEY"]
    assert result.output == "None []\n"


async def test_network_tables_of_the_host_are_not_shown(attack: RunCells) -> None:
    """/proc/net is that of an empty network: a heading, and the loopback."""
    result = await attack(
        "for name in ('tcp', 'udp', 'route', 'arp'):\n"
        "    try: print(len(open('/proc/net/' + name).read().splitlines()) <= 1)\n"
        "    except OSError: print(True)"
    )
    assert result.output == "True\n" * 4


async def test_dotdot_leads_nowhere(attack: RunCells) -> None:
    result = await attack(
        "import os\nprint(os.path.exists('../../../../../../etc/passwd'), os.path.exists('/proc/self/root/etc/passwd'))"
    )
    assert result.output == "False False\n"


async def test_standard_input_is_empty(attack: RunCells) -> None:
    result = await attack("input()")
    assert "EOFError" in result.error


async def test_terminal_injection_is_refused(attack: RunCells) -> None:
    """TIOCSTI would type into the operator's terminal."""
    result = await attack("import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')")
    assert "OSError" in result.error or "PermissionError" in result.error


async def test_host_names_are_hidden(attack: RunCells) -> None:
    result = await attack("import os, socket\nprint(os.uname().nodename)")
    assert result.output == "sandbox\n"
