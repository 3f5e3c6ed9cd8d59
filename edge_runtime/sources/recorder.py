"""Watch what a recorder wrote, many files named by their time, as one recording with the clock of the wall.

`LAYOUTS` says how recorders name their files. A file is at the time that its name says; holes between files
are holes of the recording.
"""

from __future__ import annotations

import glob
import os
import re
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone, tzinfo
from pathlib import Path

from edge_runtime.frame import Frame
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.sources.folder import is_image, make_sort_key
from edge_runtime.sources.video import VideoFile
from edge_runtime.sources.zone_names import NAME, OFFSET, read_zone
from engines.errors import LvmError

SUFFIXES = frozenset(
    ".3gp .asf .avi .dav .flv .h264 .h265 .hevc .m4v .mjpeg .mkv .mov .mp4 .mpg .mts .ts .webm .wmv".split()
)
"""Of a recorder's segments."""
LISTS = frozenset({".ffconcat", ".concat"})
POLL_S = 1.0
UNFINISHED_S = 5.0
"""A newest file that was written to less than so long ago is not complete."""
ABANDONED_S = 120.0
"""A newest file is waited for no longer than this."""
MAX_LIST_BYTES = 4 << 20

_DAY = r"(?P<year>(?:19|20)\d\d)[-_.y]?(?P<month>[01]\d)[-_.m]?(?P<day>[0-3]\d)d?"
_DAY_FIRST = r"(?P<day>[0-3]\d)\.(?P<month>[01]\d)\.(?P<year>(?:19|20)\d\d)"
"""With points only: with others the month may come first."""
_BETWEEN = r"[T _.@-]*(?:(?:at|um)[ _])?"
_TIME = r"(?P<hour>[0-2]\d)[-_.:h]?(?P<minute>[0-5]\d)[-_.:m]?(?P<second>[0-5]\d)"
_SPACED = r"(?P<hour>[0-2]\d)[-_.:h](?P<minute>[0-5]\d)[-_.:m](?P<second>[0-5]\d)"
_MINUTE = r"(?P<hour>[0-2]\d)[-_.:h](?P<minute>[0-5]\d)(?!\d|[-_.:m]\d)"

_ZONE = (
    rf"(?:[.,]\d{{1,6}})?(?:[\s_.-]?(?P<half>[AaPp][Mm])(?![A-Za-z0-9]))?"
    rf"(?:[ _.-]?\[?(?P<zone>{OFFSET}|{NAME}))?"
)
"""What may follow a time: a fraction, AM or PM, and a zone."""
_FOLDER_ZONE = re.compile(rf"(?P<day>[\d_.-]*\d)?[ _.-]?(?<![A-Za-z])(?P<zone>{OFFSET}|{NAME})$")
"""A folder's name that is a zone, or a day with one."""
_ZONE_BEFORE = re.compile(rf"(?:^|[_ .-])(?P<zone>{OFFSET}|{NAME})[_ .-](?={_DAY.replace('?P<', '?P<_')})")


@dataclass(frozen=True)
class Layout:
    """How recorders name a file: `pattern` finds the time in its path.

    `utc` where that is not local time; `day_only` where the file's own date must say when it ended.
    """

    recorders: str
    pattern: str
    utc: bool = False
    day_only: bool = False


