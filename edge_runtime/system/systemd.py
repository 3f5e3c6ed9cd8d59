"""Telling systemd how it goes: `Type=notify` and `WatchdogSec=`, over its socket and without a library.

See sd_notify(3). Outside of systemd NOTIFY_SOCKET is not set, and all of this does nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger(__name__)

MAX_STATUS_CHARS = 200


class Notifier:
    """Sends datagrams to `address`, a path or an abstract name that begins with @; None sends nothing."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.watchdog_s = watchdog_s
        """Seconds within which systemd wants a sign of life, None where it wants none."""
        self._failed = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """The one that systemd has told this process, and no child of it, about."""
        pid, usec = environment.get("WATCHDOG_PID"), environment.get("WATCHDOG_USEC", "")
        ours = pid is None or pid == str(os.getpid())
        watchdog_s = int(usec) / 1e6 if ours and usec.isdecimal() and int(usec) > 0 else None
        return cls(environment.get("NOTIFY_SOCKET") or None, watchdog_s)

    def __bool__(self) -> bool:
        return self._address is not None

    def send(self, *lines: str) -> None:
        """Lines like READY=1. One that cannot be sent is logged once, and never ends the run."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.settimeout(1.0)
                door.sendto("\n".join(lines).encode(), self._address)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("systemd cannot be told (%s): %s", lines[0], error.strerror or error)
            self._failed = True

    def ready(self) -> None:
        self.send("READY=1")

    def stopping(self) -> None:
        self.send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.send("STATUS=" + " ".join(text.split())[:MAX_STATUS_CHARS])


@contextlib.contextmanager
def watched(
    notifier: Notifier, alive: Callable[[], bool], status: Callable[[], str], every_s: float = 5.0
) -> Iterator[None]:
    """READY=1 on entry, STOPPING=1 on exit, between them STATUS and a sign of life as often as is wanted.

    The sign comes from a thread, but only while `alive()` says so: it is asked each time. When it is false,
    or raises, nothing is sent, and systemd restarts the unit.
    """
    if not notifier:
        yield
        return
    over = threading.Event()
    # Twice in its time, as sd_watchdog_enabled(3) advises.
    pause = every_s if notifier.watchdog_s is None else min(every_s, notifier.watchdog_s / 2)

    def tell() -> None:
        quiet, said = False, ""
        while True:
            lives = _asked(alive)
            if lives and notifier.watchdog_s is not None:
                notifier.send("WATCHDOG=1")
            elif not lives and not quiet:
                log.error("the ingest is stuck: systemd gets no sign of life")
            quiet = not lives
            if (text := status()) != said:
                notifier.status(text)
                said = text
            if over.wait(pause):
                return

    thread = threading.Thread(target=tell, name="systemd", daemon=True)
    notifier.ready()
    thread.start()
    try:
        yield
    finally:
        over.set()
        notifier.stopping()
        thread.join(2.0)


def _asked(alive: Callable[[], bool]) -> bool:
    try:
        return alive()
    except Exception:
        log.exception("whether the ingest is alive cannot be told")
        return False
