"""Evaluation on a small video: what is asked, what is recorded, and that it is what the runtime answers."""

import numpy as np
import pytest

from edge_runtime.query.executor import Asker
from edge_runtime.query.schema import ActivityQuery, ObjectQuery, TimeQuery
from engines.errors import LvmError
from engines.fake import FakeEngine
from engines.manifest import Scaling, Thresholds
from export.evaluation.controls import make_control_sampler
from export.evaluation.evaluate import (
    CachedObjects,
    Setting,
    evaluate,
    evaluate_video,
    find_object_tokens,
    to_query,
)
from export.evaluation.results import Result
from export.evaluation.stream_run import Model, build_memory
from tests.support.evaluation_videos import CORNERS, FRAMES, cache, model, queries, query

NAMES = ("scan", "bag", "inspect")


def by_qid(results: list[Result]) -> dict[str, Result]:
    return {result.qid: result for result in results}


def knowing(**outputs: np.ndarray) -> Model:
    """A model whose reader knows the answers: outputs of one row, repeated, in place of its own."""
    one = model()

    def read(feeds):  # type: ignore[no-untyped-def]
        found = one.reader(feeds)
        rows = len(feeds["activity"])
        return found | {name: np.repeat(array[None], rows, 0) for name, array in outputs.items()}

    reader = FakeEngine(read, one.reader.inputs, one.reader.outputs)
    return Model(one.manifest, one.backbone, one.sampler, reader)


def test_a_query_becomes_the_question_that_a_person_would_ask() -> None:
    activity, thing, time = (to_query(query(kind), NAMES) for kind in ("activity", "object", "time"))
    assert isinstance(activity, ActivityQuery) and (activity.start, activity.end) == (10, 16)
    assert isinstance(thing, ObjectQuery) and (thing.activity, thing.start) == ("scan", 10)
    assert isinstance(time, TimeQuery) and (time.activity, time.start, time.end) == ("scan", 0, FRAMES)


def test_every_query_has_one_result_and_every_event_its_evidence() -> None:
    found = evaluate(model(), [cache()], queries(), Setting(seed=3))
    assert [result.qid for result in found.results] == [query.qid for query in queries()]
    assert {result.seed for result in found.results} == {3}
    assert [(event.video, event.event) for event in found.events] == [("v", 0), ("v", 1)]


def test_results_are_those_of_the_answers_that_a_device_gives() -> None:
    one, video, asked = model(), cache(), queries()
    sampler = make_control_sampler("neural", one.sampler, video, one.network.memory_tokens)
    asker = Asker(one.manifest, one.reader, CachedObjects(video, asked, {}))
    version = build_memory(one, video, sampler)
    found = by_qid(evaluate_video(one, video, asked, Setting()).results)
    answer = asker.ask(to_query(asked[0], NAMES), version)
    first = answer.activities[0].activity if answer.activities else None
    assert found[asked[0].qid].hit1 == float(first == "scan")
    answer = asker.ask(to_query(query("time"), NAMES), version)
    assert found["time-0"].spans["pointer"].confidence == pytest.approx(answer.spans[0].confidence)


def test_equal_inputs_give_equal_results() -> None:
    assert evaluate(model(), [cache()], queries(), Setting()) == evaluate(
        model(), [cache()], queries(), Setting()
    )


def test_an_activity_is_hit_where_it_is_among_the_first() -> None:
    one = knowing(activity_logits=np.float32([2.0, 1.0, 0.0]))
    found = by_qid(evaluate(one, [cache()], queries(), Setting(sampler="oracle")).results)
    assert (found["activity-0"].hit1, found["activity-1"].hit1) == (1, 0)
    assert found["activity-1"].hit3 == 1 and found["activity-0"].class_logits == (2, 1, 0)


def test_boxes_are_compared_with_the_true_ones() -> None:
    one = knowing(boxes_cxcywh=np.tile(np.float32([0.125, 0.125, 0.25, 0.25]), (8, 1)))
    found = by_qid(evaluate(one, [cache()], queries(), Setting(sampler="oracle")).results)
    assert found["object-0"].viou == pytest.approx(1.0) and found["object-1"].viou == 0


def test_both_heads_are_compared_with_the_true_time() -> None:
    n = model().network.reader_tokens
    offsets = np.zeros((n, 2), np.float32)
    offsets[:, 1] = 1.0
    start, end = np.full((2, 8), -50, np.float32)
    start[1], end[2] = 50, 50  # of 8 steps over 46 s: 6.6 to 19.7 s
    one = knowing(pointer_offsets=offsets, start_logits=start, end_logits=end)
    found = by_qid(evaluate(one, [cache()], queries(), Setting(sampler="oracle")).results)["time-0"]
    bins, pointer = found.spans["bins"].tiou, found.spans["pointer"].tiou
    assert bins == pytest.approx(6 / 13.2, abs=0.02)
    assert pointer in (0, pytest.approx(1 / 6))