LAYOUTS = (
    Layout("Frigate", rf"{_DAY}/(?P<hour>\d\d)/[^/]+/(?P<minute>\d\d)\.(?P<second>\d\d)\.\w+$", utc=True),
    Layout("Synology, UniFi, Frigate (clips)", r"(?<!\d)(?P<unix>1\d{9})(?:\.\d+|\d{3})?(?!\d)[^/]*$"),
    Layout(
        "Shinobi, Blue Iris, Reolink, Hikvision, Axis, ffmpeg -strftime",
        rf"(?<!\d){_DAY}{_BETWEEN}{_TIME}{_ZONE}[^/]*$",
    ),
    Layout("Windows and phones (days first)", rf"(?<!\d){_DAY_FIRST}{_BETWEEN}{_TIME}{_ZONE}[^/]*$"),
    Layout("Xiaomi", rf"(?<!\d){_DAY}(?P<hour>[0-2]\d)/(?P<minute>[0-5]\d)M(?P<second>[0-5]\d)S[^/]*$"),
    Layout("motionEye, Dahua", rf"{_DAY}(?:AM|PM)?/(?:[^/]+/)*?[^/]*?(?<!\d){_SPACED}(?!\d){_ZONE}[^/]*$"),
    Layout("folders of days", rf"{_DAY}(?:AM|PM)?/(?:[^/]+/)*?{_TIME}{_ZONE}\.\w+$"),
    Layout(
        "folders of hours",
        rf"{_DAY}/(?P<hour>[0-2]\d)/(?P<minute>[0-5]\d)(?:[-_.](?P<second>[0-5]\d){_ZONE})?\.\w+$",
    ),
    Layout(
        "folders of minutes",
        rf"{_DAY}/(?P<hour>[0-2]\d)/(?P<minute>[0-5]\d)/(?P<second>[0-5]\d)(?:\.\w+|/[^/]+)$",
    ),
    Layout("names without seconds", rf"(?<!\d){_DAY}(?:{_BETWEEN}|/){_MINUTE}{_ZONE}[^/]*$"),
    Layout(
        "ZoneMinder (deep)",
        r"(?<!\d)(?P<year>\d\d)/(?P<month>\d\d)/(?P<day>\d\d)"
        r"/(?P<hour>\d\d)/(?P<minute>\d\d)/(?P<second>\d\d)/[^/]+$",
    ),
    Layout("ZoneMinder (medium)", rf"{_DAY}/\d+/[^/]+$", day_only=True),
)
"""The first match wins. A path is matched as a whole, so the folder that was named may tell the day."""
_NESTED = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_/])(0[1-9]|1[0-2])([-_/])([0-3]\d)(?=/)")
"""A day that is spread over folders, `2024/11/26` or `2024-11/26`."""
_FIELDS = ("year", "month", "day", "hour", "minute", "second")
_DATED = re.compile(r"(?:[\d_.TZ-]+(?:AM|PM)?|AM|PM|\d{4}y\d\dm\d\dd)$")
"""A folder's name that tells a time, or counts."""


@dataclass(frozen=True)
class Segment:
    """A file, and when it begins: seconds since 1970, None where its name does not tell."""

    path: Path
    start: float | None


def find_start(path: Path) -> float | None:
    """Return when the recording in a file began, in seconds since 1970; None where nothing tells."""
    text, zone = _split_zone(path.as_posix())
    for layout in LAYOUTS:
        found = re.search(layout.pattern, text)
        at = None if found is None else _to_seconds(found.groupdict(), path, layout, zone)
        if at is not None:
            return at
    return None


def _split_zone(text: str) -> tuple[str, tzinfo | None]:
    """Return a path whose days are one folder without a zone, and the zone that it names besides at its
    time."""
    *folders, name = text.split("/")
    zone = None
    if (before := _ZONE_BEFORE.search(name)) is not None:
        zone = read_zone(before["zone"])
    for number, folder in enumerate(folders):
        match = _FOLDER_ZONE.fullmatch(folder)
        if match is not None and (found := read_zone(match["zone"])) is not None:
            zone, folders[number] = found, match["day"] or folder
    return _NESTED.sub(r"\1-\3-\5", "/".join([*folders, name])), zone


def _to_seconds(
    parts: dict[str, str | None], path: Path, layout: Layout, zone: tzinfo | None
) -> float | None:
    if layout.day_only:
        return _find_start_from_end(path)
    if parts.get("unix"):
        return float(str(parts["unix"]))
    try:
        year, month, day, hour, minute, second = (int(parts.get(key) or 0) for key in _FIELDS)
        half = (parts.get("half") or "").lower()
        if half and 1 <= hour <= 12:
            hour = hour % 12 + 12 * (half == "pm")
        moment = datetime(year + 2000 if year < 100 else year, month, day, hour, minute, second)
    except ValueError:
        return None
    if named := parts.get("zone"):
        zone = read_zone(named) or zone
    if layout.utc:
        zone = timezone.utc
    # In the night when clocks go back, the file's own date tells which of two hours is meant.
    readings = sorted({moment.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)})
    try:
        written = path.stat().st_mtime
    except OSError:
        return readings[0]
    return max((at for at in readings if at <= written), default=readings[0])


