"""The messages view: what it says was sent at a turn is what the endpoint was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analyses import actions
from analyses.conversation import sent_at
from analyses.models import Cell, Run
from analyses.worker import Worker
from rlm.endpoints import Endpoint
from tests.factories import Rows, make_run, make_workspace
from tests.scripted.fixture import Scripted

FULL = {"status": 400, "error": {"message": "maximum context length exceeded", "code": "context_length_exceeded"}}


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


@pytest.fixture
def worker(transactional_db: None) -> Iterator[Worker]:
    made = Worker(serving=False)
    made.start()
    yield made
    made.close()


def shown_of(run: Run, upto: int) -> list[tuple[str, str]]:
    cells = list(Cell.objects.filter(run=run, call_number=1, number__lte=upto).order_by("number"))
    return [(message.role, message.text) for message in sent_at(run, cells)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.firejail
@pytest.mark.parametrize(
    ("script", "window"),
    [
        (
            {
                "rules": [
                    {"match": "Write a summary that will replace", "reply": "I found that x is kept; go on."},
                    {"match": "replaced by this summary", "reply": cell("FINAL([x, len(history)])")},
                    {"turn": 0, "reply": "<think>first thoughts</think>" + cell("x = 'kept'")},
                ],
                "default": cell("print('0123456789' * 400)"),
            },
            12_000,
        ),
        (
            {
                "rules": [
                    {"match": "The turns so far, shortened", "reply": "Summary: y is 2."},
                    {"match": "replaced by this summary", "reply": cell("FINAL(y)")},
                    {"turn": 0, "reply": cell("y = 2\nprint('z' * 3000)")},
                    {"turn": 1, "reply": FULL},
                ]
            },
            128_000,
        ),
    ],
)
def test_messages_at_each_turn_are_those_that_the_endpoint_was_sent(
    worker: Worker, scripted: Callable[..., Scripted], script: dict[str, Any], window: int
) -> None:
    server = scripted(script)
    endpoint = Endpoint(
        name="scripted", base_url=server.base_url, api_key="k", root_model="m", child_model="m", window=window
    )
    run = actions.start_run(make_workspace(), None, question="What is asked?", endpoint=endpoint, wake=False, seed="1")
    done = worker.take(run.pk, endpoint=endpoint)
    assert done is not None
    done.result(timeout=60)
    log = [[(m["role"], m["content"]) for m in request["messages"]] for request in server.log()]
    turns = Cell.objects.filter(run=run, call_number=1).order_by("number")
    assert "compaction" in [turn.kind for turn in turns] and len(turns) == len(log)
    for turn, sent in zip(turns, log, strict=True):
        assert shown_of(run, turn.number) == sent, turn.number


@pytest.mark.django_db
def test_messages_of_an_imported_run_are_without_what_its_harness_took_out() -> None:
    run = make_run(imported_from="rlm")
    rows = Rows(run)
    rows.begin()
    root = rows.call()
    for number, messages in enumerate(
        (
            [{"role": "system", "content": "rules"}, {"role": "user", "content": "ask"}],
            [{"role": "user", "content": "output 1"}],
            [{"role": "user", "content": "only this", "after": 1}],
        ),
        1,
    ):
        turn = rows.turn(root)
        rows.reply(turn, prose=f"reply {number}", kind="reply")
        rows.change(turn, messages=messages)
    assert shown_of(run, 2) == [("system", "rules"), ("user", "ask"), ("assistant", "reply 1"), ("user", "output 1")]
    assert shown_of(run, 3) == [("system", "rules"), ("user", "only this")]
