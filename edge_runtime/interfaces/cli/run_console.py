"""The terminal side of `lvm-edge run`: panel or plain lines, typed questions, signals and the summary."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.live import Live

from edge_runtime.interfaces.cli.line_input import KeyReader, LineReader
from edge_runtime.interfaces.cli.panel import ENDED, Panel
from edge_runtime.interfaces.cli.query_text import parse_line
from edge_runtime.interfaces.cli.signals import leave_terminals, list_terminals, take_deferred
from edge_runtime.query.answers import Answer, format_watched
from edge_runtime.query.timestamps import format_instant, format_moments, format_span
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.run import Run
from edge_runtime.service.status import make_camera_status, make_status, read_resident_bytes
from edge_runtime.sources import is_demo
from edge_runtime.system.systemd import Notifier, notify_systemd
from engines.errors import LvmError

log = logging.getLogger(__name__)

_REPORT_EVERY_S = 5.0
"""On a terminal, for whoever looks on."""
_LOG_EVERY_S = 600.0
"""In a file, a pipe or a journal, which is read later: on flash, and kept for months."""


class RunConsole:
    """Shows a run and answers typed questions. SIGHUP reloads the run in the main thread."""

    def __init__(self, run: Run, *, as_json: bool) -> None:
        self._service = run.service
        self._run = run
        self._json = as_json
        self._out = Console(soft_wrap=True, highlight=False, emoji=False)
        self._err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
        self._panel = Panel(run.service, run.address)
        self._notifier = Notifier.from_environment()
        self._report_every_s = _REPORT_EVERY_S if self._err.is_terminal else _LOG_EVERY_S
        self._last_report = time.monotonic()
        self._goes_on = False
        """Whether there is more to come when a camera has ended."""
        self._conditions: dict[str, str] = {}
        """What each camera did when it was looked at last."""

    def run(self, seconds: float | None, stay: bool) -> None:
        """Run until all sources have ended or a signal arrives. Raises what `Service.run` raises."""
        self._print_start()
        self._goes_on = stay or len(self._service.cameras) > 1
        watchdog = notify_systemd(self._notifier, self._alive, self._state_line)
        try:
            with self._signals(), self._screen(), watchdog:
                self._service.run(seconds, self._print_progress, stay=stay)
        except LvmError:
            if len(self._service.cameras) > 1:  # the other cameras have results
                self._print_summary()
            raise
        self._print_summary()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._service.stop()

        def hang_up(number: int, frame: object) -> None:
            if self._run.reload is None and terminals != list_terminals():
                leave_terminals(terminals)
                self._service.stop()  # the terminal was closed, where somebody watched a source
            else:
                self._service.call_soon(self._reload)

        def pause(number: int, frame: object) -> None:
            paused = number == signal.SIGUSR1
            self._service.call_soon(lambda: self._pause(paused))

        handlers: dict[signal.Signals, Callable[[int, object], None]]
        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop}
        handlers |= {signal.SIGUSR1: pause, signal.SIGUSR2: pause}
        if self._run.reload is not None or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handlers[signal.SIGHUP] = hang_up
        terminals = list_terminals()
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            self._handle_early(take_deferred())
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle_early(self, early: list[signal.Signals]) -> None:
        """Handle signals that arrived before the run. A pause begins here, before any camera is opened."""
        for number in early:
            if number != signal.SIGHUP:
                self._pause(number == signal.SIGUSR1)
            else:
                signal.raise_signal(number)

    def _reload(self) -> None:
        if self._run.reload is None:
            log.warning(
                "SIGHUP: there is nothing to read again, since the source was named on the command line"
            )
        else:
            self._run.reload()

    def _pause(self, paused: bool) -> None:
        """Begin (SIGUSR1) or end (SIGUSR2) a privacy pause of every camera, also of those added later."""
        self._service.pending.paused = paused
        for name in self._service.cameras:
            try:
                (self._service.pause if paused else self._service.resume)(name)
            except LvmError as error:
                log.error("%s: %s", name, error)

    def _alive(self) -> bool:
        """Whether frames and calls make progress, for systemd's watchdog."""
        cameras = self._service.cameras.values()
        return self._service.pool.is_alive() and all(camera.watchdog.is_alive() for camera in cameras)

    def _state_line(self) -> str:
        """Return the state in one line for `systemctl status`. It changes rarely."""
        cameras, late = self._service.cameras_and_errors
        lines = [
            f"{camera.name}: paused for privacy"
            if camera.paused
            else f"{camera.name}: {int(camera.version.coverage.watched_seconds()) // 60} min watched, "
            f"{camera.version.memory.filled} tokens"
            for camera in cameras.values()
        ]
        return "; ".join(lines + [f"{name}: not watched" for name in late])

    @contextlib.contextmanager
    def _screen(self) -> Iterator[None]:
        """Show the panel and its input line on a terminal; read and print plain lines elsewhere."""
        if self._json or not self._out.is_terminal:
            with LineReader(self._answer_line):
                yield
            return
        with Live(self._panel, console=Console(highlight=False), refresh_per_second=4):
            if not sys.stdin.isatty():
                yield
                return
            with KeyReader(self._set_typed, self._answer_typed):
                yield

    def _set_typed(self, line: str) -> None:
        self._panel.typed = line

    def _ask(self, line: str) -> Answer:
        return self._service.ask(parse_line(line))

    def _answer_typed(self, line: str) -> None:
        try:
            self._panel.exchanges.append((line, format_answer(self._ask(line))))
        except LvmError as error:
            self._panel.exchanges.append((line, str(error)))

    def _answer_line(self, line: str) -> None:
        try:
            answer = self._ask(line)
            text = answer.model_dump_json() if self._json else format_answer(answer)
        except LvmError as error:
            text = json.dumps({"error": str(error)}) if self._json else f"lvm-edge: {error}"
        self._out.print(text, markup=False)

    def _print_start(self) -> None:
        for message in self._run.messages:
            self._err.print(message, markup=False)
        if self._run.address is not None and not self._out.is_terminal:
            self._err.print(f"answers at {self._run.address}", markup=False)
        for camera in self._service.cameras.values():
            self._panel.frames_per_s(camera)  # start counting, so that the first line has a rate
            if camera.resumed is not None:
                at = format_instant(camera.header.resume_at(), camera.header.clock)
                self._err.print(
                    f"{self._prefix(camera)}resumed from {camera.folder.folder} at {at}", markup=False
                )

    def _prefix(self, camera: CameraRun) -> str:
        """Return the camera's name as the start of a line, if there are several cameras."""
        return f"{camera.name}: " if len(self._service.cameras) > 1 else ""

    def _print_progress(self) -> None:
        """Print now and then how the cameras fare that watch, and once that one is paused or has ended."""
        if self._out.is_terminal and not self._json:
            return
        now = time.monotonic()
        due = now - self._last_report >= self._report_every_s
        if due:
            self._last_report = now
        for camera in self._service.cameras.values():
            rate, condition = self._panel.frames_per_s(camera), camera.condition
            before = self._conditions.get(camera.name, "")
            self._conditions[camera.name] = condition
            stands_still = condition == "paused" or (condition in ENDED and self._goes_on)
            goes_on = condition == "running" and before == "paused"
            changed = condition != before and (stands_still or goes_on)
            if changed or (due and condition not in ("paused", *ENDED)):
                line = self._progress_line(camera, condition, rate)
                self._err.print(self._prefix(camera) + line, markup=False)

    def _progress_line(self, camera: CameraRun, condition: str, rate: float) -> str:
        version, end = camera.version, camera.version.coverage.end
        watched = "" if end is None else f"watched to {format_instant(end, camera.header.clock)}, "
        return (
            f"{'' if condition == 'running' else f'{condition}, '}{version.frames} frames, {rate:.1f}/s, "
            f"{watched}memory {version.memory.filled}/{version.memory.slots}, "
            f"{read_resident_bytes() / 1e6:.0f} MB"
        )

    # -- the end -------------------------------------------------------------------------------------------

    def _print_summary(self) -> None:
        cameras = list(self._service.cameras.values())
        trained = self._service.engines.bundle.manifest.training.trained
        if self._json:
            self._out.print(json.dumps(self._as_json(cameras)), markup=False)
            return
        for camera in cameras:
            status = self._status(camera)
            coverage = status["coverage"]
            if coverage["from"] is None:
                self._out.print(f"{self._prefix(camera)}watched nothing", markup=False)
                continue
            span = format_span(coverage["from"], coverage["to"], camera.header.clock)
            watched = f"{format_watched(coverage['watched_share'])}{span}"
            self._out.print(
                f"{self._prefix(camera)}{watched}, {status['frames']} frames, "
                f"remembers {status['tokens']} of {status['slots']} tokens, "
                f"{status['state_bytes']:,} bytes in {status['state']}",
                markup=False,
            )
        if not trained:
            self._out.print("the bundle is untrained: answers have the right form and no meaning")
        for camera in cameras:
            self._print_truth(camera)
        for camera in [one for one in cameras if one.version.coverage.start is not None][:1]:
            self._out.print(
                "ask it: lvm-edge ask time --activity NAME --object PHOTO --state "
                f"{shlex.quote(str(camera.folder.folder))}",
                markup=False,
            )

    def _as_json(self, cameras: list[CameraRun]) -> dict[str, Any]:
        engines = self._service.engines
        about = {
            "backend": engines.choice.backend,
            "why": engines.choice.why,
            "trained": engines.bundle.manifest.training.trained,
            "resident_bytes": read_resident_bytes(),
        }
        if len(cameras) == 1:
            return self._status(cameras[0]) | about
        statuses = {
            camera.name: make_camera_status(camera, self._service.camera_error(camera.name))
            | self._status(camera)
            for camera in cameras
        }
        return {"cameras": statuses} | about

    def _status(self, camera: CameraRun) -> dict[str, Any]:
        folder = camera.folder.folder
        status = make_status(camera.snapshot(), folder).as_json()
        return status | {"state": str(folder), "paused": camera.paused}

    def _print_truth(self, camera: CameraRun) -> None:
        """For the demo: print three questions with their answers and the truth."""
        end, spec = camera.version.coverage.end, camera.settings.source
        if not is_demo(spec) or end is None:
            return
        from edge_runtime.interfaces.cli.demo_questions import make_demo_questions

        questions = make_demo_questions(spec, end)
        answers = camera.ask_all([question.query for question in questions])
        for question, answer in zip(questions, answers, strict=True):
            verdict = "right" if not answer.abstained and question.is_right(answer) else "wrong"
            self._out.print(
                f"? {self._prefix(camera)}{question.text}\n  {format_answer(answer)}\n"
                f"  truth: {question.truth}: {verdict}",
                markup=False,
            )


def format_answer(answer: Answer) -> str:
    """Return an answer in one line."""
    took = f"{answer.milliseconds:.1f} ms"
    if answer.abstained:
        return f"{answer.answer} ({took})"
    seen = format_moments([token.t for token in answer.evidence[:4]], answer.coverage.epoch)
    rests = f", rests on {seen}" if answer.evidence else ""
    return f"{answer.answer} ({answer.format_confidence()}{rests}; {took})"
