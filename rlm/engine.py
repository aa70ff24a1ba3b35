"""``solve``: one run from its question to its end, whatever models, cells and endpoints do meanwhile."""

from __future__ import annotations

import asyncio
import time

from rlm import identity
from rlm.call import BIG, Call
from rlm.codeact import CodeactCall
from rlm.control import Control, Released
from rlm.direct import DirectCall
from rlm.events import Emit
from rlm.limits import Limits, LimitsError
from rlm.prices import ceiling
from rlm.prompts import DIALECTS, STRATEGIES
from rlm.react import ReactCall
from rlm.recording import Recording
from rlm.recursive import RecursiveCall
from rlm.replies import Model
from rlm.requests import digest_of
from rlm.run import Run
from rlm.schemas import schema_error
from rlm.spec import CallSpec, Ending, FollowUp, Outcome, RunResult, RunSpec
from rlm.warm import WarmRepl
from sandbox import JailPool, Value

__all__ = [
    "DIALECTS", "STRATEGIES", "Control", "FollowUp", "Recording", "Released", "RunResult", "RunSpec", "WarmRepl", "solve",
]  # fmt: skip


async def solve(
    spec: RunSpec,
    *,
    context: Value,
    pool: JailPool,
    client: Model,
    emit: Emit,
    control: Control | None = None,
    record: Recording | None = None,
    warm: WarmRepl | None = None,
    keep_warm: bool = False,
) -> RunResult:
    """Run ``spec`` on ``context`` to its end, telling ``emit`` of everything.

    What a model, a cell or an endpoint does ends the call or the run with a status and a reason; it never raises.
    With ``record`` the run is taken up where that ends: replies and results in it are used, never asked for again,
    and nothing is told a second time; with ``warm`` too, the root's REPL is there already. ``keep_warm`` leaves it in
    the result, where it can be kept. Raises SandboxUnavailable where no jail can be had, Released where ``control``
    let go of the run, and whatever ``emit.commit`` raised.
    """
    control = control or Control()
    run = Run(
        spec, pool=pool, client=client, emit=emit, control=control, make=make_call, record=record, keep_warm=keep_warm
    )
    result = None
    try:
        result = await _solve(run, context, warm)
        return result
    finally:
        kept = result.warm if result is not None else None
        await run.close(kept)
        if warm is not None and (kept is None or kept.jail is not warm.jail):
            await warm.close()


async def _solve(run: Run, context: Value, warm: WarmRepl | None) -> RunResult:
    spec, control = run.spec, run.control
    known = run.record.calls.get(1)
    if known is not None and known.outcome is not None:  # only the run's own end was not written
        run.close_left_behind()
        return _result(run, await asyncio.to_thread(known.outcome))
    if context.nbytes > BIG:
        await asyncio.to_thread(lambda: context.summary)
    # The list of prices takes a moment to load: not in the loop, where the other runs are.
    await asyncio.to_thread(lambda: [ceiling(run.endpoint, run.model_at(depth), 1, 1) for depth in range(3)])
    own = identity.request_hash(await digest_of(context), spec.question, spec.schema, [], "")
    root = run.new_call(
        context,
        call_identity=known.identity if known else identity.identity("", 0, own, 0),
        instruction=spec.question,
        schema=spec.schema,
        title=spec.question,
        recorded=run.record.take(known.identity) if known else None,
    )
    run.close_left_behind()
    if warm is not None and warm.alive:
        await run.adopt(warm, root)
    if why := _wrong(spec, run):
        root.end(Ending("failed", why))
    task = asyncio.create_task(root.execute())
    unlisten = control.listen(lambda: _obey(run))
    reason = f"The run's limit of {run.limits.run_seconds:g} seconds is reached."

    def soon() -> None:
        if root.has_something:  # else the time left is better spent on the request under way
            run.end(Ending("limit", reason, last=True))

    run.clock.ring(soon, lambda: run.end(Ending("limit", reason)))
    _obey(run)
    try:
        outcome = await asyncio.shield(task)
    except asyncio.CancelledError:
        run.end(Ending("stopped", "The worker was stopped."))
        await asyncio.wait({task}, timeout=5)
        raise
    finally:
        unlisten()
        run.clock.stop()
    if run.failure is not None:
        raise run.failure
    return _result(run, outcome)


def make_call(run: Run, spec: CallSpec) -> Call:
    """Make the call that a strategy wants."""
    if spec.strategy == "direct":
        return DirectCall(run, spec)
    if spec.strategy == "react":
        return ReactCall(run, spec)
    if spec.strategy.startswith("codeact"):
        return CodeactCall(run, spec)
    return RecursiveCall(run, spec)


def _wrong(spec: RunSpec, run: Run) -> str:
    """Return what is wrong with a run's description, as a sentence, or ""."""
    if spec.strategy not in STRATEGIES:
        return f"There is no strategy {spec.strategy!r}; there are {', '.join(STRATEGIES)}."
    if run.dialect not in DIALECTS:
        return f"There is no dialect {run.dialect!r}; there are {' and '.join(DIALECTS)}."
    if run.endpoint.offline and spec.strategy != "rlm":
        return f"The offline extractive model serves the strategy rlm only, not {spec.strategy}."
    for question in (spec.question, *(follow_up.question for follow_up in spec.follow_ups)):
        if not question.strip():
            return "The question is empty."
        if len(question) > spec.limits.question_chars:
            return f"The question has {len(question):,} characters; {spec.limits.question_chars:,} are allowed."
    if spec.schema is not None and (why := schema_error(spec.schema)):
        return f"The schema of the answer is not a JSON Schema: {why}."
    try:
        Limits.of(spec.limits.as_dict())
    except LimitsError as error:
        return f"A limit of the run is wrong: {error}."
    return ""


def _obey(run: Run) -> None:
    run.clock.hold(run.control.paused)
    if run.control.released:
        run.give_up(Released("The run was let go of."))
    if run.control.stopped:
        run.end(Ending("stopped", run.control.reason))


def _result(run: Run, outcome: Outcome) -> RunResult:
    return RunResult(
        status=outcome.status, reason=outcome.reason, answer=outcome.answer, answer_name=outcome.answer_name,
        partial=outcome.partial, usage=run.ledger.spent, calls=run.calls, cells=run.cells, depth=run.depth,
        seconds=time.monotonic() - run.started, warm=run.warm,
    )  # fmt: skip
