"""Verbs that fork: another run from the middle of one, with a cell's code, an instruction, a model or limits changed."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analyses import copying
from analyses.actions import RunRefused, endpoint_named, queue_run
from analyses.forking import AGAIN, EDIT, RETRY, Forecast, ForkLost, forecast
from analyses.models import Call, Cell, Run
from analyses.texts import clean
from rlm.endpoints import Endpoint
from rlm.limits import Limits, LimitsError
from rlm.toolbox import NAMES
from workspaces.models import User

CODE_MOST = 100_000  # characters of an edited cell
CODE_FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
IMPORTED = "This run came in as a log of another place: it can be read, not gone on with."
OVER = (Cell.Status.DONE, Cell.Status.ERROR, Cell.Status.STOPPED)
RETRIED = ("failed", "limit", "stopped")


@dataclass(frozen=True)
class Change:
    """What a person changes at a cell. None, "" and {}: left as it was."""

    call: int
    cell: int
    code: str | None = None  # None: the model writes the cell anew
    instruction: str | None = None  # of the root: the question
    model: str = ""  # of this call
    child_model: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    again: bool = False  # failed children are asked again too


def why_not(run: Run) -> str:
    """Why a run cannot be forked, or ""."""
    if run.imported_from:
        return IMPORTED
    return "This run is archived. Bring its calls and cells back first." if run.archived else ""


def fork_run(run: Run, user: User | None, change: Change, *, endpoint: str | Endpoint = "", wake: bool = True) -> Run:
    """Queue a run that goes on from a cell of this one. Raises RunRefused where that cannot be."""
    call, cell = _place(run, change.call, change.cell)
    if cell.status not in OVER:
        raise RunRefused(f"Cell {change.call}.{change.cell} has not ended yet. Wait until it has, then fork.")
    root = call.parent_number is None
    fork: dict[str, Any] = {"run": run.number, "kind": AGAIN, "call": call.number, "cell": cell.number}
    changed = []
    fields = _fields(run)
    old = run.question if root else call.instruction
    new = clean((change.instruction or "").replace("\0", "").replace("\r\n", "\n")).strip()
    if change.instruction is not None and new != old.strip():
        changed.append("instruction")
        if change.code is not None and _code_of(change.code) != cell.code:
            raise RunRefused(
                "A changed instruction starts the call anew, without its cells. Change the instruction or the code, not both."
            )
        _check_instruction(new, root, run)
        fork["cell"] = _first(call)
        if root:
            fields["question"] = new
        else:
            fork["instruction"] = new
    elif change.code is not None:
        code = _code_of(change.code)
        if not cell.code or cell.replied_at is None:
            raise RunRefused(f"There is no code in {_name(cell)}. Let the model write it again instead.")
        if code != cell.code:
            check_code(code, cell.kind)
            changed.append("code")
        fork |= {"kind": EDIT, "code": code}
    model = clean(change.model).strip()[:120]
    child_model = clean(change.child_model).strip()[:120]
    if model and model != call.model:
        changed.append("model")
        fork["model"] = model
        if root:
            fields["root_model"] = model
    if child_model and child_model != run.child_model:
        changed.append("model of child calls")
        fields["child_model"] = child_model
    limits = _limits(run, change.limits)
    if limits != _limits(run, {}):
        changed.append("limits")
    if change.again:
        fork["again"] = True
    if fork["kind"] == EDIT and not changed and not change.again:
        raise RunRefused(
            "Nothing is changed. Change the code, the model or a limit, or let the model write the cell again."
        )
    fork["changed"] = changed
    return _queue(run, user, fork, fields, limits, endpoint, wake)


def retry_children(
    run: Run, user: User | None, *, call: int, cell: int, children: Sequence[int], endpoint: str | Endpoint = "",
    wake: bool = True,
) -> Run:  # fmt: skip
    """Queue a run in which these failed children of a cell are asked again, and their parent goes on from there."""
    asker, asking = _place(run, call, cell)
    if not asking.code or asking.replied_at is None:
        raise RunRefused(f"{_name(asking).capitalize()} has asked for no child call.")
    found = Call.objects.filter(run=run, parent=asker, parent_cell=cell, number__in=list(children)[:20_000])
    statuses = dict(found.values_list("number", "status"))
    wrong = [number for number in children if statuses.get(number) not in RETRIED]
    if wrong or not children:
        which = f"call {wrong[0]}" if wrong else "none of its children"
        raise RunRefused(f"Only a child call that has failed can be retried: {which} has not.")
    fork = {
        "run": run.number, "kind": RETRY, "call": call, "cell": cell, "changed": [], "retried": sorted(set(children)),
    }  # fmt: skip
    return _queue(run, user, fork, _fields(run), _limits(run, {}), endpoint, wake)


def foreseen(run: Run, call: int, cell: int, kind: str = EDIT, **more: Any) -> Forecast:
    """What a fork at this place would keep, reuse and ask anew. Raises RunRefused."""
    found, _ = _place(run, call, cell)
    if kind == "instruction":
        cell, kind = _first(found), AGAIN
    try:
        return forecast(run, {"call": call, "cell": cell, "kind": kind} | more)
    except ForkLost as error:
        raise RunRefused(str(error)) from None


def failed_children(run: Run, call: int, cell: int) -> list[int]:
    """The numbers of the children of a cell that did not end as done."""
    found = Call.objects.filter(run=run, parent__number=call, parent_cell=cell, status__in=RETRIED)
    return list(found.order_by("number").values_list("number", flat=True))


def check_code(code: str, kind: str) -> None:
    """Raise RunRefused, naming the line, where a cell cannot run."""
    if not code.strip():
        raise RunRefused("The cell is empty. Write code, or let the model write the cell again.")
    if len(code) > CODE_MOST:
        raise RunRefused(f"The cell has {len(code):,} characters; at most {CODE_MOST:,} are taken.")
    if kind == Cell.Kind.TOOL:
        for number, line in enumerate(code.splitlines(), 1):
            if not _is_tool_call(line):
                raise RunRefused(
                    f"line {number}: write one call of a tool a line, with named arguments: {', '.join(sorted(NAMES))}."
                )
        return
    try:
        compile(code, "<cell>", "exec", CODE_FLAGS)
    except SyntaxError as error:
        raise RunRefused(f"line {error.lineno or 1}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise RunRefused(f"This is no code that can run: {error}") from None


def _is_tool_call(line: str) -> bool:
    try:
        tree = ast.parse(line, mode="eval").body
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
            return False
        for keyword in tree.keywords:
            ast.literal_eval(keyword.value)
        return tree.func.id in NAMES and all(keyword.arg for keyword in tree.keywords)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _queue(
    run: Run, user: User | None, fork: dict[str, Any], fields: dict[str, Any], limits: Limits,
    endpoint: str | Endpoint, wake: bool,
) -> Run:  # fmt: skip
    if reason := why_not(run):
        raise RunRefused(reason)
    chosen = endpoint if isinstance(endpoint, Endpoint) else endpoint_named(run.endpoint, run.workspace)
    _check_room(run, fork, limits)
    return queue_run(
        run.workspace, user, fields | {"forked_from": run, "fork": fork}, limits, offline=chosen.offline, wake=wake
    )


def _check_room(run: Run, fork: dict[str, Any], limits: Limits) -> None:
    """What is kept has to fit the limits, or the fork ends before it begins."""
    number, cell, depth = fork["call"], fork["cell"], 0
    calls = {
        row[0]: row[1:]
        for row in Call.objects.filter(run=run).values_list("number", "parent_number", "parent_cell", "depth")
    }
    depth = calls[number][2]
    while number is not None:
        if cell > limits.turns:
            raise RunRefused(f"Call {number} goes on at turn {cell}: give it at least as many turns.")
        number, cell, _ = calls[number]
    if depth > limits.depth:
        raise RunRefused(f"Call {fork['call']} stands at depth {depth}: give the run at least that depth.")


def _fields(run: Run) -> dict[str, Any]:
    names = (
        "question", "corpus_version", "documents", "document_chars", "strategy", "dialect", "endpoint", "root_model",
        "child_model", "seed",
    )  # fmt: skip
    return {name: getattr(run, name) for name in names}


def _limits(run: Run, given: dict[str, Any]) -> Limits:
    try:
        return Limits.of(run.limits | given)
    except LimitsError as error:
        raise RunRefused(f"{error}.") from None


def _check_instruction(text: str, root: bool, run: Run) -> None:
    if not text:
        raise RunRefused("Write a question first." if root else "Write an instruction first.")
    most = _limits(run, {}).question_chars
    if len(text) > most:
        raise RunRefused(f"This has {len(text):,} characters, at most {most:,} are taken.")


def _place(run: Run, call: int, cell: int) -> tuple[Call, Cell]:
    if reason := why_not(run):
        raise RunRefused(reason)
    found = Cell.objects.filter(run=run, call_number=call, number=cell).select_related("call").defer("messages").first()
    if found is None:
        raise RunRefused(f"Run {run.number} has no cell {call}.{cell}.")
    return found.call, found


def _first(call: Call) -> int:
    return Cell.objects.filter(call=call).order_by("number").values_list("number", flat=True).first() or 1


def _code_of(text: str) -> str:
    """As a form sends it."""
    return clean(text.replace("\0", "").replace("\r\n", "\n")).rstrip("\n")


def _name(cell: Cell) -> str:
    return f"{'cell' if cell.kind in copying.COUNTED else 'turn'} {cell.call_number}.{cell.number}"
