"""Online activity detection: heads with different memories, trained and compared on videos they never saw.

    python -m export.data world DATA --level L2 --minutes 20 --train 410000-410011 --test 420000-420005
    python -m tools.papers.detection --data DATA --output RESULTS --heads none bank-183 svd-61-10
    online-0.9-10

Every head is trained on the train split for each seed (seconds to a minute on one core) and answers the test
split. What lies in --output is not trained again, so a comparison can be stopped, and heads added later.
Prints mAP with 95 % intervals over videos and seeds, and the gain over each head of --against, paired.
The last line of standard output is one JSON object. Heads: `export/papers/detection/named.py`.
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

import torch

from edge_runtime.config.paths import default_bundle
from engines.errors import LvmError
from export.data.checks import read_data_folder
from export.data.files import CLASSES, EVENTS, TRACKS, VIDEOS
from export.data.records import Classes
from export.evaluation.run_folders import TrainedRun
from export.papers.detection.average_precision import Ranking, mean_ap_gain_interval, mean_ap_interval
from export.papers.detection.captions import CAPTIONS
from export.papers.detection.clips import ClipRule, RegionVideo
from export.papers.detection.named import ClipSize, make_head, make_parts
from export.papers.detection.recipe import HeadRecipe
from export.papers.detection.region_tokens import RegionTokens, fit_region_tokens, replace_regions
from export.papers.detection.results import load_answers, save_answers
from export.papers.detection.train import evaluate_head, train_head
from export.papers.detection.videos import load_region_videos
from tools.console import finish, progress, run_tool, show


def seen(
    run: TrainedRun, arguments: argparse.Namespace
) -> tuple[list[RegionVideo], list[RegionVideo], list[str]]:
    """Training and unseen videos as the backbone of `run` sees them, and the names of the activities."""
    data = read_data_folder(arguments.data)
    rule = ClipRule(arguments.frames, arguments.regions)
    cache = arguments.cache or arguments.output / "cache"
    with progress(sum(video.split in ("train", arguments.split) for video in data.videos.values())) as step:
        train, test = (
            load_region_videos(run, data, split, cache, rule, lambda name: step(name))
            for split in ("train", arguments.split)
        )
    return train, test, [one.name for one in data.classes]


def doing_of(data: Path) -> list[str]:
    """What each activity of a data folder is, in words."""
    known = Classes.model_validate_json((data / "classes.json").read_bytes())
    return [one.doing for one in known.activities]


def numbers_of(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The numbers of the activities called `names`, of all if there are no names. LvmError for others."""
    if unknown := [name for name in names if name not in classes]:
        raise LvmError(f"activities must be of {', '.join(classes)}, got {unknown[0]!r}: name one of them")
    return [number for number, name in enumerate(classes) if not names or name in names]


def recipe_of(arguments: argparse.Namespace, seed: int) -> HeadRecipe:
    rates = {"learning_rate": arguments.learning_rate, "parts_learning_rate": arguments.parts_learning_rate}
    return HeadRecipe(epochs=arguments.epochs, seed=seed, **rates)


def with_learned_regions(
    train: Sequence[RegionVideo], test: Sequence[RegionVideo], arguments: argparse.Namespace
) -> tuple[list[RegionVideo], list[RegionVideo]]:
    """The same videos with region tokens that are learned on the training ones."""
    torch.manual_seed(0)
    module = RegionTokens(train[0].tokens.shape[-1], arguments.regions, arguments.frames)
    fit_region_tokens(module, train, recipe_of(arguments, 0))
    return [replace_regions(module, one) for one in train], [replace_regions(module, one) for one in test]


def trained(
    name: str,
    seed: int,
    train: Sequence[RegionVideo],
    test: Sequence[RegionVideo],
    arguments: Any,
    doing: Sequence[str] | None = None,
    activities: Sequence[int] | None = None,
) -> tuple[Ranking, float]:
    """The ranking of a head's answers, all or of these activities alone, and the processor's seconds of its
    training (0: it lay there)."""
    path = arguments.output / f"{name}.seed{seed}.npz"
    seconds = 0.0
    if not path.exists():
        started = time.process_time()
        torch.manual_seed(seed)
        width, classes = train[0].features.shape[-1], train[0].labels.shape[-1]
        head = make_head(name, width, classes, doing, size_of(train))
        train_head(head, train, recipe_of(arguments, seed))
        seconds = time.process_time() - started
        save_answers(evaluate_head(head, test), path)
    return Ranking(load_answers(path), activities), seconds


def size_of(videos: Sequence[RegionVideo]) -> ClipSize:
    return ClipSize(regions=videos[0].features.shape[1], frames=videos[0].tokens.shape[1])


