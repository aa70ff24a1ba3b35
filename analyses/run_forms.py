"""The form that asks: a question, its context, who answers, and the limits. Nothing typed is lost to a mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.functional import cached_property

from analyses import endpoints
from analyses.ingest import part
from analyses.models import CorpusVersion, Run
from analyses.templatetags.run import amount
from rlm.endpoints import Endpoint
from rlm.limits import Limits
from workspaces.models import Workspace

DEFAULTS = Limits()
OPTIONAL = {f.name for f in fields(Limits) if "None" in str(f.type)}
WHOLE = {f.name for f in fields(Limits) if str(f.type).startswith("int")}
NO_CORPUS = "None: the question itself is the context"


@dataclass(frozen=True)
class Shown:
    """How a limit stands in the form. ``most`` protects the instance; the run's own limits protect the purse."""

    name: str
    label: str
    hint: str = ""
    most: float = 1_000_000_000


SHOWN = (
    Shown("cost", "Money, $", "set aside before each request; empty: no limit", 10_000),
    Shown("prompt_tokens", "Prompt tokens", "of all calls together; empty: no limit"),
    Shown("completion_tokens", "Reply tokens", "of all calls together; empty: no limit"),
    Shown("run_seconds", "Seconds a run", "", 86_400),
    Shown("cell_seconds", "Seconds a cell", "waiting for children not counted", 3_600),
    Shown("depth", "Depth", "of calls below the root; 0: the root alone", 10),
    Shown("calls", "Calls", "the root included", 20_000),
    Shown("calls_in_flight", "Calls in flight", "requests under way at once", 128),
    Shown("turns", "Turns a call", "", 500),
    Shown("request_seconds", "Seconds a request", "one reply of the model", 3_600),
    Shown("reply_tokens", "Tokens a reply", "", 200_000),
    Shown("shown_chars", "Characters of an output", "that the model sees", 200_000),
    Shown("errors", "Errors in a row", "of one call’s cells", 100),
    Shown("memory_mb", "Memory of a call, MB", "", 4_096),
)


def strategies() -> tuple[str, ...]:
    """Those that the engine offers."""
    try:
        from rlm import engine
    except ImportError:
        return ("rlm",)
    return tuple(getattr(engine, "STRATEGIES", ("rlm",)))


def written(value: float | None, name: str) -> str:
    """A limit as a person would write it."""
    if value is None:
        return ""
    if name == "cost" and round(value, 2) == value:
        return f"{value:,.2f}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,}"


