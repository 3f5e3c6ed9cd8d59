"""Augment product photos without changing the product.

Letters: S side of a training image, H, W picture, h, w patch. Pictures are RGB uint8. Nothing is mirrored: a
package carries text, and its mirror image is another package. Equal generators give equal images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3)
Mask = NDArray[np.float32]  # (H, W), 0..1
Quad = NDArray[np.float32]  # (4, 2) corners x, y in pixels, clockwise from top left

PASTE_SHARE = 0.6
"""Share of images with the product pasted on another picture."""
_OUTLINE_SHARE = 0.6
"""Share of those that are cut out along the product, where its outline is known; else they are a part of the
photo in a soft shape."""
_MASK_SIDE = 64
_NOISE_SIDE = 256
_SKIN = ((238, 200, 172), (198, 146, 110), (120, 80, 56))  # hands hide products more than anything else
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class CutOut(NamedTuple):
    """A product along its outline: `image` (h, w, 3) and its opacity `mask` (h, w), 0..255."""

    image: Image
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Pasted:
    """A picture with a pasted patch; `box` (x1, y1, x2, y2) in shares: where it is over half as opaque as it
    gets."""

    image: Image
    box: tuple[float, float, float, float]


def augment_photo(
    photo: Image, other: Image, rng: np.random.Generator, size: int, cut_out: CutOut | None = None
) -> Image:
    """Return a training image (S, S, 3) of the product on `photo`, or of its `cut_out`; parts of `other` are
    its background."""
    if rng.random() < PASTE_SHARE:
        ground = make_backdrop(other, rng, size)
        patch, mask = _draw_part(photo, rng, _draw_side(rng)), None
        if cut_out is not None and rng.random() < _OUTLINE_SHARE:
            patch, mask = cut_out
        share, angle = _uniform(rng, 0.3, 1.0), _draw_angle(rng)
        image = paste(ground, relight(patch, rng), rng, share=share, angle=angle, mask=mask).image
    else:
        image = _fill_image(relight(_draw_part(photo, rng, _draw_side(rng)), rng), rng, size)
    image = _degrade(image, rng)
    return _occlude(image, other, rng) if rng.random() < 0.35 else image


def _draw_side(rng: np.random.Generator) -> float:
    """Draw the share of a photo's sides that is shown: products fill most of it, so a part of them remains
    visible in at least a quarter of its area."""
    return math.sqrt(_uniform(rng, 0.25, 1.0))


def paste(
    ground: Image,
    patch: Image,
    rng: np.random.Generator,
    *,
    share: float,
    angle: float,
    mask: NDArray[np.uint8] | None = None,
) -> Pasted:
    """Paste `patch`, `share` of the picture wide, rotated by `angle` degrees, as opaque as `mask` of its
    size, or else with soft edges."""
    height, width = ground.shape[:2]
    w = share * width
    h = min(w * patch.shape[0] / patch.shape[1] * math.exp(_uniform(rng, -0.15, 0.15)), 1.2 * height)
    quad = _perspective_quad(w, h, angle, rng)
    # Draw the centre of `quad` (2,): all of it inside the picture if it fits.
    half = np.minimum(np.abs(quad).max(axis=0), (width * 0.5, height * 0.5))
    quad += np.asarray(rng.uniform(half, np.array([width, height]) - half), np.float32)
    small = _resize(patch, round(w), round(h))
    if mask is None:
        shape = _soft_masks()[int(rng.integers(len(_soft_masks())))]
    else:
        outline = cv2.resize(mask, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        shape = np.asarray(outline / np.float32(255), np.float32)
    warped = cv2.warpPerspective(
        small, _perspective_matrix(small, quad), (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    opaque = np.asarray(
        cv2.warpPerspective(shape, _perspective_matrix(shape, quad), (width, height)), np.float32
    )  # (H, W)
    image = ground + (warped.astype(np.float32) - ground) * opaque[..., None]
    return Pasted(np.asarray(image + 0.5, np.uint8), _mask_box(opaque))


def make_backdrop(other: Image, rng: np.random.Generator, size: int) -> Image:
    """Return (S, S, 3): a part of another photo, too large to show a product, or noise, or one colour."""
    kind = rng.random()
    if kind < 0.7:
        return relight(_resize(_draw_part(other, rng, _uniform(rng, 0.15, 0.6)), size, size), rng)
    colour = rng.integers(0, 256, 3)
    if kind < 0.85:
        return np.asarray(np.broadcast_to(colour, (size, size, 3)), np.uint8)
    blobs = rng.integers(0, 256, (rng.integers(2, 24),) * 2 + (3,)).astype(np.uint8)
    return np.asarray(cv2.resize(blobs, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Change saturation, white balance, brightness, contrast and gamma; not hue, which tells flavours."""
    saturation = _uniform(rng, 0.55, 1.4)
    mix = np.eye(3, dtype=np.float32) * saturation + (1 - saturation) * _LUMA
    gain = np.exp(rng.normal(0, 0.07, 3) + rng.normal(0, 0.15)).astype(np.float32)  # (3,)
    contrast, gamma = _uniform(rng, 0.65, 1.35), math.exp(rng.normal(0, 0.2))
    levels = np.linspace(0, 1, 256, dtype=np.float32)[:, None] ** np.float32(gamma) * gain  # (256, 3)
    levels = (levels - 0.5) * np.float32(contrast) + np.float32(0.5 + rng.normal(0, 0.06))
    table = np.clip(levels * 255, 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    return np.asarray(cv2.LUT(cv2.transform(image, mix), table), np.uint8)


def _draw_part(image: Image, rng: np.random.Generator, share: float) -> Image:
    """Return a random rectangle of about `share` of each side, without a copy."""
    height, width = image.shape[:2]
    stretch = math.exp(_uniform(rng, -0.2, 0.2))
    h = min(max(round(share * height * stretch), 8), height)
    w = min(max(round(share * width / stretch), 8), width)
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    return image[y : y + h, x : x + w]


def _fill_image(patch: Image, rng: np.random.Generator, size: int) -> Image:
    """Fill the image with the patch, rotated and in perspective; uncovered pixels repeat its edges."""
    quad = _perspective_quad(size, size, _draw_angle(rng), rng) + np.float32(size / 2)
    square = _resize(patch, size, size)
    matrix = _perspective_matrix(square, quad)
    return np.asarray(
        cv2.warpPerspective(square, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )


def _perspective_quad(w: float, h: float, angle: float, rng: np.random.Generator) -> Quad:
    """Return a w x h rectangle around the origin, rotated, each corner moved by up to a tenth."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32) * (w / 2, h / 2)
    corners += rng.uniform(-0.1, 0.1, (4, 2)) * (w, h)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.asarray(corners @ np.array([[cos, sin], [-sin, cos]]), np.float32)


def _perspective_matrix(image: Image | Mask, quad: Quad) -> NDArray[np.float64]:
    height, width = image.shape[:2]
    whole = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(whole, quad), np.float64)


@lru_cache(maxsize=1)
def _soft_masks() -> tuple[Mask, ...]:
    """Return soft masks (64, 64): two kinds of rounded rectangles and an ellipse."""
    y, x = np.mgrid[:_MASK_SIDE, :_MASK_SIDE].astype(np.float32) / (_MASK_SIDE - 1) * 2 - 1
    masks = []
    for power in (2.0, 4.0, 12.0):  # superellipses
        radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
        masks.append(np.clip((1 - radius) / 0.08, 0, 1).astype(np.float32))
    return tuple(masks)


def _mask_box(mask: Mask) -> tuple[float, float, float, float]:
    height, width = mask.shape
    opaque = mask > 0.5 * mask.max()
    xs, ys = np.flatnonzero(opaque.any(axis=0)), np.flatnonzero(opaque.any(axis=1))
    left, right = float(xs[0]) / width, float(xs[-1] + 1) / width
    return left, float(ys[0]) / height, right, float(ys[-1] + 1) / height


def _resize(image: Image, width: int, height: int) -> Image:
    """Resize, averaging when it shrinks: bilinear sampling would leave a moiré of the print."""
    shrinks = width * height < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (max(width, 2), max(height, 2)), interpolation=how), np.uint8)


def _degrade(image: Image, rng: np.random.Generator) -> Image:
    """Degrade a picture as a cheap camera does: few pixels, blur, noise, compression."""
    size = image.shape[0]
    if rng.random() < 0.3:
        few = round(size * _uniform(rng, 0.4, 0.9))
        image = np.asarray(cv2.resize(_resize(image, few, few), (size, size)), np.uint8)
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), _uniform(rng, 0.4, 1.4)), np.uint8)
    if rng.random() < 0.5:
        noise = _draw_noise(size, rng) * np.float32(_uniform(rng, 2, 14))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = int(rng.integers(20, 85))
        coded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image


def _draw_noise(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise (S, S, 3) of standard deviation 1, cut out of a fixed sheet: drawing it is slow."""
    sheet = _noise_sheet()
    y, x = rng.integers(0, _NOISE_SIDE, 2)
    rows, columns = (np.arange(y, y + size) % _NOISE_SIDE), (np.arange(x, x + size) % _NOISE_SIDE)
    return sheet.take(rows, axis=0).take(columns, axis=1)


@lru_cache(maxsize=1)
def _noise_sheet() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3)).astype(np.float32)


def _occlude(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Put patches in front: a hand's colour, another colour or a piece of another picture."""
    size, image = image.shape[0], image.copy()
    for _ in range(int(rng.integers(1, 3))):
        h, w = (round(size * _uniform(rng, 0.08, 0.35)) for _ in range(2))
        y, x = int(rng.integers(0, size - h + 1)), int(rng.integers(0, size - w + 1))
        kind = rng.random()
        if kind < 0.4:
            image[y : y + h, x : x + w] = _SKIN[int(rng.integers(len(_SKIN)))]
        elif kind < 0.7:
            image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        else:
            image[y : y + h, x : x + w] = _resize(_draw_part(other, rng, 0.3), w, h)
    return image


def _draw_angle(rng: np.random.Generator) -> float:
    """Draw degrees: mostly upright, sometimes any, as things lie on a belt."""
    return _uniform(rng, -180, 180) if rng.random() < 0.15 else float(rng.normal(0, 14))


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))
