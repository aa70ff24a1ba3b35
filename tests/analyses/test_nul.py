"""NUL, which PostgreSQL takes in no text: wherever somebody may send it, it is left out, refused or found nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.test import Client

from analyses.consumers import GONE
from rlmweb.asgi import application
from tests.analyses.test_routes import ALL, RULED, RULES, World, key_of, make_world, said

# What addresses are asked with, anywhere.
ASKED = (
    "q who action since until status state sort page month run from corpus part endpoint strategy question version at "
    "hits open list show after of as v calls way replace next email"
).split()


@pytest.fixture
def world(db: None) -> World:
    return make_world()


def test_an_address_with_nul_in_a_query_breaks_no_page(world: World) -> None:
    for name in [name for name in RULED if name != "healthz"]:
        for text in ("%00", "a%00b"):
            query = "&".join(f"{asked}={text}" for asked in ASKED)
            path = world.path(name, **key_of(world, name))
            response = world.clients["alice"].get(f"{path}?{query}", headers=RULES[name].headers)
            assert response.status_code < 500, f"{name}: {text}"
            said(response)


@pytest.mark.parametrize("who", ["alice", "anonymous"])
def test_an_address_with_nul_leads_nowhere(world: World, who: str) -> None:
    for name in RULED:
        path = world.path(name, **key_of(world, name))
        for value in {str((world.values | key_of(world, name))[each]) for each in ALL[name]}:
            odd = path.replace(f"/{value}", f"/{value}%00")
            for method in ("get", "post") if odd != path else ():
                response = getattr(world.clients[who], method)(odd)
                assert response.status_code in (404, 405), f"{method} {name}: {response.status_code}"


def test_a_form_with_nul_is_refused_or_taken_without_it(world: World) -> None:
    for name in RULED:
        rule, path = RULES[name], world.path(name, **key_of(world, name))
        sent = dict.fromkeys((*rule.data, *ASKED, "name", "email", "role", "password", "key", "kept", "title"), "a\0b")
        response = world.clients["alice"].post(path, sent, headers=rule.headers)
        assert response.status_code < 500, name
        said(response)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/ws/s/a%00/", "/ws/w/x/r/a%00/"])
async def test_a_socket_with_nul_in_its_address_is_closed(path: str) -> None:
    socket = WebsocketCommunicator(
        application, path, headers=[(b"origin", b"http://localhost"), (b"host", b"localhost")]
    )
    socket.scope["path"] = path.replace("%00", "\0")
    connected, _ = await socket.connect()
    assert connected
    said: Any = await socket.receive_output()
    assert said["code"] == GONE


def test_nul_in_an_address_is_no_news_for_a_stranger(client: Client, db: None) -> None:
    assert client.get("/s/%00/").status_code == 404
