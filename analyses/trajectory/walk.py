"""A run's tree in reading order: each call, its cells, and below each cell the calls that it asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analyses import blobs
from analyses.models import Call, Cell, FollowUp, Run
from analyses.outline import Outline

AT_ONCE = 20  # calls loaded with their cells at a time


@dataclass(frozen=True)
class Over:
    """All of a call has been given."""

    call: Call


def walk(
    run: Run, outline: Outline | None = None, *, whole: int | None = None
) -> Iterator[Call | Cell | FollowUp | Over]:
    """Each call, then its cells with what they asked for, then Over. Never more than a few calls are in memory.

    ``whole``: of calls after this number only those cells that asked for something.
    """
    outline = outline or Outline.of(run)
    roots = [entry.number for entry in outline.calls.values() if entry.parent is None]
    yield from _calls(run, outline, roots, whole)


def _calls(
    run: Run, outline: Outline, numbers: list[int], whole: int | None
) -> Iterator[Call | Cell | FollowUp | Over]:
    for start in range(0, len(numbers), AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        rows = list(Call.objects.filter(run=run, number__in=some).defer("answer_value").order_by("number"))
        cells: dict[int, list[Cell]] = {number: [] for number in some}
        # By the calls' primary keys: there is an index for that, and none for their numbers.
        with_cells = [row.pk for row in rows if _is_whole(row.number, whole) or outline.calls[row.number].children]
        of_rows = Cell.objects.filter(call__in=with_cells).defer("messages", "exchange", "variables")
        for cell in of_rows.order_by("call_number", "number") if with_cells else ():
            if _is_whole(cell.call_number, whole) or outline.children(cell.call_number, cell.number):
                cells[cell.call_number].append(cell)
        for call in rows:
            yield call
            asked = list(run.follow_up_set.order_by("number")) if run.follow_ups and call.parent_number is None else []
            for cell in cells.pop(call.number):
                while asked and asked[0].after_cell < cell.number:
                    yield asked.pop(0)
                if not run.contents.outputs:
                    cell.output, cell.output_blob = cell.shown, ""
                yield cell
                yield from _calls(run, outline, outline.children(call.number, cell.number), whole)
            yield from asked
            yield Over(call)


def _is_whole(number: int, whole: int | None) -> bool:
    return whole is None or number <= whole


def output_of(cell: Cell, most: int) -> str:
    """What a cell printed, at most so many characters of it, and a line on what is not there."""
    text, left = cell.output, 0
    if cell.output_blob:
        try:
            with blobs.open(cell.output_blob) as blob:
                head = blob.read(4 * most).decode("utf-8", "replace")
            text, left = head[:most], max(0, cell.output_chars - most)
        except FileNotFoundError:
            text = cell.shown
    if len(text) > most:
        left += len(text) - most
        text = text[:most]
    return f"{text}\n[… {left:,} characters more, in the JSON Lines export …]" if left else text
