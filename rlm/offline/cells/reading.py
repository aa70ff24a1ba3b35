"""Cut a document into sentences that know their offset, time and speaker, whatever kind of transcript it is."""

from __future__ import annotations

import bisect
import csv
import io
import json
import re
from collections import Counter
from typing import Any

Sentence = tuple[int, str, str, str]  # offset in the document, time, speaker, words
Run = tuple[str, list[tuple[int, str, str]]]  # speaker, and what they said without a break: offset, time, words

CLOCK = r"\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?"
TIME = re.compile(rf"\\?[\[(]({CLOCK})\\?[\])]\s*|^({CLOCK})(?=\s|$)\s*")
TURN = re.compile(
    r"\*\*([^*:\n]{2,40}):?\*\*:?\s*|([A-Z][\w.'’-]*(?: [A-Z&\d][\w.'’-]*){0,3})(?: \([^)\n]{1,30}\))?:\s+"
)
NO_NAMES = {"Break", "Note", "Title", "Part", "Chapter", "Question", "Answer", "Link", "Links", "Source", "Update"}
WHO, WHAT = (
    {"speaker", "speakers", "name", "names"},
    {"text", "utterance", "utterances", "content", "message", "transcript"},
)
HEAD = "(about the document)"  # who "says" what stands in a front matter
WHEN = {"time", "timestamp", "start", "ts"}


def full_names(text: str, names: Counter[str]) -> dict[str, str]:
    """Short names in front of what people say, and whose they are: "MC" after "Matt Corallo (MC):", "Pieter" where the head
    of the document lists Pieter Wuille."""
    full = {short: name for name, short in re.findall(r"^\W*([A-Z][\w.'’ -]+?) \(([A-Z]{1,4})\):", text, re.M)}
    head = text[: text.find("\n---", 3) + 1] if text.startswith("---") else ""
    listed = re.findall(r"^(?:speakers?|guests?|hosts?): *\[?(.*)\]?((?:\n\s*- .+)*)", head, re.M)
    known = [
        one.strip(" -'\"") for inline, lines in listed for one in re.split("[,\n]", inline + lines) if one.strip(" -")
    ]
    for name in names:
        same = {one for one in known if one.split()[0] == name and " " in one}
        if len(same) == 1:
            full[name] = same.pop()
    return full


def runs_of_text(text: str) -> list[Run]:
    """Runs of a plain, Markdown, WebVTT or SubRip transcript."""
    names = Counter(
        m[2] for m in re.finditer(rf"^(?:\\?[\[(]{CLOCK}\\?[\])] *)?(?:{TURN.pattern})", text, re.M) if m[2]
    )
    full = full_names(text, names)
    cues = "-->" in text[:20000]
    timed = len(re.findall(rf"^{CLOCK}\s", text[:20000], re.M)) > 5  # "00:12:30 words" on each line
    runs: list[Run] = []
    time, speaker, fresh, offset = "", "", True, 0
    head = text.startswith("---")  # front matter: each line stands for itself
    for number, line in enumerate(text.splitlines(keepends=True)):
        start, offset = offset, offset + len(line)
        said = line.strip()
        if head:
            head = number == 0 or said != "---"
            if said and said != "---":
                if runs and not re.match(r"[\w-]+:", line) and not said.startswith("- "):  # a value that runs on
                    runs[-1][1].append((start + line.index(said[0]), "", said))
                else:
                    runs.append((HEAD, [(start, "", said)]))
            fresh = True
            continue
        if cues and (timing := re.match(rf"({CLOCK})\s+-->", said)):
            time = timing[1]
            continue
        if re.fullmatch(r"(?:\\?[*_=~-] ?){3,}", said):
            fresh = True
            continue
        if not said or (cues and (said.isdigit() or re.match("WEBVTT|NOTE|STYLE|Kind:|Language:", said))):
            fresh = fresh or not (cues or timed)
            continue
        heading = said.startswith("#")
        at = start + line.index(said[0])
        while (
            mark := TIME.match(said)
            or (TURN.match(said) if not cues or said[:2] == "**" else None)
            or re.match(r"<v(?:\.\S+)? ([^>]+)>()", said)
        ):
            name = (mark[1] or mark[2]).strip()
            if mark.re is TIME:
                time = name
            elif mark[2] and (names[name] < 2 or name in NO_NAMES):
                break  # "Note: …" is not somebody called Note
            else:
                name = "" if name in NO_NAMES else full.get(name, name)
                fresh, speaker = fresh or name != speaker, name
            at, said = at + mark.end(), said[mark.end() :]
        if fresh or heading or not runs:
            runs.append(("" if heading else speaker, []))
        for part in re.split(rf"(\\?\[{CLOCK}\\?\])", said):  # a time in mid-paragraph
            if stamp := re.fullmatch(rf"\\?\[({CLOCK})\\?\]", part):
                time = stamp[1]
            elif words := re.sub(r"</?[a-z][^>]*>", "", part).strip():
                runs[-1][1].append((at, time, words))
            at += len(part)
        fresh = heading
    return runs


