"""Place a live stream on the wall clock, which may be wrong and may be set while the camera runs.

A state says when its second 0 was (`Header.epoch`), so a run that continues it learns from the clock for how
long nobody watched. The clock cannot be trusted blindly: a board without a battery (Jetson) starts in 1970 or
at the time of its last shutdown, and NTP corrects it minutes later; an empty battery may say 2099. A trusted
time in the future would make everything older than the horizon and empty the memory with the first clip.

* Between passes of one run the boot clock is used, which nobody sets. A jump of the wall clock makes no gap.
* At the start the clock is trusted from the saved end up to `MAX_AWAY_S` after it. When a shop was shut for a
  night or for its holidays, its memory is older than the horizon (10 h), and dropping it is what the horizon
  is for; one log line says so. Keeping it would report Friday's customers as of a moment ago.
* A time before the saved end, or later than that, is not believed. The stream continues after its last
  picture, behind a gap with the reason `CLOCK`: no length is invented, and nothing is dropped.
* `epoch` follows the clock, at such a start and when the clock is set during a run, since people and logs
  mean the clock on the wall now. What was watched before such a start then has no known clock times:
  `find_known_start` returns where they begin, and forgetting by the clock refuses what lies before rather
  than remove other seconds. Seconds of the stream always work.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from edge_runtime.memory.coverage import Coverage
from edge_runtime.persistence import Header, Snapshot
from edge_runtime.query.answers import Answer
from edge_runtime.query.timestamps import TimeReader
from edge_runtime.sources.clocks import boot_time

log = logging.getLogger(__name__)

CLOCK = "the clock was set: how long is unknown"
MAX_AWAY_S = 31 * 86400.0
MAX_BACKWARD_S = 60.0
"""A clock may be corrected backwards by this much; the last picture also counts for its whole period."""
MIN_STEP_S = 2.0
"""NTP slews by less, and the boot clock follows it; a larger difference means that the clock was set."""
_INSTANT_S = 0.1
_GAP_PERIODS = 2.0
"""More than half a period is a gap."""


class WallClock:
    """The clock of one run. `saved` is the state that it continues, None where it begins a new one.

    `resumed` is `saved` with the header and coverage to continue with; for a recording it is unchanged.
    """

    def __init__(self, name: str, saved: Snapshot | None, horizon_s: float, *, live: bool) -> None:
        self._name, self._zero = name, time.time() - boot_time()
        self._at: float | None = None
        """Second of the stream at which this run goes on with an earlier one."""
        self.resumed = saved
        self.problem: str | None = None
        """One sentence while the clock or the memory has a wrong time."""
        if live and saved is not None and saved.header.last_t is not None:
            self.resumed = self._resume(saved, horizon_s)

    def now(self, epoch: float) -> float:
        """Return the second of a stream that began at `epoch`. No jump of the clock during a run moves it."""
        return boot_time() + self._zero - epoch

    def follow(self, header: Header, coverage: Coverage) -> tuple[Header, Coverage] | None:
        """Return both adjusted to a clock that was set since the last call; None where it was not set."""
        step = time.time() - boot_time() - self._zero
        if abs(step) <= MIN_STEP_S:
            return None
        self._zero += step
        log.warning("%s: the clock was set by %+.0f s; its times follow the new one", self._name, step)
        self.problem = None
        if self._at is not None:
            coverage = coverage.add_note(self._at - _INSTANT_S, self._at, CLOCK)
        return header.model_copy(update={"epoch": header.epoch + step}), coverage

    def _resume(self, saved: Snapshot, horizon_s: float) -> Snapshot:
        header, wall = saved.header, time.time()
        at, period = _find_known_end(header, saved.version.coverage), 1 / header.sample_fps
        away = wall - (header.epoch + at)
        if -MAX_BACKWARD_S - period <= away <= MAX_AWAY_S:
            self._at = max(at, at + away)
            if away > horizon_s:
                log.warning(
                    "%s: by the clock nobody watched for %.1f h, longer than the %g h that are remembered: "
                    "what is older will be dropped", self._name, away / 3600, horizon_s / 3600,
                )  # fmt: skip
            return saved
        self._at = at + _GAP_PERIODS * period
        self.problem = (
            f"the clock says {_format_date(wall)} and the memory ends at {_format_date(header.epoch + at)}: "
            "one of them is wrong, so it goes on after a gap of unknown length and nothing is dropped"
        )
        log.warning("%s: %s", self._name, self.problem)
        coverage = saved.version.coverage.end_note(at).add_note(at, self._at, CLOCK)
        return replace(
            saved,
            header=header.model_copy(update={"epoch": wall - self._at}),
            version=replace(saved.version, coverage=coverage),
        )


def make_time_reader(header: Header, coverage: Coverage) -> TimeReader:
    """Return what reads the times of a question to this stream. What was watched is not in the future."""
    if header.clock is None:
        return TimeReader(None)
    now = find_now(header, coverage)
    if now is None:
        now = max(time.time(), header.clock + (coverage.end or 0.0))
    return TimeReader(header.clock, now=now)


def make_forget_reader(header: Header, coverage: Coverage) -> TimeReader:
    """Return what reads the times of a span to forget: none of which the clock is not known."""
    return replace(make_time_reader(header, coverage), since=find_known_start(coverage))


def find_known_start(coverage: Coverage) -> float | None:
    """Return the second of the stream from which `epoch` gives clock times; None where that is all of it."""
    return max((end for _, end, why in coverage.notes if why == CLOCK and end is not None), default=None)


def _find_known_end(header: Header, coverage: Coverage) -> float:
    """Return the second of the stream up to which something is noted: watched, paused or forgotten."""
    times = [header.resume_at(), coverage.end, *(t for a, b, _ in coverage.notes for t in (a, b))]
    return max(t for t in times if t is not None)


def _format_date(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) + " UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s"


def find_now(header: Header, coverage: Coverage) -> float | None:
    """Return the Unix time that 10:03 is to be before: a recording ended some day; None is this moment."""
    if header.recording_epoch is None or coverage.end is None:
        return None
    return header.recording_epoch + coverage.end


def on_clock(answer: Answer, header: Header) -> Answer:
    """Return a saved state's answer for a person: with its `epoch`, where that gives clock times."""
    return answer if header.clock is None else answer.on_clock(header.clock)
