"""Measure whether the memory finds again what it saw in real video, asked "when was this there?".

    python -m tools.quality.real_recall CLIPS [CLIPS ...]

CLIPS are short videos or folders of them. They follow each other as one stream, of which the memory watches
the first 60 % of each clip. Then it is asked with crops of each clip: `far` from a later moment that it did
not watch, `near` half a second beside a moment that it remembers. An answer is right if its first span lies
in the right clip. Beside it answer, from every watched frame, colour histograms and the raw features of the
bundle's backbone, and the raw features of the tokens that the memory kept.

`--grey` and `--relight` (gamma 0.6 to 1.6, white balance of 20 %) change the crops. Five orders of the clips
are five streams, with five crops a clip each; intervals are over clips and orders. The last line of standard
output is one JSON object.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.config.paths import default_bundle
from edge_runtime.frame import TICKS_PER_SECOND, Frame
from edge_runtime.ingest.pipeline import preprocess
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.reader_inputs import Context, make_context
from edge_runtime.query.schema import Photos, TimeQuery
from edge_runtime.service.engine_pool import Engines
from edge_runtime.sources import open_source
from engines.bundle import Bundle
from engines.errors import LvmError
from export.evaluation import histogram_baseline as lookup
from export.evaluation.bootstrap import mean_interval, sum_by_video
from export.evaluation.catalogue import rank_places
from export.evaluation.stream_recording import RecordedStream, record_frames
from tools.console import finish, progress, run_tool, show

WATCHED = 0.6
"""Share of a clip that is part of the stream; crops of the rest are far."""
BESIDE_S = 0.5
"""Seconds between a remembered moment and a near crop."""
LONGEST_SIDE = 640
_FRAMES_PER_SECOND = 4.0
_CROP_SIDES = (0.35, 0.6)
_FLAT = 15.0
"""Standard deviation of brightness below which a crop shows nothing that could be found."""
_TRIES = 30
METHODS = ("memory", "colours", "features", "remembered")

Image = NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True)
class Clip:
    """A video: its name, and its pictures with their times in seconds from its start."""

    name: str
    frames: list[tuple[float, Image]]

    @property
    def watched_until(self) -> float:
        return WATCHED * self.frames[-1][0]


@dataclass(frozen=True)
class Stream:
    """Clips one after another as a memory watched them; `starts` in seconds of the stream, ascending."""

    recorded: RecordedStream
    remembered: Context
    clips: list[Clip]
    starts: NDArray[np.float64]

    def find_clip(self, t: float) -> Clip:
        """Return the clip that was watched at `t`."""
        return self.clips[max(int(np.searchsorted(self.starts, t + 1e-3)) - 1, 0)]

    def remembered_times(self, clip: Clip) -> NDArray[np.float64]:
        """Return the time of each token that the memory holds of a clip, from the clip's start."""
        times = self.remembered.tick[self.remembered.valid] / TICKS_PER_SECOND
        own = np.array([self.find_clip(float(t)) is clip for t in times], np.bool_)
        return np.asarray(times[own] - self.starts[self.clips.index(clip)], np.float64)


def watch_clips(engines: Engines, clips: list[Clip]) -> Stream:
    """Let a memory watch the first part of each clip, one after another, at the bundle's rate."""
    network = engines.bundle.manifest.network
    period = 1 / network.sample_fps
    starts, frames, now = [], [], 0.0
    for clip in clips:
        starts.append(now)
        due = 0.0
        for t, image in clip.frames:
            if due - 1e-6 <= t <= clip.watched_until:
                frames.append((now, preprocess(Frame(image, now), network.image_size)))
                due, now = due + period, now + period
    recorded = record_frames(engines, frames)
    return Stream(recorded, make_context(recorded.version, network), clips, np.array(starts))


