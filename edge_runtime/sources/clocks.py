"""Clocks of a stream, in the order in which a picture passes them.

`PtsClock` turns the presentation time stamps (PTS) of a file or stream into seconds, `SampleClock` says which
pictures are sampled, and `StreamClock` places the frames of a live source, which is opened again after each
failure, on one scale that only goes forward.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from itertools import chain, pairwise, starmap
from typing import Literal, TypeVar

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.sources.base import Tally

log = logging.getLogger(__name__)

Clock = Callable[[], float]

# -- PTS to seconds ----------------------------------------------------------------------------------------

RESTARTED_S = 1.0
"""Time that goes back by more than this means that the clock was set, not that pictures were reordered."""
JUMPED_S = 5.0
"""A live stream's clock that runs ahead of ours by more than this between two pictures was set."""
FROZEN_S = 1.0
"""A live stream's clock that does not advance for this long counts as frozen."""
CONFIRMING = 4
"""Pictures in a row that must agree before a file's clock is believed to stand still or to have leapt."""
RETURNING_S = 2.0
"""A file's clock that is back where it would be within so long was astray, however many pictures agreed."""
MAX_GAP_S = 86_400.0
"""A longer gap within a file is a clock that was set, as on a recorder that began without the date."""
LEARNED = 25
"""Steps from picture to picture of which the median is the usual one."""

MIN_STEP_S = 1e-4
"""Less than this is no distance of two pictures."""

CROWDED = 0.1
CROWDED_S = 0.005
"""A file's clock stands nearly still where its pictures are nearer to each other than both: this share of the
declared distance, and these seconds, since a declared rate may be far too low."""

Repair = Literal["missing", "standing still", "stray", "jump"]
"""What was wrong with a time stamp, in the words of the status."""
P = TypeVar("P")


