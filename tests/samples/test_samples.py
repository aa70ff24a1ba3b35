"""The invented podcast is the same each time, long enough to be real work, and holds what its questions ask for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import samples
from samples import facts
from samples.cast import EPISODES


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    paths = samples.write(tmp_path_factory.mktemp("samples"))
    return {episode.code: path.read_text("utf-8") for episode, path in zip(EPISODES, paths, strict=True)}


def _flat(text: str) -> str:
    return " ".join(re.sub(r"\d\d:\d\d:\d\d\.\d+ --> \S+|<v [^>]+>", " ", text).split())


def _question(name: str) -> dict[str, object]:
    return next(q for q in samples.QUESTIONS if q["id"] == name)


def test_samples_are_the_same_each_time(tmp_path: Path, texts: dict[str, str]) -> None:
    again = [path.read_text("utf-8") for path in samples.write(tmp_path)]
    assert again == list(texts.values())


def test_samples_are_24_episodes_of_a_real_length(texts: dict[str, str]) -> None:
    assert len(texts) == 24
    assert all(25_000 <= len(text) <= 45_000 for text in texts.values())


def test_no_slot_or_choice_is_left_open(texts: dict[str, str]) -> None:
    for text in texts.values():
        assert not re.search(r"[{}|]", text)


@pytest.mark.parametrize("seed", [1987, 3])
def test_planted_lines_stand_in_their_episodes(tmp_path: Path, seed: int) -> None:
    texts = {e.code: _flat(p.read_text("utf-8")) for e, p in zip(EPISODES, samples.write(tmp_path, seed), strict=True)}
    for code, exchanges in facts.PLANTED.items():
        for exchange in exchanges:
            for _, line in exchange:
                assert line in texts[code]
    with_ghost = [code for code, text in texts.items() if "paraffin ghost" in text]
    assert with_ghost == _question("ghost")["where"]
    with_gullwick = [code for code, text in texts.items() if "Gullwick" in text]
    assert with_gullwick == _question("which-episodes")["where"]


def test_planted_phrase_is_said_as_often_as_the_answer_says(texts: dict[str, str]) -> None:
    said = dict.fromkeys(facts.MANNER, 0)
    for text in texts.values():
        for host in said:
            lines = re.findall(rf"(?:<v {host}>|\*\*{host}:\*\*)(.*)", text)
            said[host] += sum("in a manner of speaking" in line.casefold() for line in lines)
    assert said == {"Marigold Thrupp": 17, "Odo Fennimore": 9}
    assert {host: sum(counts) for host, counts in facts.MANNER.items()} == said


def test_guest_of_most_episodes_is_the_answer(texts: dict[str, str]) -> None:
    there = [code for code, text in texts.items() if re.search(r"(<v |\*\*)Ottoline Sedge", text)]
    assert there == _question("guest-most-often")["where"]


def test_score_takes_the_right_answer_and_marks_wrong_ones_down() -> None:
    for question in samples.QUESTIONS:
        if question["id"] != "which-episodes":
            assert samples.score(question, question["answer"]) > 0.6
        assert samples.score(question, "I do not know.") == 0
    which = _question("which-episodes")
    assert samples.score(which, "S1E04, S2E03, S3E04, S4E02 and S4E06") == 1
    assert samples.score(which, "S1E04, S2E03, S3E04, S4E02, S4E06 and S1E01") == 0
    assert samples.score(_question("ghost"), "In 17 episodes.") == 0
