"""Run a stream of the catalogue test: remember it, ask about it through the runtime's own interface, score
the answers.

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
from export.evaluation.stream_recording import RecordedStream, record_stream

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
        [lookup.make_photo_histogram([read_image(p) for p in question.photos]) for question in questions]
    )
    tokens = [
        [encoder.encode(Photos(photos=(photo,))) for photo in question.photos] for question in questions
    ]
    vectors = np.stack([lookup.pool_photos(photo_tokens) for photo_tokens in tokens])
    retained, times = remembered.version.memory.tokens(), remembered.times
    cells = remembered.features  # (F, 49, d)
    every = lookup.score_tokens(cells.reshape(-1, cells.shape[-1]), vectors)
    scores = {
        "histogram": lookup.score_histograms(remembered.histograms, colours),
        "backbone_windows": lookup.score_windows(cells, vectors),
        "backbone_tokens": every.reshape(len(vectors), *cells.shape[:2]).max(axis=2),
    }
    ranked = {name: [rank_times(row, times) for row in rows] for name, rows in scores.items()}
    by_token = lookup.score_tokens(retained.features, vectors)
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
