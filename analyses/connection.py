"""Test a model endpoint's connection: one small question to each of its models, and what is wrong in a sentence."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, replace

import httpx2
from django.conf import settings

from analyses.endpoints import GuardedEndpoint
from rlm.client import ModelClient
from rlm.guard import AddressRefused, NameUnknown, guarded_client, judged_url
from rlm.replies import ModelError

SECONDS = 20.0
REMEDIES = {
    "auth": "Check the key.",
    "not_found": "Check the base URL (most end in /v1) and the model’s name.",
    "quota": "The account behind the key has nothing left to spend.",
    "unreachable": "Check the address; the endpoint may be down.",
    "dropped": "Check the address: what answers there may be no HTTP server, or want https.",
    "malformed": "Check the base URL (most end in /v1).",
    "timeout": "The endpoint is slow, or the model is still being loaded: try again.",
    "bad_request": "Check the model’s name.",
}


@dataclass(frozen=True)
class Tried:
    """What became of one model."""

    model: str
    ok: bool
    says: str


async def try_models(endpoint: GuardedEndpoint) -> list[Tried]:
    models = list(dict.fromkeys([endpoint.root_model, endpoint.child_model or endpoint.root_model]))
    try:
        await judged_url(endpoint.base_url, settings.ENDPOINT_HOSTS)
    except AddressRefused as refusal:
        return [Tried(model, False, str(refusal)) for model in models]
    client = ModelClient(replace(endpoint, attempts=1), http_client=guarded_client(settings.ENDPOINT_HOSTS))
    try:
        return list(await asyncio.gather(*(_try(client, model) for model in models)))
    finally:
        await client.close()


async def _try(client: ModelClient, model: str) -> Tried:
    began = time.monotonic()
    question = [{"role": "user", "content": "Reply with the one word: ready"}]
    try:
        # Models that think before they speak need room for it.
        reply = await client.complete(question, model=model, max_tokens=512, seconds=SECONDS)
    except ModelError as error:
        if error.kind == "empty":  # it answered, with nothing but thoughts: the connection stands
            return Tried(model, True, f"It answers, in {time.monotonic() - began:.1f} s.")
        said = _why(error) if error.kind == "unreachable" else ""
        return Tried(model, False, said or f"{error} {REMEDIES.get(error.kind, '')}".strip())
    said = " ".join(reply.text.split())[:60]
    return Tried(model, True, f"It answers, in {time.monotonic() - began:.1f} s: “{said}”.")


def _why(error: BaseException) -> str:
    """What lies under “could not be reached”, in a sentence that says what to do; empty where that is not known."""
    found: BaseException | None = error
    reasons: list[BaseException] = []
    while found is not None and len(reasons) < 20:
        reasons.append(found)
        found = found.__cause__ or found.__context__
    for reason in reasons:
        if isinstance(reason, AddressRefused | NameUnknown):
            return str(reason)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"Its certificate is not one that can be trusted: {reason.verify_message}."
        if isinstance(reason, ssl.SSLError):
            return "It does not speak TLS as it should. If it speaks none, its address starts with http://."
        if isinstance(reason, ConnectionRefusedError):
            return "Nothing answers at this address: check host and port. The endpoint may be down."
        if isinstance(reason, TimeoutError | httpx2.TimeoutException):
            return f"It did not answer within {SECONDS:g} s: check the address; a firewall may stand between."
    return ""
