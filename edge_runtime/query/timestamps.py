"""Read and write times as people do: seconds of the stream, or wall-clock time."""

from __future__ import annotations

import math
import re
import time
from datetime import date, datetime, timedelta

from engines.errors import LvmError

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d+)?))?$")
EXPECTED = "expected seconds of the stream, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS], UTC offset allowed"


def parse_timestamp(
    text: str, *, name: str, epoch: float | None, now: float | None = None, since: float | None = None
) -> float:
    """Return the seconds of the stream that `text` means, for the option `name`.

    `epoch` is the wall-clock time of the stream's second 0, None for a recording, which has no clock. HH:MM
    is the last time that the machine's clock showed it, `now` included. Before second `since` the clock was
    another one (`wall_clock.find_known_start`), and only seconds can be meant. Raises LvmError.
    """
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(seconds):
            raise LvmError(f"{name} must be a time: {EXPECTED}, got {text[:60]!r}")
        return seconds
    if epoch is None and (_CLOCK.match(text) or text[:4].isdigit()):
        raise LvmError(f"{name}: this source is a recording without a clock; give seconds, got {text[:60]!r}")
    at = _wall(text, time.time() if now is None else now)
    if at is None or epoch is None:
        raise LvmError(f"{name} must be a time: {EXPECTED}, got {text[:60]!r}")
    if since is not None and at - epoch < since:
        raise LvmError(
            f"{name}: the clock was set, and what it showed before second {since:.1f} is not known; "
            f"give seconds of the stream for what is older, got {text[:60]!r}"
        )
    return at - epoch


def format_time(t: float, epoch: float | None, now: float | None = None) -> str:
    """Format second `t` of a stream for a person; `parse_timestamp` reads it back.

    It is what this machine's clock showed then, with the date unless that is today; of a recording, which has
    no clock (`epoch` None), the seconds.
    """
    if epoch is None:
        return f"{t:.1f}"
    at, today = (
        datetime.fromtimestamp(seconds) for seconds in (epoch + t, time.time() if now is None else now)
    )
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%Y-%m-%dT%H:%M:%S}"


def format_span(start: float, end: float, epoch: float | None, now: float | None = None) -> str:
    """Format a span of time for a person."""
    unit = " s" if epoch is None else ""
    return f"{format_time(start, epoch, now)} to {format_time(end, epoch, now)}{unit}"


def _wall(text: str, now: float) -> float | None:
    """Return seconds since 1970; None where `text` is no time."""
    try:
        if clock := _CLOCK.match(text):
            day = datetime.fromtimestamp(now).date()
            at = _on(day, clock)
            # "23:50" means today in the evening, yesterday in the morning.
            return at if at <= now else _on(day - timedelta(days=1), clock)
        return datetime.fromisoformat(re.sub(r"Z$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _on(day: date, clock: re.Match[str]) -> float:
    hour, minute, second = int(clock[1]), int(clock[2]), float(clock[3] or 0)
    whole = datetime(day.year, day.month, day.day, hour, minute, int(second))
    return whole.timestamp() + second % 1
