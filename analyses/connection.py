"""Test a model endpoint's connection: one small question to each of its models, and what is wrong in a sentence."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from django.conf import settings

from analyses.endpoints import GuardedEndpoint
from rlm.client import ModelClient
from rlm.guard import AddressRefused, guarded_client, judged_url
from rlm.replies import ModelError

SECONDS = 20.0
REMEDIES = {
    "auth": "Check the key.",
    "not_found": "Check the base URL (most end in /v1) and the model’s name.",
    "quota": "The account behind the key has nothing left to spend.",
    "unreachable": "Check the address; the endpoint may be down.",
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
        return Tried(model, False, f"{error} {REMEDIES.get(error.kind, '')}".strip())
    said = " ".join(reply.text.split())[:60]
    return Tried(model, True, f"It answers, in {time.monotonic() - began:.1f} s: “{said}”.")