class LimitField(forms.CharField):
    """A number as people write it: 3,000,000 or 3 000 000 or $2.50."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        super().__init__(
            label=shown.label,
            help_text=shown.hint,
            required=shown.name not in OPTIONAL,
            error_messages={
                "required": f"Give a number, such as {written(getattr(DEFAULTS, shown.name), shown.name)}."
            },
            widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        )

    def clean(self, value: Any) -> float | None:
        text = super().clean(value).replace("$", "").replace(",", "").replace(" ", "").replace("\u202f", "")
        if not text:
            return None
        whole, name = self.shown.name in WHOLE, self.shown.name
        try:
            number = float(text)
        except ValueError:
            raise forms.ValidationError(f"“{value[:40]}” is not a number.") from None
        least = 0 if name in {"depth", *OPTIONAL} else 1
        if not least <= number <= self.shown.most:  # refuses nan too
            raise forms.ValidationError(f"Give a number from {least} to {self.shown.most:,.0f}.")
        if whole and number != int(number):
            raise forms.ValidationError("Give a whole number.")
        return int(number) if whole else number


class EndpointSelect(forms.Select):
    """Each option tells the script which models the endpoint uses by itself, and whether it is the offline one."""

    endpoints: dict[str, Endpoint] = {}

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **kwargs)
        if endpoint := self.endpoints.get(str(value)):
            option["attrs"] |= {
                "data-root": endpoint.root_model,
                "data-child": endpoint.child_model or endpoint.root_model,
            }
            if endpoint.offline:
                option["attrs"]["data-offline"] = "true"
        return option


def endpoint_label(endpoint: Endpoint) -> str:
    if endpoint.offline:
        return endpoints.OFFLINE_LABEL
    child = endpoint.child_model or endpoint.root_model
    return f"{endpoint.name}: {endpoint.root_model}" + (f", children {child}" if child != endpoint.root_model else "")


def corpus_label(version: CorpusVersion) -> str:
    number = f", version {version.number}" if version.number > 1 else ""
    return f"{version.corpus.name}{number} ({amount(version.characters)} characters)"


@dataclass(frozen=True)
class ChosenPart:
    """Some documents of a corpus, as the chooser puts them into the address: "key:version:positions"."""

    version: CorpusVersion
    positions: list[int]
    characters: int
    text: str

    @classmethod
    def of(cls, text: str, workspace: Workspace | None) -> ChosenPart | None:
        """None where there is no such corpus, version or document here."""
        key, _, rest = text.partition(":")
        number, _, positions = rest.partition(":")
        if not number.isdecimal() or len(number) > 9:
            return None
        versions = CorpusVersion.objects.filter(corpus__workspace=workspace, corpus__key=key[:24], number=int(number))
        if (version := versions.select_related("corpus").first()) is None:
            return None
        found = part.part_of(version, part.positions_of(positions))
        if found.positions is None or found.characters is None:
            return None
        return cls(version, found.positions, found.characters, text)


def part_text(run: Run) -> str:
    """The inverse, of what a run read; "" for a run on a whole corpus."""
    if run.corpus_version is None or run.documents is None:
        return ""
    return f"{run.corpus_version.corpus.key}:{run.corpus_version.number}:{part.written(run.documents)}"


class RunForm(forms.Form):
    question = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "What do you want to know?"}),
        error_messages={"required": "Write a question first."},
    )
    corpus = forms.ChoiceField(
        required=False, error_messages={"invalid_choice": "That corpus is no longer here. Choose another."}
    )
    part = forms.CharField(required=False, widget=forms.HiddenInput)
    strategy = forms.ChoiceField(error_messages={"invalid_choice": "There is no strategy “%(value)s” here."})
    endpoint = forms.ChoiceField(
        label="Model endpoint",
        widget=EndpointSelect,
        error_messages={"invalid_choice": "The model endpoint “%(value)s” is no longer offered. Choose another."},
    )
    root_model = forms.CharField(required=False, max_length=120, help_text="empty: the endpoint’s own")
    child_model = forms.CharField(
        label="Model of child calls", required=False, max_length=120, help_text="empty: the endpoint’s own"
    )

    too_large = False  # was refused for that

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        versions: Sequence[CorpusVersion],
        workspace: Workspace | None = None,
        **kwargs: Any,
    ) -> None:
        self.offered = {endpoint.name: endpoint for endpoint in endpoints.available(workspace)}
        self.versions = {version.corpus.key: version for version in versions}
        self.workspace = workspace
        limits = {shown.name: LimitField(shown) for shown in SHOWN}
        starts = {f"limit_{name}": written(getattr(DEFAULTS, name), name) for name in limits}
        starts |= {"strategy": "rlm", "endpoint": next(iter(self.offered)), "corpus": next(iter(self.versions), "")}
        initial = starts | (kwargs.pop("initial", None) or {})
        if data is not None:
            # What a form did not offer (a sample's button sends only its question) is as if left alone.
            data = data.copy()
            for name, value in initial.items():
                data.setdefault(name, value)
        super().__init__(data, initial=initial, **kwargs)
        self.fields.update({f"limit_{name}": field for name, field in limits.items()})
        choice: Any = self.fields
        choice["corpus"].choices = [*((key, corpus_label(v)) for key, v in self.versions.items()), ("", NO_CORPUS)]
        several = (key for key, version in self.versions.items() if version.document_count > 1)
        choice["corpus"].widget.attrs["data-several"] = " ".join(several)
        choice["strategy"].choices = [(name, name) for name in strategies()]
        choice["endpoint"].choices = [(name, endpoint_label(each)) for name, each in self.offered.items()]
        choice["endpoint"].widget.endpoints = self.offered
        for name in ("root_model", "child_model"):
            choice[name].widget.attrs |= {"list": "models", "autocomplete": "off", "spellcheck": "false"}

    @cached_property
    def chosen_part(self) -> ChosenPart | None:
        """The documents that the form shows as chosen."""
        return ChosenPart.of(str(self["part"].value() or ""), self.workspace)

    @property
    def limit_fields(self) -> list[forms.BoundField]:
        return [self[f"limit_{shown.name}"] for shown in SHOWN]

    @property
    def chosen(self) -> Endpoint:
        """The endpoint that the form shows as chosen."""
        return self.offered.get(self["endpoint"].value()) or next(iter(self.offered.values()))

    @property
    def folded(self) -> bool:
        """Nothing in the fold needs a person's eye."""
        return not any(
            name in self.errors for name in self.fields if name.startswith("limit_") or name.endswith("_model")
        )

    @property
    def limits_in_short(self) -> str:
        """The fold's title, from what stands in the form."""

        def value(name: str) -> str:
            return str(self[f"limit_{name}"].value() or "")

        seconds = value("run_seconds").replace(",", "")
        minutes = f"{int(seconds) / 60:g} minutes" if seconds.isdigit() else f"{seconds} seconds"
        cost = f"${value('cost')}" if value("cost") else "no limit of money"
        return f"{cost}, {minutes}, depth {value('depth')}, {value('calls')} calls"

    def clean_question(self) -> str:
        question = str(self.cleaned_data["question"]).replace("\r\n", "\n").strip()
        if len(question) > DEFAULTS.question_chars:
            raise forms.ValidationError(
                f"The question has {len(question):,} characters; at most {DEFAULTS.question_chars:,} are taken. "
                "Put long texts into a corpus and ask about them."
            )
        return question

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("part"):
            if self.chosen_part is None:
                self.add_error(None, "The documents that were chosen are not here any more. Choose again.")
            elif "corpus" in data and self.chosen_part.version.corpus.key != data["corpus"]:
                self.add_error(
                    None,
                    f"The chosen documents are of {self.chosen_part.version.corpus.name}: choose that corpus, or untick them.",
                )
        endpoint = self.offered.get(data.get("endpoint", ""))
        if endpoint is None:
            return data
        if endpoint.offline:
            if data.get("strategy", "rlm") != "rlm":
                self.add_error(
                    "strategy",
                    f"The {endpoints.OFFLINE_LABEL} serves the strategy rlm only. Choose rlm, or another model endpoint.",
                )
            # Names typed for another endpoint mean nothing here, and it has no other model to offer.
            data["root_model"] = data["child_model"] = ""
        return data

    @property
    def version(self) -> CorpusVersion | None:
        if self.documents is not None and self.chosen_part:
            return self.chosen_part.version
        return self.versions.get(self.cleaned_data["corpus"])

    @property
    def documents(self) -> list[int] | None:
        return self.chosen_part.positions if self.cleaned_data.get("part") and self.chosen_part else None

    @property
    def limits(self) -> dict[str, Any]:
        return {shown.name: self.cleaned_data[f"limit_{shown.name}"] for shown in SHOWN}


def again(run: Run) -> dict[str, Any]:
    """The form's start for asking once more what a run asked. Models that are the endpoint's own stay unwritten."""
    start: dict[str, Any] = {
        "question": run.question,
        "corpus": run.corpus_version.corpus.key if run.corpus_version else "",
        "part": part_text(run),
        "strategy": run.strategy,
        "endpoint": run.endpoint,
    }
    known = {endpoint.name: endpoint for endpoint in endpoints.available(run.workspace)}
    if own := known.get(run.endpoint):
        start["root_model"] = "" if run.root_model == own.root_model else run.root_model
        start["child_model"] = "" if run.child_model in (own.child_model, own.root_model) else run.child_model
    else:
        del start["endpoint"]
    for shown in SHOWN:
        if shown.name in run.limits:
            start[f"limit_{shown.name}"] = written(run.limits[shown.name], shown.name)
    return start
