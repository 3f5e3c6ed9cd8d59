"""What the routes of this house answer, for the OpenAPI document. The routes build it as plain data; the
tests hold every answer against these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_runtime.answers import Answer


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(_Told):
    """Every refusal: one sentence, what was expected, what came, what to do."""

    error: str = Field(examples=["type must be activity, object or time"])


class Alive(_Told):
    status: Literal["alive"]


class Ready(_Told):
    ready: bool
    frames: int


class VersionFacts(_Told):
    name: str
    version: str
    api: Literal["v1"]


class Span(_Told):
    start: float = Field(alias="from")
    end: float = Field(alias="to")
    reason: str | None = None


class WatchedSpan(_Told):
    start: float | None = Field(alias="from")
    end: float | None = Field(alias="to")
    gaps: list[Span]
    epoch: float = Field(description="unix seconds of the stream's second 0")


class CameraStatus(BaseModel):
    """What a camera remembers and how it fares."""

    frames: int
    seen: int
    dropped: int
    source: str
    bundle: str
    sampler: str
    ended: bool
    position_s: float | None
    tokens: int
    slots: int
    oldest_age_s: float | None
    svd_rank: int
    clip_frames: int
    coverage: WatchedSpan
    state_bytes: int
    written_bytes: int
    written_bytes_per_hour: int | None
    not_saved: str | None
    camera: str
    condition: Literal["waiting", "starting", "running", "paused", "ended", "stopped", "failed"]
    error: str | None
    problems: list[str]
    lost: dict[str, int]
    engine_faults: int
    damaged: int
    source_status: dict[str, Any] | None


class StatusOfAll(_Told):
    cameras: dict[str, CameraStatus]


class Cameras(_Told):
    cameras: list[CameraStatus]


class ActivityFacts(_Told):
    name: str
    description: str


class BundleFacts(_Told):
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


class Answered(_Told):
    at: float
    camera: str
    question: dict[str, Any] = Field(description="photos as their number")
    answer: Answer


class Answers(_Told):
    answers: list[Answered]


class ConfigPut(_Told):
    """`problems`: a sentence for each camera that could not be changed while it runs."""

    written: str = Field(description="the file")
    backup: str = Field(description="the file as it was before")
    problems: list[str]
