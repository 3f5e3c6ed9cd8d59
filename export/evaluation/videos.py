"""The videos of a data folder as caches of a trained backbone's tokens, and what its queries show.

A video is seen once for each backbone and kept; it is named as in the folder. Objects are cached photos for
checkout worlds; crops out of a video and photos from files go through the backbone here.

Letters: F frames, S picture side, d token width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, to_tick
from edge_runtime.imaging.decode import read_image
from edge_runtime.query.object_encoder import cut_out
from edge_runtime.query.photo_mosaic import mosaic
from edge_runtime.sources import open_source
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.files import Dataset
from export.data.records import CropFile, CropInVideo, QueryRecord, Split, Video
from export.data.token_cache import VideoCache
from export.data.world_set import world_of
from export.evaluation.evaluate import Crops
from export.training.data.user_videos import FolderFootage

Image = NDArray[np.uint8]


def videos_of(data: Dataset, split: Split) -> list[Video]:
    """Raises LvmError where the split is empty."""
    found = [video for video in data.videos.values() if video.split == split]
    if not found:
        raise LvmError(f"{data.root} has no video of split {split}: name another --split")
    return found


def caches_of(
    data: Dataset,
    split: Split,
    network: NetworkConfig,
    backbone: Engine,
    digest: str,
    folder: Path,
    report: Callable[[str], None] = lambda video: None,
) -> Iterator[VideoCache]:
    """One video after the other, from `folder` where it was seen before by the backbone named `digest`."""
    footage = FolderFootage(data, network, folder, splits=(split,), asks=False)
    for video in videos_of(data, split):
        report(video.video)
        yield footage.video(video, backbone, folder, digest)


def crops_of(
    data: Dataset, video: Video, queries: Sequence[QueryRecord], network: NetworkConfig, backbone: Engine
) -> Crops:
    """Tokens (49, d) of the objects that are no catalogue photo, by qid."""
    asked = {query.qid: query.crop for query in queries if query.type != "object"}
    files = {qid: crop for qid, crop in asked.items() if isinstance(crop, CropFile)}
    images = {qid: read_image((data.root / crop.path).read_bytes()) for qid, crop in files.items()}
    seen = {qid: crop for qid, crop in asked.items() if isinstance(crop, CropInVideo)}
    if seen:
        images |= _cut_out(data, video, seen)
    return {qid: _tokens(image, network, backbone) for qid, image in images.items()}


def _cut_out(data: Dataset, video: Video, crops: dict[str, CropInVideo]) -> dict[str, Image]:
    """The pictures (h, w, 3) of crops, from the frames nearest to their ticks."""
    if video.path is None:
        world = world_of(video)
        size = (video.height, video.width)
        return {
            qid: cut_out(world.frame(crop.tick5 / TICKS_PER_SECOND, size), crop.box)
            for qid, crop in crops.items()
        }
    found: dict[str, Image] = {}
    frame = None
    source = open_source(str(data.root / video.path), sample_fps=float(TICKS_PER_SECOND))
    try:
        for frame in source:
            for qid, crop in crops.items():
                # The first frame at or after the tick: a video slower than 5 Hz has none at some ticks.
                if qid not in found and to_tick(frame.t) >= crop.tick5:
                    found[qid] = cut_out(frame.image, crop.box)
    finally:
        source.close()
    # The end is known to a frame, and to a second where the file does not state it: the last one stays on.
    shown = 0.0 if frame is None else frame.t + max(1 / video.fps, 1.0) + 1 / TICKS_PER_SECOND
    for qid in sorted(set(crops) - set(found)):
        if frame is None or crops[qid].tick5 / TICKS_PER_SECOND > shown:
            raise LvmError(f"{video.video} ends before the crop of query {qid}")
        found[qid] = cut_out(frame.image, crops[qid].box)
    return found


def _tokens(image: Image, network: NetworkConfig, backbone: Engine) -> NDArray[np.float32]:
    ready = mosaic(image, network.image_size)
    return np.asarray(backbone({"image": ready[None]})["tokens"][0], np.float32)
