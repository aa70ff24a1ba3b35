"""Put the jails' own Pythons where every jail can read them: packages by hash, and the guest's sources.

There are two: one for REPLs, one for reading uploaded files. A prefix is named after what is in it, so an install that
is done is found by one stat, and an application that is updated gets a new one beside the old.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxUnavailable

SYSTEM_PYTHON = Path("/usr/bin/python3")
ROOT = Path("/opt/rlmweb-sandbox")
GUEST = Path(__file__).parent / "guest"
LOCKS = Path(__file__).parent.parent / "locks"
PACKAGE = "rlm_guest"
USERS = 128
USER_HOME = Path("/var/lib/rlmweb-sandbox")


@dataclass(frozen=True)
class Contents:
    """What a prefix holds beside the guest's sources."""

    name: str  # begins the prefix's name
    lock: Path
    words: str


REPLS = Contents("", LOCKS / "sandbox.txt", "numpy and pandas")
READERS = Contents("extract-", LOCKS / "extract.txt", "the readers of uploaded files")


def root() -> Path:
    return Path(os.environ.get("RLMWEB_SANDBOX_PREFIX") or ROOT)


@functools.cache
def _lock_digest(contents: Contents) -> str:
    version = str(SYSTEM_PYTHON.readlink()) if SYSTEM_PYTHON.is_symlink() else "python3"
    return hashlib.sha256(contents.lock.read_bytes() + version.encode()).hexdigest()[:12]


def digest(contents: Contents = REPLS) -> str:
    """Of the lock and the guest's sources."""
    total = hashlib.sha256(_lock_digest(contents).encode())
    for path in sorted(GUEST.rglob("*.py")):
        total.update(path.relative_to(GUEST).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{_lock_digest(contents)}-{total.hexdigest()[:12]}"


def prefix(base: Path | None = None, contents: Contents = REPLS) -> Path:
    return (base or root()) / f"{contents.name}{digest(contents)}"


def installed(base: Path | None = None, contents: Contents = REPLS) -> Path:
    """The prefix in use. Raises SandboxUnavailable, saying what to do, where there is none."""
    for place in [base] if base else [root(), ROOT]:
        if (prefix(place, contents) / "done").exists():
            return prefix(place, contents)
        if _reusable(place, contents) is not None and os.access(place, os.W_OK):
            _build(prefix(place, contents), contents)  # only the guest is new: no network, a moment
            return prefix(place, contents)
    raise SandboxUnavailable(
        f"the sandbox is not installed in {prefix(base, contents)}: run `python -m sandbox install`"
        " (with --prefix DIR or RLMWEB_SANDBOX_PREFIX where /opt cannot be written)"
    )


def install(base: Path | None = None) -> Path:
    """Make both prefixes, and as root the users that jails run as. Does nothing where that is done. Returns the REPLs'."""
    for contents in (REPLS, READERS):
        target = prefix(base, contents)
        if not (target / "done").exists():
            _build(target, contents)
    if os.geteuid() == 0:
        _make_users()
    return prefix(base)


def _build(target: Path, contents: Contents) -> None:
    if not SYSTEM_PYTHON.exists():
        raise SandboxUnavailable(f"the jail needs the system's Python, {SYSTEM_PYTHON}: apt-get install python3")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    except OSError as error:
        raise SandboxUnavailable(
            f"{target.parent} cannot be written ({error.strerror}): give --prefix DIR or set RLMWEB_SANDBOX_PREFIX"
        ) from None
    try:
        work.chmod(0o755)
        venv = _reusable(target.parent, contents)
        if venv is not None:
            shutil.copytree(venv, work / "venv", symlinks=True, copy_function=_link)
            shutil.rmtree(_packages(work) / PACKAGE, ignore_errors=True)
        else:
            _make_venv(work / "venv", contents)
        package = _packages(work) / PACKAGE
        shutil.copytree(GUEST, package, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
        _run([str(work / "venv/bin/python"), "-m", "compileall", "-q", str(package)], "compiling the guest")
        for path in [package, *package.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        (work / "done").touch()
        try:
            work.rename(target)
        except OSError:  # another process was first
            if not (target / "done").exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _packages(work: Path) -> Path:
    return next((work / "venv/lib").glob("python3.*")) / "site-packages"


def _reusable(parent: Path, contents: Contents) -> Path | None:
    """The venv of another prefix with the same lock."""
    for other in sorted(parent.glob(f"{contents.name}{_lock_digest(contents)}-*")):
        if (other / "done").exists():
            return other / "venv"
    return None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _make_venv(venv: Path, contents: Contents) -> None:
    _run(
        [str(SYSTEM_PYTHON), "-m", "venv", "--without-pip", str(venv)],
        "making the jail's venv (apt-get install python3-venv)",
    )
    uv = Path(sys.executable).with_name("uv")
    program = str(uv) if uv.exists() else shutil.which("uv")
    python = str(venv / "bin/python")
    if program:
        command = [program, "pip", "install", "--quiet", "--no-config", "--python", python, "--link-mode", "copy"]
    else:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "--python",
            python,
            "install",
            "--no-compile",
        ]
    _run(
        [*command, "--require-hashes", "--only-binary=:all:", "--requirement", str(contents.lock)],
        f"installing {contents.words}",
    )
    packages = next((venv / "lib").glob("python3.*")) / "site-packages"
    for tests in packages.rglob("tests"):
        shutil.rmtree(tests, ignore_errors=True)
    _run([python, "-m", "compileall", "-q", "-j", "0", str(packages)], f"compiling {contents.words}", check=False)


def _run(command: list[str], what: str, *, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise SandboxUnavailable(f"{what} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _make_users() -> None:
    """rlm0 …: one a concurrent jail, so that no limit of a uid is shared between runs."""
    for name in (f"rlm{i}" for i in range(USERS)):
        home = USER_HOME / name
        if not user_exists(name):
            _run(
                ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(home),
                 "--shell", "/usr/sbin/nologin", name],
                f"making the user {name}",
            )  # fmt: skip
        if not home.exists():
            # firejail lays an empty tmpfs over it, and wants its owner to be who asks; nothing is ever kept there
            home.mkdir(mode=0o700, parents=True)
            user = pwd.getpwnam(name)
            os.chown(home, user.pw_uid, user.pw_gid)


def user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
