"""What happened in one video, as arrays: events, and where their products were at each tick.

Letters: E events, B boxes of all events, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.simulation.world import World
from export.data.annotated import annotated_activity, annotated_tracks
from export.data.cells import evidence_cells
from export.data.metrics import event_tubes
from export.data.records import EventRecord, TrackRecord

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class VideoTruth:
    """`activity`, `instance` (E,), `start`, `end` (E,) ticks, the end exclusive, by start; `box_event` (B,)
    ascending, `box_tick` (B,), `box` (B, 4) xyxy: where each event's product is, as far as annotated."""

    activity: Whole
    instance: Whole
    start: Whole
    end: Whole
    box_event: Whole
    box_tick: Whole
    box: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.activity)

    def boxes(self, event: int) -> tuple[Whole, NDArray[np.float32]]:
        """Ticks (F,) and boxes (F, 4) of one event."""
        part = slice(*np.searchsorted(self.box_event, [event, event + 1]))
        return self.box_tick[part], self.box[part]

    def evidence(self, tick: ArrayLike, cell: ArrayLike) -> NDArray[np.int32]:
        """Of which event each token (N,) shows the product, -1 for none; of several the latest one. (N,)"""
        wanted, cells = np.asarray(tick), np.asarray(cell)
        out = np.full(len(wanted), -1, np.int32)
        at = np.flatnonzero(np.isin(self.box_tick, wanted))
        shown = evidence_cells(self.box[at])  # (b, 49)
        for row, index in enumerate(at):
            out[(wanted == self.box_tick[index]) & shown[row, cells]] = self.box_event[index]
        return out

    def boxes_of(self, event: ArrayLike, tick: ArrayLike) -> NDArray[np.float32]:
        """Where the product of `event` (N,) is at `tick` (N,): cxcywh (N, 4), zeros where that is not
        annotated."""
        events, ticks = np.asarray(event, np.int64), np.asarray(tick, np.int64)
        out = np.zeros((len(ticks), 4), np.float32)
        if not len(self.box):
            return out
        later = 1 + max(int(self.box_tick.max()), int(ticks.max(initial=0)))
        known, asked = self.box_event * later + self.box_tick, events * later + ticks  # known is ascending
        row = np.minimum(known.searchsorted(asked), len(known) - 1)
        found = known[row] == asked
        out[found] = cxcywh(self.box[row[found]])
        return out

    @classmethod
    def of_world(cls, world: World, duration_s: float, *, annotated: bool = False) -> VideoTruth:
        """The first `duration_s` seconds of a checkout world: events that lie within it.

        As they are, or, where `annotated`, as a data folder of that world has them: with the label noise and
        the missing boxes of its knobs.
        """
        events = [one for one in world.events(0.0, duration_s) if one.start >= 0 and one.end <= duration_s]
        called = [annotated_activity(one, world.config) if annotated else one.activity for one in events]
        box_event, box_tick, boxes = [], [], []
        for number, event in enumerate(events):
            for tick in range(round(event.start * TICKS_PER_SECOND), round(event.end * TICKS_PER_SECOND)):
                t = tick / TICKS_PER_SECOND
                for track in annotated_tracks(world, t) if annotated else world.truth(t).active:
                    if (track.instance, track.activity) == (event.instance, called[number]):
                        box_event.append(number)
                        box_tick.append(tick)
                        boxes.append(track.box)
        return cls._made(
            [(name, one.instance, one.start, one.end) for name, one in zip(called, events, strict=True)],
            box_event,
            box_tick,
            boxes,
        )

    @classmethod
    def of_records(cls, events: Sequence[EventRecord], tracks: Sequence[TrackRecord]) -> VideoTruth:
        """Of annotations; boxes may be missing."""
        ordered = sorted(events, key=lambda one: (one.t_s, one.event))
        tubes = event_tubes(ordered, tracks)
        return cls._made(
            [(one.activity, one.instance, one.t_s, one.t_e) for one in ordered],
            [number for number, tube in enumerate(tubes) for _ in tube.ticks],
            [int(tick) for tube in tubes for tick in tube.ticks],
            [tuple(box) for tube in tubes for box in tube.boxes],
        )

    @classmethod
    def _made(
        cls,
        events: Sequence[tuple[int, int, float, float]],
        box_event: Sequence[int],
        box_tick: Sequence[int],
        boxes: Sequence[tuple[float, ...]],
    ) -> VideoTruth:
        rows = [(a, i, round(s * TICKS_PER_SECOND), round(e * TICKS_PER_SECOND)) for a, i, s, e in events]
        table = np.array(rows, np.int64).reshape(-1, 4)
        activity, instance, start, end = (np.ascontiguousarray(column) for column in table.T)
        return cls(
            activity,
            instance,
            start,
            end,
            np.array(box_event, np.int64),
            np.array(box_tick, np.int64),
            np.array(boxes, np.float32).reshape(-1, 4),
        )

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> VideoTruth:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def cxcywh(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """xyxy (..., 4) as centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)
