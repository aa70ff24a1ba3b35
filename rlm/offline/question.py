"""From a question's wording to what has to be looked up: its kind, the words that count, the people named, the form of an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from rlm.offline.cells.facts import DATE, NAME, NUMBER
from rlm.offline.cells.ranking import words
from rlm.offline.words import DULL, EMPTY, EMPTY_WORDS, FAMILIES, GENERIC, IRREGULAR, SAID_FOR, SPEECH

UNITS = r"(?:episodes?|documents?|docs?|files?|transcripts?|chapters?|texts?|shows?|interviews?|articles?|papers?|reports?|letters?|stories|story|parts?)"
SAID = (
    r"(?:say|says|said|mention(?:s|ed|ing)?|uses?|used|utter(?:s|ed)?|refer(?:s|red)? to|talk(?:s|ed)? about|name[sd]?|bring(?:s)? up|"
    r"brought up|speaks? (?:of|about)|discuss(?:es|ed)?)"
)
SHOWN = r"(?:mention(?:ed|s)?|sa(?:id|y)|used?|occurs?|appears?|comes? up|came up|spoken|named|referenced|referred to|talked about|discussed|brought up|written|found|show(?:s|n)? up)"
MEASURED = (
    r"how many|how much|average|mean\b|median|total|\bsum\b|highest|lowest|\bmost\b|\bleast\b|maximum|minimum|largest|smallest|\bcount\b|"
    r"number of|\bper\b|top \d|longest|shortest|unique|distinct|earliest|latest|oldest|newest|cheapest|expensive|percent|share of|proportion|(?:more than|less than|over|under) \W?\d"
)
NAMED = (
    r"^(?:which|what|list|name|who are|give me|show)\b[\w\s]{0,24}\b(?:people|persons|names|characters|companies|organi[sz]ations|places|countries|cities|"
    r"products|startups|brands)\b(?:\s+(?:are|were|is|that are|that were|who are|get|got|do they|does it|do|has|have been|been|in|on|the|this|that))*\s*"
    r"(?:mention|named?|featured?|discuss|appear|talk|come up|cover|episode|document|podcast|book|text|corpus|transcript|interview|there|$|\?)"
)
CLOCK_WORDS = r"(?i:\b(?:o'clock|past|quarter to|half past|midnight|noon|years? ago|yesterday|last (?:year|week|month))\b)|\b\d{1,2}:\d\d\b"
# Sorts of names that sentences bring in with turns of phrase of their own.
SORTS = {
    "companies": "companies", "startups": "companies", "businesses": "companies", "guests": "people", "founders": "people",
    "interviewees": "people", "countries": "places", "cities": "places", "places": "places",
}  # fmt: skip
# What is asked to be explained: "what is X", "what does X do".
DEFINED = r"\b(?:what(?: exactly)? (?:is|are|was|were)|what's|define|meaning of|what (?:does|do)(?= [\w.+#'-]+ (?:mean|stand|do)\b)) (?:an? |the )?(?!differen|reason|best\b|main\b|biggest|most\b|argument)([\w.+#'-]+(?: [\w.+#'-]+){0,3}?)"
WHY = (
    r"(?i:\b(?:because|since|so that|the reason|reasons?|in order to|that's why|which is why|the (?:whole )?point|due to|the idea (?:was|is)|motivat\w+|"
    r"inspired|frustrat\w+|wanted to|(?:so|and) (?:I|we) (?:just )?(?:decided|thought|started|figured|realized)|realized|the problem (?:was|is)|turned out|came from|burned out|why (?:you|we|I|they|he|she|it) )\b)"
)
HOW = (
    r"(?i:\bby \w+ing\b|\busing\b|\bthrough\b|\bthe way (?:it|that|we|they|I|you)\b|\bworks? (?:by|is|like)\b|\bso (?:what|how) (?:it|we|you|I|they)\b|\bfirst\b|\bthen\b|"
    r"\b(?:you|we|I) (?:just |can |have to |need to |basically |would |usually )|\bbasically\b|\bessentially\b|under the hood|\bstarted\b|\bwhen I\b|thanks to|in order to)"
)
ORIGIN = (
    r"(?i:\bI (?:first |then |actually |just )?(?:got|started|began|came|discovered|learned|learnt|picked up|was introduced|ended up|heard|found|studied|joined|decided)\b|"
    r"\bmy first\b|\bfirst (?:foray|job|time|started|heard|got)\b|\byears ago\b|\bwhen I was\b|\bback (?:then|in)\b|\bat the time\b|\bgot (?:me )?(?:into|started|interested|involved)\b)"
)
QUOTED = re.compile(r"[\"“”„«]([^\"“”»]{1,200})[\"”“»]|(?<!\w)['‘]([^'’]{2,120}(?:['’]s?\b[^'’]*)?)['’](?!\w)")


@dataclass(frozen=True)
class Shape:
    """What the first cell told of the corpus."""

    documents: int = 1
    speakers: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # of tables among the documents


@dataclass(frozen=True)
class Aim:
    """What one part of a question looks for. It goes into a cell as a dict, and with the passages to the children."""

    question: str
    terms: dict[str, float] = field(
        default_factory=dict
    )  # stems and how much each counts; under 0.7: a related or general word
    topic: tuple[str, ...] = ()  # those that a passage has to have, or its neighbourhood
    pairs: tuple[tuple[str, str], ...] = ()  # stems side by side in the question
    only: tuple[str, ...] = ()  # quote nobody but these speakers
    prefer: tuple[str, ...] = ()  # speakers named, but not as those who said it
    asks: str = "what"  # who, when, where, why, how, number, define, view
    looks_for: str = ""  # a pattern of what an answer would look like
    asked_like: str = ""  # a pattern of how somebody may have asked the same
    gain: float = 0.3  # what its looks are worth to a sentence
    did: str = ""  # after "who": the verb, in its forms
    dull: str = DULL  # a pattern of sentences that frame a show and are about nothing
    noun: tuple[str, ...] = ()  # stems of what is asked to be numbered
    shown: tuple[str, ...] = ()  # the words, as the question has them
    forms: dict[str, str] = field(default_factory=dict)  # words that do not look like the stem they are a form of
    like: dict[str, list[str]] = field(default_factory=dict)  # to some of the words shown, stems of related ones

    def literal(self) -> dict[str, Any]:
        """As it is written into a cell."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


