"""Answers: ranked candidates, boxes or spans, and the evidence they rest on.

Boxes are normalised (x1, y1, x2, y2); times are seconds on the stream's clock. In a notebook an answer
is HTML: a drawing of the time that it covers.
"""

from __future__ import annotations

from datetime import tzinfo
from functools import cached_property
from html import escape
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from edge_runtime.memory.coverage import Coverage
from edge_runtime.query.timeline_svg import draw_timeline, watched_parts
from edge_runtime.query.timestamps import find_other_zone, format_clock_span, format_span

Box = tuple[float, float, float, float]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Interval(_Part):
    start: float = Field(alias="from")
    end: float = Field(alias="to")


class ActivityCandidate(_Part):
    activity: str
    confidence: float


class TimedBox(_Part):
    """`interpolated`: between two remembered moments that are close, not seen at `t` itself."""

    t: float
    box: Box
    interpolated: bool = False


class SpanCandidate(_Part):
    start: float = Field(alias="from")
    end: float = Field(alias="to")
    confidence: float


class Evidence(_Part):
    """A remembered token that the answer rests on: when, which cell of the 7 × 7 grid, with what share."""

    t: float
    cell: int
    box: Box
    weight: float


class Gap(Interval):
    """`reason`: "paused" for privacy, "forgotten" on request; left out where it is unknown.

    `watched_share`: many short gaps, of whose time at least and at most this share was watched; left out
    where none was.
    """

    reason: str | None = None
    watched_share: tuple[float, float] | None = None

    @model_serializer(mode="wrap")
    def _known_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        return {key: value for key, value in data.items() if value is not None}


Moment = Annotated[str | None, Field(exclude_if=lambda moment: moment is None)]


class Window(Interval):
    """The window of a question that had one. `clock_from` and `clock_to` are both times on the clock of the
    machine that watches, with date and UTC offset; a recording has none."""

    clock_from: Moment = None
    clock_to: Moment = None


class Covered(_Part):
    """What was watched of the asked window; null where nothing was. Of `from` to `to` at least and at most
    `watched_share` was. `epoch` is the wall-clock time of the stream's second 0, seconds since 1970;
    `clock_from` and `clock_to` are both times on the clock of the machine that watches, with date and UTC
    offset. A recording has none of the three."""

    start: float | None = Field(alias="from")
    end: float | None = Field(alias="to")
    watched_share: tuple[float, float] | None = Field(default=None, exclude_if=lambda share: share is None)
    gaps: tuple[Gap, ...] = ()
    epoch: float | None = Field(default=None, exclude_if=lambda epoch: epoch is None)
    clock_from: Moment = None
    clock_to: Moment = None

    @classmethod
    def from_coverage(cls, coverage: Coverage) -> Covered:
        gaps = tuple(
            Gap(start=gap.start, end=gap.end, reason=gap.reason, watched_share=gap.watched_share)
            for gap in coverage.list_gaps()
        )
        return cls(start=coverage.start, end=coverage.end, watched_share=coverage.watched_share(), gaps=gaps)

    def format(self, zone: tzinfo | None = None) -> str:
        """Format what was watched for a person, in `zone`; empty where nothing was."""
        if self.start is None or self.end is None:
            return ""
        span = format_span(self.start, self.end, self.epoch, zone=zone)
        more = "over " if any(gap.watched_share for gap in self.gaps) else ""
        gaps = "1 gap" if len(self.gaps) == 1 else f"{more}{len(self.gaps)} gaps"
        return f"{format_watched(self.watched_share)}{span}, {gaps}"