class PtsClock:
    """Seconds since the first picture plus `start`; never goes back.

    A picture is timed by its own stamp, unless that is missing, stands still, lies astray or leaps; each such
    picture counts in `tally.repairs`. In a file the pictures around it decide: those that lie far off are
    placed between their neighbours where the clock is back within 2 s and 25 pictures, and those without a
    usable stamp follow at the usual distance; where it begins with stamps that are nearly equal, they are not
    used up to the first that is not. A live stream cannot wait for the next picture, so its arrival decides.
    Where the clock was set (concatenated files, cameras that synchronise their time), time continues from
    where it was; in a file, a gap of up to a day stays a gap.
    """

    def __init__(
        self,
        time_base: Fraction,
        period: float,
        tally: Tally,
        *,
        start: float,
        live: bool,
        stamped: bool = True,
    ) -> None:
        """Begin at `start` seconds; `stamped` is False for a format without time stamps."""
        self._time_base, self.period, self._tally = time_base, period, tally
        self._start, self._live, self._stamped = start, live, stamped
        self._offset: Fraction | None = None  # seconds of the stream's clock at our zero
        self._last: float | None = None
        self._steps: deque[float] = deque(maxlen=LEARNED)  # seconds from picture to picture
        self._believed: Fraction | None = None  # the last stamp that timed a picture of a file
        self._stands = False
        self._since = 0  # pictures after that one
        self._begun = False
        self._arrival = 0.0
        self._highest: Fraction | None = None  # a live stream's latest stamp, and when it came
        self._advanced = 0.0
        self._said: set[Repair] = set()

    def place(self, pictures: Iterable[tuple[int | None, P]]) -> Iterator[tuple[float, P]]:
        """Yield the seconds of each picture, given with its presentation time in the stream's units."""
        if self._live:
            return ((self._place_arriving(pts), picture) for pts, picture in pictures)
        return self._place_read(pictures)

    def to_pts(self, t: float) -> int | None:
        """Return `t` seconds in the stream's units; None before a picture with a time stamp was seen."""
        return None if self._offset is None else int((Fraction(t) + self._offset) / self._time_base)

    def reset_last(self) -> None:
        """Allow any time for the next picture, as after a seek."""
        self._last = self._believed = None
        self._stands = False

    def _repair(self, kind: Repair, what: str, pictures: int = 1) -> None:
        """Count pictures whose stamps were not used; log the first of each kind."""
        self._tally.repairs[kind] += pictures
        if kind not in self._said:
            self._said.add(kind)
            log.warning("%s: %s", self._tally.name, what)

    # -- a file: its neighbours decide about a picture ----------------------------------------------------

    def _place_read(self, pictures: Iterable[tuple[int | None, P]]) -> Iterator[tuple[float, P]]:
        coming = yield from self._place_crowded(iter(pictures))
        waiting: deque[tuple[int | None, P]] = deque()  # read, and to be placed again
        held: list[tuple[int | None, P]] = []  # in doubt until the next pictures are known
        while True:
            item = waiting.popleft() if waiting else next(coming, None)
            if item is not None and not held:
                t = self._place_usual(item[0])
                if t is None:
                    held.append(item)
                else:
                    yield t, item[1]
                continue
            if not held:
                return
            times = self._decide([pts for pts, _ in held], item)
            if item is not None:
                held.append(item)
            for t, (_, picture) in zip(times, held, strict=False):
                yield t, picture
            if times:
                waiting.extendleft(reversed(held[len(times) :]))
                held = []

    def _place_crowded(
        self, coming: Iterator[tuple[int | None, P]]
    ) -> Generator[tuple[float, P], None, Iterator[tuple[int | None, P]]]:
        """Yield the seconds of the pictures with which a file begins while its stamps are nearly equal.

        Returns the others.
        """
        begin = None if self._begun else next(coming, None)
        self._begun = True
        if begin is None:
            return coming
        t = self._place_usual(begin[0])  # of a first picture known at once: a film must not wait for a second
        yield self._start if t is None else t, begin[1]
        first = [begin]
        for item in coming:
            first.append(item)
            if len(first) > LEARNED or not self._is_crowded(*first[-2:]):
                break
        coming = chain(first[1:], coming)
        is_crowded = len({pts for pts, _ in first}) > 1 and all(starmap(self._is_crowded, pairwise(first)))
        if len(first) < CONFIRMING or not is_crowded:
            return coming
        before = begin
        for item in coming:
            expected = _add(self._last or 0.0, self.period)
            self._believed = (item[0] or 0) * self._time_base
            if not self._is_crowded(before, item):
                # This one and what follows is timed by its stamps again.
                self._offset = self._believed - Fraction(expected)
                self._believed = None
                return chain([item], coming)
            rate = 1 / self.period
            self._repair("standing still", f"its clock stands nearly still, timed at {rate:.3g} a second")
            self._last, before = expected, item
            yield expected, item[1]
        return iter(())

    def _is_crowded(self, before: tuple[int | None, object], item: tuple[int | None, object]) -> bool:
        """Return whether the stamps of two pictures in a row are nearly equal."""
        if before[0] is None or item[0] is None:
            return False
        return abs(item[0] - before[0]) * self._time_base < min(CROWDED * self.period, CROWDED_S)

    def _place_usual(self, pts: int | None) -> float | None:
        """Return the seconds of a picture whose stamp is as expected; None where others must decide."""
        expected = self._start if self._last is None else _add(self._last, self._step)
        if pts is None:
            self._repair("missing", f"pictures without time stamps, timed at {1 / self._step:.3g} a second")
            self._last = expected
            return expected
        stamp = pts * self._time_base
        if self._offset is None:
            self._offset = stamp - Fraction(expected)
        t = float(stamp - self._offset)
        if self._last is not None:
            if stamp == self._believed:
                if not self._stands:
                    return None
                self._repair("standing still", f"its clock stands still at {self._last:.1f} s")
                self._since += 1
                self._last = max(self._last, _add(t, self._step * self._since))
                return self._last
            step = t - self._last
            mean = self._find_mean(stamp)
            if mean is not None:
                self._learn_step(mean)
            elif not -RESTARTED_S <= step <= RESTARTED_S and not 0 < step <= self._longest_step:
                return None
            elif not self._stands:
                self._learn_step(step)
        self._believed, self._stands, self._since = stamp, False, 0
        self._last = t if self._last is None else max(t, self._last)
        return self._last

    def _find_mean(self, stamp: Fraction) -> float | None:
        """Return the distance of pictures in seconds of a clock that stood still up to `stamp`.

        So does one in steps of half a second. None where it did not, or where that is no distance.
        """
        if not self._stands or self._believed is None:
            return None
        mean = float(stamp - self._believed) / (self._since + 1)
        return mean if 0.1 * self._step <= mean <= RESTARTED_S else None

    def _decide(self, held: list[int | None], item: tuple[int | None, object] | None) -> list[float]:
        """Return the seconds of the first of the `held` pictures, as far as they can be told now that `item`
        (None at the end) follows them."""
        last, step = self._last or 0.0, self._step
        stamps = [self._seconds_of(pts, last) for pts in held]
        following = None if item is None else self._seconds_of(item[0], stamps[-1])
        pictures = len(held)
        first = (held[0] or 0) * self._time_base  # a picture without a stamp is never in doubt
        if first == self._believed:
            if following == stamps[0]:
                if pictures + 1 < CONFIRMING:
                    return []
                self._stands, following = True, None
            what = f"its clock stood still at {last:.1f} s, timed at {1 / step:.3g} a second"
            self._repair("standing still", what, pictures)
            return self._spread(pictures, following)
        if following is None:
            # A last picture that nothing bears out is not worth a gap.
            astray = pictures == 1 and abs(stamps[0] - last) > max(JUMPED_S, self._longest_step)
        else:
            off = abs(following - last - step * (pictures + 1))
            astray = off < abs(following - stamps[-1] - step)
            # Those who agree are only contradicted by a clock that is exactly back.
            astray = astray and (pictures < CONFIRMING or off <= max(1, 0.1 * pictures) * step)
        if astray:
            self._repair("stray", f"a time stamp at {last:.1f} s was {stamps[0] - last:+.1f} s off", pictures)
            return self._spread(pictures, following)
        if following is not None and pictures + 1 < max(CONFIRMING, min(RETURNING_S / step, LEARNED)):
            return []
        gap = stamps[0] - last
        # Nor is a first picture, unless the next ones are as far apart.
        alone = (
            not self._steps and following is not None and gap > max(JUMPED_S, 10 * (following - stamps[-1]))
        )
        if 0 < gap <= MAX_GAP_S and not alone:
            t = stamps[0]
            self._learn_step(gap)
        else:
            t = _add(last, step)
            self._repair("jump", f"its clock jumped by {stamps[0] - t:.1f} s at {t:.1f} s")
            self._offset = first - Fraction(t)
        self._last, self._believed, self._stands, self._since = t, first, False, 0
        return [t]

    def _spread(self, pictures: int, following: float | None) -> list[float]:
        """Return times for pictures without a usable stamp: evenly up to the one that follows, if near."""
        last = self._last or 0.0
        step = self._step
        if following is not None and 0 < following - last <= self._longest_step * (pictures + 1):
            step = (following - last) / (pictures + 1)
        times = [_add(last, step * (index + 1)) for index in range(pictures)]
        self._last = times[-1]
        self._since += pictures
        return times

    def _seconds_of(self, pts: int | None, before: float) -> float:
        return before + self._step if pts is None else float(pts * self._time_base - (self._offset or 0))

    @property
    def _step(self) -> float:
        """The usual seconds from picture to picture: the container's, unless the pictures say otherwise."""
        learned = statistics.median(self._steps) if self._steps else self.period
        return learned if abs(learned - self.period) > 0.1 * self.period else self.period

    @property
    def _longest_step(self) -> float:
        """Seconds from one picture to the next that need no proof."""
        return max(RESTARTED_S, 3 * self._step)

    def _learn_step(self, step: float) -> None:
        if step >= MIN_STEP_S:
            self._steps.append(step)

    # -- a live stream: its arrival decides ----------------------------------------------------------------

    def _place_arriving(self, pts: int | None) -> float:
        """Return the seconds of a picture that arrives now."""
        elapsed = time.monotonic() - self._arrival
        self._arrival += elapsed
        expected = self._start if self._last is None else self._last + elapsed
        # RTSP has no stamp for the very first picture, MJPEG for none: that is nothing to report.
        if pts is None and self._stamped and self._last is not None:
            self._repair("missing", "pictures without time stamps, timed by their arrival")
        self._last = expected if pts is None else self._compare(pts * self._time_base, expected)
        return self._last

    def _compare(self, stamp: Fraction, expected: float) -> float:
        """Return the seconds that `stamp` says, or `expected` by our clock where it cannot be right."""
        # For how many seconds the stream's clock has not advanced although pictures came.
        if self._highest is None or stamp > self._highest:
            self._highest, self._advanced = stamp, self._arrival
        still_s = self._arrival - self._advanced
        if self._offset is None:
            begun = self._start if self._last is None else self._last + self.period
            self._offset = stamp - Fraction(begun)
        t = float(stamp - self._offset)
        if self._last is None:
            return t
        if t < self._last - RESTARTED_S or t > expected + JUMPED_S:
            self._repair("jump", f"its clock jumped by {t - expected:.1f} s at {expected:.1f} s")
            self._highest, self._advanced = stamp, self._arrival
        elif still_s <= FROZEN_S:
            self._stands = False
            return max(t, self._last)
        else:
            self._repair("standing still", f"its clock stands still at {self._last:.1f} s, timed by arrival")
            if not self._stands:
                self._stands = True
                expected = self._last + still_s  # the time that it took to notice
        self._offset = stamp - Fraction(expected)
        return expected


