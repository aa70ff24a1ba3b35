"""Uploads, large texts and the reader against a real ./run: ``python -m benchmarks.ingest --json``.

Figures: ``upload_40mb_s`` (300 transcripts, first byte to ready), ``extract_files_s`` (21 PDFs, Word documents and books of
80 pages each, first byte to ready), ``gb_rss_mb`` (the greatest growth of the web process or the worker over idle while
1 GB comes in), ``gb_over_sha256`` (seconds from the first byte to ready, over those of sha256sum on the same file),
``search_ms_p95`` (a page of hits over those 40 MB), ``deep_link_ms`` (first paint of a range in a document of 10 MB).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import documents as make
from tests.browser import chromium
from tests.e2e.instance import Instance

WORDS = Path(__file__).with_name("ingest.py").read_text().split()
BATCH_FILES, BATCH_BYTES, PIECE, AT_ONCE = 50, 4 << 20, 8 << 20, 2  # as static/upload.js sends them


class Browser:
    """What static/upload.js does, without a browser."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}
        self.workspace = ""
        _, page, self.workspace = self.get("/")
        self.workspace = self.workspace.rstrip("/")
        self.get(f"{self.workspace}/corpora/new")

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        given = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} | (headers or {})
        if method in ("POST", "PATCH"):
            given["X-CSRFToken"] = self.cookies.get("csrftoken", "")
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        content = answer.read()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        found = {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return answer.status, content, found

    def get(self, path: str) -> tuple[int, bytes, str]:
        status, content, headers = self.ask("GET", path)
        if status in (301, 302):
            return self.get(headers["location"])
        return status, content, path

    def upload(self, files: list[tuple[str, Path]]) -> str:
        """Send files and wait until they are a corpus; its address."""
        began = self.ask(
            "POST",
            f"{self.workspace}/corpora/new",
            "name=Benchmark",
            {"X-Upload": "begin", "Content-Type": "application/x-www-form-urlencoded"},
        )
        url = json.loads(began[1])["url"]
        told = {"files": [{"name": name, "size": path.stat().st_size} for name, path in files]}
        ids = json.loads(self.ask("POST", f"{url}files", json.dumps(told), {"Content-Type": "application/json"})[1])[
            "ids"
        ]
        queue = list(zip(ids, files, strict=True))
        lock = threading.Lock()

        def take() -> list[Any]:
            batch, size = [], 0
            with lock:
                while (
                    queue
                    and len(batch) < BATCH_FILES
                    and (not batch or size + queue[0][1][1].stat().st_size <= BATCH_BYTES)
                ):
                    size += queue[0][1][1].stat().st_size
                    batch.append(queue.pop(0))
            return batch

        def work() -> None:
            while batch := take():
                if len(batch) == 1 and batch[0][1][1].stat().st_size > BATCH_BYTES:
                    self.pieces(f"{url}tus/{batch[0][0]}", batch[0][1][1])
                    continue
                body = Multipart(",".join(str(pk) for pk, _ in batch), [file for _, file in batch])
                self.ask(
                    "POST", f"{url}files", iter(body), {"Content-Type": body.kind, "Content-Length": str(body.length)}
                )

        workers = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.ask("POST", f"{url}close", "")
        until = time.monotonic() + 600
        while time.monotonic() < until:
            _, page, headers = self.ask("GET", f"{url}ledger", headers={"HX-Request": "true"})
            if "hx-redirect" in headers:
                return headers["hx-redirect"]
            if b"every 1s" not in page:
                raise RuntimeError(f"nothing was made: {re.sub(rb'<[^>]+>', b' ', page)[:500]!r}")
            time.sleep(0.25)
        raise RuntimeError("not ready after 600 s")

    def pieces(self, url: str, path: Path) -> None:
        """A large file by the tus protocol."""
        at = 0
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                said = {
                    "Tus-Resumable": "1.0.0",
                    "Upload-Checksum": f"sha256 {base64.b64encode(hashlib.sha256(piece).digest()).decode()}",
                    "Upload-Offset": str(at),
                    "Content-Type": "application/offset+octet-stream",
                }
                self.ask("PATCH", url, piece, said)
                at += len(piece)


class Multipart:
    """A form with files, streamed from the disk."""

    edge = "benchmark-edge-7d1f"
    kind = f"multipart/form-data; boundary={edge}"

    def __init__(self, ids: str, files: list[tuple[str, Path]]) -> None:
        self.parts: list[bytes | Path] = [
            f'--{self.edge}\r\nContent-Disposition: form-data; name="ids"\r\n\r\n{ids}\r\n'.encode()
        ]
        for name, path in files:
            head = f'--{self.edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
            self.parts += [head.encode(), path, b"\r\n"]
        self.parts.append(f"--{self.edge}--\r\n".encode())
        self.length = sum(part.stat().st_size if isinstance(part, Path) else len(part) for part in self.parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
                continue
            with part.open("rb") as file:
                while piece := file.read(1 << 20):
                    yield piece


def transcript(number: int, size: int) -> str:
    """A transcript of about this size, made of words of this file."""
    dice = random.Random(number)
    lines, written, at = ["WEBVTT", ""], 0, 0
    while written < size:
        start, at = at, at + dice.randint(2000, 5000)
        words = " ".join(dice.choices(WORDS, k=12)).replace("-->", "to")
        cue = f"{start // 3600000:02}:{start // 60000 % 60:02}:{start // 1000 % 60:02}.{start % 1000:03} --> {at // 3600000:02}:{at // 60000 % 60:02}:{at // 1000 % 60:02}.{at % 1000:03}\n{words}.\n"
        lines.append(cue)
        written += len(cue)
    return "\n".join(lines)


def documents(place: Path) -> list[tuple[str, Path]]:
    """PDFs, Word documents and books, seven of each, of about the size of a report."""
    files = []
    for number in range(7):
        dice = random.Random(number)
        pages = [
            "\n".join(" ".join(dice.choices(WORDS, k=10)).encode("ascii", "replace").decode() for _ in range(30))
            for _ in range(80)
        ]
        plain = [page.replace("<", "‹").replace("&", "+") for page in pages]
        made = {
            "pdf": make.pdf(pages),
            "docx": make.docx("".join(make.paragraph(line) for page in plain for line in page.split("\n"))),
            "epub": make.epub({f"c{n}": f"<h1>{n}</h1><p>{page}</p>" for n, page in enumerate(plain)}),
        }
        for kind, data in made.items():
            path = place / f"report-{number}.{kind}"
            path.write_bytes(data)
            files.append((path.name, path))
    return files


def resident(pid: int, field: str = "VmRSS") -> float:
    """Megabytes of a process."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@contextlib.contextmanager
def growth(pids: list[int]) -> Iterator[list[float]]:
    """The greatest growth of any of these processes, in MB, while the block runs."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    idle = {pid: resident(pid) for pid in pids}
    found: list[float] = []
    yield found
    found.append(max(resident(pid, "VmHWM") - idle[pid] for pid in pids))


def searches(browser: Browser, corpus: str) -> float:
    """Milliseconds of a search over the corpus, page and all: the 95th of 100."""
    until = time.monotonic() + 120
    while b"being indexed" in browser.ask("GET", f"{corpus}search?q=episode")[1]:
        if time.monotonic() > until:
            raise RuntimeError("not indexed after 120 s")
        time.sleep(0.5)
    dice, times = random.Random(0), []
    words = sorted({word for word in WORDS if word.isalpha() and len(word) > 3})
    for _ in range(100):
        asked = "+".join(dice.sample(words, dice.choice((1, 1, 2, 3))))
        began = time.perf_counter()
        browser.ask("GET", f"{corpus}search?q={asked}")
        times.append(1000 * (time.perf_counter() - began))
    return sorted(times)[94]


def first_paint(port: int, path: str) -> float:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")  # the browser and the site are warm, as for who follows a link
        times = []
        for _ in range(3):
            page.goto("about:blank")
            page.goto(f"http://127.0.0.1:{port}{path}")
            page.wait_for_selector("#cited")
            times.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        return float(sorted(times)[1])


def measure(megabytes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        place = Path(folder)
        instance = Instance(place / "data", RLMWEB_LOCAL="1", RLMWEB_UPLOAD_BYTES=str(4 << 30)).start()
        try:
            instance.wait_until_well(120)
            programs = instance.programs()
            pids = [programs["web"], programs["worker"]]
            browser = Browser(instance.port)

            episodes = []
            for number in range(300):
                path = place / f"episode-{number}.vtt"
                path.write_text(transcript(number, 40_000_000 // 300))
                episodes.append((path.name, path))
            began = time.perf_counter()
            season = browser.upload(episodes)
            upload = time.perf_counter() - began
            search = searches(browser, season)

            reports = documents(place)
            began = time.perf_counter()
            browser.upload(reports)
            extracted = time.perf_counter() - began

            book = place / "book.txt"
            book.write_text("Zwölf Boote fahren aus dem Hafen heraus, 🚤 und keines kommt zurück.\n" * 150_000)
            corpus = browser.upload([("book.txt", book)])
            paint = first_paint(instance.port, f"{corpus}d/0/#c=9000000-9000100")

            large = place / "large.txt"
            line = " ".join(WORDS)[:199].encode("ascii", "replace") + b"\n"
            with large.open("wb") as file:
                for _ in range(megabytes * 5):
                    file.write(line * 1000)
            with growth(pids) as grown:
                began = time.perf_counter()
                browser.upload([("large.txt", large)])
                whole = time.perf_counter() - began
            began = time.perf_counter()
            subprocess.run(["sha256sum", str(large)], check=True, stdout=subprocess.DEVNULL)
            hashed = time.perf_counter() - began
        finally:
            instance.end()
    return {
        "upload_40mb_s": round(upload, 2),
        "extract_files_s": round(extracted, 2),
        "gb_rss_mb": round(grown[0], 1),
        "gb_over_sha256": round(whole / hashed, 2),
        "gb_s": round(whole, 2),
        "gb_bytes": megabytes * 1_000_000,
        "search_ms_p95": round(search, 1),
        "deep_link_ms": round(paint, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the one large file")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    figures = measure(given.megabytes)
    sys.stdout.write(json.dumps(figures) + "\n" if given.json else "".join(f"{k}: {v}\n" for k, v in figures.items()))


if __name__ == "__main__":
    main()
