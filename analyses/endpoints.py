"""The model endpoints that a run can use: the environment's own, and the offline extractive program."""

from __future__ import annotations

from django.conf import settings

from rlm.endpoints import Endpoint

OFFLINE = "offline"
OFFLINE_LABEL = "offline extractive model, not a language model"


class UnknownEndpoint(LookupError):
    """No endpoint of that name can be used here; the message lists those that can."""


def available() -> list[Endpoint]:
    """In order of preference: the first is the default."""
    found = []
    if settings.OPENAI_API_KEY or settings.OPENAI_BASE_URL:
        found.append(
            Endpoint(
                name="default",
                base_url=settings.OPENAI_BASE_URL or "https://api.openai.com/v1",
                api_key=settings.OPENAI_API_KEY or "none",
                root_model=settings.OPENAI_MODEL,
                child_model=settings.OPENAI_SUB_MODEL,
                dialect=settings.OPENAI_DIALECT,
                window=settings.OPENAI_WINDOW,
            )
        )
    found.append(
        Endpoint(name=OFFLINE, base_url="", api_key="", root_model=OFFLINE, child_model=OFFLINE, offline=True)
    )
    return found


def get(name: str) -> Endpoint:
    for endpoint in available():
        if endpoint.name == name:
            return endpoint
    raise UnknownEndpoint(f"There is no model endpoint {name!r}. There are: {', '.join(e.name for e in available())}.")
