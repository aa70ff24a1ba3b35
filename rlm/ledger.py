"""What a run has used and may still use. Tokens and money are set aside before a request goes out and settled after,

so that children in parallel cannot pass a limit together. The root's one last request is set aside from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlm.events import Usage
from rlm.limits import Limits

LEAST_REPLY = 64  # tokens; a reply cut shorter than this is of no use

Ceiling = Callable[[str, int, int], float | None]  # model, prompt tokens, completion tokens -> dollars at most


class LimitReached(Exception):
    """A limit of the run is reached. ``name`` is the limit's, the text is a sentence for people."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


@dataclass(frozen=True)
class Hold:
    """What is set aside for one request."""

    model: str
    prompt: int
    completion: int
    cost: float | None  # None: the price is unknown


class Ledger:
    """The accounts of one run."""

    def __init__(self, limits: Limits, ceiling: Ceiling) -> None:
        self.limits = limits
        self.spent = Usage()
        self.known_cost = 0.0  # what is known of the cost, also where a part is unknown
        self._ceiling = ceiling
        self._holds: dict[int, Hold] = {}
        self._last: Hold | None = None  # the root's last request
        self._count = 0
        self._changed: asyncio.Event = asyncio.Event()

    def carry(self, spent: Usage, known_cost: float) -> None:
        """Count what was used before this process took the run up."""
        self.spent, self.known_cost = spent, known_cost

    def size(self, model: str, prompt: int, completion: int) -> Hold:
        """Return what a request of at most this size would set aside."""
        return Hold(model, prompt, completion, self._ceiling(model, prompt, completion))

    async def hold(
        self, model: str, prompt: int, completion: int, last: tuple[int, int] | None = None
    ) -> tuple[int, Hold]:
        """Set a request aside, shortening its reply if it must be; return its number and what was held.

        ``last`` is the size of the root's last request as it would be after this one. Waits while other requests
        under way may turn out smaller than what was held for them; raises LimitReached when that is hopeless.
        """
        while True:
            standing = self.size(model, *last) if last else self._last
            want = self.size(model, prompt, completion)
            short = self._short(want, standing)
            if short and not self._holds:
                want, short = self._shortened(want, standing)
            if short and not self._holds and last and self._last is None:
                # The limit is too small for a request and a last one: then there will be no partial answer.
                standing = None
                want, short = self._shortened(self.size(model, prompt, completion), None)
            if not short:
                self._count += 1
                self._holds[self._count] = want
                if last:
                    self._last = standing
                return self._count, want
            if not self._holds:
                raise LimitReached(short, self.sentence(short))
            changed = self._changed
            await changed.wait()

    def hold_last(self, model: str, prompt: int, completion: int) -> int | None:
        """Set the root's last request aside, out of what was kept for it; None where not even that is there."""
        want = self.size(model, prompt, completion)
        if self._short(want, None):
            return None
        self._last = None
        self._count += 1
        self._holds[self._count] = want
        return self._count

    def fits(self, model: str, prompt: int, completion: int) -> bool:
        """Say whether the root's last request fits at this size."""
        return not self._short(self.size(model, prompt, completion), None)

    def settle(self, number: int, usage: Usage | None) -> None:
        """Replace what was held for a request by what it used; None: it used nothing."""
        self._holds.pop(number, None)
        if usage is not None:
            self.spent = self.spent + usage
            self.known_cost += usage.cost or 0.0
        self._changed.set()
        self._changed = asyncio.Event()

    def _shortened(self, want: Hold, standing: Hold | None) -> tuple[Hold, str]:
        """Find the longest reply that still fits, if it is of any use."""
        short = self._short(want, standing)
        low, high = LEAST_REPLY, want.completion
        if low >= high or self._short(self.size(want.model, want.prompt, low), standing):
            return want, short
        while high - low > 16:
            middle = (low + high) // 2
            if self._short(self.size(want.model, want.prompt, middle), standing):
                high = middle
            else:
                low = middle
        return self.size(want.model, want.prompt, low), ""

    def _short(self, want: Hold, standing: Hold | None) -> str:
        """Return the name of the limit that this would pass, or ""."""
        others = [*self._holds.values(), want, *([standing] if standing else [])]
        limits = self.limits
        if limits.prompt_tokens is not None and (
            self.spent.prompt_tokens + sum(h.prompt for h in others) > limits.prompt_tokens
        ):
            return "prompt_tokens"
        if limits.completion_tokens is not None and (
            self.spent.completion_tokens + sum(h.completion for h in others) > limits.completion_tokens
        ):
            return "completion_tokens"
        if limits.cost is not None:
            if self.known_cost + sum(h.cost or 0.0 for h in others) > limits.cost:
                return "cost"
            if self.known_cost >= limits.cost and want.cost is None:
                return "cost"  # the price is unknown, but what the provider reported has used the money up
        return ""

    def sentence(self, name: str) -> str:
        """Say which limit was reached and how far the run had come."""
        limits, spent = self.limits, self.spent
        if name == "prompt_tokens":
            return (
                f"The run's limit of {limits.prompt_tokens:,} prompt tokens leaves no room for the next request "
                f"({spent.prompt_tokens:,} used)."
            )
        if name == "completion_tokens":
            return (
                f"The run's limit of {limits.completion_tokens:,} completion tokens leaves no room for the next request "
                f"({spent.completion_tokens:,} used)."
            )
        return f"The run's limit of ${limits.cost:g} leaves no room for the next request (${self.known_cost:.4f} used)."

    def left(self) -> dict[str, Any]:
        """Return what is left of each limit kept here; None means unlimited."""
        limits, spent = self.limits, self.spent
        held = list(self._holds.values())
        return {
            "prompt_tokens": None
            if limits.prompt_tokens is None
            else max(0, limits.prompt_tokens - spent.prompt_tokens - sum(h.prompt for h in held)),
            "completion_tokens": None
            if limits.completion_tokens is None
            else max(0, limits.completion_tokens - spent.completion_tokens - sum(h.completion for h in held)),
            "cost": None
            if limits.cost is None
            else round(max(0.0, limits.cost - self.known_cost - sum(h.cost or 0.0 for h in held)), 6),
        }

    def near(self, share: float = 0.85) -> list[str]:
        """Return a phrase for each limit of which more than ``share`` is used."""
        limits, spent = self.limits, self.spent
        pairs = (
            ("prompt tokens", spent.prompt_tokens, limits.prompt_tokens),
            ("completion tokens", spent.completion_tokens, limits.completion_tokens),
            ("money", self.known_cost, limits.cost),
        )
        return [
            f"{used / limit:.0%} of the run's {name} are used"
            if name != "money"
            else f"{used / limit:.0%} of the run's money is used"
            for name, used, limit in pairs
            if limit and used > share * limit
        ]
