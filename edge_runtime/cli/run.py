"""`lvm-edge run`: watch a source, remember, answer."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from edge_runtime.answers import Answer
from edge_runtime.cli.question import typed
from edge_runtime.cli.typing_line import KeyReader, LineReader
from edge_runtime.config import Config, load_config
from edge_runtime.engine_set import Engines
from edge_runtime.panel import Panel
from edge_runtime.paths import default_bundle, state_of
from edge_runtime.service import Service
from edge_runtime.sources import canonical, is_demo
from edge_runtime.state import StateFolder
from edge_runtime.status import resident_bytes, status_of
from engines.bundle import Bundle
from engines.errors import LvmError

_REPORT_EVERY_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What the options and the configuration come to."""

    source: str
    bundle: Path
    state: Path
    backend: str
    threads: int | None
    sampler: str
    catalogue: Path | None
    save_interval_s: float
    listen: str | None
    listen_is_default: bool


def run(
    camera: Annotated[int | None, typer.Option(help="camera index")] = None,
    source: Annotated[
        str | None, typer.Option(help="path, folder, URL, gst:PIPELINE, csi://N or demo")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML configuration")] = None,
    bundle: Annotated[Path | None, typer.Option(help="bundle directory or archive")] = None,
    state: Annotated[Path | None, typer.Option(help="folder in which the memory is kept")] = None,
    backend: Annotated[
        str | None, typer.Option(help="auto, onnxruntime-cuda, openvino or onnxruntime")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="neural, svd-novelty, random or fifo")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT to listen on")] = None,
    no_http: Annotated[bool, typer.Option("--no-http", help="do not listen")] = False,
    for_: Annotated[float | None, typer.Option("--for", help="end after so many seconds of stream")] = None,
    stay: Annotated[bool, typer.Option("--stay", help="keep answering when the source has ended")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answers and the summary as JSON lines")] = False,
) -> None:
    """Watch a source, remember it in a fixed number of tokens and answer questions meanwhile."""
    if for_ is not None and not 0 < for_ < float("inf"):
        raise LvmError(f"--for must be a number of seconds above 0, got {for_}")
    settings = load_config(config) if config else Config()
    plan = _plan(settings, camera, source, bundle, state, backend, sampler, http, no_http)
    engines = Engines.load(Bundle.open(plan.bundle), plan.backend, plan.threads)
    with StateFolder(plan.state) as folder:
        service = Service(
            engines,
            plan.source,
            folder,
            sampler=plan.sampler,
            catalogue=plan.catalogue,
            save_interval_s=plan.save_interval_s,
        )
        with _http(service, plan) as address:
            _Session(service, address, as_json=as_json).run(for_, stay)


class _Session:
    """One run before a person's or a program's eyes."""

    def __init__(self, service: Service, address: str | None, *, as_json: bool) -> None:
        self._service = service
        self._json = as_json
        self._address = address
        self._out = Console(soft_wrap=True, highlight=False, emoji=False)
        self._err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
        self._panel = Panel(service, address)
        self._reported = time.monotonic()
        self._end = threading.Event()

    def run(self, seconds: float | None, stay: bool) -> None:
        self._say_start()
        with self._signals(), self._screen():
            self._service.run(seconds, self._progress)
            if stay and not self._end.is_set():
                self._end.wait()
        self._summary()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self._end.set()
            self._service.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _screen(self) -> Iterator[None]:
        """The panel and a typing line on a terminal; plain lines in and out elsewhere."""
        if self._json or not self._out.is_terminal:
            with LineReader(self._answer_line):
                yield
            return
        with Live(self._panel, console=Console(highlight=False), refresh_per_second=4):
            if not sys.stdin.isatty():
                yield
                return
            with KeyReader(self._type, self._answer_typed):
                yield

    def _type(self, line: str) -> None:
        self._panel.typed = line

    def _answer_typed(self, line: str) -> None:
        try:
            self._panel.said.append((line, sentence(self._service.ask(typed(line)))))
        except LvmError as error:
            self._panel.said.append((line, str(error)))

    def _answer_line(self, line: str) -> None:
        try:
            answer = self._service.ask(typed(line))
            text = answer.model_dump_json() if self._json else sentence(answer)
        except LvmError as error:
            text = json.dumps({"error": str(error)}) if self._json else f"lvm-edge: {error}"
        self._out.print(text, markup=False)

    def _say_start(self) -> None:
        service = self._service
        if self._address is not None and not self._out.is_terminal:
            self._err.print(f"answers at {self._address}", markup=False)
        if service.resumed is not None:
            at = service.header.resume_at()
            self._err.print(f"resumed from {service.folder.folder} at {at:.1f} s", markup=False)

    def _progress(self) -> None:
        if self._out.is_terminal and not self._json:
            return
        now = time.monotonic()
        if now - self._reported < _REPORT_EVERY_S:
            return
        self._reported = now
        version = self._service.version
        self._err.print(
            f"{version.frames} frames, {self._panel.frames_per_s():.1f}/s, "
            f"stream {version.coverage.end:.0f} s, memory {version.memory.filled}/{version.memory.slots}, "
            f"{resident_bytes() / 1e6:.0f} MB",
            markup=False,
        )

    def _summary(self) -> None:
        service = self._service
        status = status_of(service.snapshot(), service.folder.folder).as_json()
        status |= {
            "backend": service.engines.choice.backend,
            "why": service.engines.choice.why,
            "state": str(service.folder.folder),
            "trained": service.engines.bundle.manifest.training.trained,
            "resident_bytes": resident_bytes(),
        }
        if self._json:
            self._out.print(json.dumps(status), markup=False)
            return
        coverage = status["coverage"]
        watched = f"{coverage['from'] or 0:.1f} to {coverage['to'] or 0:.1f} s"
        self._out.print(
            f"watched {watched}, {status['frames']} frames, remembers {status['tokens']} of "
            f"{status['slots']} tokens, {status['state_bytes']:,} bytes in {status['state']}",
            markup=False,
        )
        if not status["trained"]:
            self._out.print("the bundle is untrained: answers have the right form and no meaning")
        self._show_truth()
        self._out.print(
            f"ask it: lvm-edge ask time --activity NAME --object PHOTO --state {status['state']}",
            markup=False,
        )

    def _show_truth(self) -> None:
        """For the demo, which knows: three questions, the answers and what really happened."""
        end = self._service.version.coverage.end
        if not is_demo(self._service.source_spec) or end is None:
            return
        from edge_runtime.showcase import demo_questions

        shown = demo_questions(self._service.source_spec, end)
        for one, answer in zip(shown, self._service.ask_all([s.query for s in shown]), strict=True):
            verdict = "right" if not answer.abstained and one.right(answer) else "wrong"
            self._out.print(
                f"? {one.words}\n  {sentence(answer)}\n  truth: {one.truth}: {verdict}", markup=False
            )


def sentence(answer: Answer) -> str:
    """An answer in one line for a person."""
    times = sorted({round(one.t, 1) for one in answer.evidence[:4]})
    rests = f", rests on {', '.join(f'{t:g} s' for t in times)}" if times and not answer.abstained else ""
    return f"{answer.answer} ({answer.confidence:.0%}{rests}; {answer.milliseconds:.1f} ms)"


@contextlib.contextmanager
def _http(service: Service, plan: Plan) -> Iterator[str | None]:
    if plan.listen is None:
        yield None
        return
    from edge_runtime.server import HttpServer

    try:
        server = HttpServer(service, plan.listen)
    except LvmError as error:
        if not plan.listen_is_default:
            raise
        # A second process on one machine must not fail for a door that nobody asked for.
        Console(stderr=True, soft_wrap=True, emoji=False).print(f"not listening: {error}", markup=False)
        yield None
        return
    with server:
        yield server.address


def _plan(
    settings: Config,
    camera: int | None,
    source: str | None,
    bundle: Path | None,
    state: Path | None,
    backend: str | None,
    sampler: str | None,
    http: str | None,
    no_http: bool,
) -> Plan:
    if camera is not None and source is not None:
        raise LvmError("name --camera or --source, not both")
    configured = next(iter(settings.cameras.values()), None)
    wanted = str(camera) if camera is not None else source
    if wanted is None and configured is not None:
        wanted = str(configured.source)
    if wanted is None:
        raise LvmError(
            "nothing to watch: name --camera N, --source PATH|URL|demo, or cameras in --config FILE"
        )
    wanted = canonical(wanted)
    listen = None
    if not no_http and (http is not None or settings.http.enabled):
        listen = http or settings.http.listen
    return Plan(
        source=wanted,
        bundle=bundle or settings.model.bundle or default_bundle(),
        state=state or settings.state.directory or state_of(wanted),
        backend=backend or settings.model.backend,
        threads=settings.model.threads,
        sampler=sampler or settings.model.sampler,
        catalogue=settings.objects.catalogue,
        save_interval_s=settings.state.save_interval_s,
        listen=listen,
        listen_is_default=http is None and "listen" not in settings.http.model_fields_set,
    )
