"""The form of a fork: what a person changes at a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import QueryDict

from analyses import forks
from analyses.actions import RunRefused
from analyses.forking import AGAIN, EDIT, Forecast
from analyses.models import Cell, Run
from analyses.run_forms import SHOWN, LimitField, written
from rlm.limits import Limits

INSTRUCTION = "instruction"


@dataclass(frozen=True)
class Way:
    """One way to go on, and what it would keep and reuse."""

    name: str
    label: str
    forecast: Forecast
    chosen: bool


class ForkForm(forms.Form):
    way = forms.ChoiceField(choices=[(name, name) for name in (EDIT, AGAIN, INSTRUCTION)])
    code = forms.CharField(required=False, strip=False)
    instruction = forms.CharField(required=False)
    again = forms.BooleanField(required=False, label="Ask failed child calls again")
    model = forms.CharField(required=False, max_length=120, label="Model of this call")
    child_model = forms.CharField(required=False, max_length=120, label="Model of child calls")

    def __init__(self, data: QueryDict | None = None, *, run: Run, cell: Cell, way: str = "") -> None:
        self.run, self.cell, self.call = run, cell, cell.call
        self.root = self.call.parent_number is None
        own = Limits.of(run.limits).as_dict()
        start: dict[str, Any] = {
            "way": way if way in (AGAIN, INSTRUCTION) or not cell.code else EDIT,
            "code": cell.code,
            "instruction": run.question if self.root else self.call.instruction,
            "model": self.call.model,
            "child_model": run.child_model,
        }
        if not cell.code and start["way"] == EDIT:
            start["way"] = AGAIN
        start |= {f"limit_{shown.name}": written(own[shown.name], shown.name) for shown in SHOWN}
        if data is not None:
            data = data.copy()
            for name, value in start.items():
                data.setdefault(name, value)
        super().__init__(data, initial=start)
        self.fields.update({f"limit_{shown.name}": LimitField(shown) for shown in SHOWN})
        for name in ("model", "child_model"):
            self.fields[name].widget.attrs |= {"autocomplete": "off", "spellcheck": "false"}

    @property
    def limit_fields(self) -> list[forms.BoundField]:
        return [self[f"limit_{shown.name}"] for shown in SHOWN]

    @property
    def limits_folded(self) -> bool:
        return not any(name.startswith("limit_") for name in self.errors)

    @property
    def ways(self) -> list[Way]:
        """What may be done at this cell. Raises RunRefused where the run cannot be forked at all."""
        labels = {
            EDIT: "Run the cell with this code",
            AGAIN: "Let the model write the cell again",
            INSTRUCTION: "Ask another question" if self.root else "Give the call another instruction",
        }
        found = []
        for name, label in labels.items():
            if name == EDIT and not (self.cell.code and self.cell.replied_at):
                continue
            forecast = forks.foreseen(self.run, self.call.number, self.cell.number, name)
            found.append(Way(name, label, forecast, self["way"].value() == name))
        return found

    @property
    def change(self) -> forks.Change:
        given, way = self.cleaned_data, self.cleaned_data["way"]
        limits = {shown.name: given[f"limit_{shown.name}"] for shown in SHOWN}
        return forks.Change(
            self.call.number,
            self.cell.number,
            code=given["code"] if way == EDIT else None,
            instruction=given["instruction"] if way == INSTRUCTION else None,
            model=given["model"],
            child_model=given["child_model"],
            limits=limits,
            again=given["again"],
        )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("way") == EDIT and "code" in data and self.cell.code:
            code = data["code"].replace("\r\n", "\n")
            if code.rstrip("\n") != self.cell.code:
                try:
                    forks.check_code(code.replace("\0", ""), self.cell.kind)
                except RunRefused as refusal:
                    self.add_error("code", str(refusal))
        return data
