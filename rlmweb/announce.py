"""Say the address once the page answers; and where something is not well a while later, what it is.

Run as a script, by the supervisor: python -I -S rlmweb/announce.py ADDRESS HOST, HOST being a name that the site goes by.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

PATIENCE = 30  # seconds until parts that are not well yet are named


def read_health(address: str, host: str) -> dict[str, dict[str, object]] | None:
    """What /healthz says of each part; None while nobody answers."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=5)
    try:
        connection.request("GET", "/healthz", headers={"Host": host})
        answer = connection.getresponse().read(100_000)
        return dict(json.loads(answer)["parts"])
    except (OSError, http.client.HTTPException):
        return None
    except (ValueError, KeyError, TypeError):
        return {"web": {"ok": False, "says": f"/healthz gave no report, but {answer[:200]!r}"}}
    finally:
        connection.close()


def announce(address: str, host: str) -> None:
    started = time.monotonic()
    while (parts := read_health(address, host)) is None:
        time.sleep(0.1)
    print(f"rlmweb is at {address}", flush=True)
    while not all(part["ok"] for part in parts.values()) and time.monotonic() < started + PATIENCE:
        time.sleep(1)
        parts = read_health(address, host) or parts
    for name, part in parts.items():
        if not part["ok"]:
            print(f"rlmweb: {name} is not well: {part['says']}", flush=True)


if __name__ == "__main__":
    announce(*sys.argv[1:])
