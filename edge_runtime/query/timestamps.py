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
from typing import Any

from engines.errors import LvmError

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d+)?))?$")
_OFFSET_CLOCK = re.compile(r"(\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?) ?([Zz]|[+-]\d\d:?\d\d)$")
_MIDNIGHT = re.compile(r"(?:(\d{4}-\d\d-\d\d)[T ])?24:00(?::00)?$")
EXPECTED = "expected seconds of the stream, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS], UTC offset allowed"
NAMES = ("from", "to")
MAX_CHARS = 100
MAX_MOMENT = 1e9
_WITHIN_SECOND = 0.999
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
        text = text.strip()
        if len(text) <= MAX_CHARS and _is_number(text) and math.isfinite(float(text)):
            return float(text)
        clock = _CLOCK.match(text) is not None or _OFFSET_CLOCK.match(text) is not None
        if self.epoch is None and len(text) <= MAX_CHARS and (clock or text[:4].isdigit()):
            raise LvmError(
                f"{name}: this source is a recording without a clock; give seconds, got {text[:60]!r}"
            )
        try:
            at = None if len(text) > MAX_CHARS else _wall_time(text, name, self.now)
        except (ValueError, OverflowError, OSError):
            at = None
        if at is None or self.epoch is None:
            raise LvmError(f"{name} must be a time: {EXPECTED}, got {text[:60]!r}")
        return self._known(at - self.epoch, text, name)

    def read_moment(self, text: str, name: str) -> float:
        """Return the seconds of the stream of a picture: of a clock time in whole seconds the end of that
        second, since a picture's time is printed without its fraction.

        Raises as `read`, and LvmError for a time before the stream or ahead of now.
        """
        t = self.read(text, name)
        if self.epoch is not None and not _is_number(text):
            if t > self.now - self.epoch:
                raise LvmError(
                    f"{name}: {format_moment(t, self.epoch)} is still to come; give an earlier time"
                )
            t += 0.0 if "." in text else _WITHIN_SECOND
        if not 0 <= t <= MAX_MOMENT:
            begun = "0" if self.epoch is None else format_moment(0.0, self.epoch)
            raise LvmError(f"{name}: what is watched begins at {begun}; give a later time, got {text[:60]!r}")
        return t

    def read_span(
        self, start: str | None, end: str | None, names: tuple[str, str] = NAMES
    ) -> tuple[float | None, float | None]:
        """Return the seconds of the stream from `start` to `end`, None where none is given.

        HH:MM as the end is the first such time after the beginning, at the latest today's; without a
        beginning today's where that is less than an hour ahead, else as `read`. What lies in the future ends
        now. Raises as `read`, and LvmError where the end is not after the beginning.
        """
        first = None if start is None else self.read(start, names[0])
        if end is None:
            return first, None
        last = self._read_end(end, names[1], first)
        if first is not None and not first < last:
            got = (f"{t:g}" if self.epoch is None else format_moment(t, self.epoch) for t in (first, last))
            raise LvmError(f"{names[0]} must be before {names[1]}, got {' and '.join(got)}")
        if self.epoch is not None and not _is_number(end):
            now = self.now - self.epoch
            last = last if first is not None and first >= now else min(last, now)
        return first, last

    def describe_span(self, first: float | None, last: float | None) -> dict[str, Any]:
        """Return the fields of JSON that say how a span was understood, with clock times of a camera."""
        fields: dict[str, Any] = {"from": first, "to": last}
        for name, t in (("clock_from", first), ("clock_to", last)):
            if t is not None and self.epoch is not None:
                fields[name] = format_moment(t, self.epoch)
        return fields

    def read_window(self, start: str, end: str, names: tuple[str, str] = NAMES) -> tuple[float, float]:
        """Return the seconds of the stream from `start` to `end`. Raises as `read_span`."""
        first, last = self.read_span(start, end, names)
        assert first is not None and last is not None
        return first, last

    def _read_end(self, text: str, name: str, first: float | None) -> float:
        """Return the seconds of the stream that `text` means as the end of a span from `first` on."""
        text = _name_midnight(text.strip())
        if first is not None and self.epoch is not None and _OFFSET_CLOCK.match(text):
            days = math.ceil((first - self.read(text, name)) / 86400)
            moment = self.read(text, name) + 86400 * days
            return moment + 86400 if moment == first else moment
        clock = _CLOCK.match(text)
        if clock is None or self.epoch is None or not _is_clock_time(clock):
            return self.read(text, name)
        today = datetime.fromtimestamp(self.now)
        if first is None:
            at = next(iter(_read_day(today, clock)), None) or _skipped_time(today, clock, self.now)
            is_ahead = at is not None and self.now < at <= self.now + AHEAD_S
            return at - self.epoch if at is not None and is_ahead else self.read(text, name)
        begin = self.epoch + first
        begin_day = datetime.fromtimestamp(begin)
        for day in (begin_day, begin_day + timedelta(days=1)):
            if day.date() > max(today, begin_day).date():
                break
            showed = _read_day(day, clock)
            if not showed:  # the clock is set forward
                at = _skipped_time(day, clock, begin)
                if at is not None and _skipped_time(day, clock, self.now) is None:
                    raise _clock_error(text, name, [])
                showed = [] if at is None else [at]
            times = [at for at in showed if at > begin]
            # Of a day on which the clock shows it twice, the second time may not have come yet.
            times = [at for at in times if at <= self.now] or times[:1]
            if len(times) > 1:
                raise _clock_error(text, name, times)
            if times:
                return self._known(times[0] - self.epoch, text, name)
        return self.read(text, name)

    def _known(self, t: float, text: str, name: str) -> float:
        """Return `t`. Raises LvmError where the clock was another one then."""
        if self.since is not None and t < self.since:
            raise LvmError(
                f"{name}: the clock was set, and what it showed before second {self.since:.1f} is not known; "
                f"give seconds of the stream for what is older, got {text[:60]!r}"
            )
        return t


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


