"""Say the address once all is well, or half a minute after the page answers, and then what is not well.

Run as a script, by the supervisor: python -I -S rlmweb/announce.py ADDRESS HOST, HOST being a name that the site goes by.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time
from urllib.parse import urlsplit

PATIENCE = 30  # seconds until it is said what does not work yet


class Silent(Exception):
    """The site gives no report yet; the message says what it did instead."""


def read_health(address: str, host: str) -> dict[str, dict[str, object]]:
    """What /healthz says of each part."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=5)
    try:
        connection.request("GET", "/healthz", headers={"Host": host})
        response = connection.getresponse()
        answer = response.read(100_000)
    except (OSError, http.client.HTTPException) as error:
        raise Silent(f"nothing answers ({error!r})") from None
    finally:
        connection.close()
    try:
        return dict(json.loads(answer)["parts"])
    except (ValueError, KeyError, TypeError):
        raise Silent(f"the page ends with an error ({response.status} {response.reason})") from None


def announce(address: str, host: str) -> None:
    started = time.monotonic()
    told = False
    while True:
        try:
            parts = read_health(address, host)
            break
        except Silent as reason:
            if not told and time.monotonic() > started + PATIENCE:
                print(f"rlmweb: {address} does not work yet: {reason}", flush=True)
                told = True
        time.sleep(0.1 if not told else 1)
    started = time.monotonic()  # the worker may take its time after the page
    while not all(part["ok"] for part in parts.values()) and time.monotonic() < started + PATIENCE:
        time.sleep(0.2)
        with contextlib.suppress(Silent):
            parts = read_health(address, host)
    print(f"rlmweb is at {address}", flush=True)
    for name, part in parts.items():
        if not part["ok"]:
            print(f"rlmweb: {name} is not well: {part['says']}", flush=True)


if __name__ == "__main__":
    announce(*sys.argv[1:])
