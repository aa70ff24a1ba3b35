"""The model endpoints that a run can use: its workspace's, the environment's own, and the offline extractive program."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from rlm.endpoints import Endpoint
from workspaces.models import ModelEndpoint, Workspace
from workspaces.secrets import Unreadable

OFFLINE = "offline"
OFFLINE_LABEL = "offline extractive model, not a language model"
DEFAULT = "default"  # the environment's


class UnknownEndpoint(LookupError):
    """No endpoint of that name can be used here; the message lists those that can."""


@dataclass(frozen=True)
class GuardedEndpoint(Endpoint):
    """One whose address a user gave: requests to it must not reach the host's own network (rlm/guard.py)."""


def available(workspace: Workspace | None = None) -> list[Endpoint]:
    """In order of preference: the first is the default. A workspace's own come before the operator's."""
    found: list[Endpoint] = []
    if workspace is not None:
        for row in workspace.model_endpoints.all():
            try:
                found.append(of_row(row))
            except Unreadable:
                continue  # its page says so; a run that names it is told that there is no such endpoint
    if settings.OPENAI_API_KEY or settings.OPENAI_BASE_URL:
        found.append(
            Endpoint(
                name=DEFAULT,
                base_url=settings.OPENAI_BASE_URL or "https://api.openai.com/v1",
                api_key=settings.OPENAI_API_KEY or "none",
                root_model=settings.OPENAI_MODEL,
                child_model=settings.OPENAI_SUB_MODEL,
                dialect=settings.OPENAI_DIALECT,
                window=settings.OPENAI_WINDOW,
            )
        )
    found.append(Endpoint(name=OFFLINE, base_url="", api_key="", root_model=OFFLINE, child_model=OFFLINE, offline=True))
    return found


def of_row(row: ModelEndpoint) -> GuardedEndpoint:
    """What the engine needs of a workspace's endpoint, its key in the clear; raises Unreadable."""
    return GuardedEndpoint(
        name=row.name,
        base_url=row.base_url,
        api_key=row.key,
        root_model=row.root_model,
        child_model=row.child_model or row.root_model,
        dialect=row.dialect,
        window=row.window,
        input_price=row.input_price,
        output_price=row.output_price,
    )


def get(name: str, workspace: Workspace | None = None) -> Endpoint:
    found = available(workspace)
    for endpoint in found:
        if endpoint.name == name:
            return endpoint
    raise UnknownEndpoint(f"There is no model endpoint {name!r}. There are: {', '.join(e.name for e in found)}.")
