"""Which cell comes next: the offline model's whole wit is here, in rules over what the messages tell."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from rlm.offline import drivers
from rlm.offline.drivers import cell
from rlm.offline.question import Plan, classify
from rlm.offline.situation import Situation
from rlm.offline.sums import sums_step
from rlm.offline.words import EMPTY

NAME = "offline extractive model, not a language model"
QUOTE = "Quote, word for word, the sentences that bear on the question; each with title, offset, time and speaker. At most 6, best first; [] if none does."
HAND_ON = "Hand each of these documents to a child of its own, which quotes the sentences that bear on the question. Return all quotes in one list."
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
        plain = cell(values={"shown": list(classify(s.question).shown)}, run=drivers.SIMPLE)
        step = Step("I have done that before. A plainer search, then.", plain) if not s.child else step
        if _done(s, step):
            return Step("I have done that before, so this is the end.", _last(s.child))
    return step


def _done(s: Situation, step: Step) -> bool:
    return any(step.code in reply for reply, _ in s.turns)


def _next(s: Situation) -> Step:
    if not s.recursive:
        return Step(
            f"I am the {NAME}. I serve the strategy rlm only: I work by cells in a REPL and cannot read a text in a prompt."
        )
    if s.last:
        return Step("The last turn: what there is goes out.", _last(s.child))
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
    plan = classify(s.question, s.shape)
    if not s.did("talk = [sentences("):
        greeting = f"I am the {NAME}: I match words and quote, I do not understand. First I cut the documents into sentences and see who speaks."
        return Step(greeting, cell("reading", "counting", "people", run=drivers.READ))
    if s.answered:
        return Step("That is an answer. It goes out through the variable, not retyped.", "FINAL(answer)")
    if s.did('print("usable:"'):
        plan = classify(s.question, replace(s.shape, columns=()))
    if s.none_found and plan.kind in ("which", "edge", "names", "phrase"):
        plan = replace(plan, kind="find")
    step = _direct(s, plan) if plan.kind not in ("find", "sides") else None
    return step or _search(s, plan)


def _direct(s: Situation, plan: Plan) -> Step | None:
    """The kinds of question that code answers alone, in one cell."""
    values: dict[str, object]
    if plan.kind == "count":
        said = f"The question is for a number, so I count every “{plan.phrase}” exactly, by document and by speaker."
        return Step(said, cell(values={"phrase": plan.phrase, "only": list(plan.only)}, run=drivers.COUNT))
    if plan.kind == "which":
        said = f"I look in every document for “{plan.phrase}” and list those that have it."
        stops = sorted(w for w in EMPTY if w in plan.phrase.lower())
        return Step(
            said,
            cell(
                "ranking",
                values={
                    "phrase": plan.phrase,
                    "empty": stops,
                    "ask_who": bool(re.search(r"\b(?:who|guests?|speakers?|hosts?)\b", s.question, re.I)),
                },
                run=drivers.WHICH,
            ),
        )
    if plan.kind == "phrase":
        run = cell("ranking", "facts", "merging", "leads", values={"phrase": plan.phrase}, run=drivers.PHRASE)
        return Step("The question quotes something, so I look for it word for word.", run)
    if plan.kind == "edge":
        latest = bool(re.search(r"\b(?:last|latest|final)\b", s.question, re.I))
        values = {"phrase": plan.phrase, "only": list(plan.only), "latest": latest}
        return Step(
            f"I list the places of “{plan.phrase}” in order.",
            cell("ranking", "merging", values=values, run=drivers.EDGE),
        )
    if plan.kind == "names":
        said = "I count what is written with capitals; which of it is what was asked for, I cannot tell."
        return Step(said, cell("ranking", "facts", "merging", "leads", run=drivers.NAMES))
    if plan.kind == "people":
        if not s.shape.speakers:
            return None  # nobody is named in front of what they say: what is said about people may help
        values = {"asked": list(plan.people), "question_asked": s.question}
        return Step("The speakers are known, so I count what each says.", cell(values=values, run=drivers.PEOPLE))
    if plan.kind == "listing":
        return Step("The question is about the documents themselves.", cell(run=drivers.LISTING))
    if plan.kind == "gist":
        general = {
            "summariz",
            "summary",
            "overview",
            "gist",
            "topic",
            "them",
            "point",
            "podcast",
            "book",
            "stand",
            "key",
        }
        values = {"asked_stems": sorted(plan.terms.keys() - general), "only": list(plan.only)}
        said = "I cannot summarise. I can show what is named most, and the sentences closest to the whole."
        return Step(said, cell("ranking", "merging", "gist", values=values, run=drivers.GIST))
    if plan.kind == "table":
        values = {"question_asked": s.question}
        return Step(
            "There is a table: I see whether the question asks for a figure from it.",
            cell("ranking", "tables", "tablework", values=values, run=drivers.TABLE),
        )
    return None


def _search(s: Situation, plan: Plan) -> Step:
    """Rank passages, let children quote from the best, merge."""
    if not s.did("tasks = tasks_of("):
        values = {
            "terms": plan.terms,
            "pairs": list(plan.pairs),
            "shown": list(plan.shown),
            "only": list(plan.only),
            "prefer": list(plan.prefer),
            "like": {word: stems for word, stems in plan.like.items() if len(stems) > 1},
        }
        said = "I rank passages by the question's words (BM25)" + (
            f", those where {' or '.join(plan.only)} speaks." if plan.only else "."
        )
        return Step(said, cell("ranking", values=values, run=drivers.RANK))
    if not s.did("quotes ="):
        return _ask(s, plan)
    failed = re.search(r"^children: \d+, failed: ([1-9]\d*)", s.output, re.M)
    if failed:
        values = {"looks_for": plan.looks_for, "prefer": list(plan.prefer)}
        return Step(
            "Some children failed: I read what was theirs myself.",
            cell("quoting", values=values, run=drivers.WHERE_LOST),
        )
    caution = _caution(s, plan)
    if plan.kind == "sides":
        people = list(plan.people)
        return Step(
            "I put what each side says next to the other.",
            cell("facts", "merging", "leads", values={"only": people, "caution": caution}, run=drivers.SIDES),
        )
    values = {"asks": plan.asks, "noun": list(plan.noun), "question_asked": s.question, "caution": caution}
    said = "I merge what the children found, keep the few quotes that say most, and look at the answer once."
    return Step(said, cell("facts", "merging", "leads", values=values, run=drivers.MERGE))


def _ask(s: Situation, plan: Plan) -> Step:
    if re.search(r"passages, 0 with the words", s.output):
        return Step("Not one passage has the words.", "quotes = []\nprint('quotes: 0')")
    if not s.parallel or s.calls < FEW:
        values = {"looks_for": plan.looks_for, "only": list(plan.only), "prefer": list(plan.prefer)}
        return Step(
            "I may start no children here, so I read the best passages myself.",
            cell("quoting", values=values, run=drivers.MYSELF),
        )
    handed = f"\nOnly: {' | '.join(plan.only)}" if plan.only else ""
    handed += f"\nPrefer: {' | '.join(plan.prefer)}" if plan.prefer else ""
    handed += f"\nQuestion: {s.question}"
    if s.calls < MOST:  # as many children as there may be; the rest is read here, as if it had failed
        run = drivers.ASK_EACH.format(form=drivers.QUOTES, ask=QUOTE + handed).replace(
            "in tasks]", f"in tasks[: {s.calls - 2}]"
        )
        said = f"The run may have {s.calls} calls in all, so the best passages go to {s.calls - 2} children."
    elif s.shape.documents > MANY:
        run = drivers.ASK_GROUPS.format(form=drivers.QUOTES, ask=HAND_ON + handed)
        said = "Children take six documents each, and start a child for every one. Each gets its passages by reference."
    else:
        run = drivers.ASK_EACH.format(form=drivers.QUOTES, ask=QUOTE + handed)
        said = "The best passages go to children, all at once, each with one document or a part of it."
    return Step(said, cell("quoting", run=run + drivers.COLLECT))


def _caution(s: Situation, plan: Plan) -> str:
    """What to say first where words of the question are nowhere in the documents."""
    spelled = [pair.split(" as ") for pair in s.line("spelled otherwise").split(", ") if " as " in pair]
    taken = ", ".join(f"“{other}” for “{word}”" for word, other in spelled)
    return (f"(Not found as spelled; I took {taken}.) " if taken else "") + _missing(s, plan)


def _missing(s: Situation, plan: Plan) -> str:
    missing = [word for word in s.line("not there at all").split(", ") if word and word != "none"]
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
        return Step("That failed. A plainer search needs less.", cell(values={"shown": shown}, run=drivers.SIMPLE))
    said = f"I could not answer this. Both ways I have failed, the last with: {error}. From the {NAME}."
    return Step("That failed too, so I say so.", f"FINAL({said!r})")


def _last(child: bool) -> str:
    return cell(run=drivers.LAST_CHILD if child else drivers.LAST)


# children


def _child(s: Situation) -> Step:
    if s.did("quotes =") and not s.error:
        return Step(f"That is what there is. {s.line('quotes')} quotes go back as they are.", "FINAL(quotes)")
    if s.failures > 1:
        return Step("That failed again.", "FINAL([])")
    modules = () if "# Functions handed to you" in s.first and not s.error else ("ranking", "quoting")
    values: dict[str, object] = {
        "looks_for": classify(s.question).looks_for,
        "only": _names(s.instruction, "Only"),
        "prefer": _names(s.instruction, "Prefer"),
    }
    if HAND_ON in s.instruction:
        if s.parallel and not s.error:
            ask = s.instruction.replace(HAND_ON, QUOTE)
            run = (
                drivers.ASK_EACH.format(form=drivers.QUOTES, ask=ask).replace("in tasks]", "in context]")
                + drivers.COLLECT
            )
            return Step("One child a document, all at once.", cell(*modules, run=run))
        run = "tasks = context\nquotes = [quote for task in tasks for quote in "
        run += 'pick(task["passages"], task["weights"], looks_for, only, prefer, task["title"])]'
    else:
        run = 'quotes = pick(context["passages"], context["weights"], looks_for, only, prefer, context["title"])'
    run += '\nprint("quotes:", len(quotes))\nfor quote in quotes[:2]:\n    print(quote["score"], quote["speaker"], quote["quote"][:200])'
    return Step(
        "I score each sentence of these passages and take the best.",
        cell(*modules, values=values, run="import re\n\n" + run if not modules else run),
    )


def _names(instruction: str, label: str) -> list[str]:
    found = re.search(rf"^{label}: (.+)$", instruction, re.M)
    return found[1].split(" | ") if found else []
