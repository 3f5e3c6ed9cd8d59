"""Describe what a camera remembers: the same fields from a running service and from a state folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.memory.familiarity import is_familiar
from edge_runtime.memory.version import Version
from edge_runtime.persistence import FILE, Header, Snapshot
from edge_runtime.persistence.set_aside import list_set_aside
from edge_runtime.query.timestamps import format_clock_span
from edge_runtime.service.camera import CameraRun
from edge_runtime.sources.live_source import LiveSource
from edge_runtime.system.secrets import hide_all, hide_secrets


class Status(BaseModel):
    """What a camera remembers.

    `oldest_age_s` is the age of the oldest remembered token; `written_bytes_per_hour` counts watched hours:
    what a flash disk has to bear; `on_clock` says whether the epoch gives clock times; `clock_repairs` counts
    pictures that were not timed by their own stamp, by what was wrong with it (missing, standing still,
    stray, jump); `not_saved` says why the newest frames are in RAM only. A sampled frame stands for
    `frame_period_s`: more than a sampling period where the source is slower. `familiar` is false where the
    camera shows nothing like what the bundle was trained on, and activities are withheld. `set_aside` are the
    memories that wait for their own bundles.
    """

    model_config = ConfigDict(frozen=True)

    frames: int
    seen: int
    dropped: int
    clock_repairs: dict[str, int]
    source: str
    on_clock: bool
    bundle: str
    sampler: str
    ended: bool
    position_s: float | None
    tokens: int
    slots: int
    oldest_age_s: float | None
    svd_rank: int
    clip_frames: int
    frame_period_s: float | None
    coverage: dict[str, Any]
    state_bytes: int
    written_bytes: int
    written_bytes_per_hour: int | None
    not_saved: str | None
    familiar: bool
    set_aside: list[dict[str, str]]

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def make_status(snapshot: Snapshot, folder: Path) -> Status:
    """Return the status of a saved or current snapshot."""
    header, version = snapshot.header, snapshot.version
    file = folder / FILE
    return Status(
        frames=version.frames,
        seen=header.seen,
        dropped=header.dropped,
        clock_repairs=header.clock_repairs,
        source=header.source,
        on_clock=header.clock is not None,
        bundle=header.bundle,
        sampler=header.sampler,
        ended=header.ended,
        position_s=header.last_t,
        tokens=version.memory.filled,
        slots=version.memory.slots,
        oldest_age_s=compute_oldest_age_s(version),
        svd_rank=len(version.background.svd.strength) if version.background else 0,
        clip_frames=len(version.pending),
        frame_period_s=version.coverage.period,
        coverage=coverage_to_json(header, version),
        state_bytes=file.stat().st_size if file.exists() else 0,
        written_bytes=snapshot.saving.written,
        written_bytes_per_hour=_written_per_hour(snapshot),
        not_saved=snapshot.saving.problem,
        familiar=is_familiar(version.recurrent_state),
        set_aside=list_set_aside(folder) if folder != Path() else [],
    )


def make_camera_status(camera: CameraRun, error: BaseException | None = None) -> dict[str, Any]:
    """Return the status of a running camera as JSON: what it remembers, and how it fares.

    `condition` is waiting, starting, running, paused, ended, stopped or failed (then `error` says why), since
    `condition_at`;
    `lost` counts the sampled frames of this run that were not remembered, by reason; `damaged` counts packets
    and pictures that could not be decoded; `source_status` is the state of the connection, null for a source
    without one; `activities` is the state of the activity log, null where it is off.
    """
    source = camera.source
    connection = source.status.as_json() if isinstance(source, LiveSource) else None
    return make_status(camera.snapshot(), camera.folder.folder).as_json() | {
        "camera": camera.name,
        "title": hide_secrets(camera.title),
        "condition": camera.condition,
        "condition_at": camera.condition_at,
        "error": None if error is None else hide_secrets(str(error)) or type(error).__name__,
        "problems": hide_all(camera.problems),
        "lost": dict(camera.drop_counter.by_reason),
        "engine_faults": camera.client.faults,
        "damaged": source.errors if source else 0,
        "source_status": hide_all(connection),
        "activities": camera.privacy.activities.as_json() if camera.privacy.activities else None,
    }


def compute_oldest_age_s(version: Version) -> float | None:
    """Return the seconds between the oldest remembered token and the newest frame."""
    oldest = version.memory.oldest_tick()
    if oldest is None or version.last_tick is None:
        return None
    return (version.last_tick - oldest) / TICKS_PER_SECOND


def _written_per_hour(snapshot: Snapshot) -> int | None:
    frames = snapshot.version.frames
    if frames == 0:
        return None
    return round(snapshot.saving.written / frames * snapshot.header.sample_fps * 3600)


def coverage_to_json(header: Header, version: Version) -> dict[str, Any]:
    coverage = version.coverage
    return {
        "from": coverage.start,
        "to": coverage.end,
        "watched_share": coverage.watched_share(),
        "gaps": [
            {"from": gap.start, "to": gap.end}
            | ({"reason": gap.reason} if gap.reason else {})
            | ({"watched_share": gap.watched_share} if gap.watched_share else {})
            for gap in coverage.list_gaps()
        ],
        "epoch": header.epoch,
    } | ({} if header.clock is None else format_clock_span(coverage.start, coverage.end, header.clock))


def read_resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(psutil.Process().memory_info().rss)
