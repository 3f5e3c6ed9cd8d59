"""Notify systemd (`Type=notify`, `WatchdogSec=`) over its socket, without a library.

See sd_notify(3). Outside of systemd NOTIFY_SOCKET is not set, and nothing is sent.
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
        """Seconds within which systemd expects a keep-alive, None where it expects none."""
        self._failed = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """Make the notifier of the socket that systemd named to this process, and not to a child of it."""
        pid, usec = environment.get("WATCHDOG_PID"), environment.get("WATCHDOG_USEC", "")
        ours = pid is None or pid == str(os.getpid())
        watchdog_s = int(usec) / 1e6 if ours and usec.isdecimal() and int(usec) > 0 else None
        return cls(environment.get("NOTIFY_SOCKET") or None, watchdog_s)

    def __bool__(self) -> bool:
        return self._address is not None

    def send(self, *lines: str) -> None:
        """Send lines like READY=1. A failure is logged once and never ends the run."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
                client.settimeout(1.0)
                client.sendto("\n".join(lines).encode(), self._address)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("systemd cannot be notified (%s): %s", lines[0], error.strerror or error)
            self._failed = True

    def ready(self) -> None:
        self.send("READY=1")

    def stopping(self) -> None:
        self.send("STOPPING=1")

    def status(self, text: str) -> None:
        """Send one line for `systemctl status`."""
        self.send("STATUS=" + " ".join(text.split())[:MAX_STATUS_CHARS])


@contextlib.contextmanager
def notify_systemd(
    notifier: Notifier, alive: Callable[[], bool], status: Callable[[], str], every_s: float = 5.0
) -> Iterator[None]:
    """Send READY=1 on entry, STOPPING=1 on exit, and STATUS and keep-alives in between.

    A thread sends a keep-alive only where `alive()` returns true, which it calls each time. When it returns
    false or raises, none is sent, and systemd restarts the unit.
    """
    if not notifier:
        yield
        return
    stop = threading.Event()
    # Twice within the time limit, as sd_watchdog_enabled(3) advises.
    pause = every_s if notifier.watchdog_s is None else min(every_s, notifier.watchdog_s / 2)

    def work() -> None:
        stuck, sent = False, ""
        while True:
            ok = _is_alive(alive)
            if ok and notifier.watchdog_s is not None:
                notifier.send("WATCHDOG=1")
            elif not ok and not stuck:
                log.error("the ingest is stuck: systemd gets no sign of life")
            stuck = not ok
            if (text := status()) != sent:
                notifier.status(text)
                sent = text
            if stop.wait(pause):
                return

    thread = threading.Thread(target=work, name="systemd", daemon=True)
    notifier.ready()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        notifier.stopping()
        thread.join(2.0)


def _is_alive(alive: Callable[[], bool]) -> bool:
    try:
        return alive()
    except Exception:
        log.exception("checking whether the ingest is alive failed")
        return False
