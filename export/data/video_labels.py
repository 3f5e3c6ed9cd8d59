"""Hold the ground truth of one video as arrays: events, and the boxes of their products at each tick.

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
from engines.network_config import GRID
from export.data.metrics import evidence_cells, make_event_tubes
from export.data.records import EventRecord, TrackRecord
from export.data.world_set import annotated_activity, annotated_tracks

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class VideoTruth:
    """`activity`, `instance` (E,), `start`, `end` (E,) in ticks, the end exclusive, ordered by start;
    `box_event` (B,) ascending, `box_tick` (B,), `box` (B, 4) xyxy: annotated boxes of events' products."""

    activity: Ints
    instance: Ints
    start: Ints
    end: Ints
    box_event: Ints
    box_tick: Ints
    box: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.activity)

    def select_boxes(self, event: int) -> tuple[Ints, NDArray[np.float32]]:
        """Return ticks (F,) and boxes (F, 4) of an event."""
        part = slice(*np.searchsorted(self.box_event, [event, event + 1]))
        return self.box_tick[part], self.box[part]

    def find_evidence(self, tick: ArrayLike, cell: ArrayLike, grid: int = GRID) -> NDArray[np.int32]:
        """Return the event whose product each token (N,) shows, the latest of several, -1 for none. (N,)"""
        ticks, cells = np.asarray(tick), np.asarray(cell)
        out = np.full(len(ticks), -1, np.int32)
        at = np.flatnonzero(np.isin(self.box_tick, ticks))
        covered = evidence_cells(self.box[at], grid)  # (b, 49)
        for row, index in enumerate(at):
            out[(ticks == self.box_tick[index]) & covered[row, cells]] = self.box_event[index]
        return out

    def boxes_at(self, event: ArrayLike, tick: ArrayLike) -> NDArray[np.float32]:
        """Return the box of the product of `event` (N,) at `tick` (N,): cxcywh (N, 4), zeros if unknown."""
        events, ticks = np.asarray(event, np.int64), np.asarray(tick, np.int64)
        out = np.zeros((len(ticks), 4), np.float32)
        if not len(self.box):
            return out
        later = 1 + max(int(self.box_tick.max()), int(ticks.max(initial=0)))
        known, asked = self.box_event * later + self.box_tick, events * later + ticks  # known is ascending
        row = np.minimum(known.searchsorted(asked), len(known) - 1)
        annotated = known[row] == asked
        out[annotated] = to_cxcywh(self.box[row[annotated]])
        return out

    @classmethod
    def from_world(cls, world: World, duration_s: float, *, annotated: bool = False) -> VideoTruth:
        """Return the events that lie within the first `duration_s` seconds of a checkout world.

        If `annotated`, they have the label noise and the missing boxes of the world's knobs, as in a data
        folder.
        """
        events = [e for e in world.events(0.0, duration_s) if e.start >= 0 and e.end <= duration_s]
        labels = [annotated_activity(e, world.config) if annotated else e.activity for e in events]
        box_event, box_tick, boxes = [], [], []
        for number, event in enumerate(events):
            for tick in range(round(event.start * TICKS_PER_SECOND), round(event.end * TICKS_PER_SECOND)):
                t = tick / TICKS_PER_SECOND
                for track in annotated_tracks(world, t) if annotated else world.truth(t).active:
                    if (track.instance, track.activity) == (event.instance, labels[number]):
                        box_event.append(number)
                        box_tick.append(tick)
                        boxes.append(track.box)
        return cls._from_rows(
            [(label, e.instance, e.start, e.end) for label, e in zip(labels, events, strict=True)],
            box_event,
            box_tick,
            boxes,
        )

    @classmethod
    def from_records(cls, events: Sequence[EventRecord], tracks: Sequence[TrackRecord]) -> VideoTruth:
        """Return the truth of annotations; boxes may be missing."""
        ordered = sorted(events, key=lambda event: (event.t_s, event.event))
        tubes = make_event_tubes(ordered, tracks)
        return cls._from_rows(
            [(event.activity, event.instance, event.t_s, event.t_e) for event in ordered],
            [number for number, tube in enumerate(tubes) for _ in tube.ticks],
            [int(tick) for tube in tubes for tick in tube.ticks],
            [tuple(box) for tube in tubes for box in tube.boxes],
        )

    @classmethod
    def _from_rows(
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

    @classmethod
    def join(cls, parts: Sequence[tuple[int, VideoTruth]]) -> VideoTruth:
        """Return the truth of a stream of several videos, each with the tick at which it begins, in order."""
        begins = np.cumsum([0, *(len(truth) for _, truth in parts)])
        return cls(
            np.concatenate([truth.activity for _, truth in parts]),
            np.concatenate([truth.instance for _, truth in parts]),
            np.concatenate([truth.start + tick for tick, truth in parts]),
            np.concatenate([truth.end + tick for tick, truth in parts]),
            np.concatenate([t.box_event + first for (_, t), first in zip(parts, begins, strict=False)]),
            np.concatenate([truth.box_tick + tick for tick, truth in parts]),
            np.concatenate([truth.box for _, truth in parts]),
        )

    def save(self, path: Path) -> None:
        """Write all arrays to an .npz file."""
        with path.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> VideoTruth:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def to_cxcywh(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert xyxy boxes (..., 4) to centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)
