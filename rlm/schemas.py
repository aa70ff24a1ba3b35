"""JSON Schemas that models write: is it one, and does a value satisfy it? Neither may reach out, nor take for ever."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.validators import validator_for
from referencing import Registry

from sandbox import Value

MAX_SCHEMA = 200_000  # characters
SMALL = 200_000  # characters of a value checked on the spot
SECONDS = 20.0  # for a check that runs aside
SHOWN = 5  # problems told of
_SLOW = {"pattern", "patternProperties", "uniqueItems", "format"}  # may take exponential or quadratic time
# Remote references would make the host fetch what a model names.
_NOWHERE: Registry[Any] = Registry()


def schema_error(schema: Any) -> str:
    """Return why ``schema`` is no JSON Schema, or ""."""
    if not isinstance(schema, dict | bool):
        return f"a JSON Schema is an object, not {type(schema).__name__}"
    try:
        if len(json.dumps(schema)) > MAX_SCHEMA:
            return f"the schema is longer than {MAX_SCHEMA:,} characters"
        validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)  # type: ignore[arg-type]  # True and False are schemas too
    except jsonschema.SchemaError as error:
        return f"at {error.json_path}: {error.message[:300]}"
    except (TypeError, ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return ""


async def problems(value: Value, schema: Any) -> str:
    """Return what keeps ``value`` from satisfying ``schema``, a line a problem, or ""."""
    if value.nbytes <= SMALL and not _slow(schema):
        return check(value.plain(max_chars=SMALL * 4), schema)
    plain = await asyncio.to_thread(value.plain, max_chars=value.nbytes * 4 + 1000)
    body = json.dumps([plain, schema], ensure_ascii=False).encode("utf-8", "replace")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rlm.schemas",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={},
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate(body)
    except TimeoutError:
        return f"checking it against the schema took longer than {SECONDS:g} s: use a simpler schema"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode("utf-8", "replace") if process.returncode == 0 else "the schema could not be checked"


def check(plain: Any, schema: Any) -> str:
    """Check a plain value; only for values and schemas that cannot take long."""
    validator = validator_for(schema, default=jsonschema.Draft202012Validator)(schema, registry=_NOWHERE)
    lines: list[str] = []
    more = 0
    try:
        for error in validator.iter_errors(plain):
            if len(lines) < SHOWN:
                lines.append(f"- at {error.json_path[:200]}: {_short(error)}")
            else:
                more += 1
                if more >= 1000:
                    break
    except Exception as error:  # a reference that leads nowhere, a pattern that is none, endless recursion
        return f"- the schema cannot be applied: {type(error).__name__}: {str(error)[:300]}"
    if more:
        lines.append(f"- and {more:,}{' or more' if more >= 1000 else ''} others")
    return "\n".join(lines)


def _short(error: jsonschema.ValidationError) -> str:
    message = error.message
    return message if len(message) <= 300 else f"{message[:120]} … {message[-120:]}"


def _slow(schema: Any) -> bool:
    if isinstance(schema, dict):
        return bool(_SLOW & schema.keys()) or any(_slow(part) for part in schema.values())
    return isinstance(schema, list) and any(_slow(part) for part in schema)


if __name__ == "__main__":
    given, wanted = json.load(sys.stdin)
    sys.stdout.write(check(given, wanted))