@dataclass(frozen=True)
class Plan:
    kind: str  # find, count, which, any, people, listing, gist, sides, edge, phrase, names, table
    aims: tuple[Aim, ...] = (Aim(""),)
    phrase: str = ""  # what is counted or looked for word by word
    only: tuple[str, ...] = ()  # quote nobody but these speakers
    people: tuple[str, ...] = ()  # speakers named at all

    @property
    def shown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word for aim in self.aims for word in aim.shown))


def classify(question: str, shape: Shape = Shape()) -> Plan:  # noqa: B008  (frozen)
    """Say what a question asks for, as far as a rule can tell."""
    text = " ".join(question.replace("’", "'").split())
    people = named_speakers(text, shape.speakers)
    quoted = next((a or b for a, b in QUOTED.findall(text)), "").strip(" .,?!")
    kind, phrase = _kind(text, shape, people, quoted)
    spoken = bool(people) and (kind == "sides" or bool(re.search(SPEECH, text, re.I)))
    only = people if kind in ("find", "sides", "gist") and spoken else ()
    if kind in ("count", "edge", "any") and spoken:
        only = tuple(p for p in people if not any(w in words(phrase) for w in words(p)))
    aims: list[Aim] = []
    for part in parts_of(text) if kind == "find" else [text]:
        own = named_speakers(part, shape.speakers)
        said = kind == "sides" or bool(own and re.search(SPEECH, part, re.I))
        by = only if kind != "find" else own if said else ()
        aims.append(
            _aim(part, kind, by, tuple(name for name in own if name not in by), quoted, aims[0] if aims else None)
        )
    return Plan(kind, tuple(aims), phrase, only, people)


