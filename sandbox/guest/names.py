"""The names a REPL provides, one set a dialect or strategy; docs/sandbox.md lists them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import json
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .asking import Host, LLMQueryError, Packed
from .cells import tool_source

MAX_OPTIONS = 1 << 20
NO_CHILDREN = (
    "this call is at the greatest depth: llm_query is not available here. Read `context` with Python and call FINAL."
)
SIMPLE_SCHEMAS = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    list: {"type": "array"}, dict: {"type": "object"},
}  # fmt: skip
IMMUTABLE = (str, bytes, int, float, bool, type(None))


class Final:
    """The first value given to FINAL, packed at once: what a cell does with the object later does not count."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.packed: Packed | None = None
        self.name = ""
        self.names: frozenset[str] = frozenset()
        self.again = False

    def take(self, value: Any, name: str) -> None:
        if self.packed is not None:
            self.again = True
            return
        self.packed = self.host.pack(value)
        self.name = name

    def FINAL(self, value: Any) -> None:  # noqa: N802 (the name models know)
        """End this call with value."""
        frame = sys._getframe(1)
        name = ""
        for candidate in sorted(self.names):
            if frame.f_locals.get(candidate, frame.f_globals.get(candidate, self)) is value:
                name = candidate
        self.take(value, name)


class Names:
    """Builds the functions of one REPL. ``functions`` is a dict name → object."""

    def __init__(
        self, host: Host, final: Final, start: dict[str, Any], show: Callable[[], str], history: list[str]
    ) -> None:
        self.host = host
        self.final = final
        self.leaf: bool = start["leaf"]
        self.original: Any = None
        self.unawaited: list[dict[str, Any]] = []
        self.functions: dict[str, Any] = {"FINAL": final.FINAL, "SHOW_VARS": show, "LLMQueryError": LLMQueryError}
        self.awaited: frozenset[str] = frozenset()
        self.history = history
        kind = start["functions"]
        getattr(self, f"_{kind}")()
        blocking = {f"_blocking_{n}": self._blocking(self.functions[n]) for n in self.awaited}
        self.hidden = blocking

    # the sets

    def _plain(self) -> None:
        self.functions["history"] = self.history

    def _async(self) -> None:
        self._plain()
        self.functions |= {
            "llm_query": self._coroutine("llm_query", self._llm_query),
            "batch_llm_query": self._coroutine("batch_llm_query", self._batch),
            "budget": self._budget,
        }
        self.awaited = frozenset({"llm_query", "batch_llm_query"})

    def _paper(self) -> None:
        self._plain()
        self.functions |= {
            "llm_query": self._complete,
            "llm_query_batched": self._complete_batched,
            "rlm_query": self._recurse,
            "rlm_query_batched": self._recurse_batched,
            "FINAL_VAR": self._final_var,
            "budget": self._budget,
        }

    def _subagents(self) -> None:
        self._plain()
        self.functions["sub_agent"] = self._coroutine("sub_agent", self._sub_agent)
        self.awaited = frozenset({"sub_agent"})

    def _files(self) -> None:
        self._subagents()
        self.functions |= {"write_file": self._write_file, "read_file": self._read_file, "list_files": self._list_files}

    # async dialect

    def _coroutine(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that makes a coroutine and notices when nobody awaits it."""

        signature = SIGNATURES[name]

        async def run(note: dict[str, Any], args: Any, kwargs: Any) -> Any:
            note["started"] = True
            return await function(*args, **kwargs)

        def call(*args: Any, **kwargs: Any) -> Any:
            signature.bind(*args, **kwargs)
            note = {"name": name, "started": False}
            coroutine: Any = run(note, args, kwargs)
            coroutine.__name__ = coroutine.__qualname__ = name
            self.unawaited.append(note)
            return coroutine

        call.__name__ = call.__qualname__ = name
        call.__doc__ = function.__doc__
        call.__signature__ = signature  # type: ignore[attr-defined]
        call._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
        return call

    def _blocking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The twin for a plain def."""

        def call(*args: Any, **kwargs: Any) -> Any:
            async def main() -> Any:
                return await function(*args, **kwargs)

            return run_aside(main())

        return call

    async def _llm_query(
        self,
        context: Any,
        instruction: str | None = None,
        schema: Any = None,
        tools: Any = None,
        model: str | None = None,
    ) -> Any:
        """A child call on context; its FINAL value comes back as a Python object."""
        if self.leaf:
            raise LLMQueryError(NO_CHILDREN)
        options = _options(instruction=instruction, schema=schema_of(schema), tools=_tools(tools), model=model)
        return await self.host.ask_async("llm_query", options, context, same=self._same(context))

    async def _batch(self, *queries: Any, **options: Any) -> list[Any]:
        """Many child calls at once: results in order, exceptions in place."""
        if len(queries) == 1 and isinstance(queries[0], list | tuple):
            queries = tuple(queries[0])
        llm_query = self.functions["llm_query"]
        asked = [q if inspect.isawaitable(q) else llm_query(q, **options) for q in queries]
        return await asyncio.gather(*asked, return_exceptions=True)

    def _same(self, value: Any) -> bool:
        return value is self.original and type(value) in IMMUTABLE

    def _budget(self) -> Any:
        """What is left of each limit."""
        return self.host.ask("budget", {})

    # the authors' dialect: everything blocks

    def _complete(self, prompt: str, model: str | None = None) -> Any:
        """One plain completion."""
        return self._one("llm_complete", prompt, model)

    def _complete_batched(self, prompts: Sequence[str], model: str | None = None) -> list[Any]:
        return self._many("llm_complete", prompts, model)

    def _recurse(self, prompt: Any, model: str | None = None) -> Any:
        """A recursive call on prompt."""
        if self.leaf:
            return self._one("llm_complete", prompt, model)  # as the authors' harness does at its greatest depth
        return self._one("llm_query", prompt, model)

    def _recurse_batched(self, prompts: Sequence[Any], model: str | None = None) -> list[Any]:
        return self._many("llm_complete" if self.leaf else "llm_query", prompts, model)

    def _one(self, name: str, prompt: Any, model: str | None) -> Any:
        return self.host.ask(name, _options(model=model), prompt, same=self._same(prompt))

    def _many(self, name: str, prompts: Sequence[Any], model: str | None) -> list[Any]:
        options = _options(model=model)
        asked = [self.host.submit(name, options, p, same=self._same(p)) for p in prompts]
        results = []
        for future in asked:
            try:
                results.append(future.result())
            except LLMQueryError as error:
                results.append(f"Error: {error}")  # in place, as text: what code for this dialect looks for
        return results

    def _final_var(self, name: Any) -> str:
        """End this call with the variable of that name."""
        scope = sys._getframe(1).f_globals
        if not isinstance(name, str):
            self.final.take(name, "")
            return "done"
        key = name.strip().strip("\"'")
        if key not in scope:
            raise NameError(f"FINAL_VAR: there is no variable {key!r}; SHOW_VARS() lists them")
        self.final.take(scope[key], key)
        return str(scope[key])[:1000]

    # sub-agents and notes

    async def _sub_agent(self, instruction: str, context: Any = None) -> Any:
        """Hand a piece of work to another agent; its answer comes back as text."""
        if self.leaf:
            raise LLMQueryError("this agent is at the greatest depth: it has no sub_agent")
        return await self.host.ask_async(
            "sub_agent", _options(instruction=instruction), context, same=self._same(context)
        )

    def _write_file(self, name: str, text: str) -> Any:
        """Keep a note under a name; other agents of this run can read it."""
        return self.host.ask("write_file", _options(name=str(name)), str(text))

    def _read_file(self, name: str) -> Any:
        return self.host.ask("read_file", _options(name=str(name)))

    def _list_files(self) -> Any:
        return self.host.ask("list_files", {})


def _signature(function: Any) -> inspect.Signature:
    """Of a method, without self."""
    whole = inspect.signature(function)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


# once, in the zygote: this is dear
SIGNATURES = {
    "llm_query": _signature(Names._llm_query),
    "batch_llm_query": _signature(Names._batch),
    "sub_agent": _signature(Names._sub_agent),
}


def run_aside(main: Any, **options: Any) -> Any:
    """``asyncio.run`` in a thread of its own: the cell's loop may be running in this one."""
    result: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def drive() -> None:
        try:
            result.set_result(_run(main, **options))
        except BaseException as error:  # noqa: BLE001 (raised again in the caller)
            result.set_exception(error)

    threading.Thread(target=drive, daemon=True).start()
    return result.result()


_run = asyncio.run


def run(main: Any, **options: Any) -> Any:
    """``asyncio.run`` for cells, which models call although a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(main, **options)
    return run_aside(main, **options)


asyncio.run = run


def schema_of(schema: Any) -> Any:
    """A JSON Schema; the plain types stand for themselves."""
    if schema is None or isinstance(schema, dict | bool):
        return schema
    if isinstance(schema, type) and schema in SIMPLE_SCHEMAS:
        return SIMPLE_SCHEMAS[schema]
    origin: Any = getattr(schema, "__origin__", None)
    args: tuple[Any, ...] = getattr(schema, "__args__", ())
    if origin is list and len(args) == 1:
        return {"type": "array", "items": schema_of(args[0])}
    if origin is dict and len(args) == 2:
        return {"type": "object", "additionalProperties": schema_of(args[1])}
    raise TypeError("schema must be a JSON Schema (a dict) or one of str, int, float, bool, list, dict, list[…]")


def _tools(tools: Any) -> Any:
    if tools is None:
        return None
    return [tool_source(t) for t in (tools if isinstance(tools, list | tuple) else [tools])]


def _options(**options: Any) -> dict[str, Any]:
    for name in ("instruction", "model"):
        if options.get(name) is not None:
            options[name] = str(options[name])
    try:
        size = len(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"instruction, schema and tools must be plain JSON: {error}") from None
    if size > MAX_OPTIONS:
        raise ValueError(
            f"instruction, schema and tools together are {size:,} characters; {MAX_OPTIONS:,} at most. Pass data as context"
        )
    return options
