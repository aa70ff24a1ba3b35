"""What strangers send is one line in the log."""

from __future__ import annotations

import logging
import logging.config

import pytest
from django.conf import settings
from django.test import Client


@pytest.mark.django_db
def test_a_request_for_another_host_is_one_line(capsys: pytest.CaptureFixture[str], client: Client) -> None:
    logging.config.dictConfig(settings.LOGGING | {"disable_existing_loggers": False})  # to the stream of this test
    try:
        response = client.get("/accounts/login/", headers={"Host": "evil.example"})
    finally:
        told = capsys.readouterr().err
    assert response.status_code == 400
    assert "evil.example" not in response.content.decode()
    assert told.count("\n") == 1
    assert "Invalid HTTP_HOST header: 'evil.example'" in told
    assert "Traceback" not in told


def test_lines_of_one_line_hold_no_second() -> None:
    from rlmweb.lines import OneLine

    record = logging.LogRecord(
        "x", logging.ERROR, "x.py", 1, "two\nlines of %s", ("it",), (ValueError, ValueError(), None)
    )
    assert OneLine("{message}", style="{").format(record) == "two lines of it"
    assert record.exc_info
