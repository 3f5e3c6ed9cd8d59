"""Place moments of an annotation tool on a video's own clock, and boxes in its picture.

Frame numbers are resolved by the time stamps of the video's frames, so they are right where the rate varies.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from export.data.formats.forms import PictureBox, VideoAnnotations
from export.data.records import Box, Video

EDGE = 0.02
"""Boxes may reach beyond the picture by this share of it before that is worth a note."""
_EPSILON_S = 1e-6


@dataclass(frozen=True)
class VideoClock:
    """A video and the times of its frames in seconds, ascending."""

    video: Video
    times: Sequence[float]

    @cached_property
    def step(self) -> float:
        """Mean seconds from frame to frame."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1) if len(self.times) > 1 else 0.0

    @cached_property
    def end(self) -> float:
        """Seconds at which the last frame ends."""
        return max(self.video.duration_s, self.times[-1] + self.step)


class Timeline:
    """The moments of one file about one video."""

    def __init__(
        self,
        clock: VideoClock,
        annotations: VideoAnnotations,
        *,
        fps: float | None = None,
        shift: float = 0.0,
    ) -> None:
        """`fps`: the rate at which the tool counted frames, if not the video's; `shift` seconds are added."""
        self._clock, self._annotations, self._shift = clock, annotations, shift
        self.in_frames = annotations.clock == "frames"
        counted, lasted = annotations.frame_count, annotations.duration
        if fps is None and counted and lasted and abs(counted - len(clock.times)) > 1:
            fps = counted / lasted
        self._fps = fps

    def seconds(self, at: float) -> float:
        """Return the seconds at which a moment begins. Raises ValueError for one that the video lacks."""
        t, end = self._locate(at), self._clock.end
        if t < 0.0:
            first = self._annotations.first_frame
            raise ValueError(
                f"frame {at:g} is before the first, which is number {first}"
                if self.in_frames and at < first
                else f"{t:g} s is before the video begins"
            )
        if t >= end - _EPSILON_S:
            raise ValueError(f"{self._name(at, t)} is beyond the end: {self._describe_length()}")
        return t

    def end_seconds(self, at: float) -> float:
        """Return the seconds of the exclusive end `at`, at most the video's own end."""
        return min(max(self._locate(at), 0.0), self._clock.end) if math.isfinite(at) else self._clock.end

    def is_beyond(self, at: float) -> bool:
        """Whether an exclusive end lies more than a frame beyond the video."""
        return math.isfinite(at) and self._locate(at) > self._clock.end + self._clock.step + _EPSILON_S

    def _locate(self, at: float) -> float:
        """Return the seconds of a moment, also of one outside the video."""
        if not self.in_frames:
            return at + self._shift
        number, times = at - self._annotations.first_frame, self._clock.times
        if self._fps is not None:
            t = number / self._fps
        elif number < 0:
            t = number * (self._clock.step or 1.0)
        elif number >= len(times):
            t = self._clock.end + (number - len(times)) * self._clock.step
        else:
            t = times[int(number)]
        return t + self._shift

    def _name(self, at: float, t: float) -> str:
        return f"frame {at:g}" if self.in_frames else f"{t:g} s"

    def _describe_length(self) -> str:
        if not self.in_frames:
            return f"the video lasts {self._clock.end:g} s"
        first, count = self._annotations.first_frame, len(self._clock.times)
        return (
            f"the video has {count} frames, {first} to {first + count - 1}; "
            "if the tool counted at another rate, give it with --fps"
        )

    def moment(self, t: float) -> float:
        """Return the moment of the frame that is shown at `t` seconds."""
        t -= self._shift
        if not self.in_frames:
            return t
        if self._fps is not None:
            return math.floor(t * self._fps + _EPSILON_S) + self._annotations.first_frame
        shown = bisect_right(self._clock.times, t + _EPSILON_S) - 1
        return max(shown, 0) + self._annotations.first_frame

    def place_box(self, box: PictureBox) -> tuple[Box, bool]:
        """Return a box in shares of the picture, cut at its edge, and whether much was cut off.

        Raises ValueError for a box without an area inside the picture.
        """
        video = self._clock.video
        width, height = self._annotations.size or (video.width, video.height)
        x1, y1, x2, y2 = box.x1 / width, box.y1 / height, box.x2 / width, box.y2 / height
        corners = ", ".join(f"{side:g}" for side in box)
        if not (x1 < x2 and y1 < y2):
            raise ValueError(f"a box must have x1 < x2 and y1 < y2, got {corners}")
        cut = (max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0))
        if not (cut[0] < cut[2] and cut[1] < cut[3]):
            raise ValueError(f"the box {corners} is outside the picture of {width:g}x{height:g}")
        far = max(-x1, -y1, x2 - 1.0, y2 - 1.0) > EDGE
        return (round(cut[0], 6), round(cut[1], 6), round(cut[2], 6), round(cut[3], 6)), far
