"""Decoded pictures to RGB, upright, without leaving anything behind."""

from __future__ import annotations

import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


class Rgb:
    """Converts the pictures of one pass over a source. For one thread.

    Two ways in which PyAV keeps pictures are avoided. `picture.to_ndarray(format=…)` gives each picture a
    converter of its own, whose FFmpeg starts as many threads as there are cores. `picture.side_data` is
    kept by the picture that it points to, a circle that only Python's garbage collector opens, minutes later
    where little is allocated; until then pixels and threads stay (measured at one frame a second: 110 threads
    after 90 s, 3 MB for each picture of 1080p).
    """

    def __init__(self) -> None:
        self._converter = VideoReformatter()

    def __call__(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """The picture as it is meant to be seen: (H, W, 3) uint8 RGB, contiguous, turned upright.

        Raises FFmpegError or ValueError where its pixels cannot be converted.
        """
        # One thread: at a few frames a second, others would only wait.
        converted = self._converter.reformat(picture, format="rgb24", threads=1)
        image = np.asarray(converted.to_ndarray(), np.uint8)
        # PyAV's stub leaves the argument out.
        matrix = SideDataContainer(picture).get("DISPLAYMATRIX")  # type: ignore[call-arg]
        if isinstance(matrix, SideData):
            image = upright(image, np.frombuffer(bytes(matrix), np.int32))
        return np.ascontiguousarray(image)


def upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Apply a display matrix (nine numbers, a b u c d v x y w): x' = a x + c y, y' = b x + d y."""
    a, b, _, c, d = (int(value) for value in matrix[:5])
    across, down = a, d
    if abs(a) < abs(b):
        image = image.transpose(1, 0, 2)
        across, down = c, b
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
