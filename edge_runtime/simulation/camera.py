"""Add what a real camera adds: changing light and sensor noise, both pure functions of time.

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

_NOISE_MARGIN = 32
"""Pixels by which the noise pattern is larger than the picture: about a thousand different crops of it."""


class Sensor:
    """Applies the sensor of one video to a clean picture."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._patterns = lru_cache(maxsize=4)(self._noise)

    def expose(self, image: NDArray[np.uint8], t: float) -> NDArray[np.uint8]:
        """Return `image` (H, W, 3) as the sensor gives it at `t`."""
        if self._config.flicker or self._config.drift:
            image = np.asarray(cv2.LUT(image, self._response(t)), np.uint8)  # (H, W, 3)
        if self._config.noise:
            lighter, darker = self._patterns(image.shape[:2])
            offset = mix(self._config.seed, Use.CAMERA, 9, round(t * 1000.0))
            y, x = (offset >> 8) % _NOISE_MARGIN, (offset >> 24) % _NOISE_MARGIN
            crop = np.s_[y : y + image.shape[0], x : x + image.shape[1]]
            image = np.asarray(cv2.subtract(cv2.add(image, lighter[crop]), darker[crop]), np.uint8)
        return image

    def _response(self, t: float) -> NDArray[np.uint8]:
        """Return (1, 256, 3): the new value of each level, for each colour."""
        seed, drift = self._config.seed, self._config.drift
        gain = 1.0 + self._config.flicker * wave(t, 0.3, seed, Use.CAMERA, 2)
        if drift:
            gain += 0.8 * drift * (wave(t, 240.0, seed, Use.CAMERA, 3) - 0.3)
        warm = 0.3 * drift * wave(t, 400.0, seed, Use.CAMERA, 4)
        gains = np.array([gain * (1.0 + warm), gain, gain * (1.0 - warm)])
        levels = np.clip(np.arange(256.0)[None, :, None] * gains, 0, 255)  # (1, 256, 3)
        return np.asarray(levels, np.uint8)

    def _noise(self, size: Size) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the noise to add and the noise to subtract, (H + margin, W + margin, 3) each."""
        shape = (size[0] + _NOISE_MARGIN, size[1] + _NOISE_MARGIN, 3)
        noise = generator(self._config.seed, Use.CAMERA, 8).normal(0.0, self._config.noise, shape).round()
        return np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8)
