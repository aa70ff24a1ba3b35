"""Who talks in the invented podcast, where and about what: the plan of its 24 episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PODCAST: Final = "The Tin Lighthouse"
HOSTS: Final = ("Marigold Thrupp", "Odo Fennimore")


@dataclass(frozen=True)
class Episode:
    season: int
    number: int
    title: str
    guest: str
    light: str
    topics: tuple[str, ...]  # what this guest is asked about first
    date: str

    @property
    def code(self) -> str:
        return f"S{self.season}E{self.number:02d}"

    @property
    def name(self) -> str:
        slug = "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())
        return f"{self.code.lower()}-{slug}.{'md' if self.number % 3 == 0 else 'vtt'}"


@dataclass(frozen=True)
class Guest:
    trade: str
    hello: str


GUESTS: Final[dict[str, Guest]] = {
    "Ottoline Sedge": Guest("who copies out old logs", "I brought the log, I hope that is all right. It does not like to be left."),
    "Bartram Quill": Guest("who ran the relief boat for thirty years", "Evening. I have left the engine running, is that all right?"),
    "Perpetua Vane": Guest("a keeper's daughter", "Thank you. It is very high up here, and I say that as somebody who would know."),
    "Hesper Lode": Guest("a stonemason who puts towers back", "Hello. I have looked at your ceiling, and I would not sit there."),
    "Tobias Rook": Guest("who counts birds at night", "Good evening. There is a gull on your sill with a ring on, did you know?"),
    "Calder Pym": Guest("an engineer of fog signals", "Pardon? No, I am joking. Mostly I am joking."),
    "Ines Farrow": Guest("who dives on wrecks", "Hello. I dried off specially."),
    "Wilf Abernathy": Guest("the last man to keep a light on this coast", "I am not used to being asked, so you must stop me."),
    "Juno Marsh": Guest("a chemist of paint", "Delighted. You have a very interesting damp patch."),
    "Silas Teague": Guest("a wireless operator", "Receiving you. Sorry. Force of habit."),
    "Dorothea Finch": Guest("who collects letters", "Good evening. I have marked some pages, and I shall not read the rude one. I may read the rude one."),
    "Amos Keel": Guest("who put in the machines", "Thank you for having me. I know I am the villain of the piece."),
}  # fmt: skip

EPISODES: Final = tuple(
    Episode(int(season), int(number), title, guest, light, tuple(topics.split()), date)
    for season, number, title, guest, light, topics, date in (
        (
            "1",
            "1",
            "A door with no house",
            "Hesper Lode",
            "Sallow Point",
            "restoring paint wrecks",
            "2019-03-04",
        ),
        (
            "1",
            "2",
            "Whose foghorn is it",
            "Calder Pym",
            "Sallow Point",
            "fog watch automation",
            "2019-03-18",
        ),
        (
            "1",
            "3",
            "The lamp that would not turn",
            "Ottoline Sedge",
            "Carrow Head",
            "books lamp letters",
            "2019-04-01",
        ),
        (
            "1",
            "4",
            "Rope, tar, rope",
            "Bartram Quill",
            "Merrow Stack",
            "boats stores weather",
            "2019-04-15",
        ),
        (
            "1",
            "5",
            "The small room",
            "Perpetua Vane",
            "Penny Rock",
            "family stores birds",
            "2019-04-29",
        ),
        (
            "1",
            "6",
            "Eleven grams",
            "Tobias Rook",
            "Long Ailsa",
            "birds watch books",
            "2019-05-13",
        ),
        (
            "2",
            "1",
            "The fog ledger",
            "Ottoline Sedge",
            "Sallow Point",
            "books fog rumours",
            "2020-02-10",
        ),
        (
            "2",
            "2",
            "Under the stairs",
            "Hesper Lode",
            "Carrow Head",
            "restoring rumours paint",
            "2020-02-24",
        ),
        (
            "2",
            "3",
            "The dark night",
            "Bartram Quill",
            "Merrow Stack",
            "boats wrecks weather",
            "2020-03-09",
        ),
        (
            "2",
            "4",
            "A wrong kind of red",
            "Juno Marsh",
            "Long Ailsa",
            "paint restoring weather",
            "2020-03-23",
        ),
        (
            "2",
            "5",
            "All well, all well",
            "Silas Teague",
            "Penny Rock",
            "radio watch fog",
            "2020-04-06",
        ),
        (
            "2",
            "6",
            "What the margin says",
            "Ottoline Sedge",
            "Merrow Stack",
            "books weather stores",
            "2020-04-20",
        ),
        (
            "3",
            "1",
            "Dear all, the goat",
            "Dorothea Finch",
            "Gannet Sound",
            "letters family books",
            "2021-01-11",
        ),
        (
            "3",
            "2",
            "Twenty fathoms",
            "Ines Farrow",
            "Gannet Sound",
            "wrecks boats rumours",
            "2021-01-25",
        ),
        (
            "3",
            "3",
            "The man with the grey box",
            "Amos Keel",
            "Long Ailsa",
            "automation radio lamp",
            "2021-02-08",
        ),
        (
            "3",
            "4",
            "A quarter of a page",
            "Ottoline Sedge",
            "Carrow Head",
            "books watch letters",
            "2021-02-22",
        ),
        (
            "3",
            "5",
            "The perch question",
            "Tobias Rook",
            "Sallow Point",
            "birds lamp weather",
            "2021-03-08",
        ),
        (
            "3",
            "6",
            "Spoons in a drawer",
            "Perpetua Vane",
            "Penny Rock",
            "family rumours radio",
            "2021-03-22",
        ),
        (
            "4",
            "1",
            "What the keeper counted",
            "Wilf Abernathy",
            "Merrow Stack",
            "automation lamp watch",
            "2022-05-02",
        ),
        (
            "4",
            "2",
            "Nine bells",
            "Ines Farrow",
            "Gannet Sound",
            "wrecks fog letters",
            "2022-05-16",
        ),
        (
            "4",
            "3",
            "The strongbox",
            "Ottoline Sedge",
            "Carrow Head",
            "books rumours lamp",
            "2022-05-30",
        ),
        (
            "4",
            "4",
            "The last paraffin",
            "Calder Pym",
            "Sallow Point",
            "fog automation radio",
            "2022-06-13",
        ),
        (
            "4",
            "5",
            "Overdue",
            "Bartram Quill",
            "Penny Rock",
            "boats family stores",
            "2022-06-27",
        ),
        (
            "4",
            "6",
            "The letter",
            "Ottoline Sedge",
            "Gannet Sound",
            "letters books watch",
            "2022-07-11",
        ),
    )
)

# What fills the slots of phrases.py. The first group holds for a whole episode, the second is drawn each time.
FIXED: Final[dict[str, tuple[str, ...]]] = {
    "keeper": ("Old Hannaford", "Mr Trevanion", "Josiah Pell", "Big Ned Corrie", "Captain Ruddle", "Elias Thorne", "Mr Gathercole"),
    "keeper2": ("young Bellamy", "Sam Tregear", "Fergus", "the second man, Dunnock", "Lachlan Moy", "Peter Oake", "Mr Stanniforth"),
    "boat": ("Hopeful Mary", "Prudence", "Three Brothers", "Lady Agatha", "Second Thoughts", "Kittiwake"),
    "town": ("Porthenys", "Saltby", "Marrack", "Wick Ferry", "Abbotsquay", "Little Harling"),
    "mark": ("Widow Stone", "Anvil", "Black Sister", "Cow and Calf", "Parson's Tooth"),
    "kin": ("grandmother", "mother", "aunt", "great-aunt", "godmother"),
    "bird": ("gull", "shag", "puffin", "gannet", "petrel", "oystercatcher"),
    "stairs": ("119", "136", "148", "167", "183", "201"),
}  # fmt: skip
DRAWN: Final[dict[str, tuple[str, ...]]] = {
    "n": ("three", "four", "five", "six", "seven", "eight", "nine", "eleven", "twelve", "fourteen", "sixteen", "nineteen"),
    "many": ("twenty-two", "twenty-six", "thirty", "thirty-three", "thirty-eight", "forty-four", "forty-seven", "fifty-two", "sixty-one"),
    "year": tuple(str(y) for y in range(1899, 1972, 3)),
    "month": ("January", "February", "March", "April", "May", "September", "October", "November", "December"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "dish": ("mutton stew", "salt fish", "suet pudding", "pea soup", "corned beef hash", "barley broth"),
    "dish2": ("porridge", "rabbit pie", "boiled ling", "bread and dripping", "limpet chowder"),
    "cloth": ("flannel", "a silk stocking", "oilskin", "a page of the Marrack Courier", "sealskin"),
    "cargo": ("candles", "sewing machines", "tinned salmon", "bibles", "roof slates", "raisins"),
    "object": ("brass thimble", "ship's compass", "clay pipe", "dice cup", "glass float", "bone needle"),
}  # fmt: skip
