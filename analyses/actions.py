"""Verbs that write: what a person may do to a run. Views, forms and commands call these."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Max
from django.utils import timezone

from analyses import budgets, endpoints, ingest, live
from analyses.models import ENDED, Corpus, CorpusVersion, Run, Share, Status
from analyses.recorder import close_unheld
from analyses.texts import clean
from analyses.wakeups import wake_worker
from rlm.endpoints import Endpoint
from rlm.limits import Limits, LimitsError
from workspaces import rights
from workspaces.models import User, Workspace

log = logging.getLogger(__name__)


class RunRefused(ValueError):
    """A run cannot be started as asked; the message says why and what to do."""


class TooLarge(RunRefused):
    """The texts do not fit into a call's memory; some of the documents may."""


def start_run(
    workspace: Workspace,
    user: User | None,
    *,
    question: str,
    corpus_version: CorpusVersion | None = None,
    documents: Sequence[int] | None = None,
    strategy: str = "rlm",
    endpoint: str | Endpoint = "",
    root_model: str = "",
    child_model: str = "",
    limits: dict[str, Any] | None = None,
    seed: str = "",
    wake: bool = True,
) -> Run:
    """Write a queued run and wake a worker. Raises RunRefused where something asked for cannot be.

    ``endpoint`` is a name, or an Endpoint where the operator gave one of their own (the command line). ``documents``:
    positions of those that the run reads; all of them where there are none.
    """
    question = clean(question.replace("\0", "")).strip()
    if not question:
        raise RunRefused("Write a question first.")
    try:
        checked = Limits.of(limits or {})
    except LimitsError as error:
        raise RunRefused(f"{error}.") from None
    if len(question) > checked.question_chars:
        raise RunRefused(
            f"The question has {len(question):,} characters, at most {checked.question_chars:,} are taken. "
            "Put long texts into a corpus and ask about them."
        )
    if corpus_version is not None and corpus_version.corpus.workspace_id != workspace.pk:
        raise RunRefused("That corpus is not in this workspace.")
    if documents is not None and not documents:
        raise RunRefused("Choose at least one document, or ask about the whole corpus.")
    part = ingest.part_of(corpus_version, documents)
    if corpus_version is not None and (why := ingest.oversize(corpus_version, checked.memory_mb, part.positions)):
        raise TooLarge(f"{'These documents are' if part.positions else 'This corpus is'} too large to ask about. {why}")
    chosen = endpoint if isinstance(endpoint, Endpoint) else endpoint_named(endpoint, workspace)
    if chosen.offline and strategy != "rlm":
        raise RunRefused(
            f"The {endpoints.OFFLINE_LABEL} serves the strategy rlm only. Choose rlm, or another model endpoint."
        )
    fields = {
        "question": question,
        "corpus_version": corpus_version,
        "documents": part.positions,
        "document_chars": part.characters,
        "strategy": strategy,
        "dialect": chosen.dialect,
        "endpoint": chosen.name,
        "root_model": root_model.strip() or chosen.root_model,
        "child_model": child_model.strip() or chosen.child_model,
        "seed": seed or secrets.token_hex(8),
    }
    return queue_run(workspace, user, fields, checked, offline=chosen.offline, wake=wake)


def queue_run(
    workspace: Workspace, user: User | None, fields: dict[str, Any], limits: Limits, *, offline: bool, wake: bool
) -> Run:
    """Write a queued run within what is left of the budgets, and wake a worker. Raises RunRefused."""
    with transaction.atomic():
        # One after the other: of two who ask at once, the second sees what the first has set aside. Who writes rows that
        # refer to the workspace, as a deletion does that holds the run, need not wait.
        if Workspace.objects.select_for_update(no_key=True).filter(pk=workspace.pk, delete_at=None).first() is None:
            raise RunRefused("This workspace is deleted.")
        version = fields.get("corpus_version")
        if version is not None and not _kept(version):
            raise RunRefused("This corpus has been deleted meanwhile. Choose another one.")
        source = fields.get("forked_from")
        if source is not None and not _held(source):
            raise RunRefused(f"Run {source.number} has been deleted or archived meanwhile.")
        if not offline:
            try:
                limits = budgets.fitted(workspace, user, limits)
            except budgets.Exhausted as refusal:
                raise RunRefused(str(refusal)) from None
        run = _numbered(workspace, fields | {"created_by": user, "limits": limits.as_dict()})
    if wake:
        transaction.on_commit(partial(wake_worker, run.pk))
    return run


