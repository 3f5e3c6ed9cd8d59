"""What a person sees while it runs: one panel, redrawn in place, with a line to type questions into."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel as Box
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_runtime.service import Service
from edge_runtime.status import oldest_age_s, resident_bytes

SHOWN_ANSWERS = 6


class Panel:
    """Draws a service. `typed` is the question being typed, `said` the last questions and answers."""

    def __init__(self, service: Service, address: str | None = None) -> None:
        self._service = service
        self._address = address
        self._marks: deque[tuple[float, int]] = deque(maxlen=32)
        self.typed = ""
        self.said: deque[tuple[str, str]] = deque(maxlen=SHOWN_ANSWERS)

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._numbers(), self._bars(), Text("")]
        for question, answer in self.said:
            parts.append(Text(f"? {question}", style="bold", overflow="ellipsis", no_wrap=True))
            parts.append(Text(f"  {answer}", style="cyan"))
        parts.append(Text.assemble(("> ", "bold green"), self.typed, ("▏", "dim")))
        title = f"[bold]lvm-edge[/] · {escape(self._service.name)} · {self._service.engines.choice.backend}"
        return Box(Group(*parts), title=title, subtitle=self._subtitle(), border_style="blue")

    def frames_per_s(self) -> float:
        """Sampled frames per second over the last redraws."""
        now, frames = time.monotonic(), self._service.version.frames
        self._marks.append((now, frames))
        then, before = self._marks[0]
        return (frames - before) / (now - then) if now > then else 0.0

    def _numbers(self) -> Table:
        service, version = self._service, self._service.version
        header = service.snapshot().header
        age = oldest_age_s(version)
        coverage = version.coverage
        background = version.background
        table = Table.grid(padding=(0, 3))
        rows = [
            ("frames seen", f"{header.seen:,}", "stream", _clock(coverage.end)),
            ("used", f"{version.frames:,}", "oldest token", _clock(age)),
            ("dropped", f"{header.dropped:,}", "gaps", str(len(coverage.gaps))),
            ("frames/s", f"{self.frames_per_s():.1f}", "SVD rank", self._rank()),
            (
                "resident",
                f"{resident_bytes() / 1e6:.0f} MB",
                "novelty",
                f"{self._novelty():.2f}" if background else "-",
            ),
        ]
        for left, one, right, two in rows:
            table.add_row(Text(left, style="dim"), one, Text(right, style="dim"), two)
        return table

    def _bars(self) -> Table:
        version = self._service.version
        network = self._service.engines.bundle.manifest.network
        table = Table.grid(padding=(0, 2))
        for name, done, total in (
            ("clip", len(version.pending), network.clip_frames),
            ("memory", version.memory.filled, network.memory_tokens),
        ):
            table.add_row(Text(name, style="dim"), ProgressBar(total, done, width=40), f"{done}/{total}")
        duration = self._service.source.duration if self._service.source else None
        if duration:
            at = min(version.coverage.end or 0.0, duration)
            left = f"{_clock(at)} of {_clock(duration)}"
            table.add_row(Text("file", style="dim"), ProgressBar(duration, at, width=40), left)
        return table

    def _rank(self) -> str:
        background = self._service.version.background
        return f"{len(background.svd.strength)}/{background.svd.rank}" if background else "-"

    def _novelty(self) -> float:
        """Highest novelty of the newest frame's cells: near 1 where something new is seen."""
        version = self._service.version
        if not version.pending or version.background is None:
            return 0.0
        return float(version.clip_novelty()[-49:].max())

    def _subtitle(self) -> str:
        note = "" if self._service.engines.bundle.manifest.training.trained else "untrained bundle · "
        return f"{note}{self._address or 'no HTTP'} · type a question, Ctrl-C ends"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
