"""Mask privacy zones: polygons that are blacked out in every frame.

A frame from a source is masked at the camera's own resolution, before it is stored or processed. So no pixel
of a zone reaches a network, the ring of recent frames, a thumbnail, a question's box or a resized copy.

Letters: H, W picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import Frame
from edge_runtime.imaging.polygon import MAX_ZONES, Point, check_polygon

Mask = NDArray[np.uint8]  # (H, W), 255 where the picture may be seen

MARGIN_PX = 2
"""Pixels masked around a zone: one for rounding, and one because cameras send colour at half the resolution
(4:2:0), which decoders blend up to 1.5 pixels across the zone's edge."""
_SUBPIXEL_BITS = 8
_MAX_CACHED_MASKS = 4
"""Resolutions whose mask is cached, in case a camera changes its resolution."""


class Zones:
    """Polygons that are blacked out in frames. Immutable except for a cache of masks; thread-safe."""

    def __init__(self, polygons: Mapping[str, Sequence[Point]] | None = None) -> None:
        """`polygons` by name, points (x, y) in 0..1. Raises ValueError for an invalid polygon."""
        if polygons is not None and len(polygons) > MAX_ZONES:
            raise ValueError(f"at most {MAX_ZONES} zones, got {len(polygons)}")
        self.polygons = {name: check_polygon(points) for name, points in (polygons or {}).items()}
        self._masks: dict[tuple[int, int], Mask] = {}

    def __bool__(self) -> bool:
        return bool(self.polygons)

    def mask_frame(self, frame: Frame) -> Frame:
        """Return a copy of the frame with all zones black; the frame itself if there are no zones."""
        if not self.polygons:
            return frame
        image = frame.image
        height, width = image.shape[:2]
        # A copy, since a source may give out the same array again.
        masked = np.asarray(cv2.bitwise_and(image, image, mask=self.make_mask(height, width)), np.uint8)
        return replace(frame, image=masked)

    def make_mask(self, height: int, width: int) -> Mask:
        """Return (H, W) uint8: 0 on every pixel that a zone or its margin touches, 255 elsewhere."""
        cached = self._masks.get((height, width))
        if cached is not None:
            return cached
        # Draw with a border: OpenCV may omit a line completely that it has to clip at the picture's edge.
        border = MARGIN_PX + 2
        hidden = np.zeros((height + 2 * border, width + 2 * border), np.uint8)
        scale = np.array([width, height]) * (1 << _SUBPIXEL_BITS)
        for polygon in self.polygons.values():
            # A pixel's centre lies half a pixel from its corner, where normalised coordinates begin.
            corners = np.rint(np.array(polygon) * scale).astype(np.int32) - (1 << (_SUBPIXEL_BITS - 1))
            corners += border << _SUBPIXEL_BITS
            cv2.fillPoly(hidden, [corners], 255, cv2.LINE_8, _SUBPIXEL_BITS)
            # A filled polygon stops short of its sharp corners, its outline does not.
            cv2.polylines(hidden, [corners], True, 255, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        side = 2 * MARGIN_PX + 1
        hidden = np.asarray(cv2.dilate(hidden, np.ones((side, side), np.uint8)), np.uint8)
        hidden = hidden[border:-border, border:-border]
        visible = np.asarray(255 - hidden, np.uint8)
        if len(self._masks) >= _MAX_CACHED_MASKS:
            self._masks = {}
        self._masks[height, width] = visible
        return visible
