"""A bad value in the environment ends the start with a sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from rlmweb import env


@pytest.fixture(autouse=True)
def setting(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("THING", raising=False)
    return monkeypatch


def test_defaults_stand_where_nothing_is_set(setting: pytest.MonkeyPatch) -> None:
    assert env.text("THING", "default") == "default"
    assert env.flag("THING", True) is True
    assert env.number("THING", 7) == 7
    assert env.words("THING", "a, b,") == ["a", "b"]
    assert env.choice("THING", "a", "a", "b") == "a"
    assert env.url("THING", schemes=("redis",)) == ""


@pytest.mark.parametrize(("value", "means"), [("1", True), ("Yes", True), ("0", False), ("off", False), ("", False)])
def test_flag_is_read(setting: pytest.MonkeyPatch, value: str, means: bool) -> None:
    setting.setenv("THING", value)
    assert env.flag("THING", not means) is means


def test_bad_values_are_refused_by_name(setting: pytest.MonkeyPatch) -> None:
    setting.setenv("THING", "maybe")
    for read in (
        lambda: env.flag("THING"),
        lambda: env.number("THING", 1),
        lambda: env.choice("THING", "a", "a", "b"),
        lambda: env.url("THING", schemes=("redis",)),
    ):
        with pytest.raises(ImproperlyConfigured, match=r"^THING must .*'maybe'"):
            read()


@pytest.mark.parametrize(("value", "says"), [("0", "from 1 to 9, not 0"), ("10", "from 1 to 9, not 10")])
def test_number_outside_its_span_is_refused(setting: pytest.MonkeyPatch, value: str, says: str) -> None:
    setting.setenv("THING", value)
    with pytest.raises(ImproperlyConfigured, match=says):
        env.number("THING", 5, least=1, most=9)


def test_text_of_more_than_one_line_is_refused(setting: pytest.MonkeyPatch) -> None:
    setting.setenv("THING", "a\nb")
    with pytest.raises(ImproperlyConfigured, match="one line"):
        env.text("THING")


def test_text_may_lie_in_a_file(setting: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whisper\n")
    setting.setenv("THING_FILE", str(tmp_path / "secret"))
    assert env.text("THING") == "whisper"
    setting.setenv("THING_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ImproperlyConfigured, match=r"THING_FILE names .* which cannot be read"):
        env.text("THING")
