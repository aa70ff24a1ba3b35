"""The functions that the offline model writes into its cells, run here on small texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlm.offline.cells.counting import mentions, pattern_of, told_counts
from rlm.offline.cells.facts import figures, introduced, value, who_did
from rlm.offline.cells.people import voices
from rlm.offline.cells.quoting import pick
from rlm.offline.cells.ranking import Index, stem, windows, words
from rlm.offline.cells.reading import (
    columns_of,
    documents,
    records_of,
    runs_of_records,
    runs_of_text,
    turns_of,
)
from rlm.offline.cells.reading import sentences as sentences_of_runs
from rlm.offline.cells.sums import arithmetic
from rlm.offline.question import Aim, classify


def sentences(doc: dict[str, Any]) -> list[Any]:
    rows = records_of(doc["text"], doc.get("name") or "")
    runs = runs_of_text(doc["text"]) if rows is None else runs_of_records(doc["text"], rows)
    return sentences_of_runs(runs, doc["text"])


def aim(**given: Any) -> dict[str, Any]:
    return Aim("", **given).literal()


def task(passage: list[Any], weights: dict[str, float], **given: Any) -> dict[str, Any]:
    return {
        "title": "One",
        "passages": [passage],
        "weights": weights,
        "aim": aim(terms=weights, **given),
        "titled": 0.0,
        "rank": 1.0,
    }


SAID = "The light went dark at ten past three."
FORMS = {
    "markdown": f"**Ann Lee:** [00:01] Hello there.\n\n**Bo Ray:** [00:05] {SAID}\n\n**Ann Lee:** Really?\n",
    "escaped": f"**Ann Lee:** \\[00:01\\] Hello there.\n\n**Bo Ray:** \\[00:05\\] {SAID}\n\n**Ann Lee:** Really?\n",
    "colon": f"Ann Lee: Hello there.\n\nBo Ray: {SAID}\n\nAnn Lee: Really?\n\nBo Ray: Yes.\n",
    "stamped": f"[00:00:01] Ann Lee: Hello there.\n[00:00:05] Bo Ray: {SAID}\n[00:00:09] Ann Lee: Really?\n[00:00:12] Bo Ray: Yes.\n",
    "vtt": "WEBVTT\n\n00:00:01.000 --> 00:00:04.000\n<v Ann Lee>Hello there.\n\n00:00:05.000 --> 00:00:08.000\n"
    "<v Bo Ray>The light went dark\n\n00:00:08.000 --> 00:00:09.000\n<v Bo Ray>at ten past three.\n",
    "label line": f"Ann Lee: 00:00:01\n\nHello there.\n\nBo Ray: 00:00:05\n\n{SAID}\n\nAnn Lee: 00:00:09\n\nReally?\n\nBo Ray: 00:00:11\n\nYes.\n",
    "initials": f"Ann Lee (AL): Hello there.\n\nBo Ray (BR): Hello.\n\nAL: What then?\n\nBR: {SAID}\n\nAL: Really?\n\nBR: Yes.\n",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_sentences_know_their_speaker_and_offset(form: str) -> None:
    text = FORMS[form]
    offset, _, speaker, said = next(s for s in sentences({"text": text, "name": ""}) if "dark" in s[3])
    assert (speaker, said) == ("Bo Ray", SAID)
    assert text.startswith("The light went dark", offset)


@pytest.mark.parametrize("form", ["markdown", "escaped", "stamped", "vtt", "label line"])
def test_sentences_know_their_time(form: str) -> None:
    times = {said: time for _, time, _, said in sentences({"text": FORMS[form], "name": ""})}
    assert times[SAID].endswith("00:05")


def test_srt_cues_without_names_become_whole_sentences() -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nIt was dark\n\n2\n00:00:02,000 --> 00:00:03,000\nand it was cold. Then we\n\n3\n00:00:04,500 --> 00:00:06,000\nwent home.\n"
    assert [(time, said) for _, time, _, said in sentences({"text": text, "name": "a.srt"})] == [
        ("00:00:01", "It was dark and it was cold."),
        ("00:00:02", "Then we went home."),
    ]


def test_a_word_before_a_colon_is_no_speaker_unless_it_comes_back() -> None:
    told = sentences({"text": "Remember: the lamp is hot.\n\nIt is very hot.\n", "name": ""})
    assert {speaker for _, _, speaker, _ in told} == {""}


def test_front_matter_gives_full_names_and_says_what_it_is() -> None:
    text = "---\ntitle: One\nspeakers:\n  - Pieter Wuille\ndate: 2020-01-28\n---\nJohn: Hi Pieter.\n\nPieter: Hello John.\n\nJohn: Good.\n\nPieter: Yes.\n"
    told = sentences({"text": text, "name": "a.md"})
    assert {speaker for _, _, speaker, _ in told} == {"(about the document)", "John", "Pieter Wuille"}
    assert "date: 2020-01-28" in [said for _, _, _, said in told]
    assert [one["speaker"] for one in voices([told], [{"title": "One", "text": text}])] == ["John", "Pieter Wuille"]


def test_turns_of_json_are_counted_by_record() -> None:
    turns = [{"NAMES": ["MATT"], "UTTERANCES": ["Roll", "for it."]}, {"NAMES": ["MATT"], "UTTERANCES": ["Now."]},
             {"NAMES": ["LAURA", "LIAM"], "UTTERANCES": ["Oh no!"]}]  # fmt: skip
    text = json.dumps({"META": {"about": "a game"}, "TURNS": turns}, indent=1)
    told = sentences({"text": text, "name": "a.json"})
    assert ("MATT", "Roll for it.") in [(s[2], s[3]) for s in told]
    assert all(text.startswith(said[:4], offset) for offset, _, speaker, said in told if speaker)
    counts = {
        one["speaker"]: one["turns"]
        for one in voices([told], [{"title": "A", "text": text}], [turns_of(records_of(text) or [])])
    }
    assert counts == {"MATT": 2, "LAURA": 1, "LIAM": 1}
    assert columns_of(records_of(text)) == []


def test_csv_with_speaker_and_text_is_a_transcript_and_a_table() -> None:
    text = 'episode,speaker,text\n1,Ann,"Hello, you.\nGood day."\n1,Bo,It is cold.\n'
    assert columns_of(records_of(text, "a.csv")) == ["episode", "speaker", "text"]
    assert [(s[2], s[3]) for s in sentences({"text": text, "name": "a.csv"})] == [
        ("Ann", "Hello, you."),
        ("Ann", "Good day."),
        ("Bo", "It is cold."),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "{",
        "[",
        "[]",
        "{}",
        "-->",
        "---",
        "---\n",
        "a,b\n",
        "\ufeff",
        "x" * 5000,
        "1\n2\n3",
        "**:** x",
        "[00:00]",
        "\x00",
    ],
)
def test_odd_texts_do_not_raise(text: str) -> None:
    for doc in documents(text):
        told = sentences(doc)
        assert all(isinstance(said, str) and said for _, _, _, said in told)
        columns_of(records_of(doc["text"]))


def test_stems_bring_forms_together_and_keep_others_apart() -> None:
    assert stem("promises") == stem("promised") == stem("promising") == stem("promise")
    assert stem("studies") == stem("studied") == stem("study")
    assert stem("favourite") == stem("favorite")
    assert stem("making") == stem("make") and stem("hoped") == stem("hope") and stem("running") == stem("run")
    assert stem("made") != stem("mad") and stem("hope") != stem("hop") and stem("rate") != stem("rat")
    assert len({stem("letter"), stem("let"), stem("station"), stem("state"), stem("number"), stem("numb")}) == 6
    assert words("The U.S. Navy's wicks") == ["the", "us", "navy", "wick"]
    assert words("日本語です") == ["日本", "本語", "語で", "です"]


def test_windows_cover_everything_and_overlap() -> None:
    spans = windows([100] * 30, 600)
    assert spans[0][0] == 0 and spans[-1][1] == 30
    assert all(b > a for a, b in spans)
    assert all(second[0] < first[1] for first, second in zip(spans, spans[1:], strict=False))
    assert windows([]) == []
    assert windows([5000, 5000]) == [(0, 1), (1, 2)]


def test_search_ranks_the_passage_with_all_words_first() -> None:
    texts = [[words(t) for t in ("the lamp is red", "the boat is late", "the lamp on the boat went dark")]]
    index = Index(texts, [(0, 0, 1), (0, 1, 2), (0, 2, 3)])
    ranked = index.search(aim(terms={"lamp": 1.0, "boat": 1.0, "dark": 1.0}), [set()])
    assert ranked[0][1] == 2


def test_pick_prefers_the_answer_to_the_question() -> None:
    passage = [
        (0, "", "Odo", "What did your mother keep in the third drawer?"),
        (50, "", "Odo", "You wrote to us about it."),
        (80, "", "Ann", "Spare wicks."),
        (95, "", "Ann", "There were forty-one of them, wrapped in newspaper."),
        (150, "", "Odo", "I can see it."),
    ]
    quotes = pick(task(passage, {"third": 3.0, "drawer": 3.0, "keep": 1.0}, prefer=("Ann",)))
    assert quotes[0]["speaker"] == "Ann"
    assert "forty-one" in str(quotes[0]["quote"])
    assert str(quotes[0]["asked"]).startswith("What did your mother keep")
    assert quotes[0]["offset"] in (80, 95)


def picked(question: str, *said: str) -> str:
    """The best quote for a question from what unnamed people say."""
    plan = classify(question).aims[0]
    passage = [(100 * n, "", "", one) for n, one in enumerate(said)]
    return str(pick(task(passage, {w: 2.0 * v for w, v in plan.terms.items()}) | {"aim": plan.literal()})[0]["quote"])


def test_a_general_verb_does_not_outweigh_what_the_question_is_about() -> None:
    framing = "Live from Portland, and this segment was made with Python."
    assert picked("Who made Lanternlib?", framing, "So that is the show.", "I started Lanternlib on a rainy day at home.").startswith("I started")  # fmt: skip


def test_a_reason_close_to_the_topic_is_quoted_rather_than_another_mention() -> None:
    said = ("Lanternlib is on its third release by now.", "It has a logo.", "It also has a mascot.",
            "We all like the mascot a lot.", "I wrote Lanternlib because every lamp spoke another protocol.")  # fmt: skip
    assert "because every lamp" in picked("Why did you write Lanternlib?", *said)


def test_what_is_asked_in_a_talk_leads_to_its_answer() -> None:
    said = ("Lanternlib has many users by now.", "They write to us about Lanternlib every day.", "So what is Lanternlib?",
            "It's a layer between lamps and those who tend them.")  # fmt: skip
    assert "layer between lamps" in picked("What is Lanternlib?", *said)


def test_another_question_of_the_same_kind_lends_its_answer_nothing() -> None:
    said = ("How do you mend the stove?", "Well, you take a hammer to it and hope.", "And then it is warm again here.",
            "That is about all we know.", "The lamp keeps burning by a float that lets in the oil.")  # fmt: skip
    assert "by a float" in picked("How does the lamp keep burning?", *said)


def test_pick_quotes_only_who_is_asked_for() -> None:
    passage = [
        (0, "", "Ann", "The lamp is too dim, I find, and it always was."),
        (60, "", "Bo", "The lamp is bright enough for anyone who looks."),
    ]
    assert [q["speaker"] for q in pick(task(passage, {"lamp": 1.0}, only=("Bo",)))] == ["Bo"]


@pytest.mark.parametrize(
    ("phrase", "text", "times"),
    [
        ("Polars", "polars, POLARS and Polars' own; bipolars", 3),
        ("in a manner of speaking", "In a manner\nof speaking, yes", 1),
        ("C++", "C++ or c++?", 2),
        ("lamp", "lamp lamps lamp's lamplight", 3),
    ],
)
def test_pattern_counts_whole_words(phrase: str, text: str, times: int) -> None:
    assert len(pattern_of(phrase).findall(text)) == times


def test_counts_say_the_exact_form_first() -> None:
    docs = [{"title": "One", "text": ""}, {"title": "Two", "text": ""}]
    talk = [[(0, "", "Ann", "A lamp and two lamps.")], [(0, "", "Bo", "The lamp, the lamp!")]]
    answer = told_counts(mentions(talk, docs, "lamp"), "lamp", [], talk, docs)
    assert "**3 times**, in 2 of 2 documents" in answer
    assert "“lamps” it is 4" in answer
    assert "| Bo | 2 |" in answer


def test_a_phrase_cut_between_two_sentences_is_found() -> None:
    talk = [[(0, "", "Ann", "so in a manner"), (20, "", "Ann", "of speaking it was")]]
    assert len(mentions(talk, [{"title": "One"}], "in a manner of speaking")) == 1


def test_figures_are_numbers_of_the_thing_asked_about() -> None:
    quotes = [{"quote": "She landed 12 sacks and forty-one spare sacks on 3 May."}]
    assert [(n, w) for n, w, _ in figures(quotes, ["sack"])] == [
        ("12", "12 sacks"),
        ("forty-one", "forty-one spare sacks"),
    ]
    assert (value("forty-one"), value("1,200"), value("thousands")) == (41.0, 1200.0, None)


def test_arithmetic_works_out_numbers_and_nothing_else() -> None:
    assert arithmetic("1,200 * (3 + 4) - 2^3") == 8392
    for evil in ("__import__('os')", "9**9**9**9", "'a'*9", "x"):
        with pytest.raises((ValueError, SyntaxError, TypeError)):
            arithmetic(evil)


def test_a_text_without_full_stops_is_cut_before_a_clause() -> None:
    told = sentences({"text": "the lamp is red and we go up the stairs " * 40, "name": ""})
    assert len(told) > 4
    assert all(said.startswith(("the lamp", "and we", "we go")) for _, _, _, said in told)


@pytest.mark.parametrize(
    ("question", "quote", "name"),
    [
        ("Who founded Lampworks?", "Ann Lee, the co-founder of Lampworks, is with us.", "Ann Lee"),
        ("Who stole the tarts?", "The Knave of Hearts, he stole those tarts.", "Knave of Hearts"),
        ("Who made Lampworks?", "This is your host, Bo Ray. Lampworks is old.", ""),
    ],
)
def test_a_name_is_given_only_where_the_wording_does(question: str, quote: str, name: str) -> None:
    assert who_did(classify(question).aims[0].literal(), [{"quote": quote, "speaker": ""}]) == name


def test_companies_are_known_by_how_they_are_brought_in() -> None:
    talk = [[(0, "", "", "I'm the CEO of Lampworks."), (30, "", "", "We met on Monday in Paris.")]]
    assert [one["name"] for one in introduced(talk, [{"title": "One"}], "companies")] == ["Lampworks"]
