"""Compare detection heads with different memories (online activity detection) on unseen videos.

    python -m export.data world DATA --level L2 --minutes 20 --train 410000-410011 --test 420000-420005
    python -m tools.papers.detection --data DATA --output RESULTS --heads none bank-183 svd-61-10
    online-0.9-10

Every head is trained on the train split for each seed (seconds to a minute on one core) and answers the test
split. A head whose answers are in --output is not trained again, so a comparison can be stopped, and heads
added later. Prints mAP with 95 % intervals over videos and seeds, and the paired gain over each head of
--against. The last line of standard output is one JSON object. Heads: `export/papers/detection/named.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_runtime.config.paths import default_bundle
from engines.errors import LvmError
from export.data.checks import read_data_folder
from export.data.files import CLASSES, EVENTS, TRACKS, VIDEOS
from export.data.records import Classes
from export.evaluation.run_folders import TrainedRun
from export.papers.detection.average_precision import (
    Ranking,
    load_answers,
    mean_ap_gain_interval,
    mean_ap_interval,
    save_answers,
)
from export.papers.detection.captions import CAPTIONS
from export.papers.detection.clips import ClipRule, RegionVideo, load_region_videos
from export.papers.detection.head import HeadRecipe
from export.papers.detection.named import ClipSize, make_head, make_parts
from export.papers.detection.region_tokens import RegionTokens, fit_region_tokens, replace_regions
from export.papers.detection.train import evaluate_head, train_head
from tools.console import finish, progress, run_tool, show


def load_videos(
    run: TrainedRun, arguments: argparse.Namespace
) -> tuple[list[RegionVideo], list[RegionVideo], list[str]]:
    """Load training and unseen videos, as tokens of `run`'s backbone, and the names of the activities."""
    data = read_data_folder(arguments.data)
    rule = ClipRule(arguments.frames, arguments.regions)
    cache = arguments.cache or arguments.output / "cache"
    with progress(sum(video.split in ("train", arguments.split) for video in data.videos.values())) as step:
        train, test = (
            load_region_videos(run, data, split, cache, rule, lambda name: step(name))
            for split in ("train", arguments.split)
        )
    return train, test, [activity.name for activity in data.classes]


def read_descriptions(data: Path) -> list[str]:
    """Read the description of each activity of a data folder."""
    known = Classes.model_validate_json((data / "classes.json").read_bytes())
    return [activity.doing for activity in known.activities]


