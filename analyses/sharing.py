"""A share's link as a stranger uses it: whether it is live, whether its password was given, and that it was looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.core import signing
from django.db.models import F
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from analyses.models import Run, Share
from workspaces.audit import address_of
from workspaces.models import Member
from workspaces.rates import SHARE_GUESS, SHARE_GUESSES

OPEN_SECONDS = 12 * 3600  # for which a password that was given opens the page
# One cookie for the page and its parts, one for its socket: each goes to its own addresses and nowhere else.
COOKIES = {"unlocked": "", "unlocked-socket": "/ws"}
SEEN = "seen"
# Programs that fetch a page to draw a preview of it, or an index: nobody looks at it then.
_MACHINE = re.compile(
    r"bot\b|crawl|spider|slurp|preview|facebookexternalhit|whatsapp|slack|embed|curl|python|wget", re.I
)


class TooManyTries(Exception):
    """Passwords were guessed too often."""


def live_share(token: str) -> Share:
    """The share of this token; 404 where there is none, or it is revoked or over."""
    shares = Share.objects.live().select_related("run__workspace", "run__corpus_version__corpus", "created_by")
    share: Share | None = shares.filter(token=token).first()
    if share is None:
        raise Http404
    share.run.contents = share.contents
    return share


def shared_run(request: HttpRequest, token: str) -> Run:
    """The run that a link opens to who asks, with what of it may be shown; 404 before its password was given, too."""
    share = live_share(token)
    if not is_open(share, request.COOKIES):
        raise Http404
    return share.run


def is_open(share: Share, cookies: Mapping[str, str]) -> bool:
    """Whether it has no password, or these cookies say that it was given."""
    return not share.password or any(share.opened_by(_told(share, cookies.get(name, ""))) for name in COOKIES)


def given(share: Share, cookies: Mapping[str, str]) -> str:
    """What stands for the password that was given; "" where none is needed."""
    return share.lock if share.password and is_open(share, cookies) else ""


def _told(share: Share, cookie: str) -> str:
    try:
        return str(signing.loads(cookie, salt=_salt(share), max_age=OPEN_SECONDS))
    except signing.BadSignature:
        return ""


def _salt(share: Share) -> str:
    return f"analyses.share.{share.token}"


def try_password(request: HttpRequest, share: Share, password: str) -> bool:
    """Whether it is the share's password. Raises TooManyTries, by address and over all addresses, before it looks."""
    mine = SHARE_GUESS.spend(f"{share.pk}:{address_of(request)}")
    if not mine or not SHARE_GUESSES.spend(share.pk):
        raise TooManyTries
    return check_password(password, share.password)


def unlock(response: HttpResponseBase, share: Share) -> None:
    """Remember in the browser that the password was given."""
    value = signing.dumps(share.lock, salt=_salt(share))
    for name, prefix in COOKIES.items():
        path = f"{prefix}{share.get_absolute_url()}"
        response.set_cookie(name, value, max_age=OPEN_SECONDS, path=path, httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)  # fmt: skip


def count_view(request: HttpRequest, response: HttpResponseBase, share: Share) -> None:
    """Count a visitor once a day; members of its workspace do not count. Nothing is kept of who it was."""
    today = f"{timezone.now():%Y-%m-%d}"
    agent, purpose = request.headers.get("User-Agent", ""), request.headers.get("Sec-Purpose", "")
    if request.method != "GET" or request.COOKIES.get(SEEN) == today or "prefetch" in purpose or _MACHINE.search(agent):
        return
    if is_member(request.user, share.run):
        return
    Share.objects.filter(pk=share.pk).update(views=F("views") + 1)
    response.set_cookie(SEEN, today, max_age=24 * 3600, path=share.get_absolute_url(), httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)  # fmt: skip


def is_member(user: Any, run: Run) -> bool:
    return user.is_authenticated and Member.objects.filter(user=user, workspace=run.workspace_id).exists()


def may_watch(run_id: int, token: str, lock: str) -> bool:
    """Whether a socket that was opened with this lock may stay open."""
    share = Share.objects.live().filter(token=token, run=run_id).first()
    return share is not None and (not share.password or constant_time_compare(share.lock, lock))
