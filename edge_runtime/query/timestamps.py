"""Times as people write them: seconds of the stream, or what the clock on the wall showed."""

from __future__ import annotations

import math
import re
import time
from datetime import date, datetime, timedelta

from engines.errors import LvmError

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d+)?))?$")
EXPECTED = "expected seconds of the stream, HH:MM[:SS] or YYYY-MM-DDTHH:MM[:SS], UTC offset allowed"


def moment(
    text: str, *, name: str, epoch: float | None, now: float | None = None, since: float | None = None
) -> float:
    """Seconds of the stream that `text` means, for the option `name`.

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


def shown(t: float, epoch: float | None, now: float | None = None) -> str:
    """Second `t` of a stream for a person: what this machine's clock showed then, with its day unless that is
    today; of a recording, which has no clock (`epoch` None), the seconds. `moment` understands it."""
    if epoch is None:
        return f"{t:.1f}"
    at, today = (datetime.fromtimestamp(one) for one in (epoch + t, time.time() if now is None else now))
    return f"{at:%H:%M:%S}" if at.date() == today.date() else f"{at:%Y-%m-%dT%H:%M:%S}"


def span(start: float, end: float, epoch: float | None, now: float | None = None) -> str:
    """From when to when, for a person."""
    unit = " s" if epoch is None else ""
    return f"{shown(start, epoch, now)} to {shown(end, epoch, now)}{unit}"


def _wall(text: str, now: float) -> float | None:
    """Seconds since 1970; None where `text` is no time."""
    try:
        if clock := _CLOCK.match(text):
            day = datetime.fromtimestamp(now).date()
            at = _on(day, clock)
            # In the evening "23:50" of a moment ago, in the morning that of yesterday.
            return at if at <= now else _on(day - timedelta(days=1), clock)
        return datetime.fromisoformat(re.sub(r"Z$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _on(day: date, clock: re.Match[str]) -> float:
    hour, minute, second = int(clock[1]), int(clock[2]), float(clock[3] or 0)
    whole = datetime(day.year, day.month, day.day, hour, minute, int(second))
    return whole.timestamp() + second % 1
