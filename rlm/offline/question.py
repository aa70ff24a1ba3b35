"""From a question's wording to what has to be looked up: its kind, the words that count, the people named, the form of an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlm.offline.cells.facts import DATE, NAME, NUMBER
from rlm.offline.cells.ranking import words
from rlm.offline.words import EMPTY, EMPTY_WORDS, FAMILIES, SPEECH

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
QUOTED = re.compile(r"[\"“”„«]([^\"“”»]{1,200})[\"”“»]|(?<!\w)['‘]([^'’]{2,120}(?:['’]s?\b[^'’]*)?)['’](?!\w)")


@dataclass(frozen=True)
class Shape:
    """What the first cell told of the corpus."""

    documents: int = 1
    speakers: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # of tables among the documents


@dataclass(frozen=True)
class Plan:
    kind: str  # find, count, which, people, listing, gist, sides, edge, table
    terms: dict[str, float] = field(default_factory=dict)  # stems and how much each counts; under 1: a related word
    pairs: tuple[tuple[str, str], ...] = ()  # stems side by side in the question
    phrase: str = ""  # what is counted or looked for word by word
    only: tuple[str, ...] = ()  # quote nobody but these speakers
    people: tuple[str, ...] = ()  # speakers named at all
    prefer: tuple[str, ...] = ()  # speakers named, but not as those who said it
    asks: str = ""  # who, when, where, why, number, what, define
    looks_for: str = ""  # a pattern of what an answer would look like
    noun: tuple[str, ...] = ()  # stems of what is asked to be numbered
    shown: tuple[str, ...] = ()  # the words, as the question has them
    like: dict[str, list[str]] = field(default_factory=dict)  # to some of them, stems of related words


def classify(question: str, shape: Shape = Shape()) -> Plan:  # noqa: B008  (frozen)
    """Say what a question asks for, as far as a rule can tell."""
    text = " ".join(question.replace("’", "'").split())
    people = named_speakers(text, shape.speakers)
    quoted = next((a or b for a, b in QUOTED.findall(text)), "").strip(" .,?!")
    kind, phrase = _kind(text, shape, people, quoted)
    about = text
    spoken = bool(people) and (kind == "sides" or bool(re.search(SPEECH, text, re.I)))
    only = people if kind in ("find", "sides", "gist") and spoken else ()
    if kind in ("count", "edge") and spoken:
        only = tuple(p for p in people if not any(w in words(phrase) for w in words(p)))
    for name in only if kind != "count" else ():
        for part in name.split():
            about = re.sub(rf"\b{re.escape(part)}(?:'s)?\b", " ", about, flags=re.I)
    terms, shown = _terms(about, quoted)
    if kind == "sides":
        for word in words(
            "disagree contradict conflict differ difference compare contrast both dispute each other odds inconsistent discrepancy clash opinion"
        ):
            terms.pop(word, None)
    if re.search(
        r"\b(?:when|date|what (?:year|day))\b.*\b(?:record|publish|release|air|dated?|come out|came out)", text, re.I
    ):
        terms["date"] = 1.0  # as in "date: 2020-01-28"
    prefer = tuple(name for name in people if name not in only)
    for stem in (w for name in prefer for w in words(name) if w in terms):
        terms[stem] = 0.7  # a name stands in front of what somebody says, seldom in it
    asks, looks_for, noun = _form(text, terms)
    stems = words(about)
    pairs = tuple(
        (a, b)
        for a, b in zip(stems, stems[1:], strict=False)
        if a in terms and b in terms and terms[a] >= 1 <= terms[b]
    )
    return Plan(kind, terms, pairs, phrase, only, people, prefer, asks, looks_for, noun, shown, _like(shown))


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
    if len(quoted.split()) > 2 and re.search(r"\b(?:who|where|when|which)\b", low):
        return "phrase", quoted
    if shape.speakers and _about_people(low, people):
        return "people", people[0] if people else ""
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
                else 1.0
            )
            terms[stem] = max(weight, terms.get(stem, 0))
            if match[0] not in shown:
                shown.append(match[0])
    own = set(terms)
    for family in FAMILIES:
        if own & family:
            for stem in sorted(family - own):
                terms.setdefault(stem, 0.4)
    return terms, tuple(shown)


def _like(shown: tuple[str, ...]) -> dict[str, list[str]]:
    related = {word: sorted({s for family in FAMILIES if family & set(words(word)) for s in family}) for word in shown}
    return {word: stems for word, stems in related.items() if stems}


def _form(text: str, terms: dict[str, float]) -> tuple[str, str, tuple[str, ...]]:
    """What an answer would look like: (who, when, …; a pattern; the stems of what is numbered)."""
    low = text.lower()
    asks: list[str] = []
    looks: list[str] = []
    noun: tuple[str, ...] = ()

    def take(kind: str, pattern: str) -> None:
        asks.append(kind)
        looks.append(pattern)

    if match := re.search(r"how (?:many|much) ((?:[\w'-]+ ?){1,3})|(?:number|amount) of ((?:[\w'-]+ ?){1,3})", low):
        noun = tuple(w for w in words(match[1] or match[2]) if w not in EMPTY)[:2]
        take("number", rf"(?i:{NUMBER})")
    elif re.search(
        r"\bhow (?:old|long|tall|far|big|large|deep|high|fast|expensive)\b|\bwhat (?:percentage|percent|price|number|fraction|share)\b|\bcosts?\b",
        low,
    ):
        take("number", rf"(?i:{NUMBER})")
    if re.search(
        r"\bwhen\b|\bwhat (?:year|date|day|time|hour|month)\b|\bwhich (?:year|date|day|month)\b|how long ago|\bdate\b",
        low,
    ):
        take("when", rf"{DATE}|{CLOCK_WORDS}")
    if re.search(r"\bwho(?:se|m)?\b", low):
        take("who", rf"{NAME}|\b(?:I am|I'm|my name is)\b")
    if re.search(r"\bwhere\b|\bwhich (?:city|country|town|place)\b|\bwhat (?:city|country|town|place)\b", low):
        take("where", r"\b(?:in|at|near|from|on|off|to|based in|move[ds]? to) (?:the )?[A-Z]\w+")
    if re.search(r"\bwhy\b|\breason", low):
        take("why", r"(?i:\b(?:because|since|so that|reason|in order to|that's why|which is why|the point|due to)\b)")
    if match := re.search(
        r"\b(?:what(?: exactly)? (?:is|are|was|were)|what's|define|meaning of|what does) (?:an? |the )?([\w.+#-]+(?: [\w.+#-]+){0,2}?)"
        r"(?:\?|$| and\b| mean| stand| used| about|,)",
        low,
    ):
        head = re.escape(match[1].strip())
        soft = r"(?:basically |essentially |really |just |like |kind of |sort of |actually |a lot like )*"
        take(
            "define",
            rf"(?i:\b{head}s?\b (?:(?:is|are|was|were) {soft}(?:an?|the|where|when|how|your|our|one|intended|designed|called|about)\b"
            rf"|means?\b|refers to|stands? for|allows|lets|provides|solves)|\b(?:called|known as|named|the term) (?:an? |the )?[\"“]?{head}\b)",
        )
    if not asks and re.search(r"\bhow\b", low):
        take("how", r"(?i:\b(?:by|using|through|first|then|so you|way)\b)")
    return (asks or ["what"])[0], "|".join(looks), noun