def runs_of_records(text: str, records: list[Any]) -> list[Run]:
    """Runs of parsed JSON or of a table's rows: who said it where the keys tell, else "key: value" lines."""
    runs: list[Run] = []
    cursor = 0

    def place(value: str) -> int:
        nonlocal cursor
        for form in (
            value,
            json.dumps(value, ensure_ascii=False)[1:-1],
            json.dumps(value)[1:-1],
            value.replace('"', '""'),
        ):
            if (found := text.find(form[:60], cursor, cursor + 9000)) >= 0:
                cursor = found + len(form)
                return found
        return cursor

    def walk(node: Any, label: str) -> None:
        if isinstance(node, dict):
            keys = {str(key).lower(): key for key in node}
            who, what = (
                next((keys[k] for k in keys if k in WHO), None),
                next((keys[k] for k in keys if k in WHAT), None),
            )
            if who is not None and what is not None:
                when = next((str(node[keys[k]]) for k in keys if k in WHEN), "")
                name = node[who] if isinstance(node[who], str) else ", ".join(map(str, node[who] or []))
                lines = node[what] if isinstance(node[what], list) else [node[what]]
                clean = [re.sub(rf"\\?\[{CLOCK}\\?\]\s*", "", str(one)) for one in lines]
                runs.append((name, [(place(one), when, one) for one in clean]))
            elif node and all(not isinstance(value, dict | list) for value in node.values()) and len(node) > 2:
                at = place(str(next(iter(node.values()))))
                told = "; ".join(f"{key}: {value}" for key, value in node.items() if value not in ("", None))
                runs.append((f"(row {len(runs) + 1})", [(at, "", told)]))
            else:
                for key, value in node.items():
                    walk(value, str(key))
        elif isinstance(node, list):
            for one in node:
                walk(one, label)
        elif node not in ("", None):
            named = "" if not label or label.lower() in WHAT | {"heading", "sub-heading", "title"} else f"{label}: "
            runs.append(("", [(place(str(node)), "", named + " ".join(str(node).split()))]))

    walk(records, "")
    return runs


def records_of(text: str, name: str = "") -> list[Any] | None:
    """The records of a CSV, JSON or JSON Lines document, or None where it is prose."""
    start = text.lstrip("\ufeff \r\n")[:1]
    if start in ("{", "["):
        try:
            parsed = json.loads(text.lstrip("\ufeff"))
            return parsed if isinstance(parsed, list) else [parsed]
        except ValueError:
            try:
                return [json.loads(line) for line in text.lstrip("\ufeff").splitlines() if line.strip()]
            except ValueError:
                return None
    header = text.lstrip("\ufeff").split("\n", 1)[0]
    if not name.lower().endswith((".csv", ".tsv")) and (
        len(header) > 300 or "-->" in text[:500] or re.search(r"[.!?:]\s", header)
    ):
        return None
    mark = max("\t;,|", key=header.count)
    rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=mark)) if mark in header else []
    even = sum(len(row) == len(rows[0]) for row in rows[:200]) if len(rows) > 1 else 0
    if len(rows) < 2 or len(rows[0]) < 2 or even < 0.9 * min(len(rows), 200):
        return None
    return [dict(zip(rows[0], row, strict=False)) for row in rows[1:] if row]


