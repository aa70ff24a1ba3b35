"""Ask in the foreground: the same path as the page's, with the tree drawn in the terminal."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError
from rich.console import Console

from analyses import endpoints, ingest
from analyses.actions import RunRefused, start_run, stop_run
from analyses.follow_ups import ask_follow_up
from analyses.models import CorpusVersion, Run, Status
from analyses.terminal import RunTree
from analyses.texts import answer_of
from analyses.worker import Worker
from rlm.endpoints import Endpoint
from workspaces.local import local_owner
from workspaces.models import User, Workspace


class Command(BaseCommand):
    help = "Ask a question about files (or about none) and watch the run in the terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--question", required=True)
        parser.add_argument(
            "--follow-up", default="", metavar="RUN", help="ask further in this run, by the key in its URL"
        )
        parser.add_argument("--strategy", default="rlm")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--endpoint", default="", metavar="NAME", help="a model endpoint of this instance")
        where.add_argument("--base-url", default="", metavar="URL", help="an OpenAI-compatible endpoint of your own")
        parser.add_argument("--api-key", default="", metavar="KEY")
        parser.add_argument("--model", default="", metavar="M", help="root model")
        parser.add_argument(
            "--sub-model", default="", metavar="M", help="model of child calls; the root's where not given"
        )
        parser.add_argument("--dialect", default="async", choices=["async", "paper"])
        parser.add_argument("--limits", default="{}", metavar="JSON", help='such as \'{"depth": 1, "cost": 0.5}\'')
        parser.add_argument(
            "--json", action="store_true", help="one JSON object on standard output, the tree on standard error"
        )
        parser.add_argument(
            "files", nargs="*", type=Path, metavar="FILE", help="files, folders and archives to ask about"
        )

    def handle(self, **options: Any) -> None:
        try:
            run = self._run(options)
        except (RunRefused, ingest.IngestRefused) as error:
            self._refuse(options, str(error))
        except OperationalError as error:
            self._refuse(
                options, f"The database cannot be used: {error}. If this is a fresh clone, type ./run --setup first."
            )
        result = _result(run)
        if options["json"]:
            _print_json(result)
        else:
            _print_answer(Console(), run, result)
        sys.exit(0 if run.status == Status.DONE else 1)

    def _refuse(self, options: dict[str, Any], reason: str) -> NoReturn:
        """End where no run could be made: nothing was asked of a model."""
        if not options["json"]:
            raise CommandError(reason)
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}
        empty = {"answer": None, "url": None, "calls": 0, "cells": 0, "depth": 0, "usage": usage, "seconds": 0.0}
        _print_json({"status": "failed", **empty, "reason": reason})
        sys.exit(1)

    def _run(self, options: dict[str, Any]) -> Run:
        try:
            limits = json.loads(options["limits"])
        except ValueError as error:
            raise RunRefused(f"--limits is not JSON: {error}") from None
        if not isinstance(limits, dict):
            raise RunRefused("--limits must be a JSON object of names to numbers.")
        if missing := [str(path) for path in options["files"] if not path.exists()]:
            raise RunRefused(f"There is no file {', '.join(missing)}.")
        owner, _ = local_owner()
        workspace = Workspace.objects.visible_to(owner).order_by("pk").first()
        assert workspace is not None
        version = self._corpus(workspace, owner, options["files"])
        if options["follow_up"]:
            return self._further(options, owner)
        endpoint = _own_endpoint(options) or _known_endpoint(options["endpoint"], workspace)
        run = start_run(
            workspace,
            owner,
            question=options["question"],
            corpus_version=version,
            strategy=options["strategy"],
            endpoint=endpoint,
            root_model=options["model"],
            child_model=options["sub_model"],
            limits=limits,
            wake=False,
        )
        self._execute(run, endpoint)
        run.refresh_from_db()
        return run

    def _further(self, options: dict[str, Any], owner: User) -> Run:
        """Ask a follow-up: strategy, corpus and limits are the run's own."""
        run = Run.objects.visible_to(owner).select_related("workspace").filter(key=options["follow_up"]).first()
        if run is None:
            raise RunRefused(f"There is no run {options['follow_up']!r}; its key stands in its URL, after /r/.")
        if options["files"]:
            raise RunRefused(
                "A follow-up goes on with the texts of its run. Leave the files out, or ask anew about them."
            )
        endpoint = _own_endpoint(options) or _known_endpoint(options["endpoint"] or run.endpoint, run.workspace)
        ask_follow_up(run, owner, options["question"], endpoint=endpoint, wake=False)
        self._execute(run, endpoint)
        run.refresh_from_db()
        return run

    def _corpus(self, workspace: Workspace, owner: User, paths: list[Path]) -> CorpusVersion | None:
        if not paths:
            return None
        imported = ingest.import_paths(workspace, owner, paths)
        for outcome in imported.outcomes:
            if outcome.outcome != "ready":
                self.stderr.write(f"{outcome.name}: {outcome.outcome}: {outcome.reason}")
        return imported.version

    def _execute(self, run: Run, endpoint: Endpoint) -> None:
        worker = Worker(serving=False)
        tree = RunTree(Console(stderr=True))

        def stop(*_: object) -> None:
            stop_run(run)  # a second Ctrl-C gets through to Python's own handler

        with contextlib.ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, stop))
            worker.start()
            stack.callback(worker.close)
            done = worker.take(run.pk, endpoint=endpoint, tap=stack.enter_context(tree))
            if done is None:
                raise RunRefused("The run was claimed by a worker before it could start here.")
            done.result()