def test_a_negative_has_a_presence_but_no_score() -> None:
    found = by_qid(evaluate(model(), [cache()], queries(), Setting(sampler="random")).results)
    for kind in ("activity", "object", "time"):
        one = found[f"never-{kind}"]
        assert not one.happened and one.score() is None and one.evidence is None
        assert one.presence_logit is not None or one.abstained
    assert all(one.score() is not None for one in found.values() if one.happened)


def test_abstained_answers_are_scored_by_what_they_would_have_said() -> None:
    shy = Thresholds(presence=1.0, presence_scaling=Scaling(a=0.0, b=0.0))
    one = model()
    manifest = one.manifest.model_copy(update={"thresholds": shy})
    silent = Model(manifest, one.backbone, one.sampler, one.reader)
    told, untold = (evaluate(m, [cache()], queries(), Setting()).results for m in (one, silent))
    assert all(result.abstained for result in untold)
    assert [result.score() for result in told] == [result.score() for result in untold]


def test_of_what_is_not_remembered_nothing_is_found() -> None:
    blank = model(memory_tokens=4, recency_tokens=0)
    found = by_qid(
        evaluate(blank, [cache(memory_tokens=4, recency_tokens=0)], queries(), Setting("fifo")).results
    )
    one = found["activity-0"]
    assert one.abstained and one.presence_logit is None and (one.hit1, one.evidence) == (0, 0)
    assert found["time-0"].evidence == 0 and found["object-0"].viou == 0


def test_the_oracle_has_more_evidence_than_the_newest_tokens() -> None:
    counts = {
        name: sum(event.evidence for event in evaluate(model(), [cache()], [], Setting(name)).events)
        for name in ("oracle", "fifo")
    }
    assert counts == {"oracle": 20, "fifo": 0}


def test_a_memory_by_score_is_that_of_a_network_that_does_not_spread_its_own() -> None:
    """All tokens are relevant to this sampler, and the later ones most."""
    seconds = {}
    for spread in (True, False):
        one = model(spread=spread)
        feeds = one.sampler.inputs

        def judge(feeds):  # type: ignore[no-untyped-def]
            return {"score": 1 + np.arange(feeds["cell"].shape[1], dtype=np.float32)[None]}

        one = Model(one.manifest, one.backbone, FakeEngine(judge, feeds, one.sampler.outputs), one.reader)
        for way in (one, one.with_best_scores()):
            for order in ("stream", "random"):
                version = build_memory(
                    way, cache(), make_control_sampler("neural", way.sampler, cache(), 20), order
                )
                seconds[spread, way is one, order] = len(set(version.memory.tick.tolist()))
    for order in ("stream", "random"):
        by_score = seconds[False, True, order]
        assert by_score == seconds[False, False, order] == seconds[True, False, order]
        assert seconds[True, True, order] == 20 > by_score


def test_a_query_blind_reader_does_not_know_what_is_asked_about() -> None:
    asked = [query("activity", f"{instance}", t_s=0.0, t_e=46.0, instance=instance) for instance in (0, 1)]
    seeing, blind = (
        [result.class_logits for result in evaluate(model(), [cache()], asked, setting).results]
        for setting in (Setting(), Setting(blind="query"))
    )
    assert seeing[0] != seeing[1] and blind[0] == blind[1]


def test_a_memory_blind_reader_answers_alike_whatever_is_remembered() -> None:
    asked = [query("activity", t_s=0.0, t_e=46.0)]
    logits = [
        evaluate(model(), [cache()], asked, Setting(name, blind="memory")).results[0].class_logits
        for name in ("oracle", "random")
    ]
    # Ticks are counted from the oldest token, so even a blind reader's steps lie a little elsewhere.
    assert logits[0] is not None and logits[0] == pytest.approx(logits[1], abs=1e-3)


def test_an_object_is_the_cached_photo_that_its_view_names() -> None:
    video = cache()
    assert (find_object_tokens(video, query("time"), {}) == video.objects[0, 4 % 3]).all()
    own = np.ones((49, 16), np.float32)
    assert (find_object_tokens(video, query("time"), {"time-0": own}) == 1).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"video": "w"}, "no cached video for the queries about w"),
        ({"instance": 7}, "is about instance 7, v has 2"),
        ({"crop": {"path": "photo.png"}}, "shows no product photo: give its object's tokens"),
        ({"activities": (9,)}, r"must name one of 3 activities, got \[9\]"),
    ],
)
def test_what_cannot_be_asked_is_said(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(LvmError, match=said):
        evaluate(model(), [cache()], [query("time", **wrong)], Setting())


def test_the_corners_are_where_the_truth_says() -> None:
    ticks, boxes = cache().truth.select_boxes(0)
    assert ticks[0] == 50 and boxes[0] == pytest.approx(CORNERS[0])
