"""One stream of the catalogue test: remembered, asked about through the runtime's own door, and judged.

Letters: F frames, n tokens, d width of a token, Q questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.frame import TICKS_PER_SECOND
from edge_runtime.imaging.decode import read_image
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import ActivityQuery, AnyQuery, Photos, TimeQuery
from edge_runtime.service.engine_pool import Engines
from export.evaluation import histogram_baseline as lookup
from export.evaluation.catalogue import Moment, Outcome, Place, chance, ranked, recalls, times_by_score
from export.evaluation.catalogue_stream import CatalogueStream
from export.evaluation.stream_recording import Remembered, remember

PHOTOS = (1, 3)
"""With how many photos of the product at once the memory is asked."""
BASELINES = ("histogram", "backbone_windows", "backbone_tokens", "backbone_remembered")


@dataclass(frozen=True)
class Question:
    """A product with the photos that are shown to the memory."""

    product: str
    draw: int
    photos: tuple[bytes, ...]


def questions(stream: CatalogueStream, count: int, draws: int, seed: int) -> Iterator[Question]:
    """`draws` sets of up to `count` photos of each product, none of which the stream shows."""
    for product, files in sorted(stream.photos.items()):
        rng = np.random.default_rng([seed, *product.encode()])
        for draw in range(draws):
            # The same order for every `count`: the one photo is the first of the three.
            chosen = rng.permutation(len(files))[:count]
            yield Question(product, draw, tuple(files[i].read_bytes() for i in chosen))


def ask_memory(
    asker: Asker, question: Question, moments: Sequence[Moment], remembered: Remembered, names: Sequence[str]
) -> dict[str, float]:
    """The memory's answers judged: when it was, and what was done."""
    wanted, version = Photos(photos=question.photos), remembered.version
    asked: list[AnyQuery] = [TimeQuery(object=wanted)]
    asked += [TimeQuery(activity=name, object=wanted) for name in names]
    asked += [ActivityQuery(object=wanted, start=one.start, end=one.end) for one in moments]
    anything, *answers = asker.ask_all(asked, version)
    times = dict(zip(names, answers, strict=False))
    places = ranked(anything)
    found = recalls([place.centre for place in places], moments)
    done = [one.activities[0].activity if one.activities else "" for one in answers[len(names) :]]
    given = [
        bool(spans) and one.holds((spans[0].start + spans[0].end) / 2)
        for one in moments
        for spans in [times[one.activity].spans]
    ]
    return found | {
        "time_given_activity": float(np.mean(given)),
        "activity_at_moment": float(np.mean([a == b.activity for a, b in zip(done, moments, strict=True)])),
        "activity_in_found_span": _activity_found(asker, wanted, places, moments, remembered),
        "answered": float(bool(places) and not anything.abstained),
    }


def _activity_found(
    asker: Asker, wanted: Photos, places: Sequence[Place], moments: Sequence[Moment], remembered: Remembered
) -> float:
    """Whether the first place is right and the memory says what was done there."""
    if not places:
        return 0.0
    first = places[0]
    query = ActivityQuery(object=wanted, start=max(first.start - 1, 0.0), end=first.end + 1)
    answer = asker.ask(query, remembered.version)
    said = answer.activities[0].activity if answer.activities else ""
    return float(any(one.holds(first.centre) and one.activity == said for one in moments))


def look_up(
    encoder: ObjectEncoder, asked: Sequence[Question], remembered: Remembered
) -> dict[str, list[list[float]]]:
    """For each baseline and question the moments of the stream, the best first."""
    colours = np.stack([lookup.photo_histogram([read_image(p) for p in one.photos]) for one in asked])
    tokens = [[encoder.encode(Photos(photos=(photo,))) for photo in one.photos] for one in asked]
    vectors = np.stack([lookup.pooled(one) for one in tokens])
    kept, times = remembered.version.memory.tokens(), remembered.times
    cells = remembered.features  # (F, 49, d)
    every = lookup.token_scores(cells.reshape(-1, cells.shape[-1]), vectors)
    scores = {
        "histogram": lookup.histogram_scores(remembered.histograms, colours),
        "backbone_windows": lookup.window_scores(cells, vectors),
        "backbone_tokens": every.reshape(len(vectors), *cells.shape[:2]).max(axis=2),
    }
    found = {name: [times_by_score(one, times) for one in rows] for name, rows in scores.items()}
    by_token = lookup.token_scores(kept.features, vectors)
    found["backbone_remembered"] = [times_by_score(one, kept.tick / TICKS_PER_SECOND) for one in by_token]
    return found


def outcomes_of(engines: Engines, stream: CatalogueStream, number: int, draws: int) -> list[Outcome]:
    """One stream remembered, asked about and judged."""
    manifest = engines.bundle.manifest
    encoder = ObjectEncoder(engines.backbone, manifest.network.image_size, frame_at=None, catalogue=None)
    asker, names = Asker(manifest, engines.reader, encoder), [one.name for one in manifest.classes]
    remembered = remember(engines, stream.world, stream.seconds)
    by_lot = {
        product: chance(remembered.times, moments, seed=number) for product, moments in stream.moments.items()
    }
    found = []
    for count in PHOTOS:
        asked = list(questions(stream, count, draws, number))
        looked = look_up(encoder, asked, remembered)
        for i, one in enumerate(asked):
            moments = stream.moments[one.product]
            scores = {"memory": ask_memory(asker, one, moments, remembered, names)}
            scores |= {name: recalls(looked[name][i], moments) for name in BASELINES}
            scores["chance"] = by_lot[one.product]
            found.append(
                Outcome(
                    stream=number,
                    product=one.product,
                    draw=one.draw,
                    photos=count,
                    closeup=one.product in stream.closeups,
                    scores=scores,
                )
            )
    return found
