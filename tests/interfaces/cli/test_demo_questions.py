"""The demo knows what happened, and judges answers by it."""

from __future__ import annotations

import pytest

from edge_runtime.interfaces.cli.demo_questions import DemoQuestion, make_demo_questions
from edge_runtime.query.answers import ActivityCandidate, Answer, Covered, SpanCandidate, TimedBox
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.sources.demo import parse_demo


@pytest.fixture(scope="module")
def questions() -> list[DemoQuestion]:
    return make_demo_questions("demo", 300.0)


def _answer(kind: str, **parts: object) -> Answer:
    return Answer.model_validate(
        {
            "type": kind,
            "answer": "",
            "confidence": 0.5,
            "abstained": False,
            "coverage": Covered(start=0.0, end=300.0),
            "trained": True,
            "memory_version": 1,
            "milliseconds": 1.0,
            **parts,
        }
    )


def test_one_question_of_each_kind(questions: list[DemoQuestion]) -> None:
    assert [question.query.type for question in questions] == ["activity", "object", "time"]


def test_only_the_true_activity_is_right(questions: list[DemoQuestion]) -> None:
    verdicts = {
        name: questions[0].is_right(
            _answer("activity", activities=(ActivityCandidate(activity=name, confidence=1.0),))
        )
        for name in (activity.name for activity in ACTIVITIES)
    }
    assert [name for name, right in verdicts.items() if right] == [questions[0].truth]


def test_a_span_must_overlap_by_more_than_three_tenths(questions: list[DemoQuestion]) -> None:
    start, end = (float(word) for word in questions[2].truth.removesuffix(" s").split(" to "))
    for share, right in ((0.35, True), (0.25, False)):
        span = SpanCandidate(start=start, end=start + share * (end - start), confidence=1.0)
        assert questions[2].is_right(_answer("time", spans=(span,))) is right


def test_boxes_are_compared_where_the_product_was(questions: list[DemoQuestion]) -> None:
    start, end = questions[1].query.start, questions[1].query.end
    assert start is not None and end is not None
    world = parse_demo("demo").make_world()
    tracks = [
        (t / 5, track.box)
        for t in range(round(start * 5), round(end * 5))
        for track in world.truth(t / 5).active
    ]
    true = tuple(TimedBox(t=t, box=box) for t, box in tracks)
    elsewhere = tuple(TimedBox(t=t, box=(0.0, 0.0, 0.01, 0.01)) for t, _ in tracks)
    assert questions[1].is_right(_answer("object", boxes=true))
    assert not questions[1].is_right(_answer("object", boxes=elsewhere))
    assert not questions[1].is_right(_answer("object"))