def read_clips(paths: Sequence[Path], longest: float) -> list[Clip]:
    """Read videos, and the videos of folders, up to `longest` seconds of each. Raises LvmError."""
    files = [
        file
        for path in paths
        for file in (sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path])
    ]
    clips = [Clip(file.name, list(_read_frames(file, longest))) for file in files]
    if short := [clip.name for clip in clips if len(clip.frames) < 4]:
        raise LvmError(f"a clip must last at least a second, got {', '.join(short)}")
    if len(clips) < 2 or len({clip.name for clip in clips}) < len(clips):
        raise LvmError(f"at least 2 clips of different names are needed, got {len(clips)}")
    return clips


def _read_frames(file: Path, longest: float) -> Iterator[tuple[float, Image]]:
    with open_source(str(file), sample_fps=_FRAMES_PER_SECOND) as source:
        for frame in source:
            if frame.t > longest:
                return
            height, width = frame.image.shape[:2]
            shrink = min(1.0, LONGEST_SIDE / max(height, width))
            size = (round(width * shrink), round(height * shrink))
            yield frame.t, np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), np.uint8)


def cut_crop(image: Image, rng: np.random.Generator) -> Image:
    """Cut a rectangle of 35 to 60 % of the sides, not a flat one where another can be found."""
    height, width = image.shape[:2]
    crop = image
    for _ in range(_TRIES):
        share = rng.uniform(*_CROP_SIDES)
        h, w = int(height * share), int(width * share)
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        crop = image[top : top + h, left : left + w]
        if float(crop.mean(axis=2).std()) >= _FLAT:
            break
    return crop


def make_grey(crop: Image, rng: np.random.Generator) -> Image:
    """Return the crop without colours."""
    return np.asarray(np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2), np.uint8)


def relight(crop: Image, rng: np.random.Generator) -> Image:
    """Return the crop in another light: gamma 0.6 to 1.6, each channel up to 20 % brighter or darker."""
    gamma = float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
    light = 255 * (crop / np.float32(255)) ** gamma * rng.uniform(0.8, 1.2, 3)
    return np.asarray(light.clip(0, 255), np.uint8)


def draw_crops(clip: Clip, stream: Stream, count: int, rng: np.random.Generator) -> dict[str, list[Image]]:
    """Draw `count` far and `count` near crops of a clip."""
    times = np.array([t for t, _ in clip.frames])
    later = np.flatnonzero(times > clip.watched_until + BESIDE_S / 2)
    remembered = np.unique(stream.remembered_times(clip))
    beside = remembered if len(remembered) else times[times <= clip.watched_until]
    crops: dict[str, list[Image]] = {"far": [], "near": []}
    for _ in range(count):
        near = int(np.abs(times - (float(rng.choice(beside)) + BESIDE_S)).argmin())
        for kind, index in (("far", int(rng.choice(later))), ("near", near)):
            crops[kind].append(cut_crop(clip.frames[index][1], rng))
    return crops


def find_clips(
    asker: Asker, encoder: ObjectEncoder, stream: Stream, crops: Sequence[Image]
) -> dict[str, list[Clip | None]]:
    """Return the clip in which each method sees each crop first; None where no time is told."""
    recorded = stream.recorded
    objects = [Photos(photos=(encode_png(crop),)) for crop in crops]
    answers = asker.ask_all([TimeQuery(object=item) for item in objects], recorded.version)
    places = [rank_places(answer) for answer in answers]
    vectors = np.stack([lookup.pool_photos([encoder.encode(item)]) for item in objects])
    colours = np.stack([lookup.make_photo_histogram([crop]) for crop in crops])
    kept = stream.remembered
    scores = {
        "colours": (lookup.score_histograms(recorded.histograms, colours), recorded.times),
        "features": (lookup.score_windows(recorded.features, vectors), recorded.times),
        "remembered": (
            lookup.score_tokens(kept.features[kept.valid], vectors),
            kept.tick[kept.valid] / TICKS_PER_SECOND,
        ),
    }
    found: dict[str, list[Clip | None]] = {
        method: [stream.find_clip(float(times[int(row.argmax())])) for row in score]
        for method, (score, times) in scores.items()
    }
    return {"memory": [stream.find_clip(best[0].centre) if best else None for best in places]} | found


