"""What the offline model takes a question for."""

from __future__ import annotations

import pytest

from rlm.offline.question import Shape, classify

SPEAKERS = ("Marigold Thrupp", "Odo Fennimore", "Bartram Quill", "Ottoline Sedge", "Karl Fogel", "MATT")
MANY = Shape(24, SPEAKERS)


@pytest.mark.parametrize(
    ("question", "kind", "phrase"),
    [
        ("How many times is 'Polars' mentioned?", "count", "Polars"),
        ("how many times do they say dragon", "count", "dragon"),
        ("How often does each host say “in a manner of speaking”?", "count", "in a manner of speaking"),
        ("How often is bitcoin mentioned in each episode?", "count", "bitcoin"),
        ("number of mentions of GPU in this transcript", "count", "GPU"),
        ("count the word Python", "count", "Python"),
        ("Which episodes mention Gullwick?", "which", "Gullwick"),
        ("In how many episodes is the paraffin ghost mentioned?", "which", "paraffin ghost"),
        ("List all episodes that talk about privacy", "which", "privacy"),
        ("Which documents discuss reproducible builds?", "which", "reproducible builds"),
        ("When is Lightning first mentioned?", "edge", "Lightning"),
        ("Which guest appears in the most episodes?", "people", ""),
        ("Who speaks the most?", "people", ""),
        ("Who are the speakers?", "people", ""),
        ("How many times does Matt speak?", "people", "MATT"),
        ("Which episodes feature Ottoline Sedge?", "people", "Ottoline Sedge"),
        ("How many episodes are there?", "listing", ""),
        ("Which episode is the longest?", "listing", ""),
        ("Summarize this episode", "gist", ""),
        ("What is this podcast about?", "gist", ""),
        ("What are the main topics?", "gist", ""),
        ("Where do Bartram Quill and Ottoline Sedge disagree?", "sides", ""),
        ("What did Karl Fogel say about GitHub?", "find", ""),
        ("What is Narwhals and who created it?", "find", ""),
        ("How many people work at EdgeDB?", "find", ""),
        ("When was the fog signal sounded for the last time?", "find", ""),
        ("How did Karl get into open source?", "find", ""),
    ],
)
def test_question_is_taken_for_its_kind(question: str, kind: str, phrase: str) -> None:
    plan = classify(question, MANY)
    assert plan.kind == kind
    if kind in ("count", "which", "edge"):
        assert plan.phrase == phrase


def test_table_questions_need_a_table() -> None:
    asked = "What is the total amount by region?"
    assert classify(asked, Shape(1, (), ("region", "amount"))).kind == "table"
    assert classify(asked, Shape(1)).kind == "find"
    assert classify("What did Karl Fogel say about it?", Shape(1, SPEAKERS, ("speaker", "text"))).kind == "find"


def test_speakers_are_known_by_any_name_that_is_theirs_alone() -> None:
    assert classify("What did Karl say about GitHub?", MANY).only == ("Karl Fogel",)
    assert classify("What does Matt think of it?", MANY).only == ("MATT",)
    assert classify("Where was Bartram Quill born?", MANY).prefer == ("Bartram Quill",)
    assert classify("Where was Bartram Quill born?", MANY).only == ()


@pytest.mark.parametrize(
    ("question", "asks"),
    [("Who founded it?", "who"), ("When was it founded?", "when"), ("How many lamps did he own?", "number"),
     ("Why did it sink?", "why"), ("What is a fog signal?", "define"), ("Where does she live?", "where")],
)  # fmt: skip
def test_form_of_the_answer_follows_the_question_word(question: str, asks: str) -> None:
    plan = classify(question)
    assert plan.asks == asks
    assert plan.looks_for


def test_names_and_quoted_words_count_more_and_related_words_less() -> None:
    terms = classify('Who created "Narwhals" in Vienna?').terms
    assert terms["narwhal"] > terms["vienna"] > terms["creat"] > terms["founder"]


@pytest.mark.parametrize(
    "question", ["", "?", "\x00", "((((", "how many times is", "'", "a" * 20000, "何ですか", "who " * 3000]
)
def test_odd_questions_do_not_raise(question: str) -> None:
    classify(question, MANY)
