"""Run a stream of the catalogue test: remember it, ask about it through the runtime's own interface, score
the answers. Baselines without learning get what is recorded of the same frames: colour histograms and raw
backbone features, matched frame by frame.

Letters: F frames, W windows, G = 7 cells a side, n tokens, d width of a token, Q questions, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.imaging.decode import read_image
from edge_runtime.ingest.pipeline import Images, Ingest, batch_size
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import ActivityQuery, AnyQuery, Photos, TimeQuery
from edge_runtime.service.engine_pool import Engines
from edge_runtime.simulation.world import World
from engines.spec import Array, Engine, Feeds
from export.evaluation.catalogue import (
    Moment,
    Outcome,
    Place,
    rank_places,
    rank_times,
    score_chance,
    score_times,
)
from export.evaluation.catalogue_stream import CatalogueStream
from export.networks.positions import GRID

PHOTOS = (1, 3)
"""Numbers of photos of the product that the memory is asked with."""
BASELINES = ("histogram", "backbone_windows", "backbone_tokens", "backbone_remembered")


@dataclass(frozen=True)
class Question:
    """A product with the photos that the question shows."""

    product: str
    draw: int
    photos: tuple[bytes, ...]


def draw_questions(stream: CatalogueStream, count: int, draws: int, seed: int) -> Iterator[Question]:
    """Draw `draws` sets of up to `count` photos of each product, none of which the stream shows."""
    for product, files in sorted(stream.photos.items()):
        rng = np.random.default_rng([seed, *product.encode()])
        for draw in range(draws):
            # The same order for every `count`: the single photo is the first of the three.
            chosen = rng.permutation(len(files))[:count]
            yield Question(product, draw, tuple(files[i].read_bytes() for i in chosen))


def ask_memory(
    asker: Asker,
    question: Question,
    moments: Sequence[Moment],
    remembered: RecordedStream,
    names: Sequence[str],
) -> dict[str, float]:
    """Score the memory's answers: the time, and the activity."""
    photos, version = Photos(photos=question.photos), remembered.version
    queries: list[AnyQuery] = [TimeQuery(object=photos)]
    queries += [TimeQuery(activity=name, object=photos) for name in names]
    queries += [ActivityQuery(object=photos, start=moment.start, end=moment.end) for moment in moments]
    anything, *answers = asker.ask_all(queries, version)
    times = dict(zip(names, answers, strict=False))
    places = rank_places(anything)
    scores = score_times([place.centre for place in places], moments)
    done = [answer.activities[0].activity if answer.activities else "" for answer in answers[len(names) :]]
    right = [
        bool(spans) and moment.holds((spans[0].start + spans[0].end) / 2)
        for moment in moments
        for spans in [times[moment.activity].spans]
    ]
    return scores | {
        "time_given_activity": float(np.mean(right)),
        "activity_at_moment": float(np.mean([a == b.activity for a, b in zip(done, moments, strict=True)])),
        "activity_in_found_span": _score_first_span(asker, photos, places, moments, remembered),
        "answered": float(bool(places) and not anything.abstained),
    }


def _score_first_span(
    asker: Asker,
    photos: Photos,
    places: Sequence[Place],
    moments: Sequence[Moment],
    remembered: RecordedStream,
) -> float:
    """Score whether the first place is right and the memory names the activity there."""
    if not places:
        return 0.0
    first = places[0]
    query = ActivityQuery(object=photos, start=max(first.start - 1, 0.0), end=first.end + 1)
    answer = asker.ask(query, remembered.version)
    named = answer.activities[0].activity if answer.activities else ""
    return float(any(moment.holds(first.centre) and moment.activity == named for moment in moments))


def rank_by_baselines(
    encoder: ObjectEncoder, questions: Sequence[Question], remembered: RecordedStream
) -> dict[str, list[list[float]]]:
    """Rank the times of the stream for each baseline and question, best first."""
    colours = np.stack(
        [make_photo_histogram([read_image(p) for p in question.photos]) for question in questions]
    )
    tokens = [
        [encoder.encode(Photos(photos=(photo,))) for photo in question.photos] for question in questions
    ]
    vectors = np.stack([pool_photos(photo_tokens) for photo_tokens in tokens])
    retained, times = remembered.version.memory.tokens(), remembered.times
    cells = remembered.features  # (F, 49, d)
    every = score_tokens(cells.reshape(-1, cells.shape[-1]), vectors)
    scores = {
        "histogram": score_histograms(remembered.histograms, colours),
        "backbone_windows": score_windows(cells, vectors),
        "backbone_tokens": every.reshape(len(vectors), *cells.shape[:2]).max(axis=2),
    }
    ranked = {name: [rank_times(row, times) for row in rows] for name, rows in scores.items()}
    by_token = score_tokens(retained.features, vectors)
    ranked["backbone_remembered"] = [rank_times(row, retained.tick / TICKS_PER_SECOND) for row in by_token]
    return ranked


