"""The guard of requests: no address of the host's own network is reached, by no name, redirect or change of mind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from rlm import guard
from rlm.guard import AddressRefused, guarded_client, is_public


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
     "fd12:3456::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
     "64:ff9b::a9fe:a9fe", "2001:db8::1"],
)  # fmt: skip
def test_an_address_of_ones_own_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@asynccontextmanager
async def server(answer: str) -> AsyncIterator[tuple[int, list[str]]]:
    """A server on this machine that answers everything alike; and what it was asked."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1], asked
    finally:
        running.close()
        await running.wait_closed()


OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
async def test_this_machine_is_refused_however_it_is_written(host: str) -> None:
    async with server(OK) as (port, asked), guarded_client() as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"http://{host}:{port}/")
        assert asked == []


async def test_a_host_that_the_operator_allows_is_reached_by_its_name() -> None:
    async with server(OK) as (port, asked), guarded_client({"localhost"}) as client:
        assert (await client.get(f"http://localhost:{port}/v1")).text == "ok"
        assert f"host: localhost:{port}" in asked[0].lower()
        with pytest.raises(AddressRefused):
            await client.get(f"http://127.0.0.1:{port}/")  # the name is allowed, not the address


async def test_a_redirect_into_ones_own_network_is_refused() -> None:
    async with server(OK) as (inside, asked):
        there = f"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:{inside}/latest/meta-data\r\ncontent-length: 0\r\n\r\n"
        async with server(there) as (outside, _), guarded_client({"localhost"}) as client:
            with pytest.raises(AddressRefused):
                await client.get(f"http://localhost:{outside}/")
        assert asked == []


async def test_a_relative_redirect_stays_with_the_name() -> None:
    there = "HTTP/1.1 307 Go\r\nlocation: /next\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    async with server(there) as (port, asked), guarded_client({"localhost"}) as client:
        with pytest.raises(httpx2.TooManyRedirects):
            await client.get(f"http://localhost:{port}/")
        assert "host: localhost" in asked[1].lower()


async def test_a_name_that_changes_its_mind_is_judged_at_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["8.8.8.8", "127.0.0.1"])
    connected: list[Any] = []

    async def resolve(host: str, port: int) -> list[str]:
        return [next(answers)]

    async def handle(self: Any, request: httpx2.Request) -> httpx2.Response:
        connected.append(request.url.host)
        return httpx2.Response(200)

    monkeypatch.setattr(guard, "resolve", resolve)
    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handle)
    async with guarded_client() as client:
        await client.get("https://models.example/")
        with pytest.raises(AddressRefused, match="models.example is at 127.0.0.1"):
            await client.get("https://models.example/")
    assert connected == ["8.8.8.8"]  # what was judged is what was connected to


async def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.1.2.3"]

    monkeypatch.setattr(guard, "resolve", resolve)
    with pytest.raises(AddressRefused):
        await guard.judged("models.example", 443)


async def test_a_name_without_an_address_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(httpx2.ConnectError, match="could not be resolved"):
        await guard.resolve("no-such.example", 443)


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(OK) as (port, asked):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        async with guarded_client() as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get("http://127.0.0.1:1/")
        assert asked == []
