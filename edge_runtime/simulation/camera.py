"""What a real camera adds: changing light and sensor noise, both pure functions of time.

Letters: H, W picture.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.rng import Use, generator, mix, wave
from edge_runtime.simulation.space import Size

_SLACK = 32
"""The noise is cut out of a sheet so much larger than the picture: about a thousand different cuts."""


class Sensor:
    """Turns a clean picture into what the sensor of this video gives at a moment."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._sheets = lru_cache(maxsize=4)(self._noise)

    def expose(self, image: NDArray[np.uint8], t: float) -> NDArray[np.uint8]:
        """`image` (H, W, 3) as seen at `t`."""
        if self._config.flicker or self._config.drift:
            image = np.asarray(cv2.LUT(image, self._response(t)), np.uint8)  # (H, W, 3)
        if self._config.noise:
            lighter, darker = self._sheets(image.shape[:2])
            spot = mix(self._config.seed, Use.CAMERA, 9, round(t * 1000.0))
            y, x = (spot >> 8) % _SLACK, (spot >> 24) % _SLACK
            part = np.s_[y : y + image.shape[0], x : x + image.shape[1]]
            image = np.asarray(cv2.subtract(cv2.add(image, lighter[part]), darker[part]), np.uint8)
        return image

    def _response(self, t: float) -> NDArray[np.uint8]:
        """(1, 256, 3): what each level becomes, for each colour."""
        seed, drift = self._config.seed, self._config.drift
        gain = 1.0 + self._config.flicker * wave(t, 0.3, seed, Use.CAMERA, 2)
        if drift:
            gain += 0.8 * drift * (wave(t, 240.0, seed, Use.CAMERA, 3) - 0.3)
        warm = 0.3 * drift * wave(t, 400.0, seed, Use.CAMERA, 4)
        gains = np.array([gain * (1.0 + warm), gain, gain * (1.0 - warm)])
        levels = np.clip(np.arange(256.0)[None, :, None] * gains, 0, 255)  # (1, 256, 3)
        return np.asarray(levels, np.uint8)

    def _noise(self, size: Size) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """What to add and what to subtract, (H + slack, W + slack, 3) each."""
        shape = (size[0] + _SLACK, size[1] + _SLACK, 3)
        sheet = generator(self._config.seed, Use.CAMERA, 8).normal(0.0, self._config.noise, shape).round()
        return np.clip(sheet, 0, 255).astype(np.uint8), np.clip(-sheet, 0, 255).astype(np.uint8)
