"""Records of labelled video, one JSON object a line: videos, events, tracks, queries; and the classes.

Times are seconds on the video's clock, ticks 1/5 s (`tick5`), boxes normalised (x1, y1, x2, y2). Training and
evaluation read no other form of data: checkout worlds, ReST/ADL annotations and users' own videos are
converted to it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_runtime.system.validation import StrictModel

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Box = tuple[Unit, Unit, Unit, Unit]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Tick = Annotated[int, Field(ge=0)]
QueryType = Literal["activity", "object", "time"]
Duration = Literal["short", "medium", "long"]
Split = Literal["train", "val", "test"]

DURATION_S: dict[Duration, float] = {"short": 300.0, "medium": 900.0, "long": 1800.0}
"""Length of the query window, as in ReST: about 5, 15 and 30 minutes."""


Knob = bool | int | float | tuple[float, float]


class Video(StrictModel):
    """A video file by its `path` (relative to its data folder), or a checkout world by its seed and level.

    A world may also have folders of real `products` and `backgrounds`, names of the `only` products that it
    sells, and `knobs` that differ from those of its level. `source` names the recording that the video is cut
    from, where others are cut from it too.
    """

    video: str = Field(min_length=1)
    path: str | None = None
    source: str | None = Field(default=None, min_length=1, exclude_if=lambda source: source is None)
    seed: int | None = None
    level: str = "L1"
    products: str | None = None
    backgrounds: str | None = None
    only: tuple[str, ...] | None = None
    knobs: dict[str, Knob] = Field(default_factory=dict)
    fps: float = Field(gt=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    duration_s: float = Field(gt=0)
    split: Split

    @model_validator(mode="after")
    def _check_source(self) -> Video:
        if (self.path is None) == (self.seed is None):
            raise ValueError("a video has either a path or a seed")
        return self


class EventRecord(StrictModel):
    """`activity` is done with `instance` from `t_s` to `t_e` (exclusive)."""

    video: str
    event: str
    activity: int = Field(ge=0)
    instance: int = Field(ge=0)
    t_s: Seconds
    t_e: Seconds

    @model_validator(mode="after")
    def _check_interval(self) -> EventRecord:
        if self.t_e <= self.t_s:
            raise ValueError(f"t_e must be after t_s={self.t_s}, got {self.t_e}")
        return self


def event_order(event: EventRecord) -> tuple[float, float, str]:
    """Return the sort key by which events are ordered: start, end, name."""
    return event.t_s, event.t_e, event.event


class TrackRecord(StrictModel):
    """The box of an instance at one tick; `active` is 1 while something is done with it."""

    video: str
    instance: int = Field(ge=0)
    category: str
    tick5: Tick
    box: Box
    active: Literal[0, 1]


class CropInVideo(StrictModel):
    """The object as its own video shows it."""

    tick5: Tick
    box: Box


class CropFile(StrictModel):
    """The object on a photo file."""

    path: str


class CropView(StrictModel):
    """The object on photo number `view` of a checkout world's catalogue."""

    view: int = Field(ge=0)


Crop = CropInVideo | CropFile | CropView


class QueryRecord(StrictModel):
    """One question with its ground truth.

    `q_s`, `q_e`: the query window. `t_s`, `t_e`: the property window; it is given for activity and object
    queries, and the answer of a time query (None for a negative one). `activities`: the answer of an activity
    query, the given activity of the others. `boxes`: the answer of an object query by tick (a string key in
    JSON). `happened` is false for a negative: what is asked about never happened in its window, and there is
    no other answer.
    """

    qid: str
    video: str
    type: QueryType
    duration: Duration
    q_s: Seconds
    q_e: Seconds
    t_s: Seconds | None = None
    t_e: Seconds | None = None
    activities: tuple[int, ...] = ()
    instance: int | None = None
    crop: Crop | None = None
    boxes: dict[Tick, Box] = Field(default_factory=dict)
    happened: bool = True


class NamedActivity(StrictModel):
    """An activity class: number, name, `doing`, which completes "a person ...", and whether it `accuses`."""

    id: int = Field(ge=0)
    name: str = Field(min_length=1, max_length=200)
    doing: str = Field(min_length=1, max_length=500)
    accuses: bool = Field(default=False, exclude_if=lambda accuses: not accuses)


class NamedInstance(StrictModel):
    """The name of an instance's number, in one `video` or in all of them."""

    id: int = Field(ge=0)
    name: str = Field(min_length=1)
    video: str | None = None


class Classes(StrictModel):
    """The contents of classes.json."""

    activities: tuple[NamedActivity, ...] = Field(min_length=1)
    instances: tuple[NamedInstance, ...] = ()

    @model_validator(mode="after")
    def _check_numbers(self) -> Classes:
        if [activity.id for activity in self.activities] != list(range(len(self.activities))):
            raise ValueError(f"activities must be numbered 0..{len(self.activities) - 1} in order")
        if len({activity.name for activity in self.activities}) != len(self.activities):
            raise ValueError("names of activities must differ from one another")
        return self
