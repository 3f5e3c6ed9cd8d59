"""Import annotation files about videos that are only described: their size and the times of their frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.errors import LvmError
from export.data.formats.forms import ReadOptions, Report
from export.data.importing import FindVideo, Imported, ImportRules, import_annotations, read_annotations
from export.data.label_map import read_label_map
from export.data.records import Video
from export.data.timeline import VideoClock

EVEN = [number / 25 for number in range(250)]
"""Ten seconds at 25 pictures a second."""


def make_clock(times: Sequence[float] = EVEN, *, name: str = "shelf.mp4", size=(200, 100)) -> VideoClock:
    """Return a video of which nothing but this is known."""
    step = (times[-1] - times[0]) / (len(times) - 1)
    end, (width, height) = times[-1] + step, size
    video = Video(
        video=name, path=name, fps=25.0, width=width, height=height, duration_s=end, split="train"
    )  # fmt: skip
    return VideoClock(video, times)


def find_by_stem(*clocks: VideoClock) -> FindVideo:
    """Return what finds the clock whose stem a hint has, or the only one where there is no hint."""

    def find(annotations):
        hints = annotations.hints
        stems = {Path(clock.video.video).stem: clock for clock in clocks}
        for hint in hints:
            if (stem := Path(hint.replace("\\", "/")).stem) in stems:
                return stems[stem]
        if hints or len(clocks) > 1:
            raise LvmError(f"there is no video {hints[:1]}")
        return clocks[0]

    return find


def import_file(
    kind: str,
    path: Path,
    *clocks: VideoClock,
    labels: Path | None = None,
    first_frame: int | None = None,
    **rules,
) -> tuple[Imported, Report]:
    """Import one file about the clocks, by default one of ten even seconds."""
    report = Report()
    read = read_annotations(kind, [path], report, ReadOptions(first_frame))
    find = find_by_stem(*(clocks or (make_clock(),)))
    return import_annotations(read, find, read_label_map(labels), ImportRules(**rules), report), report


def list_events(imported: Imported) -> list[tuple[str, str, float, float]]:
    """Return activity, instance, start and end of each event."""
    names = {one.id: one.name for one in imported.classes.instances}
    return [
        (imported.classes.activities[event.activity].name, names[event.instance], event.t_s, event.t_e)
        for event in imported.events
    ]


def list_boxes(imported: Imported, instance: str) -> dict[int, tuple[float, ...]]:
    """Return the boxes of an instance by tick."""
    return {track.tick5: track.box for track in imported.tracks if track.category == instance}
