"""Cache a trained backbone's tokens of the videos of a data folder, and encode what its queries show.

A video is encoded once for each backbone and stored; its name is that in the folder. Objects are cached
photos for checkout worlds; crops out of a video and photos from files are encoded here.

Letters: F frames, S picture side, d token width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND, to_tick
from edge_runtime.imaging.decode import read_image
from edge_runtime.query.object_encoder import crop_image
from edge_runtime.query.photo_mosaic import make_mosaic
from edge_runtime.sources import open_source
from engines.errors import LvmError
from engines.network_config import NetworkConfig
from engines.spec import Engine
from export.data.files import DataFolder
from export.data.records import CropFile, CropInVideo, QueryRecord, Split, Video
from export.data.token_cache import VideoCache
from export.data.world_set import open_world
from export.evaluation.evaluate import Crops
from export.training.data.user_videos import FolderDataset

log = logging.getLogger(__name__)

Image = NDArray[np.uint8]


def open_caches(
    data: DataFolder,
    split: Split,
    network: NetworkConfig,
    backbone: Engine,
    digest: str,
    folder: Path,
    report: Callable[[str], None] = lambda video: None,
) -> Iterator[VideoCache]:
    """Yield the cache of each video, from `folder` if the backbone named `digest` has seen it before.

    Videos shorter than a clip are left out, with a warning.
    """
    dataset = FolderDataset(data, network, folder, splits=(split,), needs_photos=False)
    # The videos of a split. Raises LvmError where it is empty.
    videos = [video for video in data.videos.values() if video.split == split]
    if not videos:
        raise LvmError(f"{data.root} has no video of split {split}: name another --split")
    for video in videos:
        if dataset.is_short(video):
            log.warning(
                "%s is left out: it is shorter than a clip, so nothing is remembered of it", video.video
            )
            continue
        report(video.video)
        yield dataset.encode_video(video, backbone, folder, digest)


def encode_crops(
    data: DataFolder, video: Video, queries: Sequence[QueryRecord], network: NetworkConfig, backbone: Engine
) -> Crops:
    """Encode the objects that are not catalogue photos as tokens (49, d), by qid."""
    crops = {query.qid: query.crop for query in queries if query.type != "object"}
    files = {qid: crop for qid, crop in crops.items() if isinstance(crop, CropFile)}
    images = {qid: read_image((data.root / crop.path).read_bytes()) for qid, crop in files.items()}
    seen = {qid: crop for qid, crop in crops.items() if isinstance(crop, CropInVideo)}
    if seen:
        images |= _read_crops(data, video, seen)
    return {qid: _encode(image, network, backbone) for qid, image in images.items()}


def _read_crops(data: DataFolder, video: Video, crops: dict[str, CropInVideo]) -> dict[str, Image]:
    """Return the pictures (h, w, 3) of crops, from the frames nearest to their ticks."""
    if video.path is None:
        world = open_world(video)
        size = (video.height, video.width)
        return {
            qid: crop_image(world.frame(crop.tick5 / TICKS_PER_SECOND, size), crop.box)
            for qid, crop in crops.items()
        }
    images: dict[str, Image] = {}
    frame = None
    source = open_source(str(data.root / video.path), sample_fps=float(TICKS_PER_SECOND))
    try:
        for frame in source:
            for qid, crop in crops.items():
                # The first frame at or after the tick: a video slower than 5 Hz has none at some ticks.
                if qid not in images and to_tick(frame.t) >= crop.tick5:
                    images[qid] = crop_image(frame.image, crop.box)
    finally:
        source.close()
    # The end is known to a frame, or to a second if the file does not state it: the last frame stays on.
    end = 0.0 if frame is None else frame.t + max(1 / video.fps, 1.0) + 1 / TICKS_PER_SECOND
    for qid in sorted(set(crops) - set(images)):
        if frame is None or crops[qid].tick5 / TICKS_PER_SECOND > end:
            raise LvmError(f"{video.video} ends before the crop of query {qid}")
        images[qid] = crop_image(frame.image, crops[qid].box)
    return images


def _encode(image: Image, network: NetworkConfig, backbone: Engine) -> NDArray[np.float32]:
    ready = make_mosaic(image, network)
    return np.asarray(backbone({"image": ready[None]})["tokens"][0], np.float32)
