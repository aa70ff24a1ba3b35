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


def available(workspace: Workspace | None = None, *, operator: bool = False) -> list[Endpoint]:
    """In order of preference: the first is the default. A workspace's own come before the operator's.

    ``operator``: it is they who ask, at the command line, so their endpoint is there whoever else it is offered to.
    """
    found: list[Endpoint] = []
    if workspace is not None:
        for row in workspace.model_endpoints.all():
            try:
                found.append(of_row(row))
            except Unreadable:
                continue  # its page says so; a run that names it is told that there is no such endpoint
    return found + of_instance(None if operator else workspace)


def of_instance(workspace: Workspace | None = None) -> list[Endpoint]:
    """The operator's: the environment's where it is offered to this workspace, and the offline program always.

    No workspace stands for the operator, at the command line.
    """
    found: list[Endpoint] = []
    if (settings.OPENAI_API_KEY or settings.OPENAI_BASE_URL) and _offered(workspace):
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


def _offered(workspace: Workspace | None) -> bool:
    offer = settings.ENDPOINT_OFFER
    return workspace is None or offer == ["all"] or workspace.slug in offer


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


def get(name: str, workspace: Workspace | None = None, *, operator: bool = False) -> Endpoint:
    """The one of that name; of no name, the default."""
    found = available(workspace, operator=operator)
    for endpoint in found:
        if not name or endpoint.name == name:
            return endpoint
    raise UnknownEndpoint(f"There is no model endpoint {name!r}. There are: {', '.join(e.name for e in found)}.")
