"""Each variable of the environment with values that cannot be: the start ends with a sentence that names it.

A new variable gets a line in BAD.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType

import pytest
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

PROJECT = Path(__file__).resolve().parent.parent.parent
SECRET = "hunter2-hunter2"
TWO_LINES = "a\nb"

BAD: dict[str, tuple[str, ...]] = {
    "RLMWEB_DATA": ("/proc/nowhere",),
    "PORT": ("http", "0", "65536", "80x", "-1"),
    "RLMWEB_BIND": ("127.0.0.1:8000", "http://localhost", "a b"),
    "RLMWEB_LOCAL": ("maybe",),
    "RLMWEB_HOSTS": ("", "*", "https://rlm.example", "rlm.example:8000", "a b", ","),
    "RLMWEB_ORIGINS": ("rlm.example", "https://rlm.example/path", "ftp://rlm.example"),
    "RLMWEB_HTTPS": ("2",),
    "RLMWEB_HSTS_SECONDS": ("a year", "-1", "99999999999"),
    "RLMWEB_BEHIND_PROXY": ("nginx",),
    "RLMWEB_DEBUG": ("full",),
    "RLMWEB_LOG": ("loud", "info"),
    "DJANGO_SECRET_KEY": ("short", TWO_LINES * 20),
    "DATABASE_URL": (
        f"mysql://me:{SECRET}@db.example/rlm", f"postgres://me:{SECRET}@db.example:port/rlm", "postgres://",
        f"postgres://me:{SECRET}@db.example", "sqlite://", f"postgres://me:{SECRET}@[db.example/rlm",
    ),
    "REDIS_URL": (f"me:{SECRET}@cache.example", f"redis://:{SECRET}@cache.example:port", "redis://", "unix://"),
    "RLMWEB_SIGNUP": ("closed",),
    "RLMWEB_EMAIL_VERIFICATION": ("always",),
    "EMAIL_URL": (f"smpt://me:{SECRET}@mail.example", f"smtp://me:{SECRET}@mail.example:port", "smtp://"),
    "RLMWEB_FROM": ("rlmweb", "Desk <desk>", "a@b\nBcc: c@d", "a@b>, c@d"),
    "RLMWEB_OIDC_ISSUER": ("id.example", "https://", "https://id.example:port", "http://id.example"),
    "RLMWEB_OIDC_CLIENT_ID": (TWO_LINES,),
    "RLMWEB_OIDC_SECRET": (TWO_LINES,),
    "RLMWEB_OIDC_NAME": ("long " * 20, TWO_LINES),
    "RLMWEB_UPLOAD_FILES": ("0", "many"),
    "RLMWEB_EXTRACT_SECONDS": ("0", "soon"),
    "RLMWEB_UPLOAD_BYTES": ("2GB", "0"),
    "RLMWEB_UPLOAD_CHARACTERS": ("0", "many"),
    "RLMWEB_ARCHIVE_DEPTH": ("-1", "deep"),
    "RLMWEB_ARCHIVE_RATIO": ("0", "1.5"),
    "S3_BUCKET": ("s3://bucket", "my bucket"),
    "S3_ENDPOINT_URL": ("minio:9000", "http://minio:port"),
    "S3_REGION": ("eu central",),
    "S3_ACCESS_KEY": ("alone", TWO_LINES),
    "S3_SECRET_KEY": ("alone", TWO_LINES),
    "OPENAI_API_KEY": ("two words", "schlüssel", TWO_LINES),
    "OPENAI_BASE_URL": ("models.example/v1", "https://", "https://models.example:port/v1"),
    "OPENAI_MODEL": ("two words", "x" * 121),
    "OPENAI_SUB_MODEL": ("two words",),
    "OPENAI_DIALECT": ("sync",),
    "OPENAI_WINDOW": ("1", "128k"),
    "RLMWEB_ENDPOINT_OFFER": ("", "some of them", "all,desk", "desk/"),
    "RLMWEB_REPLY_CACHE": ("disk",),
    "RLMWEB_SECRETS": ("short", f"{'x' * 40},short"),
    "RLMWEB_AUDIT_DAYS": ("ever", "-1", "99999999999"),
    "RLMWEB_DELETION_DAYS": ("-1", "99999999999"),
    "RLMWEB_ENDPOINT_HOSTS": ("http://10.0.0.7", "10.0.0.7:8080", "10.0.0.0/8"),
    "RLMWEB_SANDBOX": ("docker",),
    "RLMWEB_SANDBOX_PREFIX": ("here",),
    "RLMWEB_SANDBOX_SPARE": ("-1", "21"),
    "RLMWEB_RUNS_AT_ONCE": ("0", "1001"),
    "RLMWEB_WARM_SECONDS": ("-1", "an hour"),
    "RLMWEB_WARM_MEMORY_MB": ("-1", "1GB"),
    "RLMWEB_LEASE_SECONDS": ("1", "99999999999"),
}  # fmt: skip
OIDC = {"RLMWEB_OIDC_ISSUER": "https://id.example", "RLMWEB_OIDC_CLIENT_ID": "me", "RLMWEB_OIDC_SECRET": "x"}


def settings_of(monkeypatch: pytest.MonkeyPatch, folder: Path, variables: dict[str, str]) -> ModuleType:
    """The settings as a process of this environment would have them."""
    for name in list(os.environ):
        if name in BAD or name.removesuffix("_FILE") in BAD:
            monkeypatch.delenv(name)
    for name, value in ({"RLMWEB_DATA": str(folder)} | variables).items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("settings_of_a_test", PROJECT / "rlmweb" / "settings.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_variable_has_values_that_cannot_be() -> None:
    source = (PROJECT / "rlmweb" / "settings.py").read_text()
    assert set(BAD) == set(re.findall(r'env\.\w+\(\s*"([A-Z][A-Z0-9_]+)"', source))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_ends_the_start_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refused:
        settings_of(monkeypatch, tmp_path, (OIDC if "OIDC" in name else {}) | {name: value})
    said = str(refused.value)
    assert name in said
    assert re.search(r"must|go together|go with|cannot be|not with", said)
    assert SECRET not in said
    assert "\n" not in said


# Offering to nobody, hosts of no name and closed sign-up can be meant; the default directory is no test's to make.
EMPTY_IS_SAID = {"RLMWEB_ENDPOINT_OFFER", "RLMWEB_HOSTS", "RLMWEB_SIGNUP", "RLMWEB_DATA"}


@pytest.mark.parametrize("name", sorted(set(BAD) - EMPTY_IS_SAID))
def test_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """As a file of variables has them that somebody left empty."""
    plain = settings_of(monkeypatch, tmp_path, {})
    empty = settings_of(monkeypatch, tmp_path, {name: ""})
    read = {setting for setting in dir(plain) if setting.isupper()}
    assert {setting for setting in read if getattr(plain, setting) != getattr(empty, setting)} == set()


def test_a_file_of_a_secret_that_holds_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImproperlyConfigured, match=r"OPENAI_API_KEY_FILE names .*, which holds no text"):
        settings_of(monkeypatch, tmp_path, {"OPENAI_API_KEY_FILE": str(tmp_path / "key")})


def test_good_values_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = settings_of(
        monkeypatch,
        tmp_path,
        OIDC
        | {
            "RLMWEB_HOSTS": ".example.org, [::1], rlm-1.example.org",
            "RLMWEB_ORIGINS": "https://rlm.example.org,https://*.example.org:8443",
            "DATABASE_URL": "postgres://me:p%40ss@db.example:5432/rlm",
            "EMAIL_URL": "smtp://me%40example.org:p%2Fw@mail.example:2525",
            "RLMWEB_FROM": "The desk <desk@example.org>",
            "RLMWEB_ENDPOINT_OFFER": "desk-1a2b3c, quay-4d5e6f",
            "OPENAI_MODEL": "org/model:free",
            "REDIS_URL": "rediss://:x@cache.example:6380/2",
        },
    )
    assert found.ALLOWED_HOSTS == [".example.org", "[::1]", "rlm-1.example.org"]
    assert (found.EMAIL_HOST_USER, found.EMAIL_HOST_PASSWORD, found.EMAIL_PORT) == ("me@example.org", "p/w", 2525)
    assert found.DATABASES["default"]["PASSWORD"] == "p@ss"
    assert found.ENDPOINT_OFFER == ["desk-1a2b3c", "quay-4d5e6f"]


def test_secrets_are_made_on_the_first_start_for_their_owner_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = settings_of(monkeypatch, tmp_path / "new", {"RLMWEB_DATA": str(tmp_path / "new")})
    again = settings_of(monkeypatch, tmp_path / "new", {"RLMWEB_DATA": str(tmp_path / "new")})
    assert (first.SECRET_KEY, first.SECRETS) == (again.SECRET_KEY, again.SECRETS)
    assert len(first.SECRET_KEY) >= 50
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    for name in ("secret-key", "endpoint-secret"):
        assert (tmp_path / "new" / name).stat().st_mode & 0o777 == 0o600, name


def test_https_secures_cookies_and_is_remembered_by_browsers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = settings_of(monkeypatch, tmp_path, {})
    assert (plain.SESSION_COOKIE_SECURE, plain.CSRF_COOKIE_SECURE, plain.SECURE_HSTS_SECONDS) == (False, False, 0)
    https = settings_of(monkeypatch, tmp_path, {"RLMWEB_HTTPS": "1"})
    assert https.SESSION_COOKIE_SECURE and https.CSRF_COOKIE_SECURE and https.SECURE_SSL_REDIRECT
    assert https.SECURE_HSTS_SECONDS == 31_536_000
    hour = settings_of(monkeypatch, tmp_path, {"RLMWEB_HTTPS": "1", "RLMWEB_HSTS_SECONDS": "3600"})
    assert hour.SECURE_HSTS_SECONDS == 3600


def test_passwords_are_hashed_with_argon2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hashers = settings_of(monkeypatch, tmp_path, {}).PASSWORD_HASHERS
    assert make_password("a long tin lighthouse", hasher=import_string(hashers[0])()).startswith("argon2$argon2id$")