def _add(t: float, seconds: float) -> float:
    """Return the sum to the nanosecond, so that the errors of a million pictures do not add up."""
    return max(t, round(t + seconds, 9))


# -- sampling ----------------------------------------------------------------------------------------------

SAME_INSTANT = 1e-6
"""Fraction of a sampling period below which two times are the same: float noise, never a real interval."""


PACE_PICTURES = 8
PACE_MIN_DISTANCES = 3
"""From so many distances on between pictures, up to the newest eight, a source has a pace."""
IRREGULAR = 0.25
REGULAR_SHARE = 0.75
"""So many of the distances must differ from the usual one by at most so much of it."""
SAME_PACE = 0.005
"""A source whose pictures are a sampling period apart within so much of it gives one in each."""
MAX_FRAME_PERIOD_S = 3600.0
"""A picture stands for an hour at most, however rarely a source gives one."""


class SampleClock:
    """Samples pictures at `fps`: the first one at or after each multiple of 1/fps since zero.

    Variable frame rates and gaps come out right, and no period ever gets two frames.
    """

    def __init__(self, fps: float) -> None:
        if not 0 < fps < math.inf:
            raise ValueError(f"sampling rate must be a positive number of frames a second, got {fps}")
        self._fps = fps
        self._last: int | None = None
        self._newest: tuple[float, ...] = ()  # times of pictures; replaced, as several threads may read it

    def period_index(self, t: float) -> int:
        """Return the number of the period that `t` seconds lies in."""
        return math.floor(t * self._fps + SAME_INSTANT)

    def period_start(self, t: float) -> float:
        """Return the seconds at which the period of `t` begins, never later than `t`."""
        return min(t, self.period_index(t) / self._fps)

    def accept(self, t: float) -> bool:
        """Return whether the picture at `t` seconds is a sample. Call once a picture, in time order."""
        self._newest = (*self._newest[-PACE_PICTURES:], t)
        period = self.period_index(t)
        if self._last is not None and period <= self._last:
            return False
        self._last = period
        return True

    @property
    def frame_period(self) -> float | None:
        """Seconds that a sampled frame stands for; None before there are enough pictures to tell.

        That is one sampling period, or of a slower source the usual distance of its pictures. Of one that is
        barely faster, now and then two pictures lie in one sampling period and only the first is a sample.
        Then the next one comes up to two periods later and nothing is missing, so a frame stands for longer.
        """
        period = 1 / self._fps
        distances = sorted(b - a for a, b in zip(self._newest, self._newest[1:], strict=False))
        if len(distances) < PACE_MIN_DISTANCES:
            return None
        usual = distances[len(distances) // 2]
        regular = sum(abs(distance - usual) <= IRREGULAR * usual for distance in distances)
        if regular < REGULAR_SHARE * len(distances):
            # A slow source over a bad network. Where pictures came at the sampling rate too, or all are whole
            # periods apart, some were lost.
            fast = sum(distance <= (1 + IRREGULAR) * period for distance in distances)
            is_near = usual / 4 <= distances[0] and distances[-1] <= 2 * usual
            whole = sum(abs(d / period - round(d / period)) <= 0.1 for d in distances)
            is_slow = is_near and max(fast, whole - 2) <= (1 - REGULAR_SHARE) * len(distances)
            return min(round(usual, 3), MAX_FRAME_PERIOD_S) if is_slow and usual > period else period
        if abs(usual / period - 1) <= SAME_PACE:
            return period
        if usual > period:
            return min(round(usual, 3), MAX_FRAME_PERIOD_S)
        return max(period, round((period + usual) / 1.5, 3))  # half as much again is no gap


# -- one scale for all openings of a live source -----------------------------------------------------------

WINDOW_S = 30.0
"""A camera's clock that is slower than ours shows as lag that never falls to zero for this long."""
JITTER_S = 0.05
"""How exactly an arrival tells when a picture was taken; less than this ahead of our clock is no fault."""


def boot_time() -> float:
    """Return seconds that no setting of the wall clock changes and that go on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class StreamClock:
    """Places the frames of one opening after another on seconds that only go forward.

    A source may count from any zero; its distances are exact, since they come from the camera. Each opening
    is anchored at the time when it really began, so an outage is as long here as it was. A picture cannot
    arrive before it was taken: a time ahead of our clock moves the anchor back. A time that stands still or
    goes back is anchored again. Anchors move by whole ticks of 1/5 s, so that each of 5 frames a second keeps
    a tick of its own.
    """

    def __init__(self, sample_fps: float, *, start: float = 0.0, clock: Clock = boot_time) -> None:
        self._clock, self._zero = clock, clock() - start
        self._min_gap = 0.5 / sample_fps
        self._offset: float | None = None
        self._last_in: float | None = None
        self._last_out: float | None = None
        self._min_lag, self._window_began = math.inf, 0.0
        self.lag = 0.0
        """Seconds by which the last frame lay behind our clock."""

    def now(self) -> float:
        """Return the seconds of the stream at this moment."""
        return self._clock() - self._zero

    def begin_opening(self) -> None:
        """Anchor the next frame again: it belongs to a new opening."""
        self._offset = self._last_in = None

    def place(self, t: float) -> float | None:
        """Return the stream seconds of a frame that arrives now and that its source puts at `t`.

        None where it lies less than half a sampling period after the last frame, or before it.
        """
        now = self.now()
        if self._offset is None or (self._last_in is not None and t <= self._last_in):
            self._offset = _floor_to_ticks(now - t)
            self._min_lag, self._window_began = math.inf, now
        elif t + self._offset > now + JITTER_S:
            self._offset += _floor_to_ticks(now - t - self._offset)
        self._last_in = t
        placed = t + self._offset
        self.lag = now - placed
        # Follow a camera's quartz, which differs by some seconds a day, in steps of one tick.
        self._min_lag = min(self._min_lag, self.lag)
        if now - self._window_began >= WINDOW_S:
            if self._offset is not None and self._min_lag > 1.5 / TICKS_PER_SECOND:
                self._offset += 1 / TICKS_PER_SECOND
            self._min_lag, self._window_began = math.inf, now
        if self._last_out is not None and placed < self._last_out + self._min_gap:
            return None
        self._last_out = placed
        return placed

    def catch_up(self) -> None:
        """Trust our clock and not the camera's: the next frame is from now."""
        self._last_in = math.inf


def _floor_to_ticks(seconds: float) -> float:
    return math.floor(seconds * TICKS_PER_SECOND + SAME_INSTANT) / TICKS_PER_SECOND
