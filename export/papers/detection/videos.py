"""The videos of a data folder as the detection task sees them: a frozen backbone's tokens, cached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.data.files import Dataset
from export.data.records import Split
from export.evaluation.run_folders import TrainedRun
from export.evaluation.stream_run import Model
from export.evaluation.videos import caches_of
from export.papers.detection.captions import read_captions
from export.papers.detection.clips import ClipRule, RegionVideo, region_video


def region_videos(
    run: TrainedRun,
    data: Dataset,
    split: Split,
    cache: Path,
    rule: ClipRule | None = None,
    report: Callable[[str], None] = lambda video: None,
) -> list[RegionVideo]:
    """Every video of one split. `run` is a bundle or a finished training, whose backbone sees them; what it
    has seen already is taken from the folder `cache`. LvmError where the split is empty.
    """
    model = Model.of_network(run.network, run.card)
    caches = caches_of(data, split, run.config, model.backbone, run.backbone_digest(), cache, report)
    captions = read_captions(data.root)
    return [region_video(one, data, run.config, rule, captions) for one in caches]
