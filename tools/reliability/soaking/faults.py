"""The faults of a soak: each is injected into the real process or a real camera, and judged."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.persistence import load_snapshot
from tools.reliability.kill import digest_of
from tools.reliability.machine_load import Control
from tools.reliability.soaking.cameras import Cameras, rubbish
from tools.reliability.soaking.process import Edge
from tools.reliability.soaking.schedule import Bounds, Planned

LOOK_S = 0.05
WATCHED_S = 3.0
"""At least so long after a fault; its longest wait for a picture is the time to recover."""
GIVE_UP_S = 30.0
PAUSES_S = 5.0
CLIENTS = 4


@dataclass
class Outcome:
    """What one fault did. `recover_s` until the process or the source is back, `remembered_s` until the next
    frame is in the memory; `lost` frames that were remembered and are not any more; `slowdown` of the machine
    meanwhile; `digests` of the demo's state on disk, by its frames."""

    fault: str
    recover_s: float | None = None
    remembered_s: float | None = None
    lost: int = 0
    detail: str = ""
    slowdown: float = 1.0
    digests: dict[int, str] = field(default_factory=dict)
    objections: list[str] = field(default_factory=list)


class Faults:
    """`wait(seconds)` is how time passes: it raises where the soak is to end. Bounds in seconds are
    multiplied by how much slower than idle `control` says that the machine was; those of a start and of an
    orderly stop, which are work at a stretch, by what it says of that.
    """

    def __init__(
        self,
        edge: Edge,
        cameras: Cameras,
        bounds: Bounds,
        wait: Callable[[float], None],
        control: Control,
    ) -> None:
        self._edge, self._cameras, self._bounds, self._wait = edge, cameras, bounds, wait
        self._slowdown, self._slowdown_at_work = control.since, control.at_work
        self.engines_fail = False
        """While and shortly after: errors are right answers, and frames are missing on purpose."""

    def inject(self, planned: Planned) -> Outcome:
        """Inject it, take it away, and wait until all is well again."""
        made: dict[str, Callable[[float], Outcome]] = {
            "rtsp-stopped": lambda s: self._source(
                "rtsp", s, self._cameras.stop_rtsp, self._cameras.start_rtsp
            ),
            "rtsp-stalled": lambda s: self._source(
                "rtsp", s, *self._setting(self._cameras.rtsp, "silent", True)
            ),
            "rtsp-slowed": lambda s: self._source("rtsp", s, *self._setting(self._cameras.rtsp, "pace", 0.5)),
            "rtsp-switched": lambda s: self._source("rtsp", s, self._cameras.switch_rtsp),
            "rtsp-broken": lambda s: self._source("rtsp", s, self._cameras.rtsp.break_connections),
            "http-cut": lambda s: self._source("mjpeg", s, self._cameras.http.break_once),
            "http-absent": lambda s: self._source("mjpeg", s, self._absent, self._there),
            "privacy-pause": self._privacy_pause,
            "disk-full": self._disk_full,
            "broken-yaml": self._broken_yaml,
            "garbage": self._garbage,
            "engine-fault": self._engine_fault,
            "kill": lambda s: self._ended(signal.SIGKILL),
            "restart": lambda s: self._ended(signal.SIGTERM),
        }
        outcome = made[planned.fault](planned.lasts_s)
        outcome.fault = planned.fault
        return outcome

    # -- cameras -------------------------------------------------------------------------------------------

    @staticmethod
    def _setting(server: object, name: str, value: object) -> tuple[Callable[[], None], Callable[[], None]]:
        before = getattr(server, name)
        return lambda: setattr(server, name, value), lambda: setattr(server, name, before)

    def _absent(self) -> None:
        self._cameras.http.status = 404
        self._cameras.http.break_once()

    def _there(self) -> None:
        self._cameras.http.status = 200

    def _source(
        self, name: str, lasts_s: float, begin: Callable[[], None], end: Callable[[], None] = lambda: None
    ) -> Outcome:
        begin()
        try:
            self._wait(lasts_s)
        finally:
            end()
        return self._back(name)

    def _back(self, name: str) -> Outcome:
        """Longest waits for a picture and for a remembered frame of the camera, from now on."""
        returned = time.monotonic()
        pictures, remembered = [returned], [returned]
        seen: Any = None
        frames: Any = None
        while True:
            one = self._edge.cameras()[name]
            now = time.monotonic()
            source = one["source_status"]
            if source is not None and source["state"] == "live" and source["seen"] != seen:
                if seen is not None:
                    pictures.append(now)
                seen = source["seen"]
            if one["frames"] != frames:
                if frames is not None:
                    remembered.append(now)
                frames = one["frames"]
            steady = min(len(pictures), len(remembered)) > 1 and now - pictures[-1] < 0.5
            if now - returned > GIVE_UP_S or (now - returned > WATCHED_S and steady):
                break
            self._wait(LOOK_S)
        found = Outcome("", _longest([*pictures, now]), _longest([*remembered, now]))
        found.slowdown = self._slowdown(returned)
        if not steady:
            found.objections.append(f"{name} is not back after {GIVE_UP_S:g} s: {one['source_status']}")
        self._judge(found, "recover_s", self._bounds.back_s, f"{name}'s next picture")
        self._judge(found, "remembered_s", self._bounds.remembered_s, f"{name}'s next remembered frame")
        return found

    @staticmethod
    def _judge(found: Outcome, what: str, most: float, name: str) -> None:
        took = getattr(found, what)
        if took is not None and took > most * found.slowdown:
            allowed = f"{most:g} s times {found.slowdown:.2f}, the machine's slowdown"
            found.objections.append(f"{name} took {took:.2f} s, allowed are {allowed}")

    # -- the process ---------------------------------------------------------------------------------------

    def _ended(self, number: signal.Signals) -> Outcome:
        """SIGKILL or SIGTERM, a look at what is on disk, and a new start."""
        found = Outcome("")
        told = {name: one["frames"] for name, one in self._edge.cameras().items()}
        began = time.monotonic()
        status, took = self._edge.end(number)
        graceful = number == signal.SIGTERM
        most = self._bounds.stop_s * self._slowdown_at_work(began)
        if graceful and (status != 0 or took > most):
            allowed = f"{most:.2f} s on this machine then, 0"
            found.objections.append(f"SIGTERM took {took:.2f} s, status {status}; allowed are {allowed}")
        kept = {}
        for name in told:
            saved = load_snapshot(self._edge.states / name)
            kept[name] = saved.version.frames if saved else 0
            if name == "demo" and saved:
                found.digests[saved.version.frames] = digest_of(saved.version)
            lost, most = told[name] - kept[name], 0 if graceful else self._bounds.lost_frames
            found.lost = max(found.lost, lost)
            if lost > most:
                found.objections.append(f"{name} lost {lost} frames, allowed are {most}")
        began = time.monotonic()
        found.recover_s = self._edge.start()
        found.slowdown = self._slowdown_at_work(began)
        self._judge(found, "recover_s", self._bounds.start_s, "a start")
        for name, one in self._edge.cameras().items():
            if one["frames"] < kept[name]:
                found.objections.append(f"{name} had {kept[name]} frames, resumed with {one['frames']}")
        found.detail = f"stopped in {took:.2f} s" if graceful else ""
        return found

    def _disk_full(self, lasts_s: float) -> Outcome:
        before = self._frames()
        self._edge.room(False)
        try:
            self._wait(lasts_s)
            said = {name: one["not_saved"] for name, one in self._edge.cameras().items()}
        finally:
            if self._edge.running:
                self._edge.room(True)
        began = time.monotonic()
        found = Outcome("", self._until(lambda: not any(self._not_saved()), self._bounds.saved_s))
        found.slowdown = self._slowdown(began)
        if not any(said.values()):
            found.objections.append("nobody said that the disk is full")
        if self._frames()["demo"] <= before["demo"]:
            found.objections.append("it did not go on in RAM")
        found.detail = next((why for why in said.values() if why), "")[-80:]
        self._judge(found, "recover_s", self._bounds.saved_s, "saving again")
        return found

    def _not_saved(self) -> list[str]:
        return [one["not_saved"] for one in self._edge.cameras().values() if one["not_saved"]]

    def _frames(self) -> dict[str, int]:
        return {name: one["frames"] for name, one in self._edge.cameras().items()}

    def _until(self, condition: Callable[[], bool], most: float) -> float:
        """Seconds until it holds; at most a little more than `most`."""
        began = time.monotonic()
        while not condition() and time.monotonic() - began <= most:
            self._wait(LOOK_S)
        return time.monotonic() - began

    def _broken_yaml(self, lasts_s: float) -> Outcome:
        before = self._frames()
        self._edge.config.write_text("cameras: [")
        self._edge.send(signal.SIGHUP)
        try:
            self._wait(max(lasts_s, 2.0))
        finally:
            self._edge.write_config()
        after = self._frames()
        self._edge.send(signal.SIGHUP)
        found = Outcome("")
        if list(after) != list(before):
            found.objections.append(f"cameras were {list(before)} and are {list(after)}")
        still = [name for name in after if after[name] <= before[name]]
        if still:
            found.objections.append(f"{', '.join(still)} did not go on beside a broken YAML")
        if not any("not reloaded" in line for line in self._edge.said):
            found.objections.append("nobody said that the YAML is broken")
        return found

    def _privacy_pause(self, lasts_s: float) -> Outcome:
        self._edge.request("PUT", "/api/v1/cameras/mjpeg/paused", b"true")
        try:
            began = time.monotonic()
            took = self._until(lambda: self._edge.cameras()["mjpeg"]["condition"] == "paused", GIVE_UP_S)
            most = PAUSES_S * self._slowdown(began)
            before = self._edge.cameras()["mjpeg"]["frames"]
            self._wait(lasts_s)
            after = self._edge.cameras()["mjpeg"]["frames"]
        finally:
            self._edge.request("PUT", "/api/v1/cameras/mjpeg/paused", b"false")
        found = self._back("mjpeg")
        if took > most or after != before:
            found.objections.append(f"paused after {took:.1f} s, {after - before} frames came meanwhile")
        return found

    def _garbage(self, lasts_s: float) -> Outcome:
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(rubbish, self._edge.port, stop, seed) for seed in range(CLIENTS)]
            try:
                self._wait(lasts_s)
            finally:
                stop.set()
            count = sum(client.result() for client in clients)
        found = Outcome("", detail=f"{count} clients")
        status, body = self._edge.request("GET", "/healthz")
        if status != 200:
            found.objections.append(f"/healthz gave {status} after garbage: {body[:100]!r}")
        return found

    def _engine_fault(self, lasts_s: float) -> Outcome:
        self.engines_fail = True
        self._edge.fault.touch()
        try:
            self._wait(lasts_s)
        finally:
            self._edge.fault.unlink()
        before, began = self._frames(), time.monotonic()
        took = self._until(
            lambda: all(frames > before[name] for name, frames in self._frames().items()), GIVE_UP_S
        )
        found = Outcome("", took, took, slowdown=self._slowdown(began))
        lost = {name: one["lost"].get("engine fault", 0) for name, one in self._edge.cameras().items()}
        found.detail = f"{sum(lost.values())} frames given up meanwhile, counted"
        if not all(lost.values()):
            found.objections.append(f"engine faults were not counted for each camera: {lost}")
        self._judge(found, "recover_s", self._bounds.remembered_s, "a frame of every camera")
        self.engines_fail = False
        return found


def _longest(moments: list[float]) -> float:
    return max(late - early for early, late in zip(moments, moments[1:], strict=False))
