"""Accounts: what is set aside, settled and refused."""

from __future__ import annotations

import asyncio

import pytest

from rlm.endpoints import Endpoint
from rlm.events import Usage
from rlm.ledger import Ledger, LimitReached
from rlm.limits import Limits
from rlm.prices import ceiling, price

FREE = Limits(prompt_tokens=None, completion_tokens=None, cost=None)


def ledger(**limits: object) -> Ledger:
    whole = {**FREE.as_dict(), **limits}
    return Ledger(
        Limits(**whole), lambda model, prompt, completion: None if model == "unknown" else (prompt + completion) / 1000
    )


async def test_holds_add_up_and_settle_to_what_was_used() -> None:
    book = ledger(prompt_tokens=1000)
    number, hold = await book.hold("m", 600, 100)
    assert book.left()["prompt_tokens"] == 400 and hold.completion == 100
    book.settle(number, Usage(50, 10, cost=0.06))
    assert book.left()["prompt_tokens"] == 950
    assert book.spent.prompt_tokens == 50


async def test_a_request_that_does_not_fit_waits_for_those_under_way() -> None:
    book = ledger(prompt_tokens=1000)
    number, _ = await book.hold("m", 600, 100)
    waiting = asyncio.create_task(book.hold("m", 600, 100))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    book.settle(number, Usage(100, 10))
    assert (await waiting)[1].prompt == 600


async def test_a_request_that_can_never_fit_is_refused() -> None:
    with pytest.raises(LimitReached) as caught:
        await ledger(prompt_tokens=1000).hold("m", 1001, 100)
    assert caught.value.name == "prompt_tokens" and "1,000" in str(caught.value)


async def test_a_reply_is_shortened_to_what_is_left() -> None:
    book = ledger(completion_tokens=500)
    assert (await book.hold("m", 10, 8000))[1].completion in range(480, 501)
    book = ledger(cost=1.0)
    assert (await book.hold("m", 500, 8000))[1].completion in range(480, 501)
    with pytest.raises(LimitReached):
        await ledger(completion_tokens=50).hold("m", 10, 8000)


async def test_the_last_request_is_set_aside_from_the_start() -> None:
    book = ledger(prompt_tokens=1000, completion_tokens=1000)
    number, _ = await book.hold("m", 300, 100, last=(400, 100))
    book.settle(number, Usage(300, 100))
    with pytest.raises(LimitReached):
        await book.hold("m", 400, 100)  # 300 used, 400 kept
    assert book.hold_last("m", 400, 100) is not None


async def test_an_unknown_price_is_not_zero() -> None:
    book = ledger(cost=1.0, prompt_tokens=1000)
    number, hold = await book.hold("unknown", 100, 10)
    assert hold.cost is None
    book.settle(number, Usage(100, 10, cost=None))
    assert book.spent.cost is None
    with pytest.raises(LimitReached):
        await book.hold("unknown", 950, 10)  # the token limits bind


async def test_what_the_provider_reports_ends_the_money_where_the_price_is_unknown() -> None:
    book = ledger(cost=1.0)
    number, _ = await book.hold("unknown", 100, 10)
    book.settle(number, Usage(100, 10, cost=1.25))
    with pytest.raises(LimitReached) as caught:
        await book.hold("unknown", 1, 1)
    assert caught.value.name == "cost"


async def test_many_in_parallel_never_pass_the_limit() -> None:
    book = ledger(prompt_tokens=10_000, completion_tokens=3_000, cost=9.0)
    done = refused = 0

    async def one(n: int) -> None:
        nonlocal done, refused
        try:
            number, hold = await book.hold("m", 200 + n, 60)
        except LimitReached:
            refused += 1
            return
        await asyncio.sleep(0.001 * (n % 5))
        book.settle(number, Usage(hold.prompt, hold.completion, cost=(hold.prompt + hold.completion) / 1000))
        done += 1

    await asyncio.gather(*[one(n) for n in range(100)])
    assert done and refused and done + refused == 100
    assert book.spent.prompt_tokens <= 10_000 and book.spent.completion_tokens <= 3_000 and book.known_cost <= 9.0


def test_prices_come_from_the_endpoint_or_the_public_list_or_are_unknown() -> None:
    public = Endpoint("openai", "https://api.openai.com/v1")
    assert price(public, "gpt-4o", Usage(1_000_000, 1_000_000)) == pytest.approx(12.5)
    assert price(public, "gpt-4o", Usage(1_000_000, 0, cached_tokens=1_000_000)) == pytest.approx(1.25)
    assert ceiling(public, "gpt-4o", 1_000_000, 0) == pytest.approx(2.5)
    here = Endpoint("here", "http://127.0.0.1:1/v1")
    assert price(here, "my-own-model", Usage(1, 1)) is None
    assert price(here, "gpt-4o", Usage(1_000_000, 0)) == pytest.approx(2.5)
    own = Endpoint("own", "http://x", input_price=1.0, output_price=2.0)
    assert price(own, "any", Usage(1_000_000, 1_000_000)) == pytest.approx(3.0)
    assert price(Endpoint("offline", "", offline=True), "any", Usage(5, 5)) == 0.0
