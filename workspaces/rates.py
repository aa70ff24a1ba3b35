"""How often something may be done: counted in the cache, by person or workspace. What costs or guesses asks here first."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


@dataclass(frozen=True)
class Rate:
    name: str
    most: int
    seconds: int

    def spend(self, who: object) -> bool:
        """Count one more; False where that is one too many."""
        key = f"rate:{self.name}:{who}"
        cache.add(key, 0, self.seconds)
        try:
            return bool(cache.incr(key) <= self.most)
        except ValueError:  # it ran out between the two
            return True


def too_many(request: HttpRequest) -> HttpResponse:
    """The page for what has no form that could say so."""
    return render(request, "429.html", status=429)


ASK = Rate("ask", 60, 60)  # a person
INVITE = Rate("invite", 50, 3_600)  # a workspace: each may send a mail
DELETE_ACCOUNT = Rate("delete-account", 5, 300)  # a person: each asks for the password
TEST_ENDPOINT = Rate("test-endpoint", 10, 60)  # a workspace: each sends requests that somebody pays
NEW_WORKSPACE = Rate("new-workspace", 20, 3_600)  # a person: the operator's endpoint counts its budgets by workspace
UPLOAD = Rate("upload", 60, 60)  # a person: uploads begun, not their files
EXPORT = Rate("export", 60, 60)  # a person: each may read a whole run, or a year's audit
INVITATION = Rate("invitation", 30, 300)  # an address: links that do not exist, or not any more
SHARE_GUESS = Rate("share-guess", 10, 300)  # a share and an address: each tries a password
SHARE_GUESSES = Rate("share-guesses", 300, 3_600)  # a share, from wherever
SEARCH = Rate("search", 120, 60)  # a person, or an address with a link: each reads a run, or a corpus
PROVIDER = Rate("provider", 20, 60)  # an address: each asks the OpenID Connect provider something
