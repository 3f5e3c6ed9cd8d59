"""Read what a data folder says about a video file, find files by other tools' names for them, time frames."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from edge_runtime.sources.video import VideoFile
from edge_runtime.system.text import nearest, printable
from engines.errors import LvmError
from export.data.records import Split, Video

_FRAMES_TIMED = 11
SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv",
    ".gif", ".264", ".h264", ".265", ".h265", ".hevc", ".ogv", ".ogg", ".3gp", ".mjpeg", ".mjpg", ".mxf",
    ".asf",
}  # fmt: skip
"""Of files that are taken for videos."""


def describe_video(path: Path, name: str, split: Split) -> Video:
    """Return the record of the video file `path`, called `name`. Raises LvmError."""
    source = VideoFile(path, sample_fps=1000.0)
    frames = list(itertools.islice(source, _FRAMES_TIMED))
    source.close()
    height, width = frames[0].image.shape[:2]
    duration = frames[-1].t - frames[0].t
    return Video(
        video=name,
        path=str(path.resolve()),
        fps=round((len(frames) - 1) / duration, 3) if duration > 0 else 1.0,
        width=width,
        height=height,
        duration_s=source.duration or _measure_duration(path),
        split=split,
    )


def _measure_duration(path: Path) -> float:
    """Return the seconds of a file that does not state its length."""
    return max(frame.t for frame in VideoFile(path, sample_fps=1.0)) + 1.0


class VideoFolder:
    """The videos below a folder, found by the names that annotation tools have for them."""

    def __init__(self, root: Path) -> None:
        """List the folder. Raises LvmError."""
        if not root.is_dir():
            raise LvmError(f"there is no folder of videos at {root}; correct --videos")
        self.root = root
        self.files = {
            path.relative_to(root).as_posix(): path
            for path in sorted(root.rglob("*"))
            if path.suffix.lower() in SUFFIXES and path.is_file()
        }
        if not self.files:
            raise LvmError(f"{root} holds no video; name the folder of the videos with --videos")

    def find(self, hints: Iterable[str]) -> str:
        """Return the relative path of the video that one of `hints` names. Raises LvmError.

        A hint is a path, an address, a name or a stem. Where there are none, the only video is meant.
        """
        hints = [hint for hint in hints if hint.strip()]
        if not hints:
            if len(self.files) == 1:
                return next(iter(self.files))
            raise LvmError(f"names no video, and {self.root} has {len(self.files)}; name it with --video")
        for hint in hints:
            for wanted in _list_names(hint):
                for matching in (self._by_path, self._by_name, self._by_stem):
                    files = matching.get(wanted, [])
                    if len(files) > 1:
                        raise LvmError(
                            f"video {hint!r} may be {files[0]} or {files[1]}; rename one, or give its path"
                        )
                    if files:
                        return files[0]
        close = nearest(PurePosixPath(hints[0]).name, self.files)
        raise LvmError(f"there is no video {hints[0]!r} below {self.root}; nearest is {close}")

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        """Files by every end of their path that has a folder, and by the whole path."""
        table: dict[str, list[str]] = {}
        for name in self.files:
            parts = name.split("/")
            for first in range(max(len(parts) - 1, 1)):
                end = "/".join(parts[first:])
                for key in (end, end.removesuffix(PurePosixPath(end).suffix)) if len(parts) > 1 else (end,):
                    table.setdefault(key, []).append(name)
        return table | {name: [name] for name in self.files}

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return self._index(lambda path: path.name)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return self._index(lambda path: path.stem)

    def _index(self, key: object) -> dict[str, list[str]]:
        table: dict[str, list[str]] = {}
        for name in self.files:
            table.setdefault(key(PurePosixPath(name)), []).append(name)  # type: ignore[operator]
        return table


_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")


def _list_names(hint: str) -> list[str]:
    """Return the names by which the video of a path or address may be found, the most exact first."""
    try:
        path = urlsplit(hint).path if "://" in hint or hint.startswith("file:") else hint
    except ValueError:
        path = hint
    path = unquote(path) if "%" in path else path
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    names = ["/".join(parts[first:]) for first in range(len(parts))]
    if names:
        if uploaded := _UPLOADED.fullmatch(names[-1]):  # Label Studio writes eight digits before a name
            names.append(uploaded[1])
        stem = PurePosixPath(names[-1])
        if stem.suffix.lower() in SUFFIXES | {".zip"}:
            names.append(stem.stem)
        names.append(f"v_{names[-1]}")  # ActivityNet's own files
    return names


def time_frames(path: Path) -> list[float]:
    """Return the seconds of every frame of a video file. Raises LvmError."""
    times = VideoFile(path, sample_fps=1000.0).frame_times()
    if not times:
        raise LvmError(printable(f"{path} has no picture that can be timed"))
    return times
