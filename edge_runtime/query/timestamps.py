"""Read and write times as people do: seconds of the stream, or wall-clock time.

Clock times are those of the machine that watches, in its zone. They are read there and nowhere else: another
machine has another zone, another day and another "now".
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo

from engines.errors import LvmError

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d+)?))?$")
EXPECTED = "expected seconds of the stream, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS], UTC offset allowed"
NAMES = ("from", "to")
MAX_CHARS = 100
AHEAD_S = 3600.0
"""HH:MM that is ahead by up to this much, as the end of a span without a beginning, means today."""


@dataclass(frozen=True)
class TimeReader:
    """Reads times of one stream.

    `epoch` is the wall-clock time of the stream's second 0, None for a recording, which has no clock. Before
    second `since` the clock was another one (`wall_clock.find_known_start`), and only seconds can be meant.
    """

    epoch: float | None
    since: float | None = None
    now: float = field(default_factory=time.time)

    def read(self, text: str, name: str) -> float:
        """Return the seconds of the stream that `text` means, for the option `name`.

        HH:MM is the last time that the machine's clock showed it. Raises LvmError for what is no time, and
        for one that the clock showed twice or never.
        """
        return self._newest(self._readings(text, name))

    def read_span(
        self, start: str | None, end: str | None, names: tuple[str, str] = NAMES
    ) -> tuple[float | None, float | None]:
        """Return the seconds of the stream from `start` to `end`, None where none is given.

        HH:MM as the end is the time after the beginning; what lies in the future ends now. Raises as `read`,
        and LvmError where the end is not after the beginning.
        """
        first = None if start is None else self.read(start, names[0])
        if end is None:
            return first, None
        readings = self._readings(end, names[1])
        last = self._newest(readings)
        if self.epoch is not None and len(readings) > 1:
            ahead = readings[-1]
            today = last <= first if first is not None else ahead - (self.now - self.epoch) <= AHEAD_S
            last = ahead if today else last
        if first is not None and not first < last:
            got = (f"{t:g}" if self.epoch is None else format_moment(t, self.epoch) for t in (first, last))
            raise LvmError(f"{names[0]} must be before {names[1]}, got {' and '.join(got)}")
        if self.epoch is not None and not _is_number(end):
            now = self.now - self.epoch
            last = last if first is not None and first >= now else min(last, now)
        return first, last

    def read_window(self, start: str, end: str, names: tuple[str, str] = NAMES) -> tuple[float, float]:
        """Return the seconds of the stream from `start` to `end`. Raises as `read_span`."""
        first, last = self.read_span(start, end, names)
        assert first is not None and last is not None
        return first, last

    def _newest(self, readings: list[float]) -> float:
        """Return the newest reading that is not in the future, else the first one."""
        now = math.inf if self.epoch is None else self.now - self.epoch
        return max((t for t in readings if t <= now), default=readings[0])

    def _readings(self, text: str, name: str) -> list[float]:
        """Return what `text` may mean in seconds of the stream, in order: HH:MM yesterday or today."""
        text = text.strip()
        if len(text) > MAX_CHARS:
            raise LvmError(f"{name} must be a time: {EXPECTED}, got {text[:60]!r}")
        if _is_number(text):
            if not math.isfinite(float(text)):
                raise LvmError(f"{name} must be a time: {EXPECTED}, got {text[:60]!r}")
            return [float(text)]
        epoch = self.epoch
        if epoch is None and (_CLOCK.match(text) or text[:4].isdigit()):
            raise LvmError(
                f"{name}: this source is a recording without a clock; give seconds, got {text[:60]!r}"
            )
        try:
            times = _wall_times(text, name, self.now)
        except (ValueError, OverflowError, OSError):
            times = []
        if not times or epoch is None:
            raise LvmError(f"{name} must be a time: {EXPECTED}, got {text[:60]!r}")
        readings = [at - epoch for at in times]
        if self.since is not None and self._newest(readings) < self.since:
            raise LvmError(
                f"{name}: the clock was set, and what it showed before second {self.since:.1f} is not known; "
                f"give seconds of the stream for what is older, got {text[:60]!r}"
            )
        return readings


def parse_timestamp(
    text: str, *, name: str, epoch: float | None, now: float | None = None, since: float | None = None
) -> float:
    """Return the seconds of the stream that `text` means: `TimeReader.read`."""
    return TimeReader(epoch, since, time.time() if now is None else now).read(text, name)


def format_time(t: float, epoch: float | None, now: float | None = None, zone: tzinfo | None = None) -> str:
    """Format second `t` of a stream for a person; `parse_timestamp` reads it back.

    It is what the clock of the machine that watches showed then, with the date unless that is today, and with
    the UTC offset where that clock showed it twice. `zone` is that machine's where this one has another, and
    always stated. Of a recording, which has no clock (`epoch` None), the seconds.
    """
    if epoch is None:
        return f"{t:.1f}"
    if zone is not None:
        return format_moment(t, epoch, zone)
    at, today = (
        datetime.fromtimestamp(seconds) for seconds in (epoch + t, time.time() if now is None else now)
    )
    if len(_on_clock(at.replace(microsecond=0))) > 1:
        return format_moment(t, epoch)
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%Y-%m-%dT%H:%M:%S}"


def format_instant(t: float, epoch: float | None, zone: tzinfo | None = None) -> str:
    """Format second `t` of a stream for a person, alone in a sentence: seconds have their unit."""
    return f"{format_time(t, epoch, zone=zone)}{' s' if epoch is None else ''}"


def format_span(
    start: float, end: float, epoch: float | None, now: float | None = None, zone: tzinfo | None = None
) -> str:
    """Format a span of time for a person."""
    unit = " s" if epoch is None else ""
    return f"{format_time(start, epoch, now, zone)} to {format_time(end, epoch, now, zone)}{unit}"


def format_moments(times: Iterable[float], epoch: float | None, zone: tzinfo | None = None) -> str:
    """Format moments of a stream for a person: in order, and what is written alike once."""
    ordered = sorted(times)
    if epoch is None:
        return ", ".join(dict.fromkeys(f"{round(t, 1):g}" for t in ordered)) + " s"
    return ", ".join(dict.fromkeys(format_time(t, epoch, zone=zone) for t in ordered))


def format_moment(t: float, epoch: float, zone: tzinfo | None = None) -> str:
    """Format second `t` of a stream with its date and UTC offset; seconds since 1970 where no date has it."""
    try:
        return datetime.fromtimestamp(math.floor(epoch + t), zone).astimezone(zone).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{epoch + t:.0f}"


def format_clock_span(start: float | None, end: float | None, epoch: float) -> dict[str, str]:
    """Return the fields of JSON that say a span in clock times; none where there is no span."""
    if start is None or end is None:
        return {}
    return {"clock_from": format_moment(start, epoch), "clock_to": format_moment(end, epoch)}


def find_other_zone(moment: str | None) -> tzinfo | None:
    """Return the zone of a time that `format_moment` wrote, None where this machine's clock has the same."""
    try:
        at = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    return None if at.utcoffset() == at.astimezone().utcoffset() else at.tzinfo


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _wall_times(text: str, name: str, now: float) -> list[float]:
    """Return seconds since 1970 that `text` may mean, in order; none where it is no time.

    Raises LvmError for what the clock showed twice or never.
    """
    if clock := _CLOCK.match(text):
        today = datetime.fromtimestamp(now)
        days = [_read_day(day, clock) for day in (today - timedelta(days=1), today)]
        if not days[1] and (int(clock[1]), int(clock[2])) <= (today.hour, today.minute):
            raise _clock_error(text, name, [])
        # Of a day on which the clock showed it twice, the second time may not have come yet.
        days = [[at for at in day if at <= now] or day[:1] for day in days]
        used = days[1] if days[1] and days[1][0] <= now else days[0]
        if len(used) != 1:
            raise _clock_error(text, name, used)
        return sorted({*used, *days[1][:1]})
    at = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    times = [at.timestamp()] if at.tzinfo is not None else _on_clock(at)
    if len(times) != 1:
        raise _clock_error(text, name, times)
    return times


def _read_day(day: date, clock: re.Match[str]) -> list[float]:
    """Return when the clock showed HH:MM[:SS] on a day."""
    hour, minute, second = int(clock[1]), int(clock[2]), float(clock[3] or 0)
    times = _on_clock(datetime(day.year, day.month, day.day, hour, minute, int(second)))
    return [at + second % 1 for at in times]


def _on_clock(at: datetime) -> list[float]:
    """Return when this machine's clock showed `at`, in order: once, twice when it was set back, or never."""
    times = sorted({at.replace(fold=fold).timestamp() for fold in (0, 1)})
    return [t for t in times if datetime.fromtimestamp(t).replace(fold=0) == at]


def _clock_error(text: str, name: str, times: list[float]) -> LvmError:
    if not times:
        return LvmError(
            f"{name}: the clock never showed {text[:60]!r}, it was set forward; give a later time"
        )
    readings = " or ".join(format_moment(at, 0.0) for at in times)
    return LvmError(f"{name}: the clock showed {text[:60]!r} twice; give {readings}")
