"""When a supervised source loses patience: the settings, with the reasons for what ships."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Supervision:
    """When to lose patience. Seconds, unless said otherwise."""

    open_timeout_s: float = 10.0
    """Of a network connection; with `picture_timeout_s` more, of everything up to the first picture."""
    read_timeout_s: float = 5.0
    """Without a byte from the network."""
    picture_timeout_s: float = 10.0
    """Without a picture although connected; the session is then given up, hanging in its driver or not."""
    stalled_after_s: float = 2.0
    """Without a picture until the state says so, or three usual periods if those are longer."""
    first_wait_s: float = 0.1
    most_wait_s: float = 0.8
    """Cap of the back-off. Together with connecting it has to stay under 2 s after a camera comes back."""
    refused_wait_s: float = 30.0
    """Between attempts at what will hardly change by itself: a wrong password, a missing plugin."""
    steady_after_s: float = 5.0
    """Of pictures, after which the next outage begins with short waits again."""
    late_after_s: float = 5.0
    """Behind real time, after which a new connection is the way back to the present."""
    late_pause_s: float = 20.0
    """Least time between two reconnects for that reason; doubles each time up to ten minutes."""
    most_abandoned: int = 4
    """Threads that may hang in a driver at one time, per source."""
    first_must_open: bool = False
    """Whether what is missing or refused at the very first opening is raised, for somebody who mistyped."""


DEFAULT = Supervision()
MOST_LATE_PAUSE_S = 600.0
