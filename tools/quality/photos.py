"""Measure whether two photos of a product that the network was not trained on are alike.

    python -m tools.quality.photos PRODUCTS [--bundle BUNDLE]

PRODUCTS has one sub-folder of photos for each product. Of those that the bundle's manifest names as held out
(all, where it names none of the folder), each photo is compared with all others by cosine: `nearest` is the
share whose nearest
other photo is of the same product, `map` the mean average precision of all photos of the same product.
`identity` is by the head that tells products apart, `appearance` by the frozen part of the tokens, `tokens`
by whole tokens, each the mean over the photo; `colours` by histograms. Intervals are over products. The last
line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.config.paths import default_bundle
from edge_runtime.imaging.decode import read_image
from edge_runtime.query.photo_mosaic import make_mosaic, take_whole
from edge_runtime.simulation.photo_folders import list_product_photos
from engines.errors import LvmError
from export.bundle.checkpoint import from_bundle
from export.evaluation.histogram_baseline import make_cell_histograms
from export.networks.model import LvmNet
from tools.console import finish, progress, run_tool, show

Real = NDArray[np.float64]
_BATCH = 16
_RESAMPLES = 1000


def rank_photos(rows: Real, labels: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Return for each product whether the nearest other photo is of it, and the average precision, of each of
    its photos. rows (n, d)."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    names = np.asarray(labels)
    found: dict[str, tuple[list[float], list[float]]] = {}
    for photo, order in enumerate(np.argsort(-similar, axis=1, kind="stable")[:, :-1]):
        same = names[order] == names[photo]
        hits = np.flatnonzero(same)
        if not len(hits):
            continue
        nearest, precision = found.setdefault(labels[photo], ([], []))
        nearest.append(float(same[0]))
        precision.append(float(((np.arange(len(hits)) + 1) / (hits + 1)).mean()))
    return found


def estimate(values: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of all values and its 95 % interval over groups."""
    rng = np.random.default_rng(seed)
    means = [
        np.concatenate([values[i] for i in rng.integers(len(values), size=len(values))]).mean()
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.concatenate(values).mean()), float(low), float(high)


@torch.no_grad()
def describe_photos(network: LvmNet, images: Sequence[NDArray[np.uint8]]) -> dict[str, Real]:
    """Return the descriptions (n, d) of photos, by name."""
    config, likeness = network.config, network.reader.embed.likeness
    parts: dict[str, list[NDArray[Any]]] = {"tokens": [], "colours": []}
    with progress(len(images)) as step:
        for first in range(0, len(images), _BATCH):
            batch = images[first : first + _BATCH]
            tokens = network.backbone(torch.from_numpy(np.stack([make_mosaic(one, config) for one in batch])))
            parts["tokens"] += [one.mean(0) for one in tokens.numpy()]
            if likeness is not None:
                parts.setdefault("identity", []).extend(likeness.embed(tokens.mean(1)).numpy())
            if config.appearance:
                whole = [take_whole(one)[:, : config.appearance].mean(0) for one in tokens.numpy()]
                parts.setdefault("appearance", []).extend(whole)
            size = (config.image_size, config.image_size)
            resized = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in batch]
            parts["colours"] += [make_cell_histograms(np.asarray(one, np.uint8)).mean(0) for one in resized]
            step("photos", len(batch))
    return {name: np.stack(rows).astype(np.float64) for name, rows in parts.items()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("products", type=Path, metavar="PRODUCTS")
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--most", type=int, default=20, help="photos of a product, evenly drawn")
    arguments = parser.parse_args(argv)
    network, card = from_bundle(arguments.bundle)
    photos = list_product_photos(arguments.products)
    held_out = [name for name in card.training.held_out if name in photos] or list(photos)
    labels, images = [], []
    for name in held_out:
        count = len(photos[name])
        chosen = np.linspace(0, count - 1, min(count, arguments.most)).round().astype(int)
        paths = [photos[name][number] for number in chosen]
        labels += [name] * len(paths)
        images += [read_image(path) for path in paths]
    if len(held_out) < 2:
        raise LvmError(
            f"{arguments.products} must have at least two products to compare, got {len(held_out)}"
        )
    result: dict[str, Any] = {"products": len(held_out), "photos": len(images)}
    rows = []
    for name, described in describe_photos(network.eval(), images).items():
        found = list(rank_photos(described, labels).values())
        result[name] = {
            "nearest": [round(value, 4) for value in estimate([nearest for nearest, _ in found])],
            "map": [round(value, 4) for value in estimate([precision for _, precision in found])],
        }
        rows.append([name, *result[name]["nearest"], *result[name]["map"]])
    title = f"{len(images)} photos of {len(held_out)} products"
    show(title, ["by", "nearest", "low", "high", "mAP", "low", "high"], rows)
    finish(result)
    return 0


if __name__ == "__main__":
    run_tool(main)