def _find_start_from_end(path: Path) -> float | None:
    """Return the beginning of a file from when it was written last; None where it cannot be read."""
    try:
        with VideoFile(path, sample_fps=1.0) as video:
            return path.stat().st_mtime - (video.duration or 0.0)
    except (LvmError, OSError):
        return None


def is_recorder(spec: str) -> bool:
    """Return whether a path names several files: a pattern, a list, or a folder with video.

    A folder with images too is one where a video has a time in its name, or an image the name of a video:
    recorders put thumbnails beside their videos.
    """
    path = Path(spec)
    if os.path.isdir(spec):  # path.is_dir() raises for names that are too long
        images = sorted(child.name for child in path.iterdir() if is_image(child))
        return any(not images or _is_dated(video) or _has_thumbnail(video, images) for video in _walk(path))
    return path.suffix.lower() in LISTS if os.path.isfile(spec) else is_pattern(spec)


def _is_dated(video: Path) -> bool:
    """Return whether the path of a video tells its time; the file's own date does not count."""
    text, _ = _split_zone(video.as_posix())
    return any(re.search(layout.pattern, text) for layout in LAYOUTS if not layout.day_only)


def _has_thumbnail(video: Path, images: list[str]) -> bool:
    """Return whether one of `images`, sorted names, is that of a video: `a.jpg`, `a.mp4.jpg` or `a_thumb.jpg`
    of `a.mp4`."""
    begins = (f"{video.stem}{sign}" for sign in ".-_ ")
    found = ((begin, bisect_left(images, begin)) for begin in begins)
    return any(i < len(images) and images[i].startswith(begin) for begin, i in found)


def is_pattern(spec: str) -> bool:
    """Return whether a path is a pattern that names at least one file."""
    return (
        glob.has_magic(spec)
        and not os.path.exists(spec)
        and next(glob.iglob(spec, recursive=True), None) is not None
    )


def list_segments(spec: str) -> list[Segment]:
    """Return the segments that a folder, a pattern or an ffconcat list names, the oldest first.

    Raises LvmError where there is none, or where they are of several cameras.
    """
    path = Path(spec)
    if path.is_file():
        paths = _read_list(path)
        return [Segment(each, find_start(each)) for each in paths]
    found = _walk(path) if path.is_dir() else (Path(each) for each in glob.iglob(spec, recursive=True))
    paths = [each for each in found if _is_segment(each)]
    if not paths:
        raise LvmError(f"{spec} holds no video: expected {', '.join(sorted(SUFFIXES))} files")
    root = path if path.is_dir() else Path(os.path.commonpath(paths)).parent
    cameras = sorted({_find_camera(each, root) for each in paths} - {""})
    if len(cameras) > 1:
        raise LvmError(
            f"{spec} holds recordings of {len(cameras)} cameras ({', '.join(cameras[:4])}); name the folder "
            f"of one, or a pattern such as '{root}/**/{cameras[0]}/**/*{paths[0].suffix}'"
        )
    segments = [Segment(each, find_start(each)) for each in paths]
    return sorted(
        segments, key=lambda segment: (segment.start or 0.0, make_sort_key(segment.path.as_posix()))
    )


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "@")))
        yield from (Path(parent, name) for name in sorted(names) if _is_segment(Path(parent, name)))