def _wall_time(text: str, name: str, now: float) -> float:
    """Return the seconds since 1970 that `text` means. Raises ValueError where it is no time, LvmError for
    what the clock showed twice or never."""
    if with_offset := _OFFSET_CLOCK.match(text):
        zone = datetime.fromisoformat(f"2000-01-01T00:00{_write_offset(with_offset[2])}").tzinfo
        hour, minute, second = (float(part) for part in (with_offset[1] + ":0").split(":")[:3])
        day = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0)
        if hour >= 24 or minute >= 60 or second >= 60:
            raise ValueError(text)
        at = day.timestamp() + 3600 * hour + 60 * minute + second
        times = [at if at <= now else at - 86400]
    elif clock := _CLOCK.match(text):
        today = datetime.fromtimestamp(now)
        days = [_read_day(day, clock) for day in (today - timedelta(days=1), today)]
        if not days[1] and (int(clock[1]), int(clock[2])) <= (today.hour, today.minute):
            raise _clock_error(text, name, [])
        # Of a day on which the clock showed it twice, the second time may not have come yet.
        days = [[at for at in day if at <= now] or day[:1] for day in days]
        times = days[1] if days[1] and days[1][0] <= now else days[0]
    else:
        moment = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
        times = [moment.timestamp()] if moment.tzinfo is not None else _on_clock(moment)
    if len(times) != 1:
        raise _clock_error(text, name, times)
    return times[0]


def _write_offset(text: str) -> str:
    return "+00:00" if text in "Zz" else f"{text[:3]}:{text[-2:]}"


def _name_midnight(text: str) -> str:
    """Return a text that has 24:00 with the midnight that it means, 00:00 of the next day."""
    if (midnight := _MIDNIGHT.match(text)) is None:
        return text
    if midnight[1] is None:
        return "00:00"
    return f"{date.fromisoformat(midnight[1]) + timedelta(days=1)}T00:00"


def _is_clock_time(clock: re.Match[str]) -> bool:
    return int(clock[1]) < 24 and int(clock[2]) < 60 and float(clock[3] or 0) < 60


def _skipped_time(day: date, clock: re.Match[str], after: float) -> float | None:
    """Return when HH:MM[:SS] of a day would be that the clock skips, None where it does not lie ahead of what
    the clock shows `after`."""
    at = datetime(day.year, day.month, day.day, int(clock[1]), int(clock[2]), int(float(clock[3] or 0)))
    return at.timestamp() if at > datetime.fromtimestamp(after).replace(fold=0) else None


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