def _known_endpoint(name: str, workspace: Workspace) -> Endpoint:
    try:
        return endpoints.get(name, workspace, operator=True)
    except endpoints.UnknownEndpoint as error:
        raise RunRefused(str(error)) from None


def _own_endpoint(options: dict[str, Any]) -> Endpoint | None:
    """The endpoint that the operator names on the command line, if any."""
    if not options["base_url"]:
        return None
    if not options["model"]:
        raise RunRefused("--base-url goes with --model: which model shall answer?")
    if not options["base_url"].startswith(("http://", "https://")):
        raise RunRefused(f"--base-url must start with http:// or https://, not {options['base_url']!r}.")
    return Endpoint(
        name="command line",
        base_url=options["base_url"],
        api_key=options["api_key"] or settings.OPENAI_API_KEY or "none",
        root_model=options["model"],
        child_model=options["sub_model"] or options["model"],
        dialect=options["dialect"],
    )


def _answer(run: Run) -> Any:
    """The whole answer as JSON: what the row shows, or the value itself where that is cut."""
    value = answer_of(run) if run.answer_cut else None
    return run.answer_display if value is None else value.plain(max_chars=1 << 40)


def _result(run: Run) -> dict[str, Any]:
    return {
        "status": run.status,
        "answer": _answer(run),
        "url": f"http://127.0.0.1:{settings.PORT}{run.get_absolute_url()}",
        "calls": run.calls,
        "cells": run.cells,
        "depth": run.depth,
        "usage": {"prompt_tokens": run.prompt_tokens, "completion_tokens": run.completion_tokens, "cost": run.cost},
        "seconds": round(run.seconds, 3),
        "reason": run.reason,
        "partial": run.partial,
    }


def _print_json(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result, allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _print_answer(console: Console, run: Run, result: dict[str, Any]) -> None:
    answer = result["answer"]
    console.print()
    if run.reason:
        console.print(run.reason, style="yellow", markup=False)
    if answer is not None:
        console.print(
            answer if isinstance(answer, str) else json.dumps(answer, indent=2, ensure_ascii=False), markup=False
        )
    cost = "cost unknown" if run.cost is None else f"${run.cost:.4f}"
    console.print(
        f"{run.status} · {run.calls} calls · {run.cells} cells · {run.prompt_tokens + run.completion_tokens:,} tokens · "
        f"{cost} · {run.seconds:.1f} s\n{result['url']}",
        style="dim",
        markup=False,
        highlight=False,
    )