def _is_segment(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _find_camera(path: Path, root: Path) -> str:
    """Return the folders between root and file that are no time and no count."""
    folders = path.relative_to(root).parts[:-1]
    return "/".join(part for part in folders if not (_DATED.match(part) or _FOLDER_ZONE.fullmatch(part)))


def _read_list(path: Path) -> list[Path]:
    """Return the files that an ffconcat list names: below its own folder only."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read(MAX_LIST_BYTES)
    paths = []
    for line in text.splitlines():
        if (named := re.match(r"\s*file\s+(.+?)\s*$", line)) is not None:
            name = named[1].strip("'\"").removeprefix("file:")
            child = path.parent / name
            if os.path.isabs(name) or "://" in name or ".." in Path(name).parts or not _is_segment(child):
                raise LvmError(f"{path} names {name!r}: a list may name videos below its own folder only")
            paths.append(child)
    if not paths:
        raise LvmError(f"{path} names no file: expected lines such as file 'a.mp4'")
    return paths


class RecorderFolder(BaseSource):
    """The segments of a recorder as one recording, `sample_fps` frames a second.

    Second 0 is `epoch`, by default the beginning of the oldest segment; `epoch` stays None where no name
    tells a time, and the segments then follow each other. Empty, unfinished and damaged files are counted,
    logged and leave a hole. Segments that are written meanwhile are read as well; with `follow`, they are
    waited for until the source is closed. Raises LvmError where there is no segment.
    """

    def __init__(
        self,
        spec: str,
        *,
        sample_fps: float,
        start: float = 0.0,
        epoch: float | None = None,
        follow: bool = False,
        track: int | None = None,
    ) -> None:
        super().__init__(spec, live=False)
        SampleClock(sample_fps)  # a wrong rate fails here, not in the first iteration
        self._spec, self._sample_fps, self._start, self._track = spec, sample_fps, start, track
        self.paced = self._follow = follow
        first = list_segments(spec)[0].start
        self.epoch = first if epoch is None else epoch
        self._length = 0.0

    def __iter__(self) -> Iterator[Frame]:
        clock, begun, end = SampleClock(self._sample_fps), -1.0, 0.0
        for segment, following in self._segments():
            at = end if segment.start is None else segment.start - (self.epoch or 0.0)
            if following is not None and following - (self.epoch or 0.0) <= self._start:
                continue  # all of it was watched before
            for frame in self._read(segment, at):
                if self.closed:
                    return
                if frame.t >= self._start and frame.t > begun and clock.accept(frame.t):
                    begun = frame.t
                    # The first pictures of a file do not tell their pace, those before them do.
                    yield replace(frame, period=frame.period or clock.frame_period)
            end = max(end, at + self._length)
        if not self.seen and not self.closed and self._start <= 0:
            raise LvmError(f"{self.name}: no picture in its files could be decoded; see the log for each")

    def frame_at(self, t: float) -> Frame:
        """Return the picture that was shown at `t` seconds. Raises LvmError where there is none."""
        before = [segment for segment in list_segments(self._spec) if self._offset(segment) <= t]
        if not before:
            raise LvmError(f"{self.name} shows no picture at {t:.3f} s: it begins later")
        with VideoFile(before[-1].path, sample_fps=1.0, track=self._track) as video:
            frame = video.frame_at(t - self._offset(before[-1]))
        return replace(frame, t=frame.t + self._offset(before[-1]))

    def _offset(self, segment: Segment) -> float:
        if segment.start is None or self.epoch is None:
            raise LvmError(f"{self.name}: its files do not tell their time; ask with a photo")
        return segment.start - self.epoch

    def _read(self, segment: Segment, at: float) -> Iterator[Frame]:
        """Yield the sampled frames of a segment that begins at `at` seconds, of a damaged one what it has."""
        self._length, local = 0.0, max(0.0, self._start - at)
        try:
            video = VideoFile(segment.path, sample_fps=self._sample_fps, start=local, track=self._track)
            with video:
                video.tally = self.tally
                self._length = video.duration or 0.0
                for frame in video:
                    yield replace(frame, t=round(at + frame.t, 9))
        except LvmError as error:
            if segment.path.exists():  # else the recorder has deleted it
                self.tally.skip(str(error))

    def _segments(self) -> Iterator[tuple[Segment, float | None]]:
        """Yield each segment once with the beginning of the one behind it, those that come meanwhile too."""
        done: set[Path] = set()
        while not self.closed:
            segments = list_segments(self._spec) if not done else self._list_again()
            new = [segment for segment in segments if segment.path not in done]
            if new and self._follow and _is_unfinished(new[-1].path):
                new.pop()
            for number, segment in enumerate(new, 1):
                done.add(segment.path)
                yield segment, new[number].start if number < len(new) else None
            if not new and (not self._follow or self._closed.wait(POLL_S)):
                return

    def _list_again(self) -> Sequence[Segment]:
        try:
            return list_segments(self._spec)
        except LvmError:  # all of it was deleted
            return ()


def _is_unfinished(path: Path) -> bool:
    """Return whether a newest file is still being written, or empty and not yet given up."""
    try:
        status = path.stat()
    except OSError:
        return False
    age = time.time() - status.st_mtime
    return age < (UNFINISHED_S if status.st_size else ABANDONED_S)
