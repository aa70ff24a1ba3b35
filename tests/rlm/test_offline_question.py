"""What the offline model takes a question for."""

from __future__ import annotations

import pytest

from rlm.offline.cells.ranking import words
from rlm.offline.question import Shape, classify, parts_of

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
        ("Does anyone mention Rust?", "any", "Rust"),
        ("Do they talk about lighthouses?", "any", "lighthouses"),
        ("Is Gullwick ever mentioned?", "any", "Gullwick"),
        ("Which companies were on the show?", "introduced", "companies"),
        ("How many turns does each speaker have?", "people", ""),
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
    assert classify("What did Karl say about GitHub?", MANY).aims[0].only == ("Karl Fogel",)
    assert classify("What does Matt think of it?", MANY).aims[0].only == ("MATT",)
    assert classify("Where was Bartram Quill born?", MANY).aims[0].prefer == ("Bartram Quill",)
    assert classify("Where was Bartram Quill born?", MANY).aims[0].only == ()


@pytest.mark.parametrize(
    ("question", "asks"),
    [("Who founded it?", "who"), ("When was it founded?", "when"), ("How many lamps did he own?", "number"),
     ("Why did it sink?", "why"), ("What is a fog signal?", "define"), ("Where does she live?", "where")],
)  # fmt: skip
def test_form_of_the_answer_follows_the_question_word(question: str, asks: str) -> None:
    aim = classify(question).aims[0]
    assert aim.asks == asks
    assert aim.looks_for


def test_names_and_quoted_words_count_more_and_related_words_less() -> None:
    terms = classify('Who created "Narwhals" in Vienna?').aims[0].terms
    assert terms["narwhal"] > terms["vienna"] > terms["creat"] > terms["founder"]


@pytest.mark.parametrize(
    "question", ["", "?", "\x00", "((((", "how many times is", "'", "a" * 20000, "何ですか", "who " * 3000]
)
def test_odd_questions_do_not_raise(question: str) -> None:
    classify(question, MANY)


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("What is Narwhals, and who made it?", ["What is Narwhals", "who made it?"]),
        ("Who is Odo? Where does he live?", ["Who is Odo?", "Where does he live?"]),
        ("How many sacks did she carry, and how many in all?", ["How many sacks did she carry, and how many in all?"]),
        ("What did Rosencrantz and Guildenstern say?", ["What did Rosencrantz and Guildenstern say?"]),
    ],
)
def test_question_is_split_where_it_asks_two_things(question: str, parts: list[str]) -> None:
    assert parts_of(question) == parts


def test_second_part_is_about_what_the_first_is_about() -> None:
    first, second = classify("What is Narwhals, and who made it?").aims
    assert first.topic == second.topic == ("narwhal",)
    assert (first.asks, second.asks) == ("define", "who")
    assert second.terms["narwhal"] > 2 * second.terms["made"]


def test_who_says_it_is_not_what_it_is_about() -> None:
    terms = classify("What does Marco say about lazy frames?").aims[0].terms
    assert terms["lazy"] == terms["fram"] > 2 * terms["marco"]


def test_forms_that_do_not_look_alike_are_one_word() -> None:
    assert classify("Why did he leave?").aims[0].forms["left"] == words("leave")[0]
