"""Where a live stream lies on the wall clock, which may be wrong, and which somebody may set right meanwhile.

A state says when its second 0 was (`Header.epoch`), so a run that goes on with it knows from the clock how
long nobody watched. That must not be believed blindly: a board without a battery (Jetson) starts in 1970 or
at the time of its last shutdown, and NTP comes minutes later; an empty battery may say 2099. Believed, a time
in the future makes everything older than the horizon, and the memory is let go with the first clip.

* Between passes of one run the boot clock tells, which nobody sets. A jump tears no gap.
* At the start the clock is believed from the saved end up to `MOST_AWAY_S` after it. A shop that is shut for
  a night or for its holidays is older than the horizon (10 h) by right: dropping that is what the horizon is
  for, and one sentence says so. Keeping it would tell of Friday's customers as of a moment ago.
* What lies before the saved end, or after more than that, is no time that somebody was away. The stream goes
  on after its last picture, behind a gap that says `CLOCK`: no length is invented, and nothing is dropped.
* `epoch` follows the clock, at such a start and where it is set while we run, since people and logs mean the
  clock that is on the wall now. So what was watched before that start has no clock times any more that could
  be told: `known_from` says from where on there are, and forgetting by the clock refuses what lies before,
  rather than remove other seconds. Seconds of the stream always work.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from edge_runtime.memory.coverage import Coverage
from edge_runtime.persistence import Header, Snapshot
from edge_runtime.query.answers import Answer
from edge_runtime.sources import is_live
from edge_runtime.sources.clocks import boot_time

log = logging.getLogger(__name__)

CLOCK = "the clock was set: how long is unknown"
MOST_AWAY_S = 31 * 86400.0
EARLIER_S = 60.0
"""A clock may be corrected by so much, and the last picture counts for its whole period."""
STEP_S = 2.0
"""NTP slews less, which the boot clock follows; what differs by more was set."""
_INSTANT_S = 0.1
_GAP_PERIODS = 2.0
"""More than half a period is a gap."""


class WallClock:
    """The clock of one run: `saved` is the state that it goes on with, None where it begins.

    `resumed` is that state as it is gone on with; of a recording, which is not `live`, the same.
    """

    def __init__(self, name: str, saved: Snapshot | None, horizon_s: float, *, live: bool) -> None:
        self._name, self._zero = name, time.time() - boot_time()
        self._at: float | None = None
        """Second of the stream at which this run goes on with an earlier one."""
        self.resumed = saved
        self.problem: str | None = None
        """One sentence while the clock or the memory is of a wrong time."""
        if live and saved is not None and saved.header.last_t is not None:
            self.resumed = self._taken_up(saved, horizon_s)

    def now(self, epoch: float) -> float:
        """Second of a stream that began at `epoch`. No jump of the clock during a run moves it."""
        return boot_time() + self._zero - epoch

    def followed(self, header: Header, coverage: Coverage) -> tuple[Header, Coverage] | None:
        """Both as the clock wants them that was set since the last time; None where it was not."""
        step = time.time() - boot_time() - self._zero
        if abs(step) <= STEP_S:
            return None
        self._zero += step
        log.warning("%s: the clock was set by %+.0f s; its times are told by the new one", self._name, step)
        self.problem = None
        if self._at is not None:
            coverage = coverage.explained(self._at - _INSTANT_S, self._at, CLOCK)
        return header.model_copy(update={"epoch": header.epoch + step}), coverage

    def _taken_up(self, saved: Snapshot, horizon_s: float) -> Snapshot:
        header, wall = saved.header, time.time()
        at, period = _known_until(header, saved.version.coverage), 1 / header.sample_fps
        away = wall - (header.epoch + at)
        if -EARLIER_S - period <= away <= MOST_AWAY_S:
            self._at = max(at, at + away)
            if away > horizon_s:
                log.warning(
                    "%s: by the clock nobody watched for %.1f h, longer than the %g h that are remembered: "
                    "what is older will be let go", self._name, away / 3600, horizon_s / 3600,
                )  # fmt: skip
            return saved
        self._at = at + _GAP_PERIODS * period
        self.problem = (
            f"the clock says {_date(wall)} and the memory ends at {_date(header.epoch + at)}: one of them is "
            "wrong, so it goes on after a gap of unknown length and nothing is let go"
        )
        log.warning("%s: %s", self._name, self.problem)
        coverage = saved.version.coverage.concluded(at).explained(at, self._at, CLOCK)
        return replace(
            saved,
            header=header.model_copy(update={"epoch": wall - self._at}),
            version=replace(saved.version, coverage=coverage),
        )


def known_from(coverage: Coverage) -> float | None:
    """Second of the stream from which on `epoch` tells the clock; None where that is all of it."""
    return max((end for _, end, why in coverage.notes if why == CLOCK and end is not None), default=None)


def _known_until(header: Header, coverage: Coverage) -> float:
    """Second of the stream up to which it is said what was: watched, paused or forgotten."""
    times = [header.resume_at(), coverage.end, *(t for a, b, _ in coverage.notes for t in (a, b))]
    return max(t for t in times if t is not None)


def _date(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) + " UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s"


def on_clock(answer: Answer, header: Header) -> Answer:
    """Return a saved state's answer for a person: that of a camera with its `epoch`."""
    return answer.on_clock(header.epoch) if is_live(header.source) else answer
