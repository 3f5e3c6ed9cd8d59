"""Load the videos of a data folder for the detection task: a frozen backbone's tokens, cached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.data.files import DataFolder
from export.data.records import Split
from export.evaluation.run_folders import TrainedRun
from export.evaluation.stream_run import Model
from export.evaluation.videos import open_caches
from export.papers.detection.captions import read_captions
from export.papers.detection.clips import ClipRule, RegionVideo, make_region_video


def load_region_videos(
    run: TrainedRun,
    data: DataFolder,
    split: Split,
    cache: Path,
    rule: ClipRule | None = None,
    report: Callable[[str], None] = lambda video: None,
) -> list[RegionVideo]:
    """Load every video of a split. The backbone of `run`, a bundle or a finished training, encodes them; the
    folder `cache` holds what it has encoded before. Raises LvmError where the split is empty."""
    model = Model.from_network(run.network, run.card)
    caches = open_caches(data, split, run.config, model.backbone, run.backbone_digest(), cache, report)
    captions = read_captions(data.root)
    return [make_region_video(video_cache, data, run.config, rule, captions) for video_cache in caches]
