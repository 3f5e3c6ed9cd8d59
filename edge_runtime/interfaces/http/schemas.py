"""Models of the responses, for the OpenAPI document.

The routes build plain data; the tests check every response against these models.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.query.answers import Answer, Moment
from edge_runtime.service.status import Status


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(_Response):
    """Every error: one sentence with what was expected, what came, what to do."""

    error: str = Field(examples=["type must be activity, object or time"])


class Alive(_Response):
    status: Literal["alive"]


class Ready(_Response):
    ready: bool
    frames: int


class VersionFacts(_Response):
    name: str
    version: str
    api: Literal["v1"]


class Span(_Response):
    start: float = Field(alias="from")
    end: float = Field(alias="to")
    reason: str | None = None
    watched_share: tuple[float, float] | None = Field(
        default=None, description="many short gaps: at least and at most this share was watched"
    )


class WatchedSpan(_Response):
    start: float | None = Field(alias="from")
    end: float | None = Field(alias="to")
    watched_share: tuple[float, float] = Field(description="at least and at most")
    gaps: list[Span]
    epoch: float = Field(description="unix seconds of the stream's second 0")
    clock_from: str | None = Field(default=None, description="of a camera: on its clock, with UTC offset")
    clock_to: str | None = None


class CameraStatus(Status):
    """What a camera remembers and how it fares."""

    coverage: WatchedSpan  # type: ignore[assignment]
    camera: str
    title: str = Field(description="its name for people")
    condition: Literal["waiting", "starting", "running", "paused", "ended", "stopped", "failed"]
    condition_at: float = Field(description="since when, unix seconds")
    error: str | None
    problems: list[str]
    lost: dict[str, int]
    engine_faults: int
    damaged: int
    source_status: dict[str, Any] | None
    activities: dict[str, Any] | None = Field(description="how recognising them fares; null where it is off")


class AwaitedCamera(_Response):
    """A configured camera that could not be added yet; `run --stay` without `--for` tries again."""

    camera: str
    title: str
    error: str
    since_at: float = Field(description="since when it has been tried, unix seconds")
    tries: int


class StatusOfAll(_Response):
    cameras: dict[str, CameraStatus]
    awaited: list[AwaitedCamera]


class Cameras(_Response):
    cameras: list[CameraStatus]
    awaited: list[AwaitedCamera]


class LogLine(_Response):
    at: float
    level: str
    logger: str
    message: str


class LogLines(_Response):
    """The newest lines of this process, oldest first; `level` is the lowest that is logged."""

    level: str
    lines: list[LogLine]


class ActivityFacts(_Response):
    name: str
    description: str


class BundleFacts(_Response):
    name: str
    digest: str
    activities: list[ActivityFacts]
    m: int = Field(description="tokens remembered")
    rate: float = Field(description="sampled frames a second")
    clip_s: float
    precision: str
    trained: bool
    recipe: str
    backend: str
    why: str


class Answered(_Response):
    at: float
    camera: str
    question: dict[str, Any] = Field(description="photos as their number")
    answer: Answer


class Answers(_Response):
    answers: list[Answered]


class ConfigPut(_Response):
    """`problems`: a sentence for each camera that could not be changed while it runs."""

    written: str = Field(description="the file")
    backup: str = Field(description="the file as it was before")
    problems: list[str]


class PrivacyState(_Response):
    paused: bool
    zones: list[str]
    thumbnails: bool
    encrypted: bool


class ForgottenFacts(BaseModel):
    """What was removed, and in `remains` what is only approximately gone."""

    start: float
    end: float
    tokens: int
    pending_frames: int
    svd_share: float
    cell_share: float
    background_reset: bool
    thumbnails: int
    activities: int
    examples: int
    log_lines: int
    watched_s: float
    clock_from: str | None
    clock_to: str | None
    removed: int
    remains: str


class TaughtFacts(_Response):
    """A taught activity. `recall` is the share of its examples that it recognises without having seen them,
    `false_rate` that of what is not it; null with too few examples. `missing` more would make it sure;
    `confused`: more would not help, what it takes for it should be marked."""

    name: str
    examples: int
    counterexamples: int = Field(description="marked as not showing it")
    length_s: float | None
    recall: float | None
    false_rate: float | None
    missing: int
    confused: bool


class TaughtExample(_Response):
    """A marked span. `source` is the name of a video, null for the camera's own stream."""

    id: int
    name: str
    shows: bool
    source: str | None
    start: float = Field(alias="from")
    end: float = Field(alias="to")
    added: float = Field(description="unix seconds")
    clock_from: str | None = None
    clock_to: str | None = None


class TaughtActivities(_Response):
    classes: list[TaughtFacts]
    waiting: list[str] = Field(description="taught with another bundle")
    alone: list[str] = Field(description="nothing to tell them from")


class TaughtActivity(TaughtFacts):
    marked: list[TaughtExample]


class TaughtExampleAdded(_Response):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    example: TaughtExample
    taught: TaughtActivity = Field(alias="class")


class TaughtExamplesRemoved(_Response):
    name: str
    removed: int


class RememberedToken(_Response):
    t: float
    cell: int
    score: float | None


class MemoryFacts(BaseModel):
    """What a camera remembers: when and in which cell of `grid` rows of as many."""

    camera: str
    memory_version: int
    grid: int
    slots: int
    tokens: list[RememberedToken]
    coverage: WatchedSpan
    clip_s: float
    horizon_s: float | None


class Curves(_Response):
    at: list[float]
    fps: list[float]
    lost: list[int]
    query_ms: list[float | None]
    engine_ms: list[float | None]


class HistoryFacts(BaseModel):
    cameras: dict[str, Curves]
    resident_bytes: list[int]


class ProductFacts(_Response):
    name: str
    photos: int
    unread: dict[str, int] = Field({}, description="pictures of kinds that are not read, by kind (HEIC)")
    error: str | None = Field(None, description="why its folder cannot be read")


class CatalogueFacts(_Response):
    products: list[ProductFacts]


class ProductAdded(_Response):
    """`new` photos of now `photos`."""

    name: str
    new: int
    photos: int


class ProductRemoved(_Response):
    name: str
    removed: int = Field(description="photos")


class ProductRenamed(_Response):
    before: str
    name: str


class ProductPhoto(_Response):
    """As it lies in the catalogue."""

    file: str
    width: int
    height: int
    bytes: int


class ProductShown(_Response):
    name: str
    photos: list[ProductPhoto]


class LoggedActivity(BaseModel):
    """`from_at` and `to_at` are null for a recording; it has no `clock_from` and `clock_to`, which are both
    on the clock of the machine that watches, with date and UTC offset."""

    id: int
    camera: str
    activity: str
    description: str
    start: float = Field(alias="from")
    end: float = Field(alias="to")
    from_at: float | None
    to_at: float | None
    confidence: float
    ongoing: bool
    clock_from: Moment = None
    clock_to: Moment = None


class AskedSpan(BaseModel):
    """A span as it was understood; clock times of a camera, with date and UTC offset."""

    start: float | None = Field(alias="from")
    end: float | None = Field(alias="to")
    clock_from: Moment = None
    clock_to: Moment = None


class LoggedActivities(_Response):
    activities: list[LoggedActivity]
    more: bool
    asked: dict[str, AskedSpan] | None = Field(
        default=None, description="of each camera, where from or to is given"
    )
