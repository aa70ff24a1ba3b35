"""The sandbox by itself: ``python -m sandbox install | probe | exec``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from sandbox import install as installing
from sandbox.errors import HostError, SandboxError, SandboxUnavailable
from sandbox.extraction import probe_extraction
from sandbox.jail import Jail
from sandbox.launcher import BACKENDS
from sandbox.limits import ReplLimits
from sandbox.pool import JailPool
from sandbox.repl import Repl
from sandbox.results import CellResult, HostRequest
from sandbox.values import Value


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except SandboxUnavailable as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    except (SandboxError, ValueError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return status


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    backend = os.environ.get("RLMWEB_SANDBOX_BACKEND", "firejail")

    command = commands.add_parser("install", help="make the jails' own Pythons, and as root the users of jails")
    command.add_argument("--prefix", type=Path, help=f"where; default RLMWEB_SANDBOX_PREFIX or {installing.ROOT}")
    command.set_defaults(run=run_install)

    command = commands.add_parser("probe", help="start a jail of each kind and try to get out of it")
    _jail_options(command, backend)
    command.set_defaults(run=run_probe)

    names = "\n".join(f"  {f.name:20} {f.type:6} default {f.default}" for f in fields(ReplLimits))
    command = commands.add_parser(
        "exec",
        help="run cells from standard input, a JSON list of strings, in one REPL",
        description="Run cells from standard input, a JSON list of strings, in one REPL; one JSON object for each goes out.",
        epilog=f"limits:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _jail_options(command, backend)
    command.add_argument("--context", type=Path, metavar="FILE", help="UTF-8 text that is `context`; default None")
    command.add_argument(
        "--limits", type=json.loads, default={}, metavar="JSON", help='for example {"cell_seconds": 20}'
    )
    command.set_defaults(run=run_exec)
    return top


def _jail_options(command: argparse.ArgumentParser, backend: str) -> None:
    command.add_argument("--json", action="store_true", help="JSON, for programs")
    command.add_argument("--backend", choices=BACKENDS, default=backend)
    command.add_argument("--prefix", type=Path, help="where `install --prefix` put the jail's Python")


def run_install(options: argparse.Namespace) -> int:
    print(installing.install(options.prefix))
    return 0


def run_probe(options: argparse.Namespace) -> int:
    async def work() -> dict[str, Any]:
        pool = JailPool(backend=options.backend, prefix=options.prefix, spare=0)
        try:
            await (await pool.open()).close()
            checks = await asyncio.to_thread(probe_extraction, options.backend, options.prefix)
            read = {f"reading files: {name}": held for name, held in checks.items()}
            return pool.probe | {"checks": pool.probe["checks"] | read}
        finally:
            await pool.close()

    try:
        result = asyncio.run(work())
    except SandboxUnavailable as error:
        result = {"ok": False, "backend": options.backend, "checks": {}, "error": str(error)}
    if options.json:
        print(json.dumps(result))
    else:
        for name, good in result["checks"].items():
            print(f"{'held  ' if good else 'BROKEN'}  {name}")
        print(f"{result['backend']}: {'every attempt failed, as it should' if result['ok'] else result['error']}")
    return 0 if result["ok"] else 1


def run_exec(options: argparse.Namespace) -> int:
    if not isinstance(options.limits, dict):
        raise ValueError("--limits must be a JSON object")
    limits = ReplLimits.of(options.limits)
    cells = json.load(sys.stdin)
    if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
        raise ValueError("standard input must be a JSON list of strings, one a cell")
    context = Value.text(options.context) if options.context else Value.of(None)

    async def work() -> None:
        pool = JailPool(backend=options.backend, prefix=options.prefix, spare=0)
        try:
            jail = await pool.open()
            repl: Repl | None = None
            for number, cell in enumerate(cells, 1):
                if repl is None or not repl.alive:
                    repl = await _fresh(jail, context, limits)
                _print(await repl.run(cell, number), options.json)
        finally:
            await pool.close()

    asyncio.run(work())
    return 0


async def _fresh(jail: Jail, context: Value, limits: ReplLimits) -> Repl:
    return await jail.start_repl(context, leaf=True, limits=limits, on_request=_refuse)


async def _refuse(request: HostRequest) -> Value:
    if request.name == "budget":
        return Value.of({})
    raise HostError(f"{request.name} is not answered here")


def _print(result: CellResult, as_json: bool) -> None:
    if as_json:
        row = {
            "output": result.output,
            "output_chars": result.output_chars,
            "error": result.error or None,
            "finished": result.finished,
            "final": result.final.plain(max_chars=50_000_000, exact=True) if result.final is not None else None,
            "killed": result.killed or None,
            "seconds": round(result.seconds, 6),
            "notes": list(result.notes),
        }
        print(json.dumps(row, allow_nan=False), flush=True)
        return
    print(result.output, end="", flush=True)
    for line in (result.error, *result.notes):
        if line:
            print(line, file=sys.stderr)
    if result.final is not None:
        print(f"FINAL: {result.final.preview(2000)}")


if __name__ == "__main__":
    sys.exit(main())
