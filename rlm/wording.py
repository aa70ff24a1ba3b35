"""What the engine says to a model between its turns: outputs, reminders, refusals, the last word at a limit."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlm.parsing import parse
from rlm.probe import clip

FENCE = "```"

LENGTH_CUT = (
    "Your reply was cut off at its greatest length, so its cell was NOT run. Write less: a shorter cell, and data by name instead "
    "of written out."
)
REPL_LOST = {
    "time": "it ran longer than its limit and could not be interrupted",
    "cpu": "it used up its processor time",
    "memory": "it used more memory than it may",
    "output": "it printed without end",
    "protocol": "it broke the connection to the host",
    "exit": "its process ended",
}


def reminder(kind: str, turn_cut: bool = False) -> str:
    """Ask for a cell, after a reply that had none."""
    if turn_cut:
        return LENGTH_CUT
    if kind == "empty":
        return f"Your reply was empty. Write one code block marked `repl`:\n{FENCE}repl\nprint(type(context))\n{FENCE}"
    return (
        "Your reply had no code block marked `repl`, so nothing was run. Continue with one block. If you have the answer, end with "
        f"it from inside a block:\n{FENCE}repl\nFINAL(answer)\n{FENCE}"
    )


def output_message(
    number: int,
    output: str,
    chars: int,
    error: str,
    *,
    limit: int,
    killed: str = "",
    notes: Sequence[str] = (),
    kept_as: str = "",
) -> tuple[str, int]:
    """Return the message that tells of a cell's run, and how many characters of its output are in it.

    ``kept_as``: where the model finds the output in full.
    """
    kept = "all of it is" if chars == len(output) else f"{len(output):,} characters of it are"
    where = f"{kept} {kept_as}" if kept_as and not killed else ""
    shown = output if len(output) <= limit else clip(output, limit, where, chars)
    cut = chars - min(len(output), limit)
    parts = []
    if not output.strip() and not error and not killed:
        parts.append(f"Cell {number} ran and printed nothing.")
    elif output:
        size = f" ({chars:,} characters, {cut:,} of them cut)" if cut > 0 else ""
        parts.append(f"Output of cell {number}{size}:\n{shown}")
    if error:
        parts.append(f"Cell {number} raised an error:\n{clip(error, 4_000)}")
    if killed:
        why = REPL_LOST.get(killed, killed)
        parts.append(
            f"Your REPL was ended while cell {number} ran: {why}. ALL YOUR VARIABLES ARE LOST. You have a fresh REPL, in which "
            "`context` is loaded again. Do it in smaller steps."
        )
    parts.extend(notes)
    return "\n\n".join(parts), min(len(output), limit)


def last_word(reason: str) -> str:
    """Ask for whatever there is, in one last cell."""
    return (
        f"{reason} This is your last turn. Reply with one `repl` block that calls FINAL with the best answer you can make from "
        "what your variables hold now; it can start no child calls. Say in the answer what is missing."
    )


LAST_WORDS = re.compile(
    r"(?:^|\n\n)([^\n]+) This is your last turn(?:\. Reply with one `repl` block|: reply with the best|: write the best)[^\n]*\Z"
)


def said_last(message: str) -> str:
    """Return the reason given where a message asks for the last turn, else ""."""
    found = LAST_WORDS.search(message[-2_000:])
    return found[1] if found else ""


def follow_up_message(question: str, *, repl: bool) -> str:
    """Put a further question to a call that has answered one."""
    if not repl:
        return f"# Follow-up question\n{question}"
    return (
        f"# Follow-up question\n{question}\n\n"
        "Your REPL is as you left it: `context`, and every name that you set. Use what is there, look again where you have to, "
        "and end with FINAL as before."
    )


def schema_refusal(problems: str, left: int) -> str:
    return (
        f"What you passed to FINAL was not accepted: it does not satisfy the schema.\n{problems}\n"
        f"Your variables are as they were. Mend the value and call FINAL again ({left} tries left)."
    )


def unchanged_context(chars: int, dialect: str = "async") -> str:
    """Refuse to hand a whole large context one level down."""
    example = (
        "rlm_query_batched([piece + task for piece in pieces])"
        if dialect == "paper"
        else "await batch_llm_query(*[llm_query(piece, instruction) for piece in pieces])"
    )
    return (
        f"this would hand your whole context ({chars:,} characters) to a child unchanged, and the child would be no better off "
        f"than you are. Cut it first (slices, documents, search hits) and give each child one piece, for example: {example}. "
        "If you mean it, make exactly the same call again: then it goes through."
    )


def reply_with(reply: str, code: str) -> str:
    """Return a reply with another cell in it, as if the model had written that."""
    fence = FENCE
    while fence in code:
        fence += "`"
    return f"{parse(reply).prose}\n\n{fence}repl\n{code}\n{fence}".lstrip("\n")


def summary_request() -> str:
    """Ask for the summary that will stand for the earlier turns."""
    return (
        "This conversation nears the end of your window. Write a summary that will replace everything after the first message. "
        "State: what you found so far, with the exact names and figures; which variables hold what; what you tried that did not work; "
        "what is left to do. Your REPL and all your variables stay as they are, and `history` keeps your outputs in full. Write "
        "prose only, no code block, at most 600 words."
    )


def summary_message(summary: str, turns: int) -> str:
    return (
        f"[The {turns} turns so far were replaced by this summary of yours. Your REPL and all your variables are as they were; "
        f"`history` keeps the outputs in full.]\n{summary}\n\nContinue with your next cell."
    )
