"""A minimal HTTP/1.1 server with keep-alive that speaks the chat completions protocol: fast, so that it measures nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from tests.scripted.reply import Reply

Script = Callable[[dict[str, Any]], Any]
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"


class Endpoint:
    """The script and what was asked so far."""

    def __init__(self, script: Script, latency: float = 0.0, keep: bool = False) -> None:
        self.script = script
        self.latency = latency
        self.keep = keep
        self.seen: dict[int, int] = {}
        self.log: list[dict[str, Any]] = []
        self.stats = {
            "requests": 0, "in_flight": 0, "most_in_flight": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0,
            "cancelled": 0,
        }  # fmt: skip

    def reply_to(self, body: bytes) -> tuple[dict[str, Any], Reply]:
        request = json.loads(body)
        key = hash(body)
        request["attempt"] = self.seen.get(key, 0)
        self.seen[key] = request["attempt"] + 1
        request["number"] = self.stats["requests"]
        request["at"], request["served"] = time.time(), False
        self.stats["requests"] += 1
        if self.keep:
            self.log.append(request)
        reply = Reply.of(self.script(request))
        return request, reply


class Hub:
    """The endpoint at ``/v1``, and any number of further ones at ``/s/<name>/v1``, set up by ``PUT /s/<name>``."""

    def __init__(self, first: Endpoint, make: Callable[[Any], Script]) -> None:
        self.first = first
        self.make = make
        self.others: dict[str, Endpoint] = {}
        self.open: set[asyncio.Transport] = set()
        self.away = asyncio.Event()
        self.away_seconds = 0.0

    def leave(self, seconds: float) -> None:
        """Refuse every connection for so long, those under way included."""
        self.away_seconds = seconds
        self.away.set()
        for transport in list(self.open):
            transport.abort()

    def put(self, name: str, given: dict[str, Any]) -> None:
        self.others[name] = Endpoint(self.make(given["script"]), given.get("latency_ms", 0.0) / 1000, keep=True)


class Connection(asyncio.Protocol):
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.endpoint = hub.first
        self.buffer = bytearray()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.hub.open.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.hub.open.discard(self.transport)
        if self.task is not None and not self.task.done():
            self.endpoint.stats["cancelled"] += 1
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head_end = self.buffer.find(b"\r\n\r\n")
            if head_end < 0:
                return
            head = bytes(self.buffer[:head_end]).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            size = int(headers.get("content-length", 0))
            if len(self.buffer) < head_end + 4 + size:
                return
            body = bytes(self.buffer[head_end + 4 : head_end + 4 + size])
            del self.buffer[: head_end + 4 + size]
            method, path, _ = first.split(" ", 2)
            self.handle(method, path, body)

    def handle(self, method: str, path: str, body: bytes) -> None:
        path = path.partition("?")[0]
        self.endpoint = self.hub.first
        if path.startswith("/s/"):
            name, _, rest = path[3:].partition("/")
            if method == "PUT":
                self.hub.put(name, json.loads(body))
                return self.send_json(200, {})
            if name not in self.hub.others:
                return self.send_json(404, {"error": {"message": f"no such script: {name}"}})
            self.endpoint, path = self.hub.others[name], "/" + rest
        if path.endswith("/chat/completions") and method == "POST":
            self.complete(body)
        elif path.endswith("/models"):
            self.send_json(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})
        elif path == "/stats":
            self.send_json(200, self.endpoint.stats)
        elif path == "/log":
            self.send_json(200, self.endpoint.log)
        elif path == "/forget":
            self.endpoint.log.clear()
            self.endpoint.seen.clear()
            self.send_json(200, {})
        elif path.startswith("/away/"):
            self.send_json(200, {})
            asyncio.get_running_loop().call_later(0.05, self.hub.leave, float(path[6:]))
        else:
            self.send_json(404, {"error": {"message": f"no such path: {path}"}})
        return None

    def complete(self, body: bytes) -> None:
        endpoint, stats = self.endpoint, self.endpoint.stats
        try:
            request, reply = endpoint.reply_to(body)
        except Exception as error:
            self.send_json(400, {"error": {"message": f"the script failed: {type(error).__name__}: {error}"}})
            return
        delay = reply.delay or endpoint.latency
        stats["in_flight"] += 1
        stats["most_in_flight"] = max(stats["most_in_flight"], stats["in_flight"])
        if delay or reply.pause or reply.mode == "stall":
            self.task = asyncio.create_task(self.slowly(request, reply, delay))
        else:
            parts = list(self.parts(request, reply))
            self.transport.write(b"".join(parts))
            request["served"] = True
            self.finish(reply)
            stats["in_flight"] -= 1

    async def slowly(self, request: dict[str, Any], reply: Reply, delay: float) -> None:
        try:
            if delay:
                await asyncio.sleep(delay)
            if not reply.pause and reply.mode != "stall":
                self.transport.write(b"".join(self.parts(request, reply)))
            else:
                for part in self.parts(request, reply):
                    self.transport.write(part)
                    if reply.pause:
                        await asyncio.sleep(reply.pause)
                if reply.mode == "stall":
                    await asyncio.sleep(3600)
            request["served"] = not self.transport.is_closing()
            self.finish(reply)
        finally:
            self.endpoint.stats["in_flight"] -= 1

    def finish(self, reply: Reply) -> None:
        if reply.mode in ("drop", "refuse"):
            self.transport.close()

    def parts(self, request: dict[str, Any], reply: Reply) -> Any:
        """Yield the bytes of a response, a chunk at a time."""
        if reply.mode == "refuse":
            return
        if reply.status != 200:
            yield self.whole(
                reply.status, json.dumps({"error": reply.error or {"message": "scripted error"}}).encode(), reply
            )
            return
        if reply.mode == "html":
            yield self.whole(
                200, b"<!doctype html><title>Welcome</title><p>It works!", reply, "text/html; charset=utf-8"
            )
            return
        usage = self.usage(request, reply)
        finish = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
        calls = [
            {"index": n, "id": f"call_{n}", "type": "function",
             "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}}
            for n, c in enumerate(reply.tool_calls)
        ]  # fmt: skip
        if reply.mode == "json":
            message = {"role": "assistant", "content": reply.text, **({"tool_calls": calls} if calls else {})}
            body = {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": usage,
            }
            yield self.whole(200, json.dumps(body).encode(), reply, "application/json")
            return
        yield STREAM % (reply.content_type or "text/event-stream").encode()
        if reply.mode == "empty_choices":
            yield event({"choices": []})
        if reply.mode == "invalid_json":
            yield chunked(b'data: {"choices": [{"delta": {"content": "half\n\n')
        if reply.mode == "error_event":
            yield event({"error": reply.error or {"message": "the model fell over", "code": 500}})
        if reply.mode in ("stream", "drop", "cut", "stall"):
            if reply.reasoning:
                yield event(delta(reasoning_content=reply.reasoning))
            text = reply.text if reply.mode == "stream" else reply.text[: len(reply.text) // 2] or "half"
            for at in range(0, len(text), reply.piece):
                yield event(delta(content=text[at : at + reply.piece]))
            if calls:
                yield event(delta(tool_calls=calls))
        if reply.mode in ("drop", "stall"):
            return
        if reply.mode in ("stream", "empty_choices"):
            if reply.mode == "stream":
                yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
                if usage:
                    yield event({"choices": [], "usage": usage})
            yield chunked(b"data: [DONE]\n\n")
        yield b"0\r\n\r\n"

    def usage(self, request: dict[str, Any], reply: Reply) -> dict[str, Any]:
        stats = self.endpoint.stats
        usage = reply.usage
        if usage is None:
            prompt = sum(len(str(m.get("content") or "").encode()) for m in request["messages"]) // 4 + 4
            usage = {"prompt_tokens": prompt, "completion_tokens": (len(reply.text) + len(reply.reasoning)) // 4 + 1}
        if usage and reply.cost is not None:
            usage = {**usage, "cost": reply.cost}
        stats["prompt_tokens"] += usage.get("prompt_tokens", 0)
        stats["completion_tokens"] += usage.get("completion_tokens", 0)
        stats["cost"] += usage.get("cost", 0.0)
        return usage

    def whole(self, status: int, body: bytes, reply: Reply | None = None, kind: str = "application/json") -> bytes:
        kind = reply.content_type or kind if reply else kind
        extra = "".join(f"{n}: {v}\r\n" for n, v in (reply.headers if reply else {}).items())
        head = f"HTTP/1.1 {status} scripted\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        return head.encode() + body

    def send_json(self, status: int, value: Any) -> None:
        self.transport.write(self.whole(status, json.dumps(value).encode()))


def delta(**fields: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def event(value: Any) -> bytes:
    return chunked(b"data: " + json.dumps(value).encode() + b"\n\n")


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(hub: Hub, port: int, told: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(hub), "127.0.0.1", port, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    told(f"http://127.0.0.1:{port}/v1")
    while True:
        await hub.away.wait()
        server.close()
        await asyncio.sleep(hub.away_seconds)
        hub.away.clear()
        server = await loop.create_server(lambda: Connection(hub), "127.0.0.1", port, backlog=2048)
