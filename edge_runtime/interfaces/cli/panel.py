"""Draw the panel of a run on a terminal, with a line to type questions into."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel as Box
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_runtime.memory.version import Version
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import compute_oldest_age_s, read_resident_bytes

MAX_ANSWERS = 6
ENDED = ("ended", "stopped", "failed")
"""Conditions in which nothing more comes."""
RATE_S = 8.0
"""Time over which frames are counted."""


class Panel:
    """Renders a service: one camera in full, several in a line each, and why some are not watched yet.

    `typed` is the question being typed, `exchanges` the last questions and answers.
    """

    def __init__(self, service: Service, address: str | None = None) -> None:
        self._service = service
        self._address = address
        self._rates: dict[str, Rate] = {}
        self.typed = ""
        self.exchanges: deque[tuple[str, str]] = deque(maxlen=MAX_ANSWERS)

    def __rich__(self) -> RenderableType:
        cameras, late = self._service.cameras_and_errors
        parts: list[RenderableType] = []
        if len(cameras) == 1:
            camera = next(iter(cameras.values()))
            parts += [self._numbers(camera), self._bars(camera)]
        else:
            parts += self._table(cameras)
        for name, error in late.items():
            parts.append(Text(f"{name} is not watched yet: {error}", style="red"))
        parts.append(Text(""))
        for question, answer in self.exchanges:
            parts.append(Text(f"? {question}", style="bold", overflow="ellipsis", no_wrap=True))
            parts.append(Text(f"  {answer}", style="cyan"))
        parts.append(Text.assemble(("> ", "bold green"), self.typed, ("▏", "dim")))
        label, condition = f"{len(cameras)} cameras", ""
        if len(cameras) == 1:
            ((label, camera),) = cameras.items()
            condition = "" if camera.condition == "running" else f" · {camera.condition}"
        title = f"[bold]lvm-edge[/] · {escape(label)}{condition} · {self._service.engines.choice.backend}"
        return Box(Group(*parts), title=title, subtitle=self._subtitle(), border_style="blue")

    def frames_per_s(self, camera: CameraRun) -> float:
        """Return the sampled frames per second: lately, or of all the time that it ran if it has ended."""
        rate = self._rates.setdefault(camera.name, Rate())
        return rate.update(camera.version.frames, camera.condition)

    def _table(self, cameras: dict[str, CameraRun]) -> list[RenderableType]:
        """Return a table with a row for each camera, and a line for each problem."""
        parts: list[RenderableType] = []
        table = Table(box=None, padding=(0, 2), header_style="dim")
        table.add_column("camera", overflow="fold")
        for name in ("", "frames/s", "used", "dropped", "stream", "memory", "oldest", "gaps"):
            table.add_column(name, justify="right" if name else "left")
        for name, camera in cameras.items():
            version = camera.version
            good = camera.condition in ("running", "ended", "starting", "waiting")
            table.add_row(
                Text(name),
                Text(camera.condition, style="green" if good else "yellow"),
                f"{self.frames_per_s(camera):.1f}",
                f"{version.frames:,}",
                f"{camera.header.dropped:,}",
                _format_time(version.coverage.end),
                f"{version.memory.filled}/{version.memory.slots}",
                _format_time(compute_oldest_age_s(version)),
                str(version.coverage.gap_count),
            )
            error = self._service.camera_error(name)
            for problem in (*([str(error)] if error else []), *camera.problems):
                parts.append(Text(f"    {name}: {problem}", style="red"))
        table.add_row(Text(f"resident {read_resident_bytes() / 1e6:.0f} MB", style="dim"))
        return [table, *parts]

    def _numbers(self, camera: CameraRun) -> Table:
        version, header = camera.version, camera.header
        age = compute_oldest_age_s(version)
        coverage = version.coverage
        background = version.background
        table = Table.grid(padding=(0, 3))
        rows = [
            ("frames seen", f"{header.seen:,}", "stream", _format_time(coverage.end)),
            ("used", f"{version.frames:,}", "oldest token", _format_time(age)),
            ("dropped", f"{header.dropped:,}", "gaps", str(coverage.gap_count)),
            ("frames/s", f"{self.frames_per_s(camera):.1f}", "SVD rank", _rank(version)),
            (
                "resident",
                f"{read_resident_bytes() / 1e6:.0f} MB",
                "novelty",
                f"{_novelty(version):.2f}" if background else "-",
            ),
        ]
        for left, left_value, right, right_value in rows:
            table.add_row(Text(left, style="dim"), left_value, Text(right, style="dim"), right_value)
        if camera.privacy.activities is not None:
            table.add_row(Text("activity", style="dim"), camera.privacy.activities.latest())
        for problem in camera.problems:
            table.add_row("", Text(problem, style="red"))
        return table

    def _bars(self, camera: CameraRun) -> Table:
        version = camera.version
        network = self._service.engines.bundle.manifest.network
        table = Table.grid(padding=(0, 2))
        for name, done, total in (
            ("clip", len(version.pending), network.clip_frames),
            ("memory", version.memory.filled, network.memory_tokens),
        ):
            table.add_row(Text(name, style="dim"), ProgressBar(total, done, width=40), f"{done}/{total}")
        duration = camera.source.duration if camera.source else None
        if duration:
            position = min(version.coverage.end or 0.0, duration)
            progress = f"{_format_time(position)} of {_format_time(duration)}"
            table.add_row(Text("file", style="dim"), ProgressBar(duration, position, width=40), progress)
        return table

    def _subtitle(self) -> str:
        note = "" if self._service.engines.bundle.manifest.training.trained else "untrained bundle · "
        return f"{note}{self._address or 'no HTTP'} · type a question, Ctrl-C ends"


class Rate:
    """Frames per second of the last seconds; of all the time that it ran once it has ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque()
        """Times in seconds, and the frames then."""
        self._running = False
        self._seconds, self._frames = 0.0, 0
        """How long it ran, and the frames of that time."""

    def update(self, frames: int, condition: str) -> float:
        now, ran = self._clock(), self._running
        self._running = condition == "running"
        then, before = self._marks[-1] if self._marks else (now, frames)
        if ran or self._running or frames != before:
            self._seconds, self._frames = self._seconds + now - then, self._frames + frames - before
        self._marks.append((now, frames))
        while len(self._marks) > 2 and self._marks[1][0] <= now - RATE_S:
            self._marks.popleft()
        if condition in ENDED:
            return self._frames / self._seconds if self._seconds > 0 else 0.0
        then, before = self._marks[0]
        return (frames - before) / (now - then) if now > then else 0.0


def _rank(version: Version) -> str:
    background = version.background
    return f"{len(background.svd.strength)}/{background.svd.rank}" if background else "-"


def _novelty(version: Version) -> float:
    """Return the highest novelty of the cells of the newest frame: near 1 if something is new."""
    if not version.pending or version.background is None:
        return 0.0
    return float(version.clip_novelty()[-len(version.pending[-1]) :].max())


def _format_time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
