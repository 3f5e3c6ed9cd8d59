"""Answers: ranked candidates, boxes or spans, and the evidence they rest on.

Boxes are normalised (x1, y1, x2, y2); times are seconds on the stream's clock. In a notebook an answer, and a
memory, is HTML: a drawing of the time that it covers.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.memory.coverage import Coverage
from edge_runtime.query.timestamps import format_span

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
    """`reason`: "paused" for privacy, "forgotten" on request; left out where it is unknown."""

    reason: str | None = None

    @model_serializer(mode="wrap")
    def _known_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if data["reason"] is None:
            del data["reason"]
        return data


class Covered(_Part):
    """What was watched of the asked window; null where nothing was. `epoch` is the wall-clock time of the
    stream's second 0, seconds since 1970; a recording has none."""

    start: float | None = Field(alias="from")
    end: float | None = Field(alias="to")
    gaps: tuple[Gap, ...] = ()
    epoch: float | None = Field(default=None, exclude_if=lambda epoch: epoch is None)

    @classmethod
    def from_coverage(cls, coverage: Coverage) -> Covered:
        gaps = tuple(Gap(start=a, end=b, reason=why) for a, b, why in coverage.gaps_with_reasons())
        return cls(start=coverage.start, end=coverage.end, gaps=gaps)


class Answer(_Part):
    """`answer` is the sentence for a person; everything else is for programs.

    `abstained` with `reason`: nothing was watched, nothing is remembered, or what was asked was not seen.
    `familiar: false`: the camera shows nothing like what the bundle was trained on; activities are withheld,
    and photos are matched by looks alone. `trained: false`: the bundle's weights were only initialised, the
    answer means nothing.
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
        changed: dict[str, Any] = {"coverage": self.coverage.model_copy(update={"epoch": epoch})}
        if self.type == "time" and self.spans:
            changed["answer"] = format_span(self.spans[0].start, self.spans[0].end, epoch)
        answer = self.model_copy(update=changed)
        answer.__dict__.pop("json_fields", None)  # which a copy would share
        return answer

    def _repr_html_(self) -> str:
        """Render for a notebook: the answer, what else it might be, and where in time its evidence lies."""
        covered = self.coverage
        ranked = [(item.activity, item.confidence) for item in self.activities[:4]]
        ranked += [(f"{item.start:.1f} to {item.end:.1f} s", item.confidence) for item in self.spans]
        rows = "".join(f"<tr><td>{escape(what)}</td><td>{sure:.0%}</td></tr>" for what, sure in ranked)
        spans = [(item.start, item.end) for item in self.spans] + [(box.t, box.t + 1) for box in self.boxes]
        watched = without(covered.start, covered.end, [(gap.start, gap.end) for gap in covered.gaps])
        drawn = drawing(covered.start, covered.end, watched, spans, [item.t for item in self.evidence])
        headline = f"<b>{escape(self.answer)}</b> ({self.confidence:.0%})"
        return f"<div>{headline}<br>{drawn}<table>{rows}</table></div>"


if TYPE_CHECKING:
    from edge_runtime.memory.version import Version

_WIDTH, _HEIGHT = 600, 28
Span = tuple[float, float]


def memory_html(version: Version, title: str) -> str:
    """Draw what was watched (grey) and the moments that are remembered of it (blue), under `title`."""
    tokens, coverage = version.memory, version.coverage
    moments = [int(tick) / TICKS_PER_SECOND for tick in tokens.tick[tokens.valid]]
    watched = without(coverage.start, coverage.end, [(a, b) for a, b, _ in coverage.gaps_with_reasons()])
    drawn = drawing(coverage.start, coverage.end, watched, [], moments)
    return f"<div><code>{escape(title)}</code><br>{drawn}</div>"


def without(start: float | None, end: float | None, gaps: Iterable[Span]) -> list[Span]:
    """Return the parts of `start` to `end` (s) that lie in none of `gaps`."""
    if start is None or end is None:
        return []
    parts, at = [], start
    for a, b in sorted(gaps):
        parts.append((at, min(max(a, at), end)))
        at = min(max(b, at), end)
    return [part for part in [*parts, (at, end)] if part[0] < part[1]]


def drawing(
    start: float | None,
    end: float | None,
    watched: Iterable[Span],
    spans: Iterable[Span],
    moments: Iterable[float],
) -> str:
    """Draw a time line as SVG: watched grey, spans green, moments blue. All times in seconds."""
    if start is None or end is None or end <= start:
        return "nothing was watched"
    scale = _WIDTH / (end - start)

    def bar(a: float, b: float, colour: str, opacity: float) -> str:
        left, width = (a - start) * scale, max((b - a) * scale, 1.0)
        return (
            f'<rect x="{left:.1f}" y="2" width="{width:.1f}" height="16" fill="{colour}" '
            f'fill-opacity="{opacity}"/>'
        )

    inside = [t for t in moments if start <= t <= end]
    parts = [bar(a, b, "#999", 0.3) for a, b in watched]
    parts += [bar(max(a, start), min(b, end), "#2a2", 0.5) for a, b in spans if a < end and b > start]
    parts += [bar(t, t, "#26c", 0.8) for t in sorted(set(inside))]
    ends = (
        f'<text x="0" y="27" font-size="9">{start:.0f} s</text>'
        f'<text x="{_WIDTH}" y="27" font-size="9" text-anchor="end">{end:.0f} s</text>'
    )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}">{"".join(parts)}{ends}</svg>'
