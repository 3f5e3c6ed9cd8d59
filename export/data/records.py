"""The records of labelled video, one JSON object a line: videos, events, tracks, queries; and the classes.

Times are seconds on the video's clock, ticks 1/5 s (`tick5`), boxes normalised (x1, y1, x2, y2). These are
the only shapes in which training and evaluation know data: the checkout world, a ReST/ADL annotation folder
and a person's own videos all become them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Box = tuple[Unit, Unit, Unit, Unit]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Tick = Annotated[int, Field(ge=0)]
QueryType = Literal["activity", "object", "time"]
Duration = Literal["short", "medium", "long"]
Split = Literal["train", "val", "test"]

DURATION_S: dict[Duration, float] = {"short": 300.0, "medium": 900.0, "long": 1800.0}
"""Length of the query window, as in ReST: about 5, 15 and 30 minutes."""


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Knob = bool | int | float | tuple[float, float]


class Video(Record):
    """`path` of a file (relative to its data folder), or the seed and level of a checkout world.

    Of a world also: folders of real `products` and `backgrounds`, `only` which products, and `knobs` that
    differ from its level's.
    """

    video: str = Field(min_length=1)
    path: str | None = None
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
    def _one_source(self) -> Video:
        if (self.path is None) == (self.seed is None):
            raise ValueError("a video has either a path or a seed")
        return self


class EventRecord(Record):
    """`activity` done with `instance` from `t_s` to `t_e` (exclusive)."""

    video: str
    event: str
    activity: int = Field(ge=0)
    instance: int = Field(ge=0)
    t_s: Seconds
    t_e: Seconds

    @model_validator(mode="after")
    def _forwards(self) -> EventRecord:
        if self.t_e <= self.t_s:
            raise ValueError(f"t_e must be after t_s={self.t_s}, got {self.t_e}")
        return self


class TrackRecord(Record):
    """Where an instance is at one tick; `active` 1 while something is being done with it."""

    video: str
    instance: int = Field(ge=0)
    category: str
    tick5: Tick
    box: Box
    active: Literal[0, 1]


class CropInVideo(Record):
    """The object as it is seen in its own video."""

    tick5: Tick
    box: Box


class CropFile(Record):
    """The object on a photo."""

    path: str


class CropView(Record):
    """The object as photograph number `view` of a checkout world's catalogue."""

    view: int = Field(ge=0)


Crop = CropInVideo | CropFile | CropView


class QueryRecord(Record):
    """One question with its truth.

    `q_s`, `q_e` the query window; `t_s`, `t_e` the property window: given for activity and object, the hidden
    truth for time (None for a negative time query). `activities`: the truth for activity, the given one for
    object and time. `boxes`: truth of an object query by tick (written as a string key in JSON).
    `happened` false marks a negative: what is asked never happened in its window; there is no other truth.
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


class NamedActivity(Record):
    """An activity class: its number, its name, and `doing`, which completes "a person ..."."""

    id: int = Field(ge=0)
    name: str = Field(min_length=1, max_length=200)
    doing: str = Field(min_length=1, max_length=500)


class NamedInstance(Record):
    """What an instance's number stands for; in one `video`, or in all of them."""

    id: int = Field(ge=0)
    name: str = Field(min_length=1)
    video: str | None = None


class Classes(Record):
    """Contents of classes.json."""

    activities: tuple[NamedActivity, ...] = Field(min_length=1)
    instances: tuple[NamedInstance, ...] = ()

    @model_validator(mode="after")
    def _numbered(self) -> Classes:
        if [one.id for one in self.activities] != list(range(len(self.activities))):
            raise ValueError(f"activities must be numbered 0..{len(self.activities) - 1} in order")
        if len({one.name for one in self.activities}) != len(self.activities):
            raise ValueError("names of activities must differ from one another")
        return self
