"""Marks an answer to a sample question by what has to stand in it: 1 is right, between 0 and 1 is partly right."""

from __future__ import annotations

import re
from typing import Any


def score(question: dict[str, Any], answer: str) -> float:
    """The share of what the question's judge asks for that is in the answer; 0 where something forbidden is.

    ``all_of`` lists what must stand there, each a string or a list of equal forms; ``none_of`` is a pattern
    of what must not, apart from what ``all_of`` names. Words and numbers count whole: "6" is not in "16", nor in "06:30".
    """
    judge = question["judge"]
    wanted = [[one] if isinstance(one, str) else one for one in judge["all_of"]]
    if "none_of" in judge:
        allowed = {form.casefold() for forms in wanted for form in forms}
        if any(found.casefold() not in allowed for found in re.findall(judge["none_of"], answer)):
            return 0.0
    return sum(any(_has(answer, form) for form in forms) for forms in wanted) / len(wanted)


def _has(answer: str, form: str) -> bool:
    words = r"\s+".join(re.escape(word) for word in form.split())
    return re.search(rf"(?<![\w.:-]){words}(?!\w|[.:]\d)", answer, re.IGNORECASE) is not None
