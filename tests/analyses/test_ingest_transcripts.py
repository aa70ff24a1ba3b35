"""Transcripts become lines with their moments, word for word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyses import blobs
from analyses.ingest import meta
from analyses.ingest.formats import Extracted, extract
from analyses.ingest.limits import Refused

VTT = """WEBVTT - The fog ledger
Kind: captions

NOTE this is
not said

STYLE
::cue { color: red }

1
00:00:01.000 --> 00:00:03.500 align:start position:0%
<v Marigold Thrupp>Welcome back to the <i>Tin</i>
Lighthouse &amp; friends.

00:03.600 --> 00:06.000
<v Marigold Thrupp>Good evening.</v>

00:01:10.000 --> 00:01:12.000
<v.loud Perpetua Vane>Ten past two.
"""


def take(text: str, name: str, tmp_path: Path) -> tuple[str, Extracted]:
    source = tmp_path / "source"
    source.write_text(text)
    found = extract(source, name)
    return blobs.read(found.text).decode(), found


def test_vtt_becomes_lines_with_speakers(tmp_path: Path) -> None:
    text, found = take(VTT, "s2e07.vtt", tmp_path)
    assert text == (
        "[00:00:01] Marigold Thrupp: Welcome back to the Tin Lighthouse & friends. Good evening.\n"
        "[00:01:10] Perpetua Vane: Ten past two.\n"
    )
    assert found.title == "The fog ledger"
    assert found.meta["speakers"] == ["Marigold Thrupp", "Perpetua Vane"]
    assert found.meta["minutes"] == 1.2
    assert found.characters == len(text)


def test_marks_give_each_cue_its_moment(tmp_path: Path) -> None:
    text, found = take(VTT, "s2e07.vtt", tmp_path)
    marks = json.loads(blobs.read(found.marks))
    assert marks["kind"] == "time"
    assert [ms for _, ms in marks["marks"]] == [1000, 3600, 70_000]
    places = [at for at, _ in marks["marks"]]
    assert text[places[1] :].startswith("Good evening.")
    assert text[places[2] :].startswith("[00:01:10]")


def test_srt_is_read_with_windows_line_ends_and_without_blank_lines(tmp_path: Path) -> None:
    srt = "1\r\n00:00:01,000 --> 00:00:02,000\r\n{\\an8}<b>One</b>\r\n\r\n2\r\n00:00:02,000 --> 00:00:03,000\r\ntwo.\r\n3\r\n01:00:09,000 --> 01:00:10,000\r\n- Three.\r\n"
    text, found = take(srt, "a.srt", tmp_path)
    assert text == "[00:00:01] One two.\n[01:00:09] - Three.\n"
    assert found.format == "srt"


def test_rolling_captions_are_said_once(tmp_path: Path) -> None:
    vtt = (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n \nso<00:00:00.500><c> today</c>\n\n00:00:02.000 --> 00:00:02.010\nso today\n\n"
        "00:00:02.010 --> 00:00:04.000\nso today\nwe<00:00:02.500><c> talk</c>\n\n"
    )
    assert take(vtt, "a.vtt", tmp_path)[0] == "[00:00:00] so today we talk\n"


def test_repeated_word_is_kept(tmp_path: Path) -> None:
    vtt = "WEBVTT\n\n00:00.000 --> 00:01.000\nYeah.\n\n00:01.000 --> 00:02.000\nYeah.\n"
    assert take(vtt, "a.vtt", tmp_path)[0] == "[00:00:00] Yeah. Yeah.\n"


@pytest.mark.parametrize("text", ["WEBVTT\n", "only words\n\nno cues\n", "00:01 -> 00:02\nalmost\n"])
def test_transcript_without_cues_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No cues were found"):
        take(text, "a.vtt", tmp_path)


@settings(deadline=None)
@given(
    cues=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.integers(0, 90),
            st.lists(st.sampled_from(["fog", "lamp.", "Ah!", "näh", "你好"]), min_size=1),
        ),
        min_size=1,
    )
)
def test_no_word_of_a_transcript_is_lost_or_moved(
    cues: list[tuple[int, int, list[str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    now, blocks, words, starts = 0, [], [], []
    for gap, length, said in cues:
        now += gap * 100 + 100
        blocks.append(
            f"{now // 60_000:02}:{now // 1000 % 60:02}.{now % 1000:03} --> {(now + length) // 60_000:02}:{(now + length) // 1000 % 60:02}.{(now + length) % 1000:03}\n{' '.join(said)}\n"
        )
        words += said
        starts.append((now, said[0]))
        now += length
    source = tmp_path_factory.getbasetemp() / "t.vtt"
    source.write_text("WEBVTT\n\n" + "\n".join(blocks))
    from analyses.ingest import transcripts

    told = transcripts.Told()
    text = "".join(transcripts.text_of(source.read_text().split("\n"), told))
    assert re.sub(r"\[\d\d:\d\d:\d\d\]", "", text).split() == words
    assert len(told.marks) == len(starts)
    for (place, ms), (start, first) in zip(told.marks, starts, strict=True):
        assert ms == start
        assert re.sub(r"^\[[\d:]+\] ", "", text[place:]).startswith(first)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("414-startup-row.vtt", "414 startup row"),
        ("chaincode-podcast/2020-01-28-pieter-wuille-part1.md", "2020-01-28 pieter wuille part1"),
        ("S1E01_The_Door.txt", "S1E01 The Door"),
        ("archive.tar.gz", "Archive"),
        ("v1.2 notes.md", "V1.2 notes"),
        (".md", ".md"),
        ("src/__init__.py.txt", "__init__"),
        ("test_a__b.md", "test_a__b"),
        ("日本.txt", "日本"),
        ("x" * 400 + ".txt", "X" + "x" * 298 + "…"),
    ],
)
def test_title_is_made_from_a_file_name(name: str, title: str) -> None:
    assert meta.title_from_name(name) == title


def test_front_matter_gives_title_speakers_and_date(tmp_path: Path) -> None:
    text, found = take(
        "---\ntitle: 'Pieter: part 1'\nspeakers:\n  - Pieter Wuille\ndate: 2020-01-28\nepisode: 1\nnested: {a: 1}\n---\nHello.\n",
        "a.md",
        tmp_path,
    )
    assert text.startswith("---\ntitle")  # kept as it stands
    assert found.title == "Pieter: part 1"
    assert found.meta == {"format": "md", "speakers": ["Pieter Wuille"], "date": "2020-01-28", "episode": 1}


@pytest.mark.parametrize(
    "front",
    [
        "---\na: &a [x,x]\nb: *a\n---\nwords",
        "---\n!!python/object:os.system x\n---\nwords",
        "---\n: : :\n---\nwords",
        "---\n" + "[" * 5000 + "\n---\nwords",
    ],
)
def test_hostile_front_matter_is_text_and_no_more(front: str, tmp_path: Path) -> None:
    text, found = take(front, "a.md", tmp_path)
    assert (text, found.title) == (front, "A")


def test_first_heading_is_the_title(tmp_path: Path) -> None:
    assert take("\nIntro.\n\n## The *fog* [ledger](http://x) ##\n", "a.md", tmp_path)[1].title == "The fog ledger"
    assert take("The ledger\n=====\nwords", "a.md", tmp_path)[1].title == "The ledger"


def test_speakers_are_told_by_bold_turns(tmp_path: Path) -> None:
    _, found = take("**Ann Lee:** Hi.\n\nMore.\n\n**Bob:** Yes.\n\n**Ann Lee:** Bye.\n", "a.md", tmp_path)
    assert found.meta["speakers"] == ["Ann Lee", "Bob"]


def test_prose_with_colons_has_no_speakers(tmp_path: Path) -> None:
    _, found = take("Note: one.\nNote: two.\n" + "Words without any.\n" * 50, "a.txt", tmp_path)
    assert "speakers" not in found.meta


def test_moments_written_in_a_text_are_its_marks(tmp_path: Path) -> None:
    lines = [f"00:{minute:02}:07 Zwölf said 99:99 then\n" for minute in range(8)]
    text, found = take("Intro.\n" + "".join(lines), "a.txt", tmp_path)
    marks = json.loads(blobs.read(found.marks))["marks"]
    assert [ms for _, ms in marks] == [minute * 60_000 + 7000 for minute in range(8)]
    assert all(text[place:].startswith("00:0") for place, _ in marks)
    assert found.meta["minutes"] == 7.1
    text, found = take("".join(f"**Ann:** \\[{n}:05\\] words\n\n" for n in range(1, 9)), "a.md", tmp_path)
    assert len(json.loads(blobs.read(found.marks))["marks"]) == 8
    assert not take("At 10:30 we met.\nNothing more.\n", "a.txt", tmp_path)[1].marks


def test_marks_are_found_across_the_edges_of_pieces() -> None:
    text = "".join(f"00:00:{second:02} words\n" for second in range(60))
    for size in (1, 7, 100):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert meta.marks_of(pieces) == [(second * 15, second * 1000) for second in range(60)]


def test_table_names_its_columns(tmp_path: Path) -> None:
    assert take("name;age\nAnn;3\n", "a.csv", tmp_path)[1].meta["columns"] == ["name", "age"]
    assert take('{"a": 1, "b": 2}\n{"a": 3}\n', "a.jsonl", tmp_path)[1].meta["fields"] == ["a", "b"]


def test_json_is_kept_as_text_however_deep_or_broken(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert take(deep, "deep.json", tmp_path)[0] == deep
    _, found = take('{"title": "A letter", "x": [1,', "a.json", tmp_path)
    assert found.notes == ("It is not valid JSON; kept as text.",)
    assert take('{"title": "A letter"}', "a.json", tmp_path)[1].title == "A letter"


def test_csv_with_a_field_of_fifty_megabytes_is_text(tmp_path: Path) -> None:
    source = tmp_path / "big.csv"
    source.write_text('name,text\nA,"' + "x, y\n" * 10_000_000 + '"\n')
    found = extract(source, "big.csv")
    assert found.characters == source.stat().st_size
    assert found.meta["columns"] == ["name", "text"]


@pytest.mark.real_data
@pytest.mark.parametrize(
    "path", ["podcasts/vtt/355-edgedb.vtt", "podcasts/vtt/414-startup-row.vtt", "podcasts/srt/480-narwhals.srt"]
)
def test_real_transcript_keeps_every_word(path: str, real_data: Path, tmp_path: Path) -> None:
    raw = (real_data / path).read_text()
    text, found = take(raw, path, tmp_path)
    said = [line for line in raw.split("\n")[1:] if "-->" not in line and not line.strip().isdigit()]
    assert re.sub(r"^\[\d\d:\d\d:\d\d\]", "", text, flags=re.MULTILINE).split() == " ".join(said).split()
    assert found.characters == len(text)
