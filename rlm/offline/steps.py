"""Which cell comes next: the offline model's whole wit is here, in rules over what the messages tell."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rlm.offline import drivers
from rlm.offline.cells.ranking import words
from rlm.offline.linking import cell
from rlm.offline.question import Plan, classify
from rlm.offline.situation import Situation
from rlm.offline.sums import sums_step
from rlm.offline.words import DULL, EMPTY

NAME = "offline extractive model, not a language model"
QUOTE = "Quote, word for word, the sentences that bear on the question; each with title, offset, time and speaker. At most 6, best first; [] if none does."
HAND_ON = "Hand each of these documents to a child of its own, which quotes the sentences that bear on the question. Return all quotes in one list."
HANDED = "\nQuestion: "
HANDED_DOWN = frozenset(("stem", "words", "asked_before", "scores_of", "around", "pick"))
FEW, MOST = 5, 60  # calls a run; under the first no child is worth its call, the second is never reached
MANY = 20  # documents; over this the work goes down two levels


@dataclass(frozen=True)
class Step:
    """One reply: what it says, and the cell, if any."""

    prose: str
    code: str = ""

    @property
    def text(self) -> str:
        return f"{self.prose}\n\n```repl\n{self.code}\n```" if self.code else self.prose


def next_step(s: Situation) -> Step:
    """The next reply of whatever call the messages belong to. A cell is never written twice: that would go on for ever."""
    step = _next(s)
    if step.code and _done(s, step):
        plain = cell(drivers.SIMPLE, {"shown": list(classify(s.question).shown)})
        step = Step("I have done that before. A plainer search, then.", plain) if not s.child else step
        if _done(s, step):
            return Step("I have done that before, so this is the end.", _last(s))
    return step


def _done(s: Situation, step: Step) -> bool:
    return any(step.code in reply for reply, _ in s.turns)


def _next(s: Situation) -> Step:
    if not s.recursive:
        return Step(
            f"I am the {NAME}. I serve the strategy rlm only: I work by cells in a REPL and cannot read a text in a prompt."
        )
    if s.last:
        if (
            not s.child and "pick" not in s.known and not s.answered and not s.did("quotes =")
        ):  # a long cell would be cut off
            run = drivers.SIMPLE + "\nFINAL(answer)"
            return Step(
                "The last turn: a plain search has to do.", cell(run, {"shown": list(classify(s.question).shown)})
            )
        return Step("The last turn: what there is goes out.", _last(s))
    if s.child and (QUOTE in s.instruction or HAND_ON in s.instruction):
        return _child(s)
    if s.alone or s.instruction.startswith("Count the letter"):
        prose, code = sums_step(s)
        return Step(prose, code)
    return _root(s)


# the root


def _root(s: Situation) -> Step:
    if s.error:
        return _recover(s)
    if not s.did("docs = documents("):
        greeting = f"I am the {NAME}: I match words and quote, I do not understand. First a look at what there is."
        return Step(greeting, cell(drivers.LOOK))
    if not s.did("talk = "):
        tables = s.line("tables") not in ("0", "")
        said = "I cut the documents into sentences and see who speaks, and when."
        return Step(said, cell(drivers.READ_RECORDS if tables else drivers.READ, known=s.known))
    if s.answered:
        return Step("That is an answer. It goes out through the variable, not retyped.", "FINAL(answer)")
    plan = classify(s.question, s.shape)
    if s.did('print("usable:"'):
        plan = classify(s.question, replace(s.shape, columns=()))
    if s.none_found and plan.kind in ("which", "edge", "names", "phrase", "any", "introduced"):
        plan = replace(plan, kind="find")
    step = _direct(s, plan) if plan.kind not in ("find", "sides") else None
    return step or _search(s, plan)


def _direct(s: Situation, plan: Plan) -> Step | None:
    """The kinds of question that code answers alone, in one cell."""
    asked = s.question
    phrase: dict[str, object] = {"phrase": plan.phrase}
    only: dict[str, object] = {"only": list(plan.only)}

    def step(said: str, run: str, **values: object) -> Step:
        return Step(said, cell(run, values, s.known))

    match plan.kind:
        case "count":
            said = (
                f"The question is for a number, so I count every “{plan.phrase}” exactly, by document and by speaker."
            )
            return step(said, drivers.COUNT, **phrase, **only)
        case "any":
            said = f"The question is whether “{plan.phrase}” comes up, so I look for it as it stands."
            return step(said, drivers.ANY, **phrase, **only)
        case "which":
            said = f"I look in every document for “{plan.phrase}” and list those that have it."
            stops = sorted(w for w in EMPTY if w in plan.phrase.lower())
            ask_who = bool(re.search(r"\b(?:who|guests?|speakers?|hosts?)\b", asked, re.I))
            return step(said, drivers.WHICH, **phrase, empty=stops, ask_who=ask_who)
        case "phrase":
            return step("The question quotes something, so I look for it word for word.", drivers.PHRASE, **phrase)
        case "edge":
            latest = bool(re.search(r"\b(?:last|latest|final)\b", asked, re.I))
            return step(
                f"I list the places of “{plan.phrase}” in order.", drivers.EDGE, **phrase, **only, latest=latest
            )
        case "introduced":
            said = f"I look for the turns of phrase with which {plan.phrase} are brought in."
            return step(said, drivers.INTRODUCED, sort=plan.phrase)
        case "names":
            said = "I count what is written with capitals; which of it is what was asked for, I cannot tell."
            return step(said, drivers.NAMES)
        case "people" if s.shape.speakers:
            said = "The speakers are known, so I count what each says."
            return step(said, drivers.PEOPLE, asked=list(plan.people), question_asked=asked)
        case "listing":
            return step("The question is about the documents themselves.", drivers.LISTING)
        case "gist":
            general = set(
                words("summarize summary overview gist topic topics theme them point podcast book stand key main")
            )
            stems = sorted(plan.aims[0].terms.keys() - general)
            said = "I cannot summarise. I can show what is named most, and the sentences closest to the whole."
            return step(said, drivers.GIST, asked_stems=stems, **only, dull=DULL)
        case "table":
            said = "There is a table: I see whether the question asks for a figure from it."
            return step(said, drivers.TABLE, question_asked=asked)
    return None  # such as speakers where nobody is named in front of what they say: what is said about people may help


def _search(s: Situation, plan: Plan) -> Step:
    """Rank passages, let children quote from the best, merge."""
    if not s.did("tasks_of(aim"):
        said = "I rank passages by the question's words (BM25); what it is about has to be in them or close by."
        if len(plan.aims) > 1:
            said = f"The question has {len(plan.aims)} parts. For each I rank passages by its words (BM25)."
        if plan.only:
            said += f" Only those where {' or '.join(plan.only)} speaks."
        return Step(said, cell(drivers.RANK, {"aims": [aim.literal() for aim in plan.aims]}, s.known))
    if not s.did("quotes ="):
        return _ask(s, plan)
    if re.search(r"^children: \d+, failed: ([1-9]\d*)", s.output, re.M):
        said = "Some children failed: I read what was theirs myself."
        return Step(said, cell(drivers.WHERE_LOST, known=s.known))
    values: dict[str, object] = {"shown": list(plan.shown), "caution": _caution(s, plan)}
    if plan.kind == "sides":
        said = "I put what each side says next to the other."
        return Step(said, cell(drivers.SIDES, {**values, "only": list(plan.people)}, s.known))
    values["most"] = 2 if "Nothing here says" in str(values["caution"])[:20] else 4
    said = "I merge what the children found, keep the few quotes that say most, and look at the answer once."
    kinds = [kind for kind in ("number", "when", "who") if any(aim.asks == kind for aim in plan.aims)]
    run = drivers.MERGE.format(leads=", ".join(f'"{kind}": lead_{kind}' for kind in kinds))
    return Step(said, cell(run, values, s.known))


def _ask(s: Situation, plan: Plan) -> Step:
    if s.line("tasks") == "0":
        return Step("Not one passage has the words.", "quotes = []\nprint('quotes: 0')")
    if not s.parallel or s.calls < FEW:
        said = "I may start no children here, so I read the best passages myself."
        return Step(said, cell(drivers.MYSELF, known=s.known))
    if s.calls < MOST:  # as many children as there may be; the rest is read here, as if it had failed
        run = drivers.ASK_EACH.format(form=drivers.QUOTES, ask=QUOTE + HANDED).replace(
            "in tasks]", f"in tasks[:{s.calls - 3}]]"
        )
        run += drivers.COLLECT.replace(
            "lost = ", f"found += [Exception('not asked')] * max(0, len(tasks) - {s.calls - 3})\nlost = "
        )
        said = f"The best passages go to {s.calls - 3} children; the run may have no more."
    elif s.shape.documents > MANY:
        run = drivers.ASK_GROUPS.format(form=drivers.QUOTES, ask=HAND_ON + HANDED + s.question) + drivers.COLLECT
        said = "Children take six documents each, and start a child for every one. Each gets its passages by reference."
    else:
        run = drivers.ASK_EACH.format(form=drivers.QUOTES, ask=QUOTE + HANDED) + drivers.COLLECT
        said = "The best passages go to children, all at once, each with one document or a part of it."
    return Step(said, cell(run, known=s.known))


def _caution(s: Situation, plan: Plan) -> str:
    """What to say first where words of the question are nowhere in the documents."""
    spelled = [pair.split(" as ") for pair in s.line("spelled otherwise").split(", ") if " as " in pair]
    taken = ", ".join(f"“{other}” for “{word}”" for word, other in spelled)
    return (f"(Not found as spelled; I took {taken}.) " if taken else "") + _missing(s, plan)


def _missing(s: Situation, plan: Plan) -> str:
    missing = [word for word in s.line("not there at all").split(", ") if word and word != "none"]
    if not missing:
        return ""
    missing = [word for word in missing if len(word) > 3 or word[:1].isupper() or len(plan.shown) < 2]
    if not missing:
        return ""
    names = [word for word in missing if word[:1].isupper() or any(c.isdigit() for c in word)]
    quoted = ", ".join(f"“{word}”" for word in names or missing)
    if not names and 2 * len(missing) < len(plan.shown):
        return f"(Nothing here says {quoted}.) "
    return f"Nothing here says {quoted}. What follows has only the other words and may not answer the question. "


def _recover(s: Situation) -> Step:
    """After a failure: one simpler way, then an honest end."""
    error = s.error.replace('"', "'")[:300]
    if error == "schema":
        return Step("The form asked for is one that I cannot make.", "FINAL([])" if s.failures < 3 else "FINAL(None)")
    if s.failures == 1:
        shown = list(classify(s.question).shown)
        return Step("That failed. A plainer search needs less.", cell(drivers.SIMPLE, {"shown": shown}))
    said = f"I could not answer this. Both ways I have failed, the last with: {error}. From the {NAME}."
    return Step("That failed too, so I say so.", f"FINAL({said!r})")


def _last(s: Situation) -> str:
    return drivers.LAST_CHILD if s.child else cell(drivers.LAST, known=s.known)


# children


def _child(s: Situation) -> Step:
    if re.search(r"^children: \d+, failed: ([1-9]\d*)", s.output, re.M) and not s.error:
        run = "tasks = context\n" + drivers.WHERE_LOST
        return Step("Some children failed: I read what was theirs myself.", cell(run, known=HANDED_DOWN))
    if s.did("quotes =") and not s.error:
        return Step(f"That is what there is. {s.line('quotes')} quotes go back as they are.", "FINAL(quotes)")
    if s.failures > 1:
        return Step("That failed again.", "FINAL([])")
    told = HANDED_DOWN if "# Functions handed to you" in s.first and not s.error else frozenset()
    if HAND_ON in s.instruction and s.parallel and not s.error:
        run = (
            drivers.ASK_EACH.format(form=drivers.QUOTES, ask=QUOTE + HANDED).replace("in tasks]", "in context]")
            + drivers.COLLECT
        )
        return Step("One child a document, all at once.", cell(run, known=told))
    run = (
        "quotes = [quote for task in context for quote in pick(task)]"
        if HAND_ON in s.instruction
        else "quotes = pick(context)"
    )
    run += '\nprint("quotes:", len(quotes))\nfor quote in quotes[:2]:\n    print(quote["score"], quote["speaker"], quote["quote"][:200])'
    said = "I score each sentence of these passages and take the best."
    return Step(said, cell("import re\n\n" + run if told else run, known=told))
