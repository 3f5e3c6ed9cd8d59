"""What is remembered: the same fields from a running service and from a state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.ingest import Version
from edge_runtime.state import FILE, Header, Snapshot


@dataclass(frozen=True)
class Status:
    """`oldest_age_s` of the oldest remembered token."""

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
    coverage: dict[str, Any]
    state_bytes: int

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def status_of(snapshot: Snapshot, folder: Path) -> Status:
    """Status of a saved or current snapshot."""
    header, version = snapshot.header, snapshot.version
    file = folder / FILE
    return Status(
        frames=version.frames,
        seen=header.seen,
        dropped=header.dropped,
        source=header.source,
        bundle=header.bundle,
        sampler=header.sampler,
        ended=header.ended,
        position_s=header.last_t,
        tokens=version.memory.filled,
        slots=version.memory.slots,
        oldest_age_s=oldest_age_s(version),
        svd_rank=len(version.background.svd.strength) if version.background else 0,
        clip_frames=len(version.pending),
        coverage=coverage_json(header, version),
        state_bytes=file.stat().st_size if file.exists() else 0,
    )


def oldest_age_s(version: Version) -> float | None:
    """Seconds between the oldest remembered token and the newest frame."""
    oldest = version.memory.oldest_tick()
    if oldest is None or version.last_tick is None:
        return None
    return (version.last_tick - oldest) / TICKS_PER_SECOND


def coverage_json(header: Header, version: Version) -> dict[str, Any]:
    coverage = version.coverage
    return {
        "from": coverage.start,
        "to": coverage.end,
        "gaps": [{"from": a, "to": b} for a, b in coverage.gaps],
        "epoch": header.epoch,
    }


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)
