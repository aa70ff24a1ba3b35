"""The probe is worth something: a jail with one thread pulled out of it is refused, by name."""

from __future__ import annotations

import pytest

from sandbox import JailPool, SandboxUnavailable, launcher

pytestmark = pytest.mark.firejail


@pytest.mark.parametrize(
    ("line", "instead", "flaw"),
    [
        ("read-only /tmp\n", "", "nothing writable"),
        ("seccomp.keep {keep}\n", "", "system calls filtered|no sockets"),
        ("private-etc rlm-none\n", "", "no host files"),
        ("noroot\n", "", "one user, not root"),
        ("read-only /tmp\n", "read-only /tmp\nread-only /\n", "one user, not root"),
        ("blacklist}\n", "blacklist}\nnoblacklist /sys\n", ""),
    ],
    ids=["writable-tmp", "no-filter", "etc", "no-user-namespace", "read-only-root", "sound"],
)
async def test_jail_with_a_flaw_is_refused(monkeypatch: pytest.MonkeyPatch, line: str, instead: str, flaw: str) -> None:
    assert line in launcher.PROFILE
    monkeypatch.setattr(launcher, "PROFILE", launcher.PROFILE.replace(line, instead, 1))
    pool = JailPool(spare=0)
    try:
        if not flaw:
            assert (await pool.open()).alive
            return
        with pytest.raises(SandboxUnavailable, match=flaw):
            await pool.open()
        assert not pool.probe
    finally:
        await pool.close()


async def test_top_directory_of_an_operator_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies at the top of the disk, were it not hidden."""
    monkeypatch.setattr(launcher, "KNOWN_TOP", {*launcher.KNOWN_TOP, *(p.name for p in launcher.Path("/").iterdir())})
    pool = JailPool(spare=0)
    try:
        with pytest.raises(SandboxUnavailable, match="only known top directories"):
            await pool.open()
    finally:
        await pool.close()
