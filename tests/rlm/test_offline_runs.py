"""Whole runs of the offline model, in real jails: on the sample podcast, on tables, and on real files of ../shared/data."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import samples
from rlm.engine import RunResult, RunSpec, solve
from rlm.limits import Limits
from rlm.offline import OfflineClient
from sandbox import Value
from tests.rlm.conftest import Story

Documents = list[dict[str, Any]]


class Answered:
    def __init__(self, result: RunResult, story: Story) -> None:
        self.result, self.story = result, story
        self.value = result.answer.python() if result.answer is not None else None
        self.text = str(self.value)
        # The answer without its bold marks and line ends, as a person reads it.
        self.plain = " ".join(self.text.replace("*", "").replace(">", "").split())


def document(name: str, data: bytes) -> dict[str, Any]:
    text = data.decode("utf-8-sig")
    title = re.search(r"^WEBVTT - (.+)$|^title: *(.+)$", text[:2000], re.M)
    return {
        "title": next(filter(None, title.groups())) if title else Path(name).stem,
        "text": text,
        "name": name,
        "meta": {},
    }


@pytest.fixture
def answer(pool: Any) -> Callable[..., Any]:
    async def run(question: str, documents: Documents | None, **limits: Any) -> Answered:
        story = Story()
        context = Value.of(question)
        if documents is not None:
            context = Value.of(documents) if len(documents) > 1 else Value.of(documents[0]["text"])
        spec = RunSpec(question, has_corpus=documents is not None, limits=Limits.of({"run_seconds": 60.0, **limits}))
        result = await solve(spec, context=context, pool=pool, client=OfflineClient(seconds=0), emit=story)
        assert not [
            cell.error for cell in story.cells() if cell.error and not cell.error.startswith("The cell was interrupted")
        ]
        return Answered(result, story)

    return run


@pytest.fixture(scope="session")
def podcast(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    return [document(path.name, path.read_bytes()) for path in samples.write(tmp_path_factory.mktemp("podcast"))]


@pytest.mark.parametrize("question", samples.QUESTIONS, ids=lambda q: str(q["id"]))
async def test_sample_questions_are_answered_right(answer: Any, podcast: Documents, question: dict[str, Any]) -> None:
    told = await answer(question["question"], podcast)
    assert told.result.status == "done"
    assert samples.score(question, told.text) == 1, told.text


async def test_search_over_many_documents_nests_and_quotes_word_for_word(answer: Any, podcast: Documents) -> None:
    told = await answer("What is said about the strongbox at Carrow Head?", podcast)
    assert told.result.depth == 2
    assert told.result.answer_name == "answer"
    kinds = [call.kind for call in told.story.calls()]
    assert kinds.count("child") >= 1 and kinds.count("leaf") >= 2
    assert "christening spoon" in told.text
    for title, offset, quote in re.findall(r"> ([^\n]+)\n>\n> — ([^·]+) · .*?character ([\d,]+)", told.text):
        text = next((d["text"] for d in podcast if d["title"] == offset.strip()), None)
        assert text is None or title.replace("*", "")[:20] in " ".join(
            text[int(quote.replace(",", "")) :][:400].split()
        )


@pytest.mark.parametrize(("depth", "calls"), [(0, 500), (1, 500), (2, 3), (2, 1)])
async def test_few_calls_or_no_depth_still_give_the_answer(
    answer: Any, podcast: Documents, depth: int, calls: int
) -> None:
    told = await answer("What was inside the strongbox at Carrow Head?", podcast, depth=depth, calls=calls)
    assert "christening spoon" in told.text
    assert told.result.depth <= depth


async def test_few_turns_end_with_what_there_is(answer: Any, podcast: Documents) -> None:
    told = await answer("What was inside the strongbox at Carrow Head?", podcast, turns=3)
    assert told.result.status in ("done", "limit")
    assert "christening spoon" in told.text


async def test_nothing_found_is_said_with_the_words_tried(answer: Any, podcast: Documents) -> None:
    told = await answer("What did anyone say about zeppelins over Mongolia?", podcast)
    assert told.result.status == "done"
    assert "found nothing" in told.text or "Nothing here says" in told.text
    assert "Mongolia" in told.text


@pytest.mark.parametrize(
    "question",
    ["Which episodes mention zeppelins over Mongolia?", "When is the hydrogen pump first mentioned?", "Who said “never trust a zeppelin”?",
     "Which cities are mentioned?", "How many times is zeppelin mentioned?"],
)  # fmt: skip
async def test_what_is_not_there_word_for_word_still_ends_well(answer: Any, podcast: Documents, question: str) -> None:
    told = await answer(question, podcast[:3])
    assert told.result.status == "done"
    assert "offline extractive model" in told.text or "0 times" in told.text
    assert "plainer" not in told.story.replies()[-1].reply


async def test_questions_without_a_corpus(answer: Any) -> None:
    assert (await answer("How many times does the letter r appear in strawberry?", None)).value == 3
    nested = await answer("Count the letter r in each word.\nFruits: apple, pear\nAnimals: tiger, rat", None)
    assert nested.value == {"Fruits": {"apple": 0, "pear": 1}, "Animals": {"tiger": 1, "rat": 1}}
    assert nested.result.calls == 3
    assert "not a language model" in (await answer("Who wrote Hamlet?", None)).text


SALES = [
    ("2023-01-05", "North", "lamp oil", 120, 3.5),
    ("2023-02-11", "South", "rope", 40, 12.0),
    ("2023-02-28", "North", "rope", 60, 11.5),
    ("2023-07-01", "East", "lamp oil", 200, 3.25),
    ("2024-01-15", "South", "wicks", 500, 0.1),
    ("2024-03-03", "North", "lamp oil", 80, 3.75),
]


@pytest.fixture
def table() -> Documents:
    out = io.StringIO()
    csv.writer(out).writerows([("date", "region", "product", "quantity", "unit price"), *SALES])
    return [document("sales.csv", out.getvalue().encode())]


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("What is the total quantity?", ["1,000"]),
        ("What is the total quantity by region?", ["South | 540", "North | 260", "East | 200"]),
        ("How many rows are there for North?", ["3"]),
        ("What is the average unit price of rope?", ["11.75"]),
        ("Which region has the highest total quantity?", ["South", "540"]),
        ("How many different products are there?", ["3"]),
        ("Which product has the lowest unit price?", ["wicks", "0.1"]),
        ("How many sales had a quantity over 100?", ["3"]),
        ("What was the total quantity in 2024?", ["580"]),
        ("Which sales had a quantity over 150?", ["East", "wicks", "**2**"]),
        ("What share of sales is from North?", ["50"]),
        ("List the top 2 products by total quantity", ["wicks | 500", "lamp oil | 400"]),
    ],
)
async def test_table_questions_are_worked_out(answer: Any, table: Documents, question: str, wanted: list[str]) -> None:
    told = await answer(question, table)
    assert all(part in told.text for part in wanted), told.text


# The real files. Several accepted forms of one thing are parted by "|".
REAL: list[tuple[str, str, list[str]]] = [
    ("txt/480-narwhals.txt", "What is Narwhals and who created it?", ["compatibility layer", "Marco Garelli"]),
    ("txt/480-narwhals.txt", "When was the episode recorded?", ["September 10th, 2024"]),
    ("srt/480-narwhals.srt", "What did they say about DuckDB?", ["support for DuckDB"]),
    ("vtt/355-edgedb.vtt", "Who is the CEO of EdgeDB?", ["Yuri Selvanov"]),
    ("vtt/414-startup-row.vtt", "Where was the episode recorded?", ["Salt Lake City"]),
    ("vtt/youtube-509-gpu-programming-in-pure-python.vtt", "How long has Bryce worked at NVIDIA?", ["eight years"]),
    ("md", "What did Karl Fogel say about GitHub?", ["Karl Fogel", "GitHub"]),
    ("md", "Where does Rachel White work?", ["Microsoft"]),
    ("md", "What is the Great Firewall of China?", ["censorship and surveillance"]),
    ("md", "How many years ago was Producing Open Source Software published?", ["ten years"]),
    ("csv/away-from-keyboard-1.csv", "What did Jason Snell say about his wife?", ["My wife has been very flexible"]),
    ("json/critical-role-C1E005.json", "How many times does Matt speak?", ["1,003"]),
    ("json/critical-role-C1E005.json", "Why is Sam absent?", ["absent due to work"]),
    (
        "zip/chaincode-podcast.zip",
        "What does Matt Corallo say about compact blocks?",
        ["Matt Corallo", "ompact blocks"],
    ),
    ("zip/chaincode-podcast.zip", "Which episodes discuss reproducible builds?", ["Reproducible Builds"]),
]


def real_documents(path: Path) -> Documents:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".md") and "LICENSE" not in n]
            return [document(Path(name).name, archive.read(name)) for name in names]
    files = sorted(path.glob("*.md")) if path.is_dir() else [path]
    return [document(file.name, file.read_bytes()) for file in files]


@pytest.mark.real_data
@pytest.mark.parametrize(("path", "question", "wanted"), REAL, ids=lambda value: str(value)[:40])
async def test_real_podcasts(answer: Any, real_data: Path, path: str, question: str, wanted: list[str]) -> None:
    told = await answer(question, real_documents(real_data / "podcasts" / path))
    assert told.result.status == "done"
    assert all(any(form in told.plain for form in part.split("|")) for part in wanted), told.text


@pytest.mark.real_data
@pytest.mark.parametrize("word", ["Polars", "pandas", "Narwhals"])
async def test_counts_agree_with_a_plain_search(answer: Any, real_data: Path, word: str) -> None:
    documents = real_documents(real_data / "podcasts/txt/480-narwhals.txt")
    times = len(re.findall(rf"(?i)(?<!\w){word}(?:['’]s?)?(?!\w)", documents[0]["text"]))
    assert f"**{times:,} times**" in (await answer(f"How many times is '{word}' mentioned?", documents)).text
