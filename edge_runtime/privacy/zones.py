"""Privacy zones: polygons of the picture that nothing of the project ever sees.

A zone is filled in the frame that a source gives, at the camera's own resolution, before the frame is put
anywhere: so neither the network, the ring, a thumbnail, a question's box nor a resized copy can hold a pixel
of it.

Letters: H, W picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import Frame
from edge_runtime.imaging.polygon import MAX_ZONES, Point, checked_polygon
from edge_runtime.sources.base import Source

Mask = NDArray[np.uint8]  # (H, W), 255 where the picture may be seen

MARGIN_PX = 2
"""Pixels burnt around a zone. One for rounding; the second because cameras send colour at half the
resolution (4:2:0), and decoders blend it up to 1.5 pixels across the zone's edge."""
FILL = 0
_SUBPIXEL_BITS = 8
_KEPT_MASKS = 4
"""Resolutions for which the mask is kept: a camera that comes back with another size costs one drawing."""


class Zones:
    """Burns polygons into frames. Immutable but for its masks; for one thread at a time or several alike."""

    def __init__(self, polygons: Mapping[str, Sequence[Point]] | None = None) -> None:
        """`polygons` by name, points (x, y) in 0..1. Raises ValueError for one that encloses nothing."""
        if polygons is not None and len(polygons) > MAX_ZONES:
            raise ValueError(f"at most {MAX_ZONES} zones, got {len(polygons)}")
        self.polygons = {name: checked_polygon(points) for name, points in (polygons or {}).items()}
        self._masks: dict[tuple[int, int], Mask] = {}

    def __bool__(self) -> bool:
        return bool(self.polygons)

    def burn(self, frame: Frame) -> Frame:
        """The frame with every zone filled; the frame itself where there is no zone."""
        if not self.polygons:
            return frame
        image = frame.image
        height, width = image.shape[:2]
        # A picture of its own: sources may hand out one that they show again.
        burnt = np.asarray(cv2.bitwise_and(image, image, mask=self.mask(height, width)), np.uint8)
        return Frame(burnt, frame.t)

    def over(self, source: Source) -> Source:
        """`source` with the zones burnt into each of its frames."""
        return _Burnt(source, self) if self.polygons else source

    def mask(self, height: int, width: int) -> Mask:
        """(H, W) uint8: 0 on every pixel that a zone or its margin touches, 255 elsewhere."""
        kept = self._masks.get((height, width))
        if kept is not None:
            return kept
        # Drawn with room around it: what OpenCV cuts off at the edge of a picture it may leave out whole.
        room = MARGIN_PX + 2
        hidden = np.zeros((height + 2 * room, width + 2 * room), np.uint8)
        scale = np.array([width, height]) * (1 << _SUBPIXEL_BITS)
        for polygon in self.polygons.values():
            # A pixel's centre lies half a pixel from its corner, where normalised coordinates begin.
            corners = np.rint(np.array(polygon) * scale).astype(np.int32) - (1 << (_SUBPIXEL_BITS - 1))
            corners += room << _SUBPIXEL_BITS
            cv2.fillPoly(hidden, [corners], 255, cv2.LINE_8, _SUBPIXEL_BITS)
            # A filled polygon ends before its sharp corners, its outline does not.
            cv2.polylines(hidden, [corners], True, 255, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        side = 2 * MARGIN_PX + 1
        hidden = np.asarray(cv2.dilate(hidden, np.ones((side, side), np.uint8)), np.uint8)
        hidden = hidden[room:-room, room:-room]
        visible = np.asarray(255 - hidden, np.uint8)
        if len(self._masks) >= _KEPT_MASKS:
            self._masks = {}
        self._masks[height, width] = visible
        return visible


class _Burnt:
    """A source whose frames have passed the zones; everything else is the source's own."""

    def __init__(self, source: Source, zones: Zones) -> None:
        self._source, self._zones = source, zones

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    @property
    def live(self) -> bool:
        return self._source.live

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def duration(self) -> float | None:
        return self._source.duration

    @property
    def seen(self) -> int:
        return self._source.seen

    @property
    def errors(self) -> int:
        return self._source.errors

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            yield self._zones.burn(frame)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Source:
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, error, trace)
