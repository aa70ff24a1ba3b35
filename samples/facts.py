"""What is planted in the invented podcast, so that right answers are known: lines by episode, said word for word."""

from __future__ import annotations

from typing import Final

MARIGOLD, ODO = "Marigold Thrupp", "Odo Fennimore"

Turn = tuple[str, str]  # who speaks, what they say

# Exchanges, each put somewhere in the middle of its episode.
PLANTED: Final[dict[str, list[list[Turn]]]] = {
    "S1E02": [
        [
            (MARIGOLD, "And does it still sound? The signal at Sallow Point?"),
            (
                "Calder Pym",
                "It does not. The fog signal at Sallow Point was sounded for the last time on 14 June 1994, at noon, in bright sunshine. I pressed the button myself, and a dog in the car park fainted.",
            ),
        ],
        [
            (ODO, "Who brought the coal?"),
            (
                "Calder Pym",
                "The Patient Griselda. On her first trip she landed 12 sacks at Sallow Point, and I carried most of them.",
            ),
        ],
    ],
    "S1E04": [
        [
            (MARIGOLD, "Which light would you not go near in a westerly?"),
            (
                "Bartram Quill",
                "Gullwick. There is no landing at Gullwick, there is only an opinion about one.",
            ),
        ],
        [
            (ODO, "You had the Patient Griselda by then?"),
            (
                "Bartram Quill",
                "I did. The second trip was the big one: the Patient Griselda put 31 sacks ashore before breakfast, and I have the receipt.",
            ),
        ],
    ],
    "S1E05": [
        [
            (
                ODO,
                "What did your mother keep in the third drawer? You wrote to us about a third drawer.",
            ),
            (
                "Perpetua Vane",
                "Spare wicks. There were forty-one spare wicks in the third drawer, wrapped in a newspaper from 1952, and nobody was allowed to read the newspaper either.",
            ),
        ],
    ],
    "S2E02": [
        [
            (
                "Hesper Lode",
                "There is a strongbox under the stairs at Carrow Head. It is locked, it is bolted to the rock, and when you knock on it, it sounds busy.",
            ),
            (
                ODO,
                "Then I make a promise, here, with witnesses. I promise that I will find out what is in the strongbox at Carrow Head before this programme ends, and I will tell you on the air.",
            ),
            (MARIGOLD, "He has promised. Somebody write it down."),
        ],
    ],
    "S2E03": [
        [
            (
                MARIGOLD,
                "You were out there in 1987, the night that the Gullwick light went dark.",
            ),
            (
                "Bartram Quill",
                "I was lying off in the Patient Griselda and I saw it with my own eyes. The Gullwick light went dark at ten past three in the morning. I had the time from the wireless, and I will say it in any court.",
            ),
        ],
        [
            (ODO, "What were you doing there at all?"),
            (
                "Bartram Quill",
                "Coal. It was the third trip. We had only 9 sacks in the Patient Griselda, because the rest had gone over the side off the landing.",
            ),
        ],
    ],
    "S3E03": [
        [
            (MARIGOLD, "Was it you that ended the coal?"),
            (
                "Amos Keel",
                "I came out with the last of it. The Patient Griselda made a fourth trip with 18 sacks, and my grey box sat on the top of them.",
            ),
        ],
    ],
    "S3E04": [
        [
            (MARIGOLD, "Bartram Quill told us ten past three. Do you agree with him?"),
            (
                "Ottoline Sedge",
                "I do not, and I have told him so. The log is plain: the Gullwick light went dark at a quarter to five, and it was burning again by six. Bartram was asleep at ten past three, like everybody else.",
            ),
            (ODO, "So one of you is wrong."),
            ("Ottoline Sedge", "One of us has it in ink."),
        ],
    ],
    "S4E01": [
        [
            (ODO, "What did you say to the commissioners, when they asked you?"),
            (
                "Wilf Abernathy",
                "I told the commissioners that a lamp without a keeper is a candle in an empty church. They wrote it down, and then they automated it.",
            ),
        ],
    ],
    "S4E02": [
        [
            (ODO, "Have you dived at Gullwick?"),
            (
                "Ines Farrow",
                "Twice. The water off Gullwick is so clear that you can read the makers' names on the boilers.",
            ),
        ],
    ],
    "S4E03": [
        [
            (MARIGOLD, "Odo. You made a promise, two seasons ago."),
            (
                ODO,
                "I did, and here it is. The strongbox at Carrow Head is open. Inside it were a christening spoon, eleven tram tickets, and a map of Lisbon.",
            ),
            ("Ottoline Sedge", "I was there. He cried at the spoon."),
        ],
    ],
    "S4E06": [
        [
            (
                "Ottoline Sedge",
                "The letter is addressed to the keeper at Gullwick, and it was never sent. It ends: leave the lamp, come home.",
            ),
            (MARIGOLD, "And that is the whole of the letter."),
        ],
    ],
}

# One sentence each, said by the guest: seven episodes tell of the same ghost and no other does.
GHOST: Final[dict[str, str]] = {
    "S1E03": "My aunt called it the paraffin ghost, because you smelled it before you saw nothing.",
    "S1E06": "If you ask me, the paraffin ghost was a storm petrel with a cough.",
    "S2E01": "There is one entry about the paraffin ghost, and the next page has been cut out with scissors.",
    "S2E05": "The paraffin ghost got into the set once. You could hear somebody filling a lamp.",
    "S3E02": "They blamed the paraffin ghost for that one, and the paraffin ghost was not insured.",
    "S3E06": "We children left out a saucer for the paraffin ghost, and in the morning the cat was drunk.",
    "S4E05": "I carried the paraffin ghost across once, as a passenger. He did not pay.",
}

# How often each host says "in a manner of speaking", by season.
MANNER: Final[dict[str, tuple[int, int, int, int]]] = {
    MARIGOLD: (5, 6, 2, 4),
    ODO: (1, 3, 3, 2),
}
MANNER_LINES: Final = (
    "So it was a kitchen, in a manner of speaking, with a lamp on top.",
    "You were married to the lamp, in a manner of speaking.",
    "In a manner of speaking, then, nobody was in charge.",
    "That is a promotion, in a manner of speaking.",
    "It kept you company, in a manner of speaking.",
    "So the sea was the postman, in a manner of speaking.",
    "In a manner of speaking you were paid in biscuits.",
    "And you forgave it, in a manner of speaking.",
)
