"""Asking further in a run that has ended: a new turn of its root call, with the run's limits anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Least, Now
from django.utils import timezone

from analyses import budgets, endpoints
from analyses.actions import RunRefused, endpoint_named
from analyses.models import Call, Cell, EarlierAnswer, FollowUp, Run, Status
from analyses.texts import ANSWER_COLUMNS, NO_ANSWER, clean
from analyses.wakeups import wake_worker
from rlm.endpoints import Endpoint
from rlm.limits import Limits
from workspaces.models import Member, User, Workspace
from workspaces.roles import May, may

HOLD_SECONDS = 5  # for so long a follow-up is left to the worker that has the REPL at hand
MOST = 99  # follow-ups of one run


def refusal(run: Run) -> str:
    """Why nothing more can be asked in this run, and what to do; "" where it can."""
    if run.imported_from:
        return "This run came in as a log, without its texts and REPL: it can be read, not gone on with."
    if not run.ended:
        return "This run is under way. Wait for its answer, or stop it; then ask further."
    if run.archived:
        return "This run is in the archive. Bring it back, then ask further."
    if not run.calls:
        return "This run ended before it began, so there is nothing to go on from. Ask again instead."
    if run.follow_ups >= MOST:
        return f"This run has {MOST} follow-ups, and takes no more. Ask a new question instead."
    return ""


@dataclass(frozen=True)
class Box:
    """What the run's page says where a follow-up can be asked."""

    refused: str = ""  # why it cannot
    question: str = ""
    error: str = ""
    confirm: str = ""
    warm_until: datetime | None = None
    cells: int | None = None  # that would run again; None: the strategy has no REPL
    limits: Limits = Limits()
    offline: bool = False


def follow_up_box(run: Run, member: Member, **given: str) -> Box:
    """As this member sees it now."""
    if not may(member, May.ASK):
        return Box(
            refused="You are a viewer of this workspace, and cannot ask further. An owner or admin can make you an editor."
        )
    if (why := refusal(run)) and not given.get("error"):  # what somebody wrote stays: a colleague was first
        return Box(refused=why)
    limits = Limits.of(run.limits)
    offline = run.endpoint == endpoints.OFFLINE
    if not offline:
        try:
            limits = budgets.fitted(run.workspace, member.user, limits)
        except budgets.Exhausted as exhausted:
            return Box(refused=str(exhausted))
    warm = run.warm_until if run.warm_until is not None and run.warm_until > timezone.now() else None
    cells = None
    if run.strategy != "direct" and warm is None:
        cells = Cell.objects.filter(run=run, call_number=1, kind__in=[Cell.Kind.CODE, Cell.Kind.TOOL]).count()
    return Box(warm_until=warm, cells=cells, limits=limits, offline=offline, **given)


def ask_follow_up(
    run: Run, user: User | None, question: str, *, endpoint: Endpoint | None = None, wake: bool = True
) -> FollowUp:
    """Queue the run once more, with a further question. Raises RunRefused where that cannot be.

    ``endpoint``: where the operator gave one of their own (the command line).
    """
    question = clean(question.replace("\0", "")).strip()
    if not question:
        raise RunRefused("Write a question first.")
    limits = Limits.of(run.limits)
    if len(question) > limits.question_chars:
        raise RunRefused(
            f"The question has {len(question):,} characters, at most {limits.question_chars:,} are taken. Shorten it."
        )
    with transaction.atomic():
        # As with a new run: of two who ask at once, the second sees what the first has set aside.
        workspace = Workspace.objects.select_for_update(no_key=True).filter(pk=run.workspace_id, delete_at=None).first()
        if workspace is None:
            raise RunRefused("This workspace is deleted.")
        if Run.objects.select_for_update().filter(pk=run.pk).first() is None:
            raise RunRefused("This run is deleted.")
        run.refresh_from_db()
        if why := refusal(run):
            raise RunRefused(why)
        if not (endpoint or endpoint_named(run.endpoint, workspace)).offline:
            try:
                limits = budgets.fitted(workspace, user, limits)
            except budgets.Exhausted as exhausted:
                raise RunRefused(str(exhausted)) from None
        number = run.follow_ups + 2
        EarlierAnswer.objects.create(
            run=run, number=number - 1, status=run.status, reason=run.reason, finished_at=run.finished_at,
            born=run.seq + 1, **{name: getattr(run, name) for name in ANSWER_COLUMNS},
        )  # fmt: skip
        follow_up = FollowUp.objects.create(
            run=run, number=number, question=question, asked_by=user, limits=limits.as_dict(), born=run.seq + 2,
            after_cell=Call.objects.values_list("turns", flat=True).get(run=run, number=1),
        )  # fmt: skip
        warm = bool(run.warm_worker)
        _queue(run, number)
        if wake:
            transaction.on_commit(partial(wake_worker, run.pk))
            if warm:  # should its worker be gone, another is to have it soon
                transaction.on_commit(partial(wake_worker, run.pk, later=HOLD_SECONDS + 0.5))
    return follow_up


def _queue(run: Run, number: int) -> None:
    """The run's row as of a run that waits for its answer; its totals stay."""
    now = timezone.now()
    held = Case(
        When(warm_worker="", then=Value(None)), default=Least(F("warm_until"), Now() + timedelta(seconds=HOLD_SECONDS))
    )
    Run.objects.filter(pk=run.pk).update(
        status=Status.QUEUED, reason="", finished_at=None, stop_requested_at=None, pause_requested_at=None,
        archive_refused="", resumed_at=now, attempts=0, follow_ups=number - 1, warm_until=held, seq=run.seq + 3, **NO_ANSWER,
    )  # fmt: skip
    run.refresh_from_db()