def parts_of(text: str) -> list[str]:
    """The questions that a question is made of: "What is X, and who made it?" is two."""
    ask = r"(?:who|whom|whose|what|when|where|why|how|which)\b"
    pieces = re.split(rf"(?<=[?.;!])\s+(?=\w)|,?\s+and (?:also )?(?={ask}(?! \w+ in (?:all|total)))", text, flags=re.I)
    parts: list[str] = []
    for piece in filter(None, (piece.strip(" ,") for piece in pieces)):
        # A piece without a word to look for is a part of what stands before it: "… and how many in all".
        bare = not _terms(piece, "")[0]
        if parts and (bare or not _terms(parts[-1], "")[0] or not re.match(ask, piece, re.I)):
            parts[-1] += " and " + piece if text[: text.find(piece)].rstrip().endswith("and") else " " + piece
        else:
            parts.append(piece)
    return parts[:4] or [text]


def _aim(part: str, kind: str, only: tuple[str, ...], prefer: tuple[str, ...], quoted: str, before: Aim | None) -> Aim:
    about = part
    for name in only:
        for one in name.split():
            about = re.sub(rf"\b{re.escape(one)}(?:'s)?\b", " ", about, flags=re.I)
    terms, shown = _terms(about, quoted)
    if kind == "sides":
        for word in words(
            "disagree contradict conflict differ difference compare contrast both dispute each other odds inconsistent discrepancy clash opinion"
        ):
            terms.pop(word, None)
    if re.search(
        r"\b(?:when|date|what (?:year|day))\b.*\b(?:record|publish|release|air|dated?|come out|came out)", part, re.I
    ):
        terms["date"] = 1.0  # as in "date: 2020-01-28"
    for name in [*prefer, *([] if only else _subjects(part))]:
        for stem in (w for w in words(name) if w in terms):
            terms[stem] = 0.35 if name in prefer else 0.3  # a name stands in front of what somebody says, seldom in it
    if before and (
        re.search(r"\b(?:it|its|this|that|they|them|their|he|she|him|her|his|there|these|those)\b", part, re.I)
        or not _names(part, terms)
    ):
        spoken = set(words(SPEECH))
        main = [w for w, v in before.terms.items() if v >= 0.7 and w not in spoken]
        whose = before.asks == "who" and bool(re.search(r"\b(?:he|she|him|her|his|they|them|their)\b", part, re.I))
        for stem in before.topic if before.asks == "define" else main:
            terms.setdefault(stem, 0.5 if whose else before.terms[stem])
    if terms and max(terms.values()) < 0.7:  # nothing but general words: they are all there is
        terms = {w: (1.0 if v >= 0.4 else v) for w, v in terms.items()}
    asks, looks_for, asked_like, noun = _form(part, terms)
    stems = words(about)
    named = _names(about, terms)
    defined = re.search(rf"{DEFINED}(?:\?|$| and\b)", part, re.I)
    topic = tuple(
        w
        for w in (words(re.split(r" (?:in|for|on|at|to) ", defined[1])[0]) if defined else named)
        if terms.get(w, 0) >= 0.7
    )
    if not topic and before and set(before.topic) <= terms.keys():
        topic = before.topic
    pairs = tuple(
        (a, b) for a, b in zip(stems, stems[1:], strict=False) if min(terms.get(a, 0), terms.get(b, 0)) >= 0.3
    )
    forms = _forms(about)
    dull = (
        ""
        if asks == "when"
        or re.search(r"sponsor|\bhosts?\b|recorded|subscribe|listen|follow|welcome|live ?stream", part, re.I)
        else DULL
    )
    return Aim(
        part,
        terms,
        topic,
        pairs,
        only,
        prefer,
        asks,
        looks_for,
        asked_like,
        {"define": 0.6, "how": 0.3, "view": 0.3, "differ": 0.3}.get(asks, 0.45),
        _did(part, asks),
        dull,
        noun,
        shown,
        forms,
        _like(shown),
    )


def _forms(text: str) -> dict[str, str]:
    """Words that are forms of one in the question and do not look like it, with its stem."""
    written = re.findall(r"[a-z]+", text.lower())
    return {
        other: words(word)[0]
        for group in IRREGULAR
        for word in group
        if word in written
        for other in group
        if other != word
    }


def _names(text: str, terms: dict[str, float]) -> list[str]:
    """The stems of what is written with capitals, but not as the first word."""
    found = re.findall(r"(?<=[\w,;:\"'“(] )[\"'“(]?([A-Z][\w'’.+#-]*|\w+[A-Z]\w*)", text)
    return [w for name in found for w in words(name) if terms.get(w, 0) >= 0.7]


