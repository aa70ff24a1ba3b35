"""Requests to addresses that users gave must not reach the network of the host: what counts is the address connected to.

Every request is resolved here, each address is judged, and the connection goes to a judged address and no
other: a name that resolves to something else a moment later changes nothing. Redirects come by here too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpx2

RESOLVE_SECONDS = 5.0
LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(httpx2.ConnectError):
    """A request would have reached an address of the host's own network; the message says which."""


class NameUnknown(httpx2.ConnectError):
    """A host's name leads to no address, or not now."""


def is_public(address: str) -> bool:
    """Whether this address is out on the internet: no loopback, private, link-local, shared or reserved one."""
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        # An IPv4 address in IPv6 clothes is judged as what it is.
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.ip_address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if not ip.is_global or ip.is_site_local:
            return False
    return bool(ip.is_global and not ip.is_multicast)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, IPv4 first."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
        why = "in time" if isinstance(error, TimeoutError) else "to an address: check the spelling"
        raise NameUnknown(f"The name {host} could not be resolved {why}.") from None
    return list(
        dict.fromkeys(str(entry[4][0]) for entry in sorted(found, key=lambda entry: entry[0] != socket.AF_INET))
    )


async def judged(host: str, port: int, allowed: Iterable[str] = ()) -> list[str]:
    """The addresses of a host that may be connected to; raises AddressRefused where one of them is not public."""
    addresses = await resolve(host, port)
    if host.lower() not in allowed:
        for address in addresses:
            if not is_public(address):
                where = f"{host} is" if host == address else f"{host} is at {address},"
                raise AddressRefused(
                    f"{where} an address of this host's own network. "
                    "The operator can allow it in RLMWEB_ENDPOINT_HOSTS."
                )
    return addresses


async def judged_url(url: str, allowed: Iterable[str] = ()) -> None:
    """Judge where a URL leads, before anything is sent; a name that cannot be resolved now is left to the request."""
    parsed = httpx2.URL(url)
    try:
        await judged(parsed.host, parsed.port or 443, frozenset(name.lower() for name in allowed))
    except AddressRefused:
        raise
    except httpx2.ConnectError:
        return


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """Connects to judged addresses only. ``allowed`` names hosts that the operator trusts wherever they are."""

    def __init__(self, allowed: Iterable[str] = (), limits: httpx2.Limits = LIMITS) -> None:
        # No proxy of the environment: it would connect on our behalf, to wherever it likes.
        super().__init__(trust_env=False, limits=limits)
        self._allowed = frozenset(name.lower() for name in allowed)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        failure: httpx2.ConnectError | None = None
        for address in await judged(url.host, port, self._allowed):
            there = httpx2.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # the Host header among them stays the name's
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},  # and so does the certificate's
            )
            try:
                return await super().handle_async_request(there)
            except httpx2.ConnectError as error:
                failure = error
        raise failure or httpx2.ConnectError(f"The name {url.host} has no address.")


def guarded_client(allowed: Iterable[str] = ()) -> httpx2.AsyncClient:
    """An HTTP client for endpoints that users gave."""
    timeout = httpx2.Timeout(None, connect=10.0)
    transport = GuardedTransport(allowed)
    return httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=True, timeout=timeout)