def encode_png(image: Image) -> bytes:
    """Encode (H, W, 3) RGB without loss, as a question takes it."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


@dataclass
class Outcomes:
    """Whether each question was answered right, by method and kind, with its clip and order."""

    clips: list[str] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    right: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def interval(self, method: str, kind: str) -> dict[str, Any]:
        """Return the share of right answers with its interval over clips and orders."""
        mean = mean_interval(sum_by_video(self.right[method, kind], self.clips, self.orders))
        return {"value": round(mean.estimate, 3), "interval": [round(mean.low, 3), round(mean.high, 3)]}


def measure(
    engines: Engines, clips: Sequence[Clip], orders: int, crops: int, change: Change | None
) -> dict[str, Any]:
    """Return all figures: `orders` streams of the clips, `crops` questions of each kind a clip and stream."""
    manifest = engines.bundle.manifest
    encoder = ObjectEncoder(engines.backbone, manifest.network, frame_at=None, catalogue=None)
    asker, outcomes = Asker(manifest, engines.reader, encoder), Outcomes()
    tokens: dict[str, list[int]] = defaultdict(list)
    with progress(orders * len(clips)) as step:
        for order in range(orders):
            rng = np.random.default_rng([order, 7])
            stream = watch_clips(engines, [clips[i] for i in rng.permutation(len(clips))])
            for clip in sorted(stream.clips, key=lambda clip: clip.name):
                tokens[clip.name].append(len(stream.remembered_times(clip)))
                outcomes.clips += [clip.name] * crops
                outcomes.orders += [order] * crops
                for kind, cut in draw_crops(clip, stream, crops, rng).items():
                    shown = cut if change is None else [change(crop, rng) for crop in cut]
                    for method, found in find_clips(asker, encoder, stream, shown).items():
                        outcomes.right[method, kind] += [float(it is clip) for it in found]
                step(f"stream {order + 1}, {clip.name}")
    methods = {
        method: {kind: outcomes.interval(method, kind) for kind in ("near", "far")} for method in METHODS
    }
    return {
        **methods.pop("memory"),
        **methods,
        "tokens_per_clip": {
            "min": min(min(counts) for counts in tokens.values()),
            "of": {name: round(float(np.mean(counts)), 1) for name, counts in sorted(tokens.items())},
        },
        "chance": round(1 / len(clips), 3),
        "clips": len(clips),
        "orders": orders,
        "crops": crops,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIPS", help="videos or folders of videos")
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--crops", type=int, default=5, help="of each kind, clip and order")
    parser.add_argument("--longest", type=float, default=40.0, help="seconds of a clip that are used")
    changes = parser.add_mutually_exclusive_group()
    changes.add_argument(
        "--grey", action="store_const", const=make_grey, dest="change", help="crops without colour"
    )
    changes.add_argument(
        "--relight", action="store_const", const=relight, dest="change", help="in another light"
    )
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args(argv)
    started = time.perf_counter()
    engines = Engines.load(Bundle.open(arguments.bundle), arguments.backend, arguments.threads)
    clips = read_clips(arguments.clips, arguments.longest)
    result = measure(engines, clips, arguments.orders, arguments.crops, arguments.change)
    engines.close()
    rows = [
        [method, *(f"{of[kind]['value']:.3f} {of[kind]['interval']}" for kind in ("near", "far"))]
        for method, of in ((method, result if method == "memory" else result[method]) for method in METHODS)
    ]
    show(f"The right clip of {len(clips)}, by a crop", ["method", "near", "far"], rows)
    finish(result | {"seconds": round(time.perf_counter() - started)})
    return 0


if __name__ == "__main__":
    run_tool(main)