def _kept(version: CorpusVersion) -> bool:
    """Whether the corpus is there still; until the run's row is there nobody deletes it."""
    corpora = Corpus.objects.select_for_update(no_key=True).filter(pk=version.corpus_id)
    return corpora.values_list("pk").first() is not None


def _held(source: Run) -> bool:
    """Whether a run can be forked still; until the fork's row is there nobody deletes or archives it."""
    here = Run.objects.select_for_update(no_key=True).filter(pk=source.pk, archive="")
    return here.values_list("pk").first() is not None


def endpoint_named(name: str, workspace: Workspace) -> Endpoint:
    try:
        return endpoints.get(name, workspace)
    except endpoints.UnknownEndpoint as error:
        raise RunRefused(str(error)) from None


def _numbered(workspace: Workspace, fields: dict[str, Any]) -> Run:
    """Insert with the workspace's next run number; of two who ask at once, one tries again."""
    for attempt in range(5):
        newest = Run.objects.filter(workspace=workspace).aggregate(newest=Max("number"))["newest"] or 0
        try:
            with transaction.atomic():
                return Run.objects.create(workspace=workspace, number=newest + 1, **fields)
        except IntegrityError:
            if attempt == 4:
                raise
    raise AssertionError("unreachable")


def stop_run(run: Run) -> None:
    """Ask the worker to end the run; one that nobody holds ends here and now."""
    asked = Run.objects.filter(pk=run.pk, stop_requested_at=None).exclude(status__in=ENDED)
    asked.update(stop_requested_at=timezone.now())
    close_unheld(run.pk, "Stopped by a member.")
    live.tell(run.pk)


def pause_run(run: Run) -> None:
    """Ask that the run rest: no further request to a model goes out, and its worker lets go of it."""
    now = timezone.now()
    waiting = Run.objects.filter(pk=run.pk, status=Status.QUEUED, lease_token="", stop_requested_at=None)
    if not waiting.update(status=Status.PAUSED, pause_requested_at=now, seq=F("seq") + 1):
        Run.objects.filter(pk=run.pk, pause_requested_at=None).exclude(status__in=ENDED).update(pause_requested_at=now)
    live.tell(run.pk)


def resume_run(run: Run) -> None:
    """Let a paused run go on, on any worker, from where it stands."""
    resting = Run.objects.filter(pk=run.pk, status=Status.PAUSED, lease_token="")
    if resting.update(status=Status.QUEUED, pause_requested_at=None, reason="", seq=F("seq") + 1):
        transaction.on_commit(partial(wake_worker, run.pk))
    else:
        Run.objects.filter(pk=run.pk).exclude(status__in=ENDED).update(pause_requested_at=None)
    live.tell(run.pk)


def share_run(run: Run, user: User | None, **terms: Any) -> Share:
    """A public permalink of this run. ``terms``: what share_forms.ShareForm.terms gives."""
    return Share.objects.create(run=run, created_by=user, **terms)


def change_share(share: Share, **terms: Any) -> None:
    """Another end, password or extent. Who looks on and may not any more is sent away at once."""
    Share.objects.filter(pk=share.pk, revoked_at=None).update(**terms)
    rights.changed()


def revoke_share(share: Share) -> None:
    Share.objects.filter(pk=share.pk, revoked_at=None).update(revoked_at=timezone.now())
    rights.changed()
