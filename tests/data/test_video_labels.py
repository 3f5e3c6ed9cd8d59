"""What happened in one video, as arrays."""

import numpy as np
import pytest

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from export.data.metrics import is_evidence, make_event_tubes
from export.data.records import EventRecord, TrackRecord
from export.data.video_labels import VideoTruth
from export.data.world_set import make_world_events, make_world_tracks, make_world_video, open_world
from tests.support.training_models import make_truth

SECONDS = 30.0


@pytest.fixture(scope="module")
def world():
    """Six short events a minute and nothing else to see."""
    plain = dict(facings=0, parked=0, walkers=0, advert=False)
    return World(WorldConfig(seed=3, events_per_minute=6, event_seconds=(4.0, 6.0), instances=6, **plain))


@pytest.fixture(scope="module")
def truth(world):
    return VideoTruth.from_world(world, SECONDS)


def test_events_of_a_world_are_those_that_lie_within_it(world, truth):
    whole = [one for one in world.events(0, SECONDS) if one.start >= 0 and one.end <= SECONDS]
    assert len(truth) == len(whole) > 1
    for number, event in enumerate(whole):
        assert (truth.activity[number], truth.instance[number]) == (event.activity, event.instance)
        assert abs(truth.start[number] / 5 - event.start) <= 0.1
        assert abs(truth.end[number] / 5 - event.end) <= 0.1


def test_boxes_of_a_world_are_the_worlds_own(world, truth):
    for number in range(len(truth)):
        ticks, boxes = truth.select_boxes(number)
        assert len(ticks) > 5
        for tick, box in list(zip(ticks, boxes, strict=True))[::7]:
            active = {one.instance: one.box for one in world.truth(tick / 5).active}
            np.testing.assert_allclose(box, active[truth.instance[number]], atol=1e-6)


def test_boxes_lie_in_their_events(truth):
    event = truth.box_event
    assert (truth.box_tick >= truth.start[event]).all() and (truth.box_tick < truth.end[event]).all()
    assert (np.diff(event) >= 0).all()


def test_a_world_is_learned_from_as_a_data_folder_would_have_it():
    """Wrong names and missing boxes are the very same, whichever way a training comes to a world."""
    video = make_world_video(3, minutes=5, knobs={"label_noise": 0.4, "missing_boxes": 0.3, "concurrent": 3})
    world = open_world(video)
    said = VideoTruth.from_world(world, 300.0, annotated=True)
    events = [one for one in make_world_events(video, world) if one.t_e < 299.9]
    written = VideoTruth.from_records(events, list(make_world_tracks(video, world)))
    assert len(said) == len(written) > 10 and len(said.box) == len(written.box)
    for name, value in vars(said).items():
        np.testing.assert_allclose(value, getattr(written, name), atol=1e-5)
    right = VideoTruth.from_world(world, 300.0)
    wrong = (said.activity != right.activity).mean()
    assert 0.15 < wrong < 0.65 and 0.6 < len(said.box) / len(right.box) < 0.8
    assert np.array_equal(said.instance, right.instance) and np.array_equal(said.start, right.start)


def test_a_world_without_such_knobs_is_written_down_as_it_is(world, truth):
    written = VideoTruth.from_world(world, SECONDS, annotated=True)
    assert all(np.array_equal(value, getattr(truth, name)) for name, value in vars(written).items())


def records(*, missing=()):
    events = [
        EventRecord(video="v", event="b", activity=1, instance=5, t_s=4.0, t_e=6.0),
        EventRecord(video="v", event="a", activity=0, instance=2, t_s=1.0, t_e=3.0),
    ]
    tracks = [
        TrackRecord(
            video="v",
            instance=instance,
            category="cup",
            tick5=tick,
            box=(0.1 * instance, 0.0, 0.1 * instance + 0.2, 0.2),
            active=int(first <= tick < last),
        )
        for instance, first, last in ((2, 5, 15), (5, 20, 30))
        for tick in range(40)
        if tick not in missing
    ]
    return events, tracks


def test_annotations_become_the_same_arrays_in_order_of_time():
    truth = VideoTruth.from_records(*records())
    assert truth.instance.tolist() == [2, 5] and truth.activity.tolist() == [0, 1]
    assert list(zip(truth.start.tolist(), truth.end.tolist(), strict=True)) == [(5, 15), (20, 30)]
    assert truth.select_boxes(1)[0].tolist() == list(range(20, 30))
    np.testing.assert_allclose(truth.select_boxes(1)[1][0], (0.5, 0.0, 0.7, 0.2), atol=1e-6)


def test_missing_boxes_are_missing():
    truth = VideoTruth.from_records(*records(missing=(20, 21, 29)))
    assert truth.select_boxes(1)[0].tolist() == list(range(22, 29))


def test_an_event_without_any_box_is_still_an_event():
    truth = VideoTruth.from_records(records()[0], [])
    assert len(truth) == 2 and not len(truth.select_boxes(0)[0])
    assert truth.find_evidence([5, 20], [0, 3]).tolist() == [-1, -1]


def test_a_video_in_which_nothing_happens():
    truth = VideoTruth.from_records([], [])
    assert len(truth) == 0 and truth.find_evidence([0, 5], [0, 1]).tolist() == [-1, -1]


def test_evidence_is_what_the_metric_counts():
    """One definition of evidence for training and for coverage."""
    events, tracks = records()
    truth = VideoTruth.from_records(events, tracks)
    tick, cell = np.repeat(np.arange(40), 49), np.tile(np.arange(49), 40)
    found = np.bincount(truth.find_evidence(tick, cell) + 1, minlength=3)[1:]
    tubes = make_event_tubes(sorted(events, key=lambda one: one.t_s), tracks)
    assert found.tolist() == [is_evidence(tube, tick, cell).sum() for tube in tubes]
    assert found.min() > 0


def test_evidence_of_two_events_at_once_is_of_the_later():
    truth = make_truth((0, 0, 10, 30), (1, 1, 20, 40))
    assert truth.find_evidence([12, 22, 35, 45], [0] * 4).tolist() == [0, 1, 1, -1]


def test_a_token_beside_the_product_is_no_evidence():
    truth = make_truth((0, 0, 10, 30))  # the upper left fifth
    assert truth.find_evidence([15] * 4, [0, 1, 8, 48]).tolist() == [0, 0, -1, -1]


def test_a_moment_of_an_event_has_its_box(truth):
    for number in range(len(truth)):
        ticks, boxes = truth.select_boxes(number)
        told = truth.boxes_at(np.full(len(ticks), number), ticks)
        np.testing.assert_allclose(told[:, :2] - told[:, 2:] / 2, boxes[:, :2], atol=1e-6)
        np.testing.assert_allclose(told[:, :2] + told[:, 2:] / 2, boxes[:, 2:], atol=1e-6)


def test_where_nothing_is_annotated_there_is_no_box():
    truth = VideoTruth.from_records(*records(missing=(7,)))
    told = truth.boxes_at([0, 0, 0, -1, 1, 1, 0], [5, 7, 4, 6, 5, 29, 10**9])
    assert told.any(1).tolist() == [True, False, False, False, False, True, False]
    assert not VideoTruth.from_records([], []).boxes_at([0, -1], [5, 5]).any()


def test_truth_comes_back_from_disk(truth, tmp_path):
    truth.save(tmp_path / "truth.npz")
    found = VideoTruth.load(tmp_path / "truth.npz")
    for name, value in vars(truth).items():
        other = getattr(found, name)
        assert other.dtype == value.dtype and np.array_equal(other, value)
