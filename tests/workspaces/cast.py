"""The people of the permission tests: Alice owns the workspace, Adam, Ed and Vera are in it, Oscar has one of his own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.test import Client

from analyses.models import Corpus, CorpusVersion, Run
from workspaces.models import Member, User, Workspace

PASSWORD = "a long tin lighthouse"


def make_user(name: str, **fields: Any) -> User:
    return User.objects.create_user(f"{name.lower()}@example.com", PASSWORD, name=name, **fields)


@dataclass(frozen=True)
class Cast:
    workspace: Workspace
    alice: User  # owner
    adam: User  # admin
    ed: User  # editor
    vera: User  # viewer
    oscar: User  # outsider: owner of another workspace
    elsewhere: Workspace

    def client(self, user: User | None) -> Client:
        client = Client()
        if user:
            client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    def url(self, rest: str = "") -> str:
        return f"/w/{self.workspace.slug}/{rest}"


def make_cast() -> Cast:
    alice, adam, ed, vera, oscar = (make_user(name) for name in ("Alice", "Adam", "Ed", "Vera", "Oscar"))
    workspace = Workspace.start("Harbour Desk", alice)
    for user, role in ((adam, Member.Role.ADMIN), (ed, Member.Role.EDITOR), (vera, Member.Role.VIEWER)):
        workspace.members.create(user=user, role=role)
    return Cast(workspace, alice, adam, ed, vera, oscar, elsewhere=Workspace.start("Elsewhere", oscar))


def make_corpus(workspace: Workspace, name: str = "The Tin Lighthouse", versions: int = 1, **fields: Any) -> Corpus:
    corpus = Corpus.objects.create(workspace=workspace, name=name, **fields)
    for number in range(1, versions + 1):
        CorpusVersion.objects.create(
            corpus=corpus, number=number, text="0" * 64, document_count=24, characters=4_120_000, bytes=4_200_000
        )
    return corpus


def make_plain_run(workspace: Workspace, question: str = "Who saw the light?", **fields: Any) -> Run:
    """A run's row alone, without calls or cells: enough for lists and forms."""
    newest = workspace.runs.order_by("-number").first()
    start: dict[str, Any] = {
        "number": newest.number + 1 if newest else 1,
        "endpoint": "offline",
        "root_model": "offline",
        "child_model": "offline",
        "seed": "0" * 16,
    }
    return Run.objects.create(workspace=workspace, question=question, **(start | fields))
