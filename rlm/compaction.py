"""When a conversation nears the model's window: the earlier turns become one summary, written by the model itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.parsing import split_thinking
from rlm.probe import clip
from rlm.replies import ModelError, ModelReply
from rlm.spec import Ending
from rlm.wording import summary_message, summary_request

if TYPE_CHECKING:
    from rlm.call import Call

KEPT = 2  # messages that stay: the system prompt and the first message
FULL = 0.85  # of the window, less the reply: where it is time
SUMMARY_TOKENS = 1_500
DIGEST = "The turns so far, shortened:\n"  # how a message begins that stands for turns which were taken out


def is_due(call: Call) -> bool:
    """Say whether the next request of this call would come too near the window's end."""
    if (recorded := call.next_recorded) is not None:
        return bool(recorded.messages) and recorded.messages[-1].content.endswith(summary_request())
    room = call.run.window - call.run.reply_tokens
    return call.estimate > FULL * room and len(call.messages) > KEPT + 1


async def compact(call: Call, *, refused: bool = False) -> None:
    """Replace the turns so far by a summary, as a turn of its own kind. Raises Ending where that cannot help.

    ``refused``: the provider has just refused the conversation as too long, so the summary is asked of a shortened one.
    """
    turns = call.turn
    if len(call.messages) <= KEPT + 1:
        raise Ending("failed", "The prompt is longer than the model's window, already in the first request.")
    pending = call.messages[-1]["content"] if call.messages[-1]["role"] == "user" else ""
    reply = await _from_a_digest(call) if refused else await _from_the_whole(call)
    call.tell_reply(reply, "compaction")
    call.restart(KEPT)
    last = f"\n\nThe last output, shortened:\n{clip(pending, 2_000)}" if pending else ""
    call.add("user", summary_of(reply.text, turns) + last)
    if is_too_long(call):
        raise Ending(
            "failed", "The prompt is longer than the model's window, even after the earlier turns were summarised."
        )


def summary_of(reply: str, turns: int) -> str:
    """Return the message that takes the place of the turns so far."""
    summary = split_thinking(reply)[1].strip() or "(no summary was written)"
    return summary_message(clip(summary, 8 * SUMMARY_TOKENS), turns)


async def _from_the_whole(call: Call) -> ModelReply:
    call.add_to_unsent(summary_request())
    try:
        return await call.ask(max_tokens=min(SUMMARY_TOKENS, call.run.reply_tokens))
    except ModelError as error:
        if error.kind != "context_length":
            raise
    return await _from_a_digest(call)


async def _from_a_digest(call: Call) -> ModelReply:
    """Ask for the summary of shortened turns, where the whole of them does not fit any more."""
    middle = call.messages[KEPT:]
    room = max(200, call.run.window // max(1, len(middle)))  # characters; about a quarter of the window in all
    shortened = "\n\n".join(f"[{m['role']}] {clip(m['content'], room)}" for m in middle)
    call.restart(KEPT)
    call.add("user", f"{DIGEST}{shortened}\n\n{summary_request()}")
    return await call.ask(max_tokens=min(SUMMARY_TOKENS, call.run.reply_tokens))


def is_too_long(call: Call) -> bool:
    return call.estimate > call.run.window - call.run.reply_tokens


async def next_reply(call: Call) -> ModelReply:
    """Ask for the next turn; compact first where that is due, or where the endpoint finds the request too long."""
    if is_due(call):
        await compact(call)
    try:
        return await call.ask()
    except ModelError as error:
        if error.kind != "context_length":
            raise
        call.note(str(error))
    await compact(call, refused=True)
    return await call.ask()