def same_settings(arguments: argparse.Namespace, backbone: str) -> None:
    """LvmError where --output holds answers of heads that were trained or asked otherwise.

    `backbone` is the digest of the one that made the tokens: what lies at --model may be another tomorrow.
    """
    names = ("data", "split", "epochs", "frames", "regions", "learned_regions")
    names += ("learning_rate", "parts_learning_rate")
    settings = {name: str(getattr(arguments, name)) for name in names} | {"backbone": backbone}
    files = [arguments.data / name for name in (CLASSES, EVENTS, VIDEOS, TRACKS, CAPTIONS)]
    if missing := [file for file in files[:3] if not file.is_file()]:
        raise LvmError(f"{missing[0]} does not exist: --data must be a data folder")
    said = b"".join(file.read_bytes() for file in files if file.is_file())
    settings["files"] = hashlib.sha256(said).hexdigest()[:16]
    path = arguments.output / "settings.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else settings
    if odd := [name for name in settings if known.get(name) != settings[name]]:
        raise LvmError(
            f"{arguments.output} holds answers with {odd[0]} {known.get(odd[0])}, not {settings[odd[0]]}: "
            "name another --output"
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def found_truths(videos: Sequence[RegionVideo]) -> float:
    """Share of the true boxes that are among the regions: no head can find more."""
    found = sum(int(video.labels.sum()) for video in videos)
    return found / max(sum(int(video.truth_labels.sum()) for video in videos), 1)


def compared(
    runs: dict[str, list[Ranking]], against: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """mAP of every head with its interval, by activity, and what it gains over others."""
    out: dict[str, Any] = {}
    for name, rankings in runs.items():
        by_class = sum(one.average_precisions() for one in rankings) / len(rankings)
        out[name] = {
            "map": [round(value, 4) for value in mean_ap_interval(rankings)[:3]],
            "seeds": [round(float(mean_ap_interval([one]).estimate), 4) for one in rankings],
            "by_activity": {
                label: round(float(ap), 3)
                for label, ap in zip(classes, by_class, strict=True)
                if not math.isnan(ap)  # it never happens
            },
            "gain": {
                other: [round(value, 4) for value in mean_ap_gain_interval(rankings, runs[other])[:3]]
                for other in against
                if other in runs and other != name
            },
        }
    return out


def options(said: str) -> argparse.ArgumentParser:
    """What all tools of the task can be told."""
    parser = argparse.ArgumentParser(description=said)
    parser.add_argument("--data", type=Path, required=True, help="data folder with train and test videos")
    parser.add_argument("--model", type=Path, default=default_bundle(), help="whose backbone: bundle or run")
    parser.add_argument("--cache", type=Path, help="tokens of videos; default in --output")
    parser.add_argument("--output", type=Path, required=True, help="folder of what was found")
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
    parser = options((__doc__ or "").splitlines()[0])
    parser.add_argument("--heads", nargs="+", default=["none", "bank-183", "svd-61-10", "online-0.9-10"])
    parser.add_argument("--against", nargs="*", default=["none", "bank-183"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.heads:
        make_parts(name, 8)  # a slip is told before hours of training
    run = TrainedRun.open(arguments.model)
    same_settings(arguments, run.backbone_digest())
    train, test, classes = seen(run, arguments)
    asked, doing = numbers_of(arguments.activities, classes), doing_of(arguments.data)
    result: dict[str, Any] = {
        "data": str(arguments.data),
        "videos": [len(train), len(test)],
        "clips": [sum(map(len, train)), sum(map(len, test))],
        "truths": [sum(len(video.truth_clip) for video in part) for part in (train, test)],
        "classes": classes,
        "asked": [classes[one] for one in asked],
        "truths_among_regions": round(found_truths(test), 4),
        "learned_regions": arguments.learned_regions,
    }
    if arguments.learned_regions:
        train, test = with_learned_regions(train, test, arguments)
    runs: dict[str, list[Ranking]] = {}
    with progress(len(arguments.heads) * len(arguments.seeds)) as step:
        for name in arguments.heads:
            runs[name] = []
            for seed in arguments.seeds:
                ranking, seconds = trained(name, seed, train, test, arguments, doing, asked)
                runs[name].append(ranking)
                step(f"{name} {seed}")
                if seconds:
                    print(f"{name} seed {seed}: trained in {seconds:.0f} s", flush=True)
    result["heads"] = compared(runs, arguments.against, [classes[one] for one in asked])
    rows = [
        [
            name,
            *one["map"],
            *(" ".join(f"{v:+.3f}" for v in one["gain"].get(o, ())) for o in arguments.against),
        ]
        for name, one in result["heads"].items()
    ]
    show("mAP, 95 % interval, gains", ["head", "mAP", "low", "high", *arguments.against], rows)
    (arguments.output / "detection.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    finish(result)


if __name__ == "__main__":
    run_tool(main)
