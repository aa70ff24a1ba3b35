"""Lines of a page become paragraphs only where the margin broke them."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from sandbox.guest.extract.flow import Line, joined

WIDTH = 5.0  # of a character, of letters of 10 points


def lines(*rows: str | tuple[str, float], left: float = 50.0, gap: float = 12.0, size: float = 10.0) -> list[Line]:
    """Rows under one another; one with a number is set in by so many points."""
    made = []
    for number, row in enumerate(rows):
        text, inset = row if isinstance(row, tuple) else (row, 0.0)
        x = left + inset
        word = text.split(maxsplit=1)[0] if text.split() else ""
        made.append(Line(text, x, x + WIDTH * len(text), 800 - gap * number, WIDTH * len(word), size if text else 0.0))
    return made


PROSE = (
    "We found the tin lighthouse at the end of the harbour, and nobody",
    "could say who had lit the lamp in it before the storm came over the",
    "hills that night.",
)


def test_lines_of_a_paragraph_are_one() -> None:
    assert joined(lines(*PROSE)) == " ".join(PROSE) + "\n"


def test_paragraph_ends_where_its_last_line_is_short_or_the_next_is_set_in() -> None:
    full = "and here is a last line that reaches as far as the margin itself,"
    text = joined(lines(*PROSE, *PROSE[:2], full, (PROSE[0], 20.0), *PROSE[1:]))
    assert text.split("\n") == [" ".join(PROSE), " ".join([*PROSE[:2], full]), " ".join(PROSE), ""]


def test_wider_gap_begins_a_paragraph() -> None:
    page = lines(*PROSE[:2], *PROSE)
    moved = [Line(a.text, a.left, a.right, a.base - (8 if n >= 2 else 0), a.word, a.size) for n, a in enumerate(page)]
    assert joined(moved).split("\n")[0] == " ".join(PROSE[:2])


def test_headings_of_another_size_stand_by_themselves() -> None:
    page = [*lines("A heading that is as long as any line of the text below it, or so", size=14), *lines(*PROSE)]
    assert joined(page).split("\n")[0].startswith("A heading") and "below it, or so\n" in joined(page)


def test_verses_lists_and_tables_stay_lines() -> None:
    for rows in (
        ["You are old, Father William, the young man said,", "And your hair has become very white;"]
        + ["And yet you incessantly stand on your head—", "Do you think, at your age, it is right?"],
        [f"- the entry number {n} of a list whose entries are all alike in length" for n in range(5)],
        [f"{n}. the entry of a list whose entries are all quite alike in length" for n in range(5)],
        [f"Revenue of the year {n} from all of our boats taken together 1,2{n}4" for n in range(5)],
        [f"Chapter {word} of the book about the tin lighthouse" for word in ("one", "two", "three", "four")],
        ["short"] * 5,
    ):
        assert joined(lines(*rows)) == "\n".join(rows) + "\n"


def test_row_with_gaps_between_its_cells_stays_a_line() -> None:
    row = "harbour lighthouse fog ledger storm hills"
    page = [Line(f"{w} {row}", 50, 550, 800 - 12 * n, 30, 10) for n, w in enumerate(("a", "b", "c", "d"))]
    assert joined(page).count("\n") == 4


def test_item_of_a_list_goes_on_under_itself() -> None:
    page = lines(f"• {PROSE[0]}", (PROSE[1], 10.0), (PROSE[2], 10.0), "• The next one.")
    assert joined(page) == f"• {' '.join(PROSE)}\n• The next one.\n"


def test_torn_words_are_whole() -> None:
    assert joined([Line("the har", torn=True), Line("bour"), Line("fog\xad")]) == "the harbour\nfog\n"
    page = lines(f"{PROSE[0]} for", *PROSE[1:])
    page[0] = dataclasses.replace(page[0], torn=True)
    assert joined(page) == f"{PROSE[0]} for{PROSE[1]} {PROSE[2]}\n"


@given(st.lists(st.builds(
    Line, st.text("abc 19.,-• ", max_size=60).map(str.strip), *[st.floats(-1000, 1000) for _ in range(4)], st.floats(0, 50)
), max_size=30))  # fmt: skip
def test_no_word_is_lost_whatever_the_places(page: list[Line]) -> None:
    assert joined(page).split() == [word for line in page for word in line.text.split()]
    assert joined(page).endswith("\n") == bool(page) or joined(page).endswith(" ")