def evaluate_stream(engines: Engines, stream: CatalogueStream, number: int, draws: int) -> list[Outcome]:
    """Remember a stream, ask about it and score the answers."""
    manifest = engines.bundle.manifest
    encoder = ObjectEncoder(engines.backbone, manifest.network.image_size, frame_at=None, catalogue=None)
    asker, names = Asker(manifest, engines.reader, encoder), [activity.name for activity in manifest.classes]
    remembered = record_stream(engines, stream.world, stream.seconds)
    by_lot = {
        product: score_chance(remembered.times, moments, seed=number)
        for product, moments in stream.moments.items()
    }
    outcomes = []
    for count in PHOTOS:
        questions = list(draw_questions(stream, count, draws, number))
        looked = rank_by_baselines(encoder, questions, remembered)
        for i, question in enumerate(questions):
            moments = stream.moments[question.product]
            scores = {"memory": ask_memory(asker, question, moments, remembered, names)}
            scores |= {name: score_times(looked[name][i], moments) for name in BASELINES}
            scores["chance"] = by_lot[question.product]
            outcomes.append(
                Outcome(
                    stream=number,
                    product=question.product,
                    draw=question.draw,
                    photos=count,
                    closeup=question.product in stream.closeups,
                    scores=scores,
                )
            )
    return outcomes


Real = NDArray[np.float32]


@dataclass(frozen=True)
class RecordedStream:
    """`version` is all that a question reads; the rest was recorded frame by frame, at `times` (F,)."""

    version: Version
    times: NDArray[np.float64]  # (F,)
    features: Real  # (F, 49, d)
    histograms: Real  # (F, 49, B)


class _TokenRecorder(Engine):
    """Runs the backbone and records its tokens: frames are encoded once for all methods."""

    def __init__(self, backbone: Engine) -> None:
        self.backend, self.inputs, self.outputs = backbone.backend, backbone.inputs, backbone.outputs
        self._backbone = backbone
        self.features: list[Real] = []

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        outputs = self._backbone(feeds)
        self.features.append(outputs["tokens"].astype(np.float32))
        return outputs


@dataclass
class _WorldFrames:
    """Frames of a world, in the batches of the runtime, and their colour histograms."""

    world: World
    size: int
    clip_frames: int
    times: NDArray[np.float64]
    histograms: list[Real] = field(default_factory=list)

    def batches(self) -> Iterator[tuple[Images, list[float]]]:
        """Yield pictures (B, S, S, 3) with their times, split where the runtime splits them."""
        start = 0
        while start < len(self.times):
            stop = min(start + batch_size(start % self.clip_frames, self.clip_frames), len(self.times))
            times = [float(t) for t in self.times[start:stop]]
            images = np.stack([self.world.frame(t, (self.size, self.size)) for t in times])
            self.histograms += [make_cell_histograms(image) for image in images]
            yield images, times
            start = stop


def record_stream(
    engines: Engines, world: World, seconds: float, *, sampler: str = "neural"
) -> RecordedStream:
    """Ingest the first `seconds` of `world` at the bundle's rate, as `lvm-edge run` does."""
    network = engines.bundle.manifest.network
    times = np.arange(round(seconds * network.sample_fps)) / network.sample_fps
    film = _WorldFrames(world, network.image_size, network.clip_frames, times)
    backbone = _TokenRecorder(engines.backbone)
    ingest = Ingest(network, backbone, make_sampler(sampler, engines.sampler), empty_version(network))
    try:
        for _ in ingest.stream(film.batches()):
            pass
    finally:
        ingest.close()
    return RecordedStream(ingest.version, times, np.concatenate(backbone.features), np.stack(film.histograms))


Image = NDArray[np.uint8]

_HUES, _SATURATIONS, _VALUES = 12, 4, 4
BINS = _HUES * _SATURATIONS * _VALUES
_MIDDLE = 0.75
"""Share of a photo's sides whose colours count: people put the product in the middle."""
_BATCH_FRAMES = 64