def _subjects(text: str) -> list[str]:
    """Names of those who do or say what is asked about, where there is something else to look for."""
    name = r"((?:(?!I\b)[A-Z][\w.'-]+ ?){1,3})"
    doing = rf"\b(?:did|does|do|has|have|had|could|would|will|can) {name}(?=[a-z])|\baccording to {name}|{name}(?<='s )(?:opinion|views?|thoughts|take|stance|advice)"
    names = [next(filter(None, found)).strip().removesuffix("'s") for found in re.findall(doing, text)]
    rest = text
    for one in names:
        rest = rest.replace(one, " ")
    left = [w for w, v in _terms(rest, "")[0].items() if v >= 0.7]
    return names if left else []


def _did(text: str, asks: str) -> str:
    """After "who": a pattern of what they did, in all its forms; "" where nothing was done."""
    verb = re.search(r"\bwho (?:\w+ly |also |first |really )?(\w{3,})\b", text, re.I)
    if asks != "who" or not verb or verb[1].lower() in EMPTY_WORDS:
        return ""
    made = {
        "created",
        "made",
        "founded",
        "built",
        "wrote",
        "started",
        "invented",
        "proposed",
        "designed",
        "developed",
        "came up with",
    }
    if verb[1].lower() in made or re.search(r"\b(?:came|come) up with\b", text, re.I):
        return "|".join(sorted(made | {"co-founded"}))
    if words(verb[1])[0] in GENERIC:
        return ""
    forms = {form for group in IRREGULAR if verb[1].lower() in group for form in group}
    return "|".join(sorted({verb[1].lower(), *forms}))


def named_speakers(text: str, speakers: Sequence[str]) -> tuple[str, ...]:
    """The speakers whom a question names: by the whole name, or by a first or last name that only one of them has."""
    low, found = text.lower(), []
    parts = [set(name.lower().split()) for name in speakers]
    for name, own in zip(speakers, parts, strict=True):
        if re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", low):
            found.append(name)
            continue
        for part in own:
            shared = sum(part in other for other in parts) > 1
            if len(part) > 2 and not shared and re.search(rf"(?<![\w]){re.escape(part.title())}(?:'s)?(?!\w)", text):
                found.append(name)
                break
    order = {name: min((low.find(p) for p in name.lower().split() if p in low), default=0) for name in found}
    return tuple(sorted(found, key=lambda name: order[name]))