class Answer(_Part):
    """`answer` is the sentence for a person; everything else is for programs.

    `abstained` with `reason`: nothing was watched, nothing is remembered, or what was asked was not seen.
    Then there are no boxes, and activities and spans are what it would have been at best.
    `activity` is the name that the question gave, left out where it gave none. `asked` is the window of a
    question that had one, its clock times resolved. `familiar: false`: the camera shows nothing like what the
    bundle was trained on; activities are withheld, and photos are matched by looks alone. `trained: false`:
    the bundle's weights were only initialised, the answer means nothing.
    """

    type: Literal["activity", "object", "time"]
    answer: str
    confidence: float
    abstained: bool
    reason: str | None = None
    activities: tuple[ActivityCandidate, ...] = ()
    boxes: tuple[TimedBox, ...] = ()
    spans: tuple[SpanCandidate, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    coverage: Covered
    activity: str | None = Field(default=None, exclude_if=lambda activity: activity is None)
    asked: Window | None = Field(default=None, exclude_if=lambda asked: asked is None)
    trained: bool
    familiar: bool = True
    memory_version: int
    milliseconds: float

    @cached_property
    def json_fields(self) -> dict[str, Any]:
        """The answer as JSON data, made once for reply, history and events; not to be changed."""
        return self.model_dump(mode="json")

    def on_clock(self, epoch: float) -> Answer:
        """Return this answer with wall-clock times in its sentence; second 0 was at `epoch`."""
        covered, asked = self.coverage, self.asked
        clock = format_clock_span(covered.start, covered.end, epoch)
        changed: dict[str, Any] = {"coverage": covered.model_copy(update={"epoch": epoch, **clock})}
        if asked is not None:
            clock = format_clock_span(asked.start, asked.end, epoch)
            changed["asked"] = asked.model_copy(update=clock)
        if self.type == "time" and self.spans:
            changed["answer"] = format_span(self.spans[0].start, self.spans[0].end, epoch)
        answer = self.model_copy(update=changed)
        answer.__dict__.pop("json_fields", None)  # which a copy would share
        return answer

    @property
    def zone(self) -> tzinfo | None:
        """The zone of its clock times where this machine's clock has another one."""
        asked = None if self.asked is None else self.asked.clock_to
        return find_other_zone(self.coverage.clock_to or asked)

    def list_alternatives(self) -> list[str]:
        """Return what else it might be, in words, unless that is 0 %; of what was not seen only what it would
        be at best."""
        epoch, zone = self.coverage.epoch, self.zone
        ranked = [(one.activity, one.confidence) for one in self.activities[:4]]
        ranked += [(format_span(one.start, one.end, epoch, zone=zone), one.confidence) for one in self.spans]
        if self.abstained:
            return [f"at best {what} ({format_percent(sure)})" for what, sure in ranked[:1]]
        return [f"or {what} ({format_percent(sure)})" for what, sure in ranked[1:] if round(100 * sure)]

    def format_confidence(self) -> str:
        """Format the confidence, "95 %"; empty for an answer that says no, of which it is none."""
        return "" if self.abstained else format_percent(self.confidence)

    def _repr_html_(self) -> str:
        """Render for a notebook: the answer, what else it might be, and where in time its evidence lies."""
        covered = self.coverage
        rows = "".join(f"<tr><td>{escape(words)}</td></tr>" for words in self.list_alternatives())
        found = [] if self.abstained else [(one.start, one.end) for one in self.spans]
        spans = found + [(box.t, box.t + 1) for box in self.boxes]
        gaps = [(gap.start, gap.end, gap.watched_share) for gap in covered.gaps]
        watched = watched_parts(covered.start, covered.end, gaps)
        drawn = draw_timeline(covered.start, covered.end, watched, spans, [item.t for item in self.evidence])
        sure = "" if self.abstained else f" ({self.format_confidence()})"
        return f"<div><b>{escape(self.answer)}</b>{sure}<br>{drawn}<table>{rows}</table></div>"


def format_share(share: tuple[float, float] | None) -> str:
    """Format which share was watched as what comes before the time, "93 % of "; empty for all of it."""
    if share is None or share[0] == 1:
        return ""
    low, high = (_format_part(part) for part in share)
    if share[1] == 0:
        return "nothing of "
    if low == high:
        return f"{low} of "
    return f"at most {high} of " if share[0] == 0 else f"{low} to {high} of "


def format_watched(share: tuple[float, float] | None) -> str:
    """Format how much was watched as the beginning of a sentence, "watched 93 % of "."""
    if share is not None and share[0] == 0 < share[1]:
        return f"it is not known whether anybody watched: {format_share(share)}"
    return f"watched {format_share(share)}"


def _format_part(share: float) -> str:
    """Format a share so that a part is neither 0 nor 100 %."""
    if 0 < share < 0.01:
        return "under 1 %"
    return "over 99 %" if 0.99 < share < 1 else format_percent(share)


def format_percent(share: float) -> str:
    return f"{100 * share:.0f} %"
