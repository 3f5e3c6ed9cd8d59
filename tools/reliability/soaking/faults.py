"""Inject the faults of a soak into the real process or a camera server, and check each recovery."""

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
from tools.reliability.machine_load import LoadControl
from tools.reliability.soaking.cameras import SoakCameras, send_garbage
from tools.reliability.soaking.process import EdgeProcess
from tools.reliability.soaking.schedule import PlannedFault, SoakBounds

POLL_S = 0.05
OBSERVED_S = 3.0
"""Minimum time of observation after a fault; its longest wait for a picture is the time to recover."""
TIMEOUT_S = 30.0
MAX_PAUSE_DELAY_S = 5.0
CLIENTS = 4


@dataclass
class FaultOutcome:
    """What one fault cost."""

    fault: str
    recover_s: float | None = None
    """Until the process or the source is back."""
    remembered_s: float | None = None
    """Until the next frame is in the memory."""
    lost: int = 0
    """Frames that were in the memory before the fault and are not any more."""
    detail: str = ""
    slowdown: float = 1.0
    """Of the machine meanwhile."""
    digests: dict[int, str] = field(default_factory=dict)
    """Of the demo's state on disk, by its frames."""
    objections: list[str] = field(default_factory=list)


class FaultInjector:
    """Injects faults one after the other.

    `wait(seconds)` lets time pass and raises when the soak is to end. Bounds in seconds are multiplied by the
    slowdown of `control`; those of a start and of an orderly stop by its slowdown of work at a stretch.
    """

    def __init__(
        self,
        edge: EdgeProcess,
        cameras: SoakCameras,
        bounds: SoakBounds,
        wait: Callable[[float], None],
        control: LoadControl,
    ) -> None:
        self._edge, self._cameras, self._bounds, self._wait = edge, cameras, bounds, wait
        self._slowdown, self._slowdown_at_work = control.slowdown, control.slowdown_at_work
        self.engines_fail = False
        """Whether engine faults are injected, or have just ended: errors and missing frames are expected."""

    def inject(self, planned: PlannedFault) -> FaultOutcome:
        """Inject a fault, end it, and wait until everything has recovered."""
        injectors: dict[str, Callable[[float], FaultOutcome]] = {
            "rtsp-stopped": lambda s: self._fail_source(
                "rtsp", s, self._cameras.stop_rtsp, self._cameras.start_rtsp
            ),
            "rtsp-stalled": lambda s: self._fail_source(
                "rtsp", s, *self._change(self._cameras.rtsp, "silent", True)
            ),
            "rtsp-slowed": lambda s: self._fail_source(
                "rtsp", s, *self._change(self._cameras.rtsp, "pace", 0.5)
            ),
            "rtsp-switched": lambda s: self._fail_source("rtsp", s, self._cameras.switch_rtsp),
            "rtsp-broken": lambda s: self._fail_source("rtsp", s, self._cameras.rtsp.break_connections),
            "http-cut": lambda s: self._fail_source("mjpeg", s, self._cameras.http.break_once),
            "http-absent": lambda s: self._fail_source(
                "mjpeg", s, self._remove_http_camera, self._restore_http_camera
            ),
            "privacy-pause": self._privacy_pause,
            "disk-full": self._disk_full,
            "broken-yaml": self._broken_yaml,
            "garbage": self._garbage,
            "engine-fault": self._engine_fault,
            "kill": lambda s: self._restart(signal.SIGKILL),
            "restart": lambda s: self._restart(signal.SIGTERM),
        }
        outcome = injectors[planned.fault](planned.lasts_s)
        outcome.fault = planned.fault
        return outcome

    # -- cameras -------------------------------------------------------------------------------------------

    @staticmethod
    def _change(server: object, name: str, value: object) -> tuple[Callable[[], None], Callable[[], None]]:
        before = getattr(server, name)
        return lambda: setattr(server, name, value), lambda: setattr(server, name, before)

    def _remove_http_camera(self) -> None:
        self._cameras.http.status = 404
        self._cameras.http.break_once()

    def _restore_http_camera(self) -> None:
        self._cameras.http.status = 200

    def _fail_source(
        self, name: str, lasts_s: float, begin: Callable[[], None], stop: Callable[[], None] = lambda: None
    ) -> FaultOutcome:
        begin()
        try:
            self._wait(lasts_s)
        finally:
            stop()
        return self._measure_return(name)

    def _measure_return(self, name: str) -> FaultOutcome:
        """Measure the longest waits for a picture and for an ingested frame of the camera from now on."""
        returned = time.monotonic()
        pictures, remembered = [returned], [returned]
        seen: Any = None
        frames: Any = None
        while True:
            camera = self._edge.cameras()[name]
            now = time.monotonic()
            source = camera["source_status"]
            if source is not None and source["state"] == "live" and source["seen"] != seen:
                if seen is not None:
                    pictures.append(now)
                seen = source["seen"]
            if camera["frames"] != frames:
                if frames is not None:
                    remembered.append(now)
                frames = camera["frames"]
            steady = min(len(pictures), len(remembered)) > 1 and now - pictures[-1] < 0.5
            if now - returned > TIMEOUT_S or (now - returned > OBSERVED_S and steady):
                break
            self._wait(POLL_S)
        outcome = FaultOutcome("", _longest_gap([*pictures, now]), _longest_gap([*remembered, now]))
        outcome.slowdown = self._slowdown(returned)
        if not steady:
            outcome.objections.append(f"{name} is not back after {TIMEOUT_S:g} s: {camera['source_status']}")
        self._check_bound(outcome, "recover_s", self._bounds.back_s, f"{name}'s next picture")
        self._check_bound(
            outcome, "remembered_s", self._bounds.remembered_s, f"{name}'s next remembered frame"
        )
        return outcome

    @staticmethod
    def _check_bound(outcome: FaultOutcome, figure: str, max_s: float, name: str) -> None:
        took = getattr(outcome, figure)
        if took is not None and took > max_s * outcome.slowdown:
            allowed = f"{max_s:g} s times {outcome.slowdown:.2f}, the machine's slowdown"
            outcome.objections.append(f"{name} took {took:.2f} s, allowed are {allowed}")

    # -- the process ---------------------------------------------------------------------------------------

    def _restart(self, number: signal.Signals) -> FaultOutcome:
        """End the process by SIGKILL or SIGTERM, read what is on disk, and start it again."""
        outcome = FaultOutcome("")
        reported = self._count_frames()
        began = time.monotonic()
        status, took = self._edge.stop(number)
        graceful = number == signal.SIGTERM
        max_s = self._bounds.stop_s * self._slowdown_at_work(began)
        if graceful and (status != 0 or took > max_s):
            allowed = f"{max_s:.2f} s on this machine then, 0"
            outcome.objections.append(f"SIGTERM took {took:.2f} s, status {status}; allowed are {allowed}")
        saved_frames = {}
        for name in reported:
            saved = load_snapshot(self._edge.states / name)
            saved_frames[name] = saved.version.frames if saved else 0
            if name == "demo" and saved:
                outcome.digests[saved.version.frames] = digest_of(saved.version)
            lost, max_lost = reported[name] - saved_frames[name], 0 if graceful else self._bounds.lost_frames
            outcome.lost = max(outcome.lost, lost)
            if lost > max_lost:
                outcome.objections.append(f"{name} lost {lost} frames, allowed are {max_lost}")
        began = time.monotonic()
        outcome.recover_s = self._edge.start()
        outcome.slowdown = self._slowdown_at_work(began)
        self._check_bound(outcome, "recover_s", self._bounds.start_s, "a start")
        for name, frames in self._count_frames().items():
            if frames < saved_frames[name]:
                outcome.objections.append(f"{name} had {saved_frames[name]} frames, resumed with {frames}")
        outcome.detail = f"stopped in {took:.2f} s" if graceful else ""
        return outcome

    def _disk_full(self, lasts_s: float) -> FaultOutcome:
        before = self._count_frames()
        self._edge.allow_file_growth(False)
        try:
            self._wait(lasts_s)
            problems = self._list_unsaved()
        finally:
            if self._edge.running:
                self._edge.allow_file_growth(True)
        began = time.monotonic()
        outcome = FaultOutcome("", self._wait_until(lambda: not self._list_unsaved(), self._bounds.saved_s))
        outcome.slowdown = self._slowdown(began)
        if not problems:
            outcome.objections.append("no camera reported that the disk is full")
        if self._count_frames()["demo"] <= before["demo"]:
            outcome.objections.append("it did not go on in RAM")
        outcome.detail = next(iter(problems), "")[-80:]
        self._check_bound(outcome, "recover_s", self._bounds.saved_s, "saving again")
        return outcome

    def _list_unsaved(self) -> list[str]:
        return [camera["not_saved"] for camera in self._edge.cameras().values() if camera["not_saved"]]

    def _count_frames(self) -> dict[str, int]:
        return {name: camera["frames"] for name, camera in self._edge.cameras().items()}

    def _wait_until(self, condition: Callable[[], bool], max_s: float) -> float:
        """Wait until the condition holds, for about `max_s` seconds at most; return the seconds."""
        began = time.monotonic()
        while not condition() and time.monotonic() - began <= max_s:
            self._wait(POLL_S)
        return time.monotonic() - began

    def _broken_yaml(self, lasts_s: float) -> FaultOutcome:
        before = self._count_frames()
        self._edge.config.write_text("cameras: [")
        self._edge.send_signal(signal.SIGHUP)
        try:
            self._wait(max(lasts_s, 2.0))
        finally:
            self._edge.write_config()
        after = self._count_frames()
        self._edge.send_signal(signal.SIGHUP)
        outcome = FaultOutcome("")
        if list(after) != list(before):
            outcome.objections.append(f"cameras were {list(before)} and are {list(after)}")
        still = [name for name in after if after[name] <= before[name]]
        if still:
            outcome.objections.append(f"{', '.join(still)} did not go on while the YAML was broken")
        if not any("not reloaded" in line for line in self._edge.output):
            outcome.objections.append("the log does not say that the YAML is broken")
        return outcome

    def _privacy_pause(self, lasts_s: float) -> FaultOutcome:
        self._edge.request("PUT", "/api/v1/cameras/mjpeg/paused", b"true")
        try:
            began = time.monotonic()
            took = self._wait_until(lambda: self._edge.cameras()["mjpeg"]["condition"] == "paused", TIMEOUT_S)
            max_s = MAX_PAUSE_DELAY_S * self._slowdown(began)
            before = self._edge.cameras()["mjpeg"]["frames"]
            self._wait(lasts_s)
            after = self._edge.cameras()["mjpeg"]["frames"]
        finally:
            self._edge.request("PUT", "/api/v1/cameras/mjpeg/paused", b"false")
        outcome = self._measure_return("mjpeg")
        if took > max_s or after != before:
            outcome.objections.append(f"paused after {took:.1f} s, {after - before} frames came meanwhile")
        return outcome

    def _garbage(self, lasts_s: float) -> FaultOutcome:
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(send_garbage, self._edge.port, stop, seed) for seed in range(CLIENTS)]
            try:
                self._wait(lasts_s)
            finally:
                stop.set()
            count = sum(client.result() for client in clients)
        outcome = FaultOutcome("", detail=f"{count} clients")
        status, body = self._edge.request("GET", "/healthz")
        if status != 200:
            outcome.objections.append(f"/healthz gave {status} after garbage: {body[:100]!r}")
        return outcome

    def _engine_fault(self, lasts_s: float) -> FaultOutcome:
        self.engines_fail = True
        self._edge.fault.touch()
        try:
            self._wait(lasts_s)
        finally:
            self._edge.fault.unlink()
        before, began = self._count_frames(), time.monotonic()
        took = self._wait_until(
            lambda: all(frames > before[name] for name, frames in self._count_frames().items()), TIMEOUT_S
        )
        outcome = FaultOutcome("", took, took, slowdown=self._slowdown(began))
        cameras = self._edge.cameras()
        lost = {name: camera["lost"].get("engine fault", 0) for name, camera in cameras.items()}
        outcome.detail = f"{sum(lost.values())} frames dropped meanwhile, counted"
        if not all(lost.values()):
            outcome.objections.append(f"engine faults were not counted for each camera: {lost}")
        self._check_bound(outcome, "recover_s", self._bounds.remembered_s, "a frame of every camera")
        self.engines_fail = False
        return outcome


def _longest_gap(times: list[float]) -> float:
    return max(late - early for early, late in zip(times, times[1:], strict=False))