def _kind(text: str, shape: Shape, people: tuple[str, ...], quoted: str) -> tuple[str, str]:
    low = text.lower()
    times = r"how (?:many times|often|frequently)|(?:number|count) of (?:times|mentions|occurrences|uses)|how many (?:mentions|occurrences|references|instances|uses)|\bcount\b"
    if re.search(times, low):
        phrase = quoted or _counted(text)
        if phrase and not re.match(r"(?:each|every) ", phrase):
            return "count", phrase
        if re.search(r"\b(?:speak|speaks|spoke|talk|talks|talked|take the floor|turns?)\b", low):
            return "people", ""
    if re.search(
        rf"\b(?:first|last|earliest|latest|final)\b.*\b{SHOWN}|{SHOWN}\b.*\b(?:first|for the last time|last)\b", low
    ) and not re.search(r"how|why", low):
        told = re.search(r"\bmention|\bappear|\bsa(?:id|y)\b|come up|talk|discuss|refer|occur", low)
        of = re.sub(r".*\b(?:mention|reference|occurrence|use)s? (?:of|to)\b", "", text, flags=re.I)
        if told and (phrase := quoted or _counted(text) or _phrase(of)):
            return "edge", phrase
    if any_ := re.search(
        rf"^(?:does|do|did|has|have|is|are|was|were) (?:there )?(?:any(?:one|body|thing|where)?|some(?:one|body)|they|the \w+|he|she|it)?(?: (?:any|of them|ever|else))* ?{SAID} (.+)$"
        rf"|^(?:is|are|was|were|does|do|did) (?:there any (?:mention|talk|discussion) of )?(.+?) (?:ever |even |also )?(?:get |come )?(?:{SHOWN})\b",
        text,
        re.I,
    ):
        phrase = quoted or _phrase(any_[1] or any_[2] or "")
        if 0 < len(phrase.split()) <= 3 and phrase.lower() not in EMPTY_WORDS:
            return "any", phrase
    if len(quoted.split()) > 2 and re.search(r"\b(?:who|where|when|which)\b", low):
        return "phrase", quoted
    if shape.speakers and _about_people(low, people):
        return "people", people[0] if people else ""
    if not people and (
        sort := re.search(rf"^(?:which|what|list|name|who are)\b[\w\s]{{0,20}}?\b({'|'.join(SORTS)})\b", low)
    ):
        rest = [w for w in words(low[sort.end() :]) if w not in EMPTY and w not in GENERIC]
        if len(rest) < 3 and sort[1] not in words(" ".join(shape.columns)):
            return "introduced", SORTS[sort[1]]
    if re.search(NAMED, low) and not people:
        return "names", ""
    if re.search(r"\b(?:disagree|contradict|conflict|dispute|inconsisten|discrepan|differ\b|at odds|clash)", low) or (
        len(people) > 1 and re.search(r"\bcompare|\bcontrast|\bdifference|\bversus\b|\bvs\b|\bboth\b", low)
    ):
        return "sides", ""
    if shape.columns and re.search(MEASURED, low):
        return "table", ""
    if (
        shape.columns
        and re.search(r"\b(?:which|what|list|show|who)\b", low)
        and not people
        and set(words(" ".join(shape.columns))) & set(words(low)) - EMPTY
    ):
        return "table", ""
    which = re.search(
        rf"\b(?:which|what|list|name|find|show(?: me)?|give(?: me)?|how many|are there|all)\b[\w\s]{{0,20}}?\b{UNITS}\b(.*)",
        text,
        re.I,
    )
    if which and (phrase := _which(which[1], text)):
        if people and set(words(phrase)) - EMPTY <= {w for name in people for w in words(name)}:
            return "people", people[0]
        return (
            ("which", phrase)
            if shape.documents > 1 and len([w for w in words(phrase) if w not in EMPTY]) <= 5
            else ("find", phrase)
        )
    if _about_people(low, people):
        return "people", people[0] if people else ""
    if re.search(
        rf"how many {UNITS}\b(?! (?:does|do|did|has|have))|\blist (?:all )?(?:of )?(?:the )?{UNITS}|(?:longest|shortest) {UNITS}|titles\b|{UNITS} (?:are there|is there)|which {UNITS} (?:is|are|was) (?:the )?(?:longest|shortest)",
        low,
    ):
        return "listing", ""
    return _gist(low), ""


def _gist(low: str) -> str:
    """A question about everything, or about something in it."""
    general = words(
        "summarise summary overview gist takeaway takeaways key major important topic topics theme themes point points idea ideas subject "
        "subjects argument message book interview conversation story cover covered covers short brief sentence sentences discussed"
    )
    rest = [word for word in words(low) if word not in EMPTY and word not in general]
    asked = re.search(
        r"\bsummar|\boverview\b|\bgist\b|tl;?dr|takeaway|topics\b|(?:main|key|major|important|biggest) (?:topic|theme|point|idea|subject|argument|message)"
        r"|what (?:is|are|was|were) .*\babout\s*\??$|what (?:do|does|did|is|are) .*(?:talk|discuss|cover|talking|discussing)\w*(?: about)?\s*\??$",
        low,
    )
    if not asked:
        return "find"
    named = re.search(r"\babout .+$|\bon .+$|what .* (?:say|said) ", low)
    return "gist" if not rest or (re.search(r"summar|overview|gist", low) and not named) else "find"


def _counted(text: str) -> str:
    """What a "how many times" question counts."""
    kind = r"(?:the )?(?:exact )?(?:words?|phrases?|terms?|names?|expression) "
    for pattern in (
        rf"\b(?:mentions|occurrences|references|instances|uses|times) (?:of|to) (?:{kind})?(.+)$",
        rf"\bcount (?:of )?(?:how (?:often|many times) )?{kind}(.+)$",
        rf"\b(?:is|are|was|were|has|have|does|do|did|the) (?:{kind})?((?:(?!\b(?:they|he|she|people|everyone|anyone)\b).)+?) (?:been |being |gets? |ever |first |last )*{SHOWN}\b(?! (?:the|a|that|about)\b| ['\"“])",
        rf"\b{SAID} (?:{kind})?(.+)$",
    ):
        if match := re.search(pattern, text, re.I):
            phrase = _phrase(match[1])
            if phrase and len(phrase.split()) <= 6:
                return phrase
    return ""


