"""What the memory is asked, and how its answers are judged."""

from types import SimpleNamespace

import pytest

from edge_runtime.query.answers import ActivityCandidate, Answer, Covered, SpanCandidate
from edge_runtime.query.schema import TimeQuery
from export.evaluation.catalogue import Moment
from export.evaluation.catalogue_ask import Question, ask_memory, draw_questions
from export.evaluation.catalogue_stream import CatalogueStream
from tests.support.products import product_folder

NAMES = ("scan", "bag", "weigh")
MOMENTS = (Moment(20.0, 28.0, "scan"), Moment(70.0, 76.0, "bag"))
PHOTO = Question("pear", 0, (b"photo",))


class Witness:
    """Answers as somebody who saw `moments`, and of each time that is not in one says "weigh"."""

    def __init__(self, moments, sure=0.9):
        self.moments, self.sure, self.asked = moments, sure, []

    def ask(self, query, version):
        return self.ask_all([query], version)[0]

    def ask_all(self, queries, version):
        self.asked += queries
        return [self._time(q) if isinstance(q, TimeQuery) else self._activity(q) for q in queries]

    def _time(self, query):
        found = [moment for moment in self.moments if query.activity in (None, moment.activity)]
        spans = [SpanCandidate(start=one.start, end=one.end, confidence=0.8) for one in found]
        wrong = SpanCandidate(start=40.0, end=44.0, confidence=0.3)
        return self._answer("time", confidence=self.sure if found else 0.1, spans=(*spans, wrong))

    def _activity(self, query):
        middle = (query.start + query.end) / 2
        done = next((moment.activity for moment in self.moments if moment.holds(middle)), "weigh")
        return self._answer("activity", activities=(ActivityCandidate(activity=done, confidence=0.7),))

    def _answer(self, kind, confidence=0.5, **parts):
        return Answer(
            type=kind, answer="", confidence=confidence, abstained=confidence < 0.2, trained=True,
            coverage=Covered(start=0.0, end=99.0), memory_version=1, milliseconds=1.0, **parts,
        )  # fmt: skip


def _judged(witness):
    return ask_memory(witness, PHOTO, MOMENTS, SimpleNamespace(version=None), NAMES)


def test_who_saw_it_all_is_right_in_everything():
    assert _judged(Witness(MOMENTS)) == {
        "recall_at_1": 1.0,
        "recall_at_5": 1.0,
        "time_given_activity": 1.0,
        "activity_at_moment": 1.0,
        "activity_in_found_span": 1.0,
        "answered": 1.0,
    }


def test_who_saw_nothing_is_wrong_in_everything():
    assert set(_judged(Witness(())).values()) == {0.0}


def test_half_of_the_moments_is_half_of_what_is_asked_of_each():
    judged = _judged(Witness(MOMENTS[:1]))
    assert judged["recall_at_1"] == 1.0, "any moment will do"
    assert judged["time_given_activity"] == judged["activity_at_moment"] == 0.5


def test_the_right_time_with_the_wrong_activity_is_no_full_answer():
    mistaken = (Moment(20.0, 28.0, "bag"),)
    judged = _judged(Witness(mistaken))
    assert judged["recall_at_1"] == 1.0
    assert judged["activity_in_found_span"] == 0.0 and judged["time_given_activity"] == 0.0


def test_times_are_asked_without_an_activity_with_each_and_without_a_window():
    witness = Witness(MOMENTS)
    _judged(witness)
    asked = [query for query in witness.asked if isinstance(query, TimeQuery)]
    assert [query.activity for query in asked] == [None, *NAMES]
    assert all(query.start is None and query.end is None for query in asked), "the truth must not leak"


@pytest.fixture
def stream(tmp_path):
    folder = product_folder(tmp_path, 2, photos=5)
    photos = {place.name: tuple(sorted(place.iterdir())) for place in folder.iterdir()}
    return CatalogueStream(None, 60.0, dict.fromkeys(photos, MOMENTS), photos, frozenset())


def test_the_one_photo_is_the_first_of_the_three(stream):
    one, three = (list(draw_questions(stream, count, draws=4, seed=1)) for count in (1, 3))
    assert [(q.product, q.draw) for q in one] == [(q.product, q.draw) for q in three]
    assert all(a.photos[0] == b.photos[0] for a, b in zip(one, three, strict=True))


def test_no_photo_is_shown_twice_in_one_question(stream):
    asked = list(draw_questions(stream, 3, draws=4, seed=1))
    assert all(len(set(question.photos)) == 3 for question in asked)
    assert len({question.photos for question in asked}) > 2, "draws differ"


def test_a_product_with_few_photos_is_asked_with_what_there_is(stream):
    assert {len(question.photos) for question in draw_questions(stream, 7, draws=1, seed=1)} == {5}