def make_cell_histograms(image: Image) -> Real:
    """Count the pixels of each colour (hue, saturation, value) in each cell of (S, S, 3) RGB. (49, B)"""
    code, size = _encode_colours(image), image.shape[0]
    cell = np.arange(size) * GRID // size
    flat = (cell[:, None] * GRID + cell[None]) * BINS + code
    counts = np.bincount(flat.ravel(), minlength=GRID * GRID * BINS)
    return np.asarray(counts.reshape(GRID * GRID, BINS), np.float32)


def make_photo_histogram(photos: Sequence[Image]) -> Real:
    """Return the mean colour histogram of the middles of photos (H, W, 3), ready for
    `score_histograms`. (B,)"""
    histograms = [
        np.bincount(_encode_colours(_cut_middle(photo)).ravel(), minlength=BINS) for photo in photos
    ]
    mean = np.mean([counts / counts.sum() for counts in histograms], axis=0)
    return np.asarray(np.sqrt(mean), np.float32)


def score_histograms(cells: Real, queries: Real) -> Real:
    """Return the best Bhattacharyya coefficient of each of `queries` (Q, B) with any window of a frame.

    cells (F, 49, B) -> (Q, F)
    """
    return _score_best_windows(cells, queries, lambda sums: np.sqrt(sums / sums.sum(axis=-1, keepdims=True)))


def score_windows(cells: Real, queries: Real) -> Real:
    """Return the best cosine of each of `queries` (Q, d) with the mean of any window of a frame: (F, 49, d)
    -> (Q, F)."""
    return _score_best_windows(cells, normalise(queries), normalise)


def score_tokens(tokens: Real, queries: Real) -> Real:
    """Return the cosine of each of `queries` (Q, d) with each of `tokens` (n, d). (Q, n)"""
    return np.asarray(normalise(queries) @ normalise(tokens).T, np.float32)


def pool_photos(photo_tokens: Sequence[Real]) -> Real:
    """Pool several photos' tokens (49, d) into a vector: the mean of their directions. (d,)"""
    return np.asarray(
        np.mean([normalise(tokens.mean(axis=0)) for tokens in photo_tokens], axis=0), np.float32
    )


def normalise(x: Real) -> Real:
    """Scale `x` to length 1 along its last axis."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9), np.float32)


def sum_windows(cells: Real) -> Real:
    """Sum over all square windows of 1 to 7 cells a side: (F, 49, d) -> (F, W, d), W = 140."""
    grid = cells.reshape(len(cells), GRID, GRID, -1)
    total = np.zeros((len(cells), GRID + 1, GRID + 1, grid.shape[-1]), np.float64)
    total[:, 1:, 1:] = grid.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    sums = []
    for side in range(1, GRID + 1):
        window = total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side]
        window += total[:, :-side, :-side]
        sums.append(window.reshape(len(cells), -1, grid.shape[-1]))
    return np.concatenate(sums, axis=1).astype(np.float32)


def _score_best_windows(cells: Real, queries: Real, normalised: Callable[[Real], Real]) -> Real:
    best = np.empty((len(queries), len(cells)), np.float32)
    for start in range(0, len(cells), _BATCH_FRAMES):
        some = slice(start, start + _BATCH_FRAMES)
        windows = normalised(sum_windows(cells[some]))  # (f, W, d)
        similar = windows.reshape(-1, windows.shape[-1]) @ queries.T  # (f * W, Q)
        best[:, some] = similar.reshape(len(windows), -1, len(queries)).max(axis=1).T
    return best


def _encode_colours(image: Image) -> NDArray[np.intp]:
    """Return the bin of each pixel. (H, W)"""
    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV_FULL).astype(np.intp)
    # Pure red, green and blue lie in the middle of a bin, not on its edge.
    hue = (hsv[..., 0] * _HUES + 128) // 256 % _HUES
    saturation, value = hsv[..., 1] * _SATURATIONS // 256, hsv[..., 2] * _VALUES // 256
    return np.asarray((hue * _SATURATIONS + saturation) * _VALUES + value)


def _cut_middle(photo: Image) -> Image:
    height, width = photo.shape[:2]
    y, x = round(height * (1 - _MIDDLE) / 2), round(width * (1 - _MIDDLE) / 2)
    return photo[y : height - y, x : width - x]