def select_activities(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the numbers of the activities `names`, of all if it is empty. LvmError for unknown ones."""
    if unknown := [name for name in names if name not in classes]:
        raise LvmError(f"activities must be of {', '.join(classes)}, got {unknown[0]!r}: name one of them")
    return [number for number, name in enumerate(classes) if not names or name in names]


def make_recipe(arguments: argparse.Namespace, seed: int) -> HeadRecipe:
    rates = {"learning_rate": arguments.learning_rate, "parts_learning_rate": arguments.parts_learning_rate}
    return HeadRecipe(epochs=arguments.epochs, seed=seed, **rates)


def load_or_train(
    name: str,
    seed: int,
    train: Sequence[RegionVideo],
    test: Sequence[RegionVideo],
    arguments: Any,
    doing: Sequence[str] | None = None,
    activities: Sequence[int] | None = None,
) -> tuple[Ranking, float]:
    """Return the ranking of a head's answers, and the processor seconds of its training.

    The ranking is over all activities or over `activities`. The seconds are 0 where the answers were in
    --output already.
    """
    path = arguments.output / f"{name}.seed{seed}.npz"
    seconds = 0.0
    if not path.exists():
        started = time.process_time()
        torch.manual_seed(seed)
        width, classes = train[0].features.shape[-1], train[0].labels.shape[-1]
        head = make_head(name, width, classes, doing, read_clip_size(train))
        train_head(head, train, make_recipe(arguments, seed))
        seconds = time.process_time() - started
        save_answers(evaluate_head(head, test), path)
    return Ranking(load_answers(path), activities), seconds


def read_clip_size(videos: Sequence[RegionVideo]) -> ClipSize:
    return ClipSize(regions=videos[0].features.shape[1], frames=videos[0].tokens.shape[1])


def check_settings(arguments: argparse.Namespace, backbone: str) -> None:
    """Raise LvmError if --output holds answers of heads with other settings.

    `backbone` is the digest of the backbone that made the tokens, as --model may be replaced later.
    """
    names = ["data", "split", "epochs", "frames", "regions", "learned_regions"]
    names += ["learning_rate", "parts_learning_rate"]
    settings = {name: str(getattr(arguments, name)) for name in names} | {"backbone": backbone}
    files = [arguments.data / name for name in (CLASSES, EVENTS, VIDEOS, TRACKS, CAPTIONS)]
    if missing := [file for file in files[:3] if not file.is_file()]:
        raise LvmError(f"{missing[0]} does not exist: --data must be a data folder")
    content = b"".join(file.read_bytes() for file in files if file.is_file())
    settings["files"] = hashlib.sha256(content).hexdigest()[:16]
    path = arguments.output / "settings.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else settings
    if odd := [name for name in settings if known.get(name) != settings[name]]:
        raise LvmError(
            f"{arguments.output} holds answers with {odd[0]} {known.get(odd[0])}, not {settings[odd[0]]}: "
            "name another --output"
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def measure_region_recall(videos: Sequence[RegionVideo]) -> float:
    """Return the share of the true boxes that are among the regions: no head can find more."""
    covered = sum(int(video.labels.sum()) for video in videos)
    return covered / max(sum(int(video.truth_labels.sum()) for video in videos), 1)


def compare_heads(
    runs: dict[str, list[Ranking]], against: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Return every head's mAP with its interval, by seed and by activity, and its gains over others."""
    rows: dict[str, Any] = {}
    for name, rankings in runs.items():
        by_class = np.mean([ranking.average_precisions() for ranking in rankings], axis=0)
        rows[name] = {
            "map": [round(value, 4) for value in mean_ap_interval(rankings)[:3]],
            "seeds": [round(float(mean_ap_interval([ranking]).estimate), 4) for ranking in rankings],
            "by_activity": {
                label: round(float(ap), 3)
                for label, ap in zip(classes, by_class, strict=True)
                if not math.isnan(ap)  # the activity never happens
            },
            "gain": {
                other: [round(value, 4) for value in mean_ap_gain_interval(rankings, runs[other])[:3]]
                for other in against
                if other in runs and other != name
            },
        }
    return rows


def make_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser of the options that all tools of this task have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="data folder with train and test videos")
    parser.add_argument("--model", type=Path, default=default_bundle(), help="whose backbone: bundle or run")
    parser.add_argument("--cache", type=Path, help="tokens of videos; default in --output")
    parser.add_argument("--output", type=Path, required=True, help="folder of answers and results")
    parser.add_argument("--split", default="test", choices=["val", "test"])
    parser.add_argument("--epochs", type=int, default=HeadRecipe.epochs)
    parser.add_argument("--learning-rate", type=float, default=HeadRecipe.learning_rate)
    parser.add_argument("--parts-learning-rate", type=float, default=HeadRecipe.parts_learning_rate)
    parser.add_argument("--frames", type=int, default=2, help="of a clip")
    parser.add_argument("--regions", type=int, default=6, help="of a clip, at most")
    parser.add_argument("--activities", nargs="*", default=[], help="names: mAP over these alone")
    parser.add_argument("--learned-regions", action="store_true", help="region tokens instead of boxes")
    return parser


def main() -> None:
    parser = make_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--heads", nargs="+", default=["none", "bank-183", "svd-61-10", "online-0.9-10"])
    parser.add_argument("--against", nargs="*", default=["none", "bank-183"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.heads:
        make_parts(name, 8)  # so that a wrong name fails before hours of training
    run = TrainedRun.open(arguments.model)
    check_settings(arguments, run.backbone_digest())
    train, test, classes = load_videos(run, arguments)
    asked, doing = select_activities(arguments.activities, classes), read_descriptions(arguments.data)
    result: dict[str, Any] = {
        "data": str(arguments.data),
        "videos": [len(train), len(test)],
        "clips": [sum(map(len, train)), sum(map(len, test))],
        "truths": [sum(len(video.truth_clip) for video in part) for part in (train, test)],
        "classes": classes,
        "asked": [classes[number] for number in asked],
        "truths_among_regions": round(measure_region_recall(test), 4),
        "learned_regions": arguments.learned_regions,
    }
    if arguments.learned_regions:
        # The videos with region tokens that are learned on the training videos.
        torch.manual_seed(0)
        module = RegionTokens(train[0].tokens.shape[-1], arguments.regions, arguments.frames)
        fit_region_tokens(module, train, make_recipe(arguments, 0))
        replaced = [[replace_regions(module, video) for video in videos] for videos in (train, test)]
        train, test = replaced[0], replaced[1]
    runs: dict[str, list[Ranking]] = {}
    with progress(len(arguments.heads) * len(arguments.seeds)) as step:
        for name in arguments.heads:
            runs[name] = []
            for seed in arguments.seeds:
                ranking, seconds = load_or_train(name, seed, train, test, arguments, doing, asked)
                runs[name].append(ranking)
                step(f"{name} {seed}")
                if seconds:
                    print(f"{name} seed {seed}: trained in {seconds:.0f} s", flush=True)
    result["heads"] = compare_heads(runs, arguments.against, [classes[number] for number in asked])
    rows = [
        [
            name,
            *row["map"],
            *(" ".join(f"{v:+.3f}" for v in row["gain"].get(base, ())) for base in arguments.against),
        ]
        for name, row in result["heads"].items()
    ]
    show("mAP, 95 % interval, gains", ["head", "mAP", "low", "high", *arguments.against], rows)
    (arguments.output / "detection.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    finish(result)


if __name__ == "__main__":
    run_tool(main)