def _phrase(text: str) -> str:
    """Trim what surrounds a phrase: articles, "in this episode", punctuation."""
    if match := QUOTED.search(text):
        return (match[1] or match[2]).strip(" .,?!")
    text = text.strip(" ?.!,:;")
    text = re.sub(
        rf"\s+(?:in|across|throughout|over|within|during|by)\s+(?:(?:the|this|that|these|those|all|each|every|any|which|whole|entire|given|season|speaker|{UNITS})\b\s*)+.*$",
        "",
        text,
        flags=re.I,
    )
    text = re.sub(
        r"\s+(?:in (?:total|all)|altogether|overall|there|anywhere|at all|and (?:by whom|where|when|who|how)\b.*)$",
        "",
        text,
        flags=re.I,
    )
    text = re.sub(
        r"^(?:(?:is|are|was|were|does|do|did|the|a|an|any|either|words?|phrases?|terms?|names?)\s+)+",
        "",
        text,
        flags=re.I,
    )
    return text.strip(" ?.!,:;'\"")


def _which(rest: str, text: str) -> str:
    """What documents are asked to mention: "which episodes mention X", "in how many episodes is X mentioned"."""
    verb = r"(?:mention(?:s|ed|ing)?|discuss(?:es|ed|ing)?|talk(?:s|ed|ing)? (?:about|of)|speak(?:s|ing)? (?:about|of)|contain(?:s|ed|ing)?|includ(?:es?|ing)|featur(?:es?|ing)|refer(?:s|red|ring)? to|(?:is|are|deals? with|all) about|about|cover(?:s|ed|ing)?|say|says|said|names?|describes?|touch(?:es)? on|brings? up|deals? with|uses?)"
    if match := re.search(
        rf"^\W*(?:that |which |do |does |did |where (?:they|someone|anyone|people) |in which (?:they |someone )?)*{verb}\s+(.+)$",
        rest,
        re.I,
    ):
        return _phrase(match[1])
    if match := re.search(
        rf"^\W*(?:is|are|was|were|does|do|did|has|have) (.+?) (?:been )?(?:{SHOWN}|appear(?:s|ed)?|speak|feature[sd]?|present|a guest|guest)\b",
        rest,
        re.I,
    ):
        return _phrase(match[1])
    if match := re.search(r"^\W*(?:with|featuring|on|by)\s+(.+)$", rest, re.I):
        return _phrase(match[1])
    return ""


def _about_people(low: str, people: tuple[str, ...]) -> bool:
    if re.search(
        r"\b(?:turns|words|lines|often|much)\b.*\b(?:each|every) (?:speaker|person|host|guest|character|participant|one)\b|\b(?:turns|words) (?:by|per) (?:speaker|person)",
        low,
    ):
        return not re.search(SAID + r" ['\"“]", low)
    who = r"(?:speakers?|guests?|hosts?|participants?|panelists?|presenters?|interviewees?|voices|people speaking|characters?|players?)"
    if re.search(
        rf"\bwho (?:are|is|were|was) (?:all )?(?:the|on|in|speaking|talking|hosting|this|that) ?(?:\w+ )?{who}?\s*(?:\?|$|in\b|on\b|of\b|here)",
        low,
    ) and re.search(who + r"|speaking|talking|hosting", low):
        return True
    if re.search(rf"\b(?:list|name|how many) (?:all )?(?:of )?(?:the )?(?:different |distinct )?{who}\b", low):
        return True
    if re.search(
        rf"\b(?:who|which (?:{who}|person|one)|what {who})\b.*\b(?:speaks?|spoke|talks?|talked|appears?|appeared|says?|said|features?|is on|words|turns|episodes)\b.*\b(?:most|least|often|longest|more|many)\b",
        low,
    ):
        return not re.search(r"\babout\b", low)
    if re.search(
        rf"\b(?:most|least) (?:frequent|common|talkative|often)\b.*{who}|which {who} (?:appears?|is|was) .*\b(?:most|often)",
        low,
    ):
        return True
    return bool(people) and bool(
        re.search(
            r"how (?:much|often|many (?:times|turns|words|lines))\b.*\b(?:speak|talk|say|turns?|words|lines)\b", low
        )
    )


