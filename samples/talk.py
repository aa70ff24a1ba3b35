"""Makes the talk of one episode: who says what, in order, from phrases, cast and facts; the same seed gives the same talk."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from . import facts, phrases
from .cast import DRAWN, EPISODES, FIXED, GUESTS, HOSTS, Episode

Turn = tuple[str, str]


class _Voice:
    """Fills the slots and makes the choices of templates, alike all through one episode."""

    def __init__(self, episode: Episode, rng: random.Random) -> None:
        self.rng = rng
        self.fixed = {slot: rng.choice(words) for slot, words in FIXED.items()}
        self.fixed |= {"light": episode.light, "island": f"the {episode.light} island"}
        self.decks: dict[int, list[str]] = {}

    def deal(self, templates: list[str]) -> str:
        """One of them, filled in; none comes again before all have been."""
        deck = self.decks.get(id(templates)) or self.rng.sample(templates, len(templates))
        self.decks[id(templates)] = deck[1:]
        return self.say(deck[0])

    def say(self, template: str) -> str:
        text = re.sub(r"<([^<>]*)>", lambda m: self.rng.choice(m[1].split("|")), template)
        text = re.sub(r"\{(\w+)\}", lambda m: self._slot(m[1]), text)
        return re.sub(r"(^|[.?!] )([a-z])", lambda m: m[1] + m[2].upper(), text)  # a slot may have opened a sentence

    def _slot(self, name: str) -> str:
        if name == "Dish":
            return self._slot("dish").capitalize()
        return self.fixed.get(name) or self.rng.choice(DRAWN[name])


def turns(episode: Episode, seed: int = 1987) -> list[Turn]:
    """The whole talk of an episode, as (speaker, text)."""
    rng = random.Random(f"{seed} {episode.code}")
    voice = _Voice(episode, rng)
    middle = list(_middle(episode, voice))
    extra = [[(episode.guest, facts.GHOST[episode.code])]] if episode.code in facts.GHOST else []
    extra += [[(host, line)] for host, line in _manner(episode, seed)]
    # Planted exchanges go between the others, spread over the episode.
    for exchange in facts.PLANTED.get(episode.code, []) + extra:
        middle.insert(rng.randrange(2, len(middle) - 2), exchange)
    return [
        *_opening(episode, voice),
        *(turn for exchange in middle for turn in exchange),
        *_closing(voice),
    ]


def _opening(episode: Episode, voice: _Voice) -> Iterator[Turn]:
    first, second = HOSTS
    guest = GUESTS[episode.guest]
    yield first, voice.say(voice.rng.choice(phrases.OPENINGS).replace("{host}", first))
    yield second, voice.say(voice.rng.choice(phrases.SECONDS).replace("{host}", second))
    yield (
        first,
        f"Our guest today is {episode.guest}, {guest.trade}, and we shall be talking about {episode.light}.",
    )
    yield episode.guest, guest.hello


def _closing(voice: _Voice) -> Iterator[Turn]:
    first, second = HOSTS
    yield second, "Before we go, the post. " + voice.deal(phrases.LETTERS)
    yield second, voice.deal(phrases.SPONSORS)
    yield first, voice.deal(phrases.CLOSINGS)


def _middle(episode: Episode, voice: _Voice) -> Iterator[list[Turn]]:
    """Exchanges about the guest's own topics, then about others until the episode is long enough."""
    rng = voice.rng
    others = [topic for topic in phrases.TOPICS if topic not in episode.topics]
    rng.shuffle(others)
    wanted = 9 if episode.name.endswith(".vtt") else 14  # cue times take room: about 25,000 to 45,000 characters each
    for topic in [*episode.topics, *others][:wanted]:
        questions, answers = phrases.TOPICS[topic]
        blocks = rng.sample(answers, len(answers) if topic in episode.topics else 9)
        for question in rng.sample(questions, 3):
            host = rng.choice(HOSTS)
            exchange = [(host, voice.say(question))]
            opener = voice.deal(phrases.REPLIES) + " " if rng.random() < 0.5 else ""
            for block in blocks[: rng.choice((2, 3, 3))]:
                blocks = blocks[1:]
                exchange.append((episode.guest, opener + voice.say(block)))
                exchange.append((rng.choice(HOSTS), voice.deal(phrases.ASIDES)))
                opener = ""
            yield exchange
        for block in blocks:  # what the questions left over
            yield [
                (rng.choice(HOSTS), voice.deal(phrases.MUSINGS)),
                (episode.guest, voice.say(block)),
            ]


def _manner(episode: Episode, seed: int) -> Iterator[Turn]:
    """This episode's share of a season's planted phrase."""
    season = [e for e in EPISODES if e.season == episode.season]
    for host, counts in facts.MANNER.items():
        rng = random.Random(f"{seed} {host} {episode.season}")
        for _ in range(counts[episode.season - 1]):
            line = rng.choice(facts.MANNER_LINES)
            if rng.choice(season) == episode:
                yield host, line
