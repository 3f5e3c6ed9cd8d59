"""Show HDR pictures (PQ and HLG, BT.2100) as an ordinary camera would have: sRGB with its white at 203 nits.

Diffuse white lies at 203 nits (BT.2408). What is brighter is rolled off, since an ordinary picture has no
room for it; what is darker keeps its value.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273."""
WHITE_NITS, PEAK_NITS = 203.0, 1000.0
KNEE = 0.9
"""Of white, from which light is rolled off."""
_LEVELS = 1 << 16
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def tone_map(image: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 sRGB for `image` (H, W, 3) uint16 R'G'B' of BT.2020 with this transfer."""
    light = _decoding_table(transfer)[image]  # 1 is white
    if transfer == HLG:  # so far scene light, which a display shows with a gamma of 1.2
        scene = np.maximum(light @ _LUMINANCE, 1e-6)
        light *= (PEAK_NITS / WHITE_NITS * scene**0.2)[..., None]
    steps = cv2.transform(light, _TO_BT709 * (_LEVELS / 8))
    return np.asarray(_encoding_table()[np.clip(steps, 0, _LEVELS - 1).astype(np.uint16)], np.uint8)


@cache
def _decoding_table(transfer: int) -> NDArray[np.float32]:
    """Return the light of each of 65,536 levels: PQ's in units of white, HLG's of the scene from 0 to 1."""
    signal = np.arange(_LEVELS) / (_LEVELS - 1)
    if transfer == PQ:
        power = signal ** (1 / 78.84375)
        nits = 10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
            1 / 0.1593017578125
        )
        return (nits / WHITE_NITS).astype(np.float32)
    high = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(signal <= 0.5, signal**2 / 3, high).astype(np.float32)


@cache
def _encoding_table() -> NDArray[np.uint8]:
    """Return the sRGB value of light from 0 to 8 whites in 65,536 steps."""
    light = np.arange(_LEVELS) * (8 / _LEVELS)
    room = 1 - KNEE
    light = np.where(light > KNEE, KNEE + room * (1 - np.exp(-(light - KNEE) / room)), light)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(255 * value).clip(0, 255).astype(np.uint8)