def _terms(text: str, quoted: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """The stems that count, with weights, and the same words as written."""
    terms: dict[str, float] = {}
    shown: list[str] = []
    # The words of one name count together about as much as one other word.
    names = [m.span() for m in re.finditer(r"(?<=\w )[A-Z][\w'’]*(?: [A-Z][\w'’]*)+", text)]
    in_quotes = set(words(quoted))
    for match in re.finditer(r"(?:[A-Za-z]\.){2,}|[^\W_]+(?:['’][^\W_]+)?", text):
        for stem in words(match[0]):
            capital = match[0][0].isupper() and match.start() > 0
            empty = match[0].lower() in EMPTY_WORDS if capital else stem in EMPTY
            if empty and not (match[0].isupper() and len(match[0]) > 1) and stem not in in_quotes:
                continue
            inside = any(a <= match.start() < b for a, b in names)
            weight = (
                1.6
                if stem in in_quotes
                else 0.8
                if inside
                else 1.4
                if capital or any(c.isdigit() for c in stem)
                else 0.4
                if stem in GENERIC
                else 1.0
            )
            terms[stem] = max(weight, terms.get(stem, 0))
            if match[0] not in shown:
                shown.append(match[0])
    own = set(terms)
    for family in FAMILIES:
        if own & family:
            for stem in sorted(family - own):
                terms.setdefault(stem, 0.3)
    for pattern, others in SAID_FOR.items():
        for stem in words(others) if re.search(pattern, text, re.I) else ():
            terms.setdefault(stem, 0.4)
    return terms, tuple(shown)


def _like(shown: tuple[str, ...]) -> dict[str, list[str]]:
    related = {word: sorted({s for family in FAMILIES if family & set(words(word)) for s in family}) for word in shown}
    return {word: stems for word, stems in related.items() if stems}


def _form(text: str, terms: dict[str, float]) -> tuple[str, str, str, tuple[str, ...]]:
    """What an answer would look like: (who, when, …; a pattern; one of how it may have been asked; the stems of what is numbered)."""
    low = text.lower()
    asks: list[str] = []
    looks: list[str] = []
    likes: list[str] = []
    noun: tuple[str, ...] = ()

    def take(kind: str, pattern: str, like: str) -> None:
        asks.append(kind)
        looks.append(pattern)
        likes.append(like)

    if match := re.search(r"how (?:many|much) ((?:[\w'-]+ ?){1,3})|(?:number|amount) of ((?:[\w'-]+ ?){1,3})", low):
        noun = tuple(w for w in words(match[1] or match[2]) if w not in EMPTY)[:2]
        thing = re.escape(re.split(r"\W+", (match[1] or match[2]).strip())[0].rstrip("s"))
        take("number", rf"(?i:{NUMBER}(?:[ -][\w'-]+){{0,2}}[ -]{thing})", r"\bhow (?:many|much)")
    elif re.search(
        r"\bhow (?:old|long|tall|far|big|large|deep|high|fast|expensive)\b|\bwhat (?:percentage|percent|price|number|fraction|share)\b|\bcosts?\b",
        low,
    ):
        span = (
            r" (?:years?|months?|weeks?|days?|hours?|minutes?|decades?)"
            if re.search(r"\bhow (?:long|old)\b", low)
            else ""
        )
        take("number", rf"(?i:{NUMBER}{span})", r"\bhow (?:old|long|big|much|many|fast)")
    if re.search(
        r"\bwhen\b|\bwhat (?:year|date|day|time|hour|month)\b|\bwhich (?:year|date|day|month)\b|how long ago|\bdate\b",
        low,
    ):
        take("when", rf"{DATE}|{CLOCK_WORDS}", r"\bwhen\b|how long")
    if re.search(r"\bwho(?:se|m)?\b", low):
        verb = _did(text, "who")
        acted = (
            rf"(?i:\b(?:I|we|he|she|they|who) (?:\w+ly |first |also )?(?:{verb})\b|\b(?:{verb}) by\b)|" if verb else ""
        )
        take("who", rf"{acted}{NAME}|\b(?:I am|I'm|my name is) [A-Z]", r"\bwho\b|about yourself|introduce yourself")
    if match := re.search(r"\bwho(?: exactly)? (?:is|are|was|were) (?:the )?([\w'.-]+(?: [\w'.-]+){0,2})", low):
        head = re.escape(match[1].strip(" ."))
        take(
            "who",
            rf"(?i:\b{head},? (?:is|was|who|the|an?|our|one of)\b|\b(?:a|an|our|my|the) (?:\w+ ){{0,3}}{head}\b|\b(?:being|man|woman|creature|person|engineer|king|leader) (?:of|with|who)\b)",
            rf"\bwho(?:'s| is| are| was)\b.{{0,40}}{head}|(?:know|heard?|rumou?rs?|tell \w+) (?:\w+ )?(?:of|about) .{{0,20}}{head}",
        )
    if re.search(r"\bwhere\b|\bwhich (?:city|country|town|place)\b|\bwhat (?:city|country|town|place)\b", low):
        take("where", r"\b(?:in|at|near|from|on|off|to|based in|move[ds]? to) (?:the )?[A-Z]\w+", r"\bwhere\b")
    if re.search(r"\bwhy\b|\breasons?\b|\bhow come\b|\bmotivat", low):
        take("why", WHY, r"\bwhy\b|how come|motivat|what made you|reason|origin|inspir")
    if match := re.search(rf"{DEFINED}(?:\?|$| and\b| mean| stand| used| about| do\b|,)", low):
        head = re.escape(re.split(r" (?:in|for|on|at|to) ", match[1].strip())[0])
        soft = r"(?:basically |essentially |really |just |like |kind of |sort of |actually |a lot like |intended as |supposed to be |a way |)*"
        kind = r"(?:an?|the(?! (?:most|best|first|only|one|same))|where|when|how|your|our|one|intended|designed|called|about|building|trying|helping)\b"
        take(
            "define",
            rf"(?i:\b{head}s? (?:(?:is|are|was|were) {soft}{kind}|means?\b|refers to|stands? for|allows|lets|provides|solves|does (?!not))|\b(?:uses?|using|with) {head} (?:for|to|you)\b"
            rf"|\b(?:called|known as|named|the term) (?:an? |the )?[\"“]?{head}\b|\b(?:it's|it is|they're|we're|we are|this is|that's) {soft}{kind})",
            rf"\bwhat(?:'s| is| are| was| does| do)\b.{{0,40}}(?:{head}|\bit\b|\bthis\b)|tell (?:us|me|people|everyone) about|explain|overview",
        )
    if not asks and re.search(r"\b(?:think|thoughts?|opinions?|feel|views?|believe|like|stance)\b", low):
        take(
            "view",
            r"(?i:\bI (?:really |just |do |don't |personally )?(?:think|feel|believe|love|like|hate|prefer|find|would say)|in my (?:opinion|view))",
            r"what do you think|your (?:thoughts|opinion|take)|how do you feel",
        )
    if not asks and re.search(
        r"\bg[eo]t(?:ten|ting)? (?:\w+ )?(?:into|involved|started|interested)\b|\b(?:begin|began|start|started) (?:with|in|out|as)\b",
        low,
    ):
        take(
            "origin",
            ORIGIN,
            r"how did you|how'd you|get (?:into|started|interested|involved)|background|your story|about yourself",
        )
    if not asks and re.search(r"\bhow\b", low):
        take("how", HOW, r"\bhow\b")
    if not asks and re.search(r"\bdifferen|\bcompare|\bversus\b|\bvs\b", low):
        take(
            "differ",
            r"(?i:\bunlike\b|\bwhereas\b|\binstead of\b|\brather than\b|\bas opposed\b|\bcompared (?:to|with)\b|\bdifferen(?:t|ce)\b|\b(?:more|less|\w+er) than\b)",
            r"differ|compare|versus",
        )
    return (asks or ["what"])[0], "|".join(looks), "|".join(likes), noun
