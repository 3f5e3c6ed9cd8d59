"""The schedule of a soak and its bounds: `tools/reliability/soak.yaml` as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edge_runtime.config.yaml_loader import read_settings
from edge_runtime.system.validation import StrictModel

Kind = Literal[
    "rtsp-stopped",
    "rtsp-stalled",
    "rtsp-slowed",
    "rtsp-switched",
    "rtsp-broken",
    "http-cut",
    "http-absent",
    "privacy-pause",
    "disk-full",
    "broken-yaml",
    "garbage",
    "engine-fault",
    "kill",
    "restart",
]


class PlannedFault(StrictModel):
    """A fault and how long it lasts; 0 for faults without a duration."""

    fault: Kind
    lasts_s: float = Field(default=0.0, ge=0, le=3600)


class SoakBounds(StrictModel):
    """Limits beyond which the oracle objects.

    Growth is evaluated over each life of the process, beyond noise. Seconds hold on an idle machine and are
    multiplied by the machine's slowdown (`tools/reliability/machine_load.py`).
    """

    back_s: float = Field(default=2.0, description="from a source's return to its next picture")
    remembered_s: float = Field(default=3.0, description="to its next ingested frame; one a second comes")
    lost_frames: int = Field(default=1, description="of a camera by a kill; a restart may lose none")
    stop_s: float = Field(default=2.0, description="from SIGTERM to the end of the process")
    start_s: float = Field(default=30.0, description="from its start to an answer")
    saved_s: float = Field(default=70.0, description="from free space on the disk to a saved memory")
    quiet_s: float = Field(default=4.0, description="longest wait for a frame of a camera without a fault")
    resident_mb: float = 500.0
    threads: int = Field(default=75, description="40 of them are the web server's, when garbage comes")
    descriptors: int = 100
    state_mb: float = Field(default=75.0, description="of one camera")
    log_mb: float = 0.3
    answer_s: float = Field(default=2.0, description="p99 of a question over HTTP")
    answer_p50_grows: float = Field(default=1.5, description="last third against the first")
    answer_p99_grows: float = 3.0


class Schedule(StrictModel):
    """The faults of `cycle` are injected again and again, those of `last` once before the end."""

    version: Literal[1] = 1
    warm_s: float = Field(default=30.0, ge=0, description="at the start without faults")
    peace_s: float = Field(default=5.0, ge=0, description="between a recovery and the next fault")
    cycle: tuple[PlannedFault, ...] = Field(min_length=1)
    last: tuple[PlannedFault, ...] = ()
    bounds: SoakBounds = SoakBounds()


def load_schedule(path: Path) -> Schedule:
    """Read the schedule. Raises LvmError with file, line and the first problem."""
    return read_settings(path, Schedule)
