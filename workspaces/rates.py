"""How often something may be done: counted in the cache, by person or workspace. What costs or guesses asks here first."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.cache import cache


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


ASK = Rate("ask", 60, 60)  # a person
INVITE = Rate("invite", 50, 3_600)  # a workspace: each may send a mail
DELETE_ACCOUNT = Rate("delete-account", 5, 300)  # a person: each asks for the password
TEST_ENDPOINT = Rate("test-endpoint", 10, 60)  # a workspace: each sends requests that somebody pays