def columns_of(records: list[Any] | None) -> list[str]:
    """The columns of what is a table; [] where it is none."""
    rows = [record for record in records or [] if isinstance(record, dict)]
    if len(rows) == 1:
        rows = max(
            (v for v in rows[0].values() if isinstance(v, list) and v and isinstance(v[0], dict)), key=len, default=[]
        )
    plain = (
        [key for key in rows[0] if not any(isinstance(row.get(key), dict | list) for row in rows[:50])] if rows else []
    )
    return [str(key) for key in plain] if len(rows) > 1 < len(plain) else []


def turns_of(records: list[Any]) -> Counter[str]:
    """How many records each speaker has, where records say who spoke."""
    turns: Counter[str] = Counter()
    for record in records:
        for value in record.values() if isinstance(record, dict) else ():
            turns += turns_of(value) if isinstance(value, list) else Counter()
        keys = {str(key).lower(): key for key in record} if isinstance(record, dict) else {}
        who = next((record[keys[k]] for k in keys if k in WHO), None)
        if who and any(k in WHAT for k in keys):
            turns.update(map(str, who) if isinstance(who, list) else [str(who)])
    return turns


def cuts(text: str) -> list[int]:
    """Where the sentences of a text end. Speech recognition may leave out every full stop: then before "and", "so", "I" …"""
    full = r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)(?<!\b[A-Z])[.!?…][\"'”’)\]]*\s+(?=[^a-z\s])|[。！？]"
    pause = r"\s(?=(?:and|but|so|because|then|well|yeah|I|we|you|they|it|he|she|if|when|which|And|But|So)\s)"
    found, here = [], 0
    for end in [*[m.end() for m in re.finditer(full, text)], len(text)]:
        while end - here > 500:
            breaks = [m.end() for m in re.finditer(pause, text[here + 120 : here + 300])]
            here = here + 120 + breaks[-1] if breaks else text.rfind(" ", here, here + 300) + 1 or here + 300
            found.append(here)
        found.append(end)
        here = end
    return found


def sentences(runs: list[Run], text: str) -> list[Sentence]:
    """All sentences of a document, in order, from what its speakers say without a break."""
    found: list[Sentence] = []
    for speaker, parts in runs:
        starts, whole = [], ""
        for _, _, said in parts:
            starts.append(len(whole))
            whole += said + " "
        here = 0
        for cut in cuts(whole):
            if one := whole[here:cut].strip():
                part = bisect.bisect_right(starts, here) - 1
                at, time = parts[part][0] + here - starts[part], parts[part][1]
                if not text.startswith(one[:10], at):  # a tag or an escape before it
                    near = text.find(one[:10], max(0, at - 40), at + 200)
                    at = near if near >= 0 else at
                found.append((at, re.split("[.,]", time)[0], speaker, one))
            here = cut
    return found


def documents(data: Any) -> list[dict[str, Any]]:
    """The corpus as a list of documents, also where it is one text or some other object."""
    if isinstance(data, list) and data and all(isinstance(one, dict) and "text" in one for one in data):
        same = Counter(one["title"] for one in data)
        return [
            {**one, "title": f"{one['title']} (document {n})"} if same[one["title"]] > 1 else one
            for n, one in enumerate(data, 1)
        ]
    if isinstance(data, str):
        lines = re.search(r"^title: *['\"]?(.+?)['\"]?\s*$|^WEBVTT - (.+)$|^#+ (.+)$", data[:2000], re.M)
        title = next(filter(None, lines.groups())).replace("''", "'") if lines else "the document"
        title = re.sub(r"\\U([0-9A-F]{8})", lambda m: chr(int(m[1], 16)), title).strip()
        return [{"title": title, "text": data, "name": ""}]
    return [{"title": "context", "text": json.dumps(data, ensure_ascii=False, default=str), "name": "context.json"}]
