"""The header of a snapshot: everything that is no array, with the bounds that a run can continue from."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edge_runtime.frame import MAX_T, MAX_TICK, TICKS_PER_SECOND
from edge_runtime.memory.coverage import MAX_FRAMES, MAX_GAPS, MAX_NOTES
from edge_runtime.sources.live_source import SourceKind
from edge_runtime.sources.spec import identify_source, is_live
from edge_runtime.system.secrets import show_source
from engines.network_config import NetworkConfig

FORMAT_VERSION: Literal[3] = 3
MAX_COUNT = 2**62
"""Of frames and bytes: more than any run counts to, and one more still fits 64 bits."""
MAX_PERIOD_S = 1e4
"""Seconds that a frame stands for at the lowest rate of a bundle; coverage ends so much after the last."""
MIN_FPS = 1 / MAX_PERIOD_S


def _encodable(text: str) -> str:
    """Refuse half characters, which JSON can name: such text could be loaded and never saved again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"text must be Unicode, got {text[:80]!a}") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Seconds = Annotated[float, Field(ge=-MAX_T, le=MAX_T + MAX_PERIOD_S)]
Tick = Annotated[int, Field(ge=-MAX_TICK, le=MAX_TICK)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Reason = Annotated[Text, Field(max_length=200)]


class Header(BaseModel):
    """Everything of a snapshot that is no array. `epoch` is the wall-clock time of the stream's second 0.

    `id` names the snapshot to its journal, `network` is needed to replay that, `written` are the bytes
    written for this memory before this snapshot. Version 1 had none of the three and no journal, version 2
    lacked `recorded`, `clocked`, `bookmark`, `clock_repairs`, and of the coverage the merged gaps (an array),
    `coverage_frames` and `frame_period`. `camera` is the name from a configuration, None without one.
    `clock_repairs` counts pictures that were not timed by their own stamp, by what was wrong with it.
    `bookmark` is where to go on in a folder, `recorded` an address that turned out to be a recording,
    `clocked` a recording whose `epoch` is known, as a recorder's folder says it in its names. `source` is
    what is shown of the source, `source_id` distinguishes it from others that are shown alike.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format_version: Literal[1, 2, 3] = FORMAT_VERSION
    id: str = Field(default="", pattern="^[0-9a-f]{0,64}$")  # part of a file name
    network: NetworkConfig | None = None
    written: Count = 0
    model: Text
    bundle: Text
    source: Text
    source_id: str = Field(default="", pattern="^[0-9a-f]{0,64}$")
    recorded: bool = False
    clocked: bool = False
    camera: Text | None = Field(default=None, max_length=64)
    sampler: Text
    epoch: Seconds
    sample_fps: float = Field(ge=MIN_FPS, le=TICKS_PER_SECOND)
    last_t: Seconds | None = None
    bookmark: tuple[Seconds, Text] | None = None
    ended: bool = False
    seen: Count = 0
    dropped: Count = 0
    clock_repairs: dict[Text, Count] = Field(default_factory=dict, max_length=16)
    frames: Count = 0
    last_tick: Tick | None = None
    memory_version: Count = 0
    coverage: tuple[Seconds | None, Seconds | None, tuple[tuple[Seconds, Seconds], ...]] = (None, None, ())
    coverage_notes: tuple[tuple[Seconds, Seconds | None, Reason], ...] = Field((), max_length=MAX_NOTES)
    coverage_frames: tuple[Seconds, ...] = Field((), max_length=MAX_FRAMES)
    frame_period: float | None = Field(default=None, gt=0, le=MAX_PERIOD_S)
    pending_ticks: tuple[Tick, ...] = ()
    svd: (
        tuple[
            Annotated[int, Field(ge=1, le=256)],
            Annotated[float, Field(gt=0, le=1)],
            Annotated[float, Field(ge=0, le=MAX_COUNT)],
            Count,
        ]
        | None
    ) = None

    @property
    def live(self) -> bool:
        """Whether what was not watched is gone."""
        return is_live(self.source) and not self.recorded

    @property
    def source_kind(self) -> SourceKind:
        """What is known of an address: asked once, it stays what the memory was begun with."""
        return "recording" if self.recorded else "ask" if self.last_t is None else "live"

    @property
    def clock(self) -> float | None:
        """`epoch` where it gives clock times; None for a recording of unknown date."""
        return self.epoch if self.live or self.clocked else None

    @property
    def recording_epoch(self) -> float | None:
        """`epoch` where the recording itself told it."""
        return self.epoch if self.clocked else None

    def resume_at(self) -> float:
        """Return the start in seconds of the first sampling period that was not ingested."""
        if self.last_t is None:
            return 0.0
        return (int(self.last_t * self.sample_fps + 1e-6) + 1) / self.sample_fps

    @model_validator(mode="before")
    @classmethod
    def _hide_source(cls, data: Any) -> Any:
        # Earlier versions wrote more of it than is shown today, and no source_id.
        if not isinstance(data, dict) or not isinstance(source := data.get("source"), str):
            return data
        if not data.get("source_id"):
            with contextlib.suppress(UnicodeEncodeError):  # refused below
                data = data | {"source_id": identify_source(source)}
        return data | {"source": show_source(source)}

    @model_validator(mode="after")
    def _in_order(self) -> Header:
        start, end, gaps = self.coverage
        if len(gaps) > MAX_GAPS:
            raise ValueError(f"coverage has more than {MAX_GAPS} gaps")
        if start is None or end is None:
            if (start, end, gaps) != (None, None, ()):
                raise ValueError("coverage has a beginning without an end, or gaps in nothing")
        elif not _ascends([start, *(t for gap in gaps for t in gap), end]):
            raise ValueError("coverage is not in order")
        if not _ascends([*self.coverage_frames, *(() if end is None else [end])]):
            raise ValueError("coverage_frames are not in order")
        if self.coverage_frames and end is None:
            raise ValueError("coverage_frames are of a coverage without an end")
        if any(until is None for _, until, _ in self.coverage_notes[:-1]) or not _ascends(
            [t for a, b, _ in self.coverage_notes for t in (a, b) if t is not None]
        ):
            raise ValueError("coverage_notes are not in order")
        ticks = [*self.pending_ticks, *(() if self.last_tick is None else [self.last_tick + 1])]
        if any(a >= b for a, b in pairwise(ticks)) or (self.pending_ticks and self.last_tick is None):
            raise ValueError("pending_ticks are not in order")
        return self


def _ascends(times: list[float]) -> bool:
    return all(a <= b for a, b in pairwise(times))
