"""The detection task: regions and labels of a video, average precision, heads that learn what they can."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from engines.errors import LvmError
from engines.manifest import ActivityClass
from export.data.files import DataFolder
from export.data.records import Classes, NamedActivity, TrackRecord, Video
from export.evaluation.bootstrap import Plan
from export.papers.detection.average_precision import (
    Ranking,
    mean_ap_gain_interval,
    mean_ap_interval,
    score_video,
)
from export.papers.detection.bank import NewestRows, WindowRows
from export.papers.detection.clips import ClipRule, make_region_video, pool_regions
from export.papers.detection.head import DetectionHead, HeadRecipe, MemoryPart
from export.papers.detection.region_tokens import RegionTokens, fit_region_tokens, replace_regions
from export.papers.detection.train import evaluate_head, predict, train_head
from tests.support.detection_videos import ACTIVITIES, REGIONS, WIDTH, assert_knows_only_the_past, toy_video
from tests.support.evaluation_videos import CORNERS, EVENTS, cache, network_config
from tests.support.tracks import make_tracks

IDLE = (0.4, 0.4, 0.6, 0.6)


def _track(instance, tick, box, active=0):
    return TrackRecord(video="v", instance=instance, category="", tick5=tick, box=box, active=active)


def labelled(tmp_path, idle=(2,)):
    """The little labelled video of evaluation as a data folder, with products that nobody touches."""
    tracks = [
        _track(one.instance, tick, CORNERS[one.instance], 1)
        for one in EVENTS
        for tick in range(round(one.t_s * 5), round(one.t_e * 5))
    ]
    tracks += [_track(number, tick, IDLE) for number in idle for tick in range(0, 230, 5)]
    names = tuple(NamedActivity(id=i, name=f"a{i}", doing="doing") for i in range(2))
    video = Video(video="v", path="v.mp4", fps=5, width=64, height=64, duration_s=46, split="test")
    classes = tuple(ActivityClass(name=one.name, doing=one.doing) for one in names)
    return DataFolder(
        tmp_path,
        {"v": video},
        {"v": EVENTS},
        {"v": make_tracks(tracks)},
        (),
        classes,
        Classes(activities=names),
    )


def test_regions_are_the_boxes_of_a_clips_newest_frame(tmp_path):
    video = make_region_video(cache(), labelled(tmp_path), network_config(), ClipRule(frames=2, regions=3))
    assert video.tick.tolist() == [5 + 10 * clip for clip in range(22)]
    assert video.tokens.shape[:3] == (22, 2, 49)
    assert video.valid.sum(axis=1).tolist() == [
        2 if 11 <= t < 16 or 30 <= t < 34 else 1 for t in range(1, 45, 2)
    ]
    at = video.tick.tolist().index(11 * 5)
    np.testing.assert_allclose(video.box[at, :2], [CORNERS[0], IDLE])
    assert video.labels[at].tolist() == [[True, False], [False, False], [False, False]]
    assert video.clip_labels[at].tolist() == [True, False]
    assert video.truth_clip.tolist() == [5, 6, 7, 15, 16]
    assert not video.features[~video.valid].any()


def test_a_product_that_also_stands_on_the_shelf_is_done_nothing_with_there(tmp_path):
    video = make_region_video(cache(), labelled(tmp_path, idle=(0,)), network_config(), ClipRule(2, 3))
    assert video.labels[5].tolist() == [[True, False], [False, False], [False, False]]


def test_too_many_boxes_leave_the_most_novel_ones(tmp_path):
    # The white corner of the event is news; the grey middle is not.
    video = make_region_video(cache(), labelled(tmp_path), network_config(), ClipRule(frames=2, regions=1))
    assert video.labels[[5, 6, 7], 0, 0].all()
    assert video.truth_clip.tolist() == [5, 6, 7, 15, 16]  # what is not chosen is still missed


def test_roi_pooling_weighs_cells_by_their_area():
    tokens = np.zeros((1, 2, 49, 1), np.float16)
    tokens[0, :, 0], tokens[0, :, 1] = [[1], [3]], 8
    box = np.array([[[0, 0, 1 / 7, 1 / 7], [0.5 / 7, 0, 2 / 7, 1 / 7], [0, 0, 0, 0]]], np.float32)
    pooled = pool_regions(tokens, box, np.array([[True, True, False]]))
    np.testing.assert_allclose(pooled[0, :, 0], [2, (0.5 * 2 + 8) / 1.5, 0], rtol=1e-5)


def test_average_precision_is_scikit_learns_where_no_precision_rises():
    video = toy_video()
    rng = np.random.default_rng(3)
    scores = rng.random(video.labels.shape) + 0.5 * video.labels
    ours = Ranking([score_video(video, scores)]).average_precisions()
    flat = video.valid
    theirs = [
        average_precision_score(video.labels[flat][:, c], scores[flat][:, c]) for c in range(ACTIVITIES)
    ]
    assert (ours >= np.array(theirs) - 1e-12).all()
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_a_perfect_answer_is_worth_one_and_a_constant_one_the_share_of_truths():
    video = toy_video()
    assert Ranking([score_video(video, video.labels)]).average_precisions().tolist() == [1] * ACTIVITIES
    constant = Ranking([score_video(video, np.full(video.labels.shape, 0.5))]).average_precisions()
    np.testing.assert_allclose(constant, video.labels[video.valid].mean(axis=0))


def test_one_truth_is_hit_once_and_a_missed_one_costs_recall():
    video = toy_video()
    at = int(video.truth_clip[0])
    box = video.box.copy()
    box[at, 1] = box[at, 0]
    twice = score_video(dataclasses.replace(video, box=box), np.ones(video.labels.shape))
    assert twice.hit.sum() == len(video.truth_clip)
    box = video.box.copy()
    box[:, 0, 1::2] += 0.4  # overlaps by a ninth
    assert not score_video(dataclasses.replace(video, box=box), np.ones(video.labels.shape)).hit.any()


def test_drawing_videos_counts_their_answers_as_often():
    videos = [toy_video(seed) for seed in range(3)]
    rng = np.random.default_rng(0)
    found = [score_video(v, rng.random(v.labels.shape) + 0.3 * v.labels) for v in videos]
    alone = Ranking([found[1]]).mean_average_precision(np.ones((1, 1), np.int64))
    drawn = Ranking(found).mean_average_precision(np.array([[0, 1, 0], [1, 1, 1]]))
    assert drawn[0] == pytest.approx(alone[0])
    interval = mean_ap_interval([Ranking(found)], Plan(resamples=200))
    assert interval.low < interval.estimate < interval.high
    assert interval.estimate == pytest.approx(drawn[1])
    gain = mean_ap_gain_interval([Ranking(found)], [Ranking(found)], Plan(resamples=50))
    assert gain[:3] == (0, 0, 0)


def test_draws_in_which_nothing_happens_are_left_out():
    videos = [toy_video(seed) for seed in range(2)]
    videos[1].truth_labels[:] = False
    scores = [videos[0].labels.astype(float), np.zeros(videos[1].labels.shape)]
    ranking = Ranking([score_video(v, score) for v, score in zip(videos, scores, strict=True)])
    drawn = ranking.mean_average_precision(np.array([[1, 1], [2, 0], [0, 2]]))
    assert drawn[:2].tolist() == [1, 1] and np.isnan(drawn[2])
    assert mean_ap_interval([ranking], Plan(resamples=50))[:3] == (1, 1, 1)
    assert mean_ap_gain_interval([ranking], [ranking], Plan(resamples=50))[:3] == (0, 0, 0)
    with pytest.raises(LvmError, match="nothing that is asked about happens in"):
        mean_ap_interval([Ranking([score_video(videos[1], scores[1])])])


def test_scores_that_are_no_numbers_are_refused():
    video = toy_video()
    with pytest.raises(LvmError, match="finite"):
        score_video(video, np.full(video.labels.shape, np.nan))


@pytest.mark.parametrize("rows_of", [lambda v: NewestRows(v, 9), lambda v: WindowRows(v, 6.0)])
def test_rows_of_the_past_are_the_newest(rows_of):
    video = toy_video()
    rows, valid = rows_of(video)(np.array([0, 1, 20]))
    assert not valid[0].any()
    assert valid[1].sum() == video.valid[0].sum()
    expected = [video.features[clip, r] for clip in (17, 18, 19) for r in np.flatnonzero(video.valid[clip])]
    got = rows[2][valid[2]].numpy()
    np.testing.assert_array_equal(got, np.array(expected)[-len(got) :])


class LastClip(MemoryPart):
    """The regions of the clip before, through one linear layer."""

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(WIDTH, WIDTH)

    def watch(self, video):
        return WindowRows(video, 2.0)

    def forward(self, regions, valid, past):
        return self.map(past.rows)


def test_the_last_clips_rows_know_only_the_past():
    assert_knows_only_the_past(LastClip())


def test_a_head_learns_what_it_sees_and_with_a_memory_what_it_saw():
    videos = [toy_video(seed) for seed in range(6)]
    recipe = HeadRecipe(epochs=30, batch=32, learning_rate=1e-2, parts_learning_rate=None)
    found = {}
    for name, parts in (("none", []), ("last", [LastClip()])):
        torch.manual_seed(0)
        head = DetectionHead(WIDTH, ACTIVITIES, parts)
        curve = train_head(head, videos[:4], recipe)
        assert curve[-1] < curve[0]
        found[name] = Ranking(evaluate_head(head, videos[4:])).average_precisions()
    assert found["none"][0] > 0.9
    assert found["none"][1:].max() < 0.8  # 1 and 2 look alike
    assert found["last"].min() > 0.9


def test_training_is_a_function_of_its_seed():
    curves = []
    for _ in range(2):
        torch.manual_seed(0)
        head = DetectionHead(WIDTH, ACTIVITIES, [LastClip()])
        curves.append(train_head(head, [toy_video()], HeadRecipe(epochs=2)))
    assert curves[0] == curves[1]


def test_learned_regions_find_what_is_done_without_boxes():
    videos = [toy_video(seed) for seed in range(3)]
    for video in videos:  # what is done shows in one cell of the tokens
        clip, activity = np.nonzero(video.clip_labels)
        video.tokens[clip, :, 17, activity] += 5
    torch.manual_seed(0)
    module = RegionTokens(WIDTH, regions=3)
    fit_region_tokens(
        module, videos[:2], HeadRecipe(epochs=25, batch=32, learning_rate=1e-2, parts_learning_rate=None)
    )
    seen = [replace_regions(module, video) for video in videos]
    assert seen[0].features.shape == (60, 3, WIDTH) and seen[0].box is None
    head = DetectionHead(WIDTH, ACTIVITIES)
    train_head(head, seen[:2], HeadRecipe(epochs=25, batch=32, learning_rate=1e-2, parts_learning_rate=None))
    assert predict(head, seen[2]).shape == (60, 3, ACTIVITIES)
    assert Ranking(evaluate_head(head, seen[2:])).average_precisions().min() > 0.8


def test_regions_of_a_clip_may_come_in_any_order():
    video, order = toy_video(), [2, 0, 3, 1]
    head = DetectionHead(WIDTH, ACTIVITIES).eval()
    mixed = dataclasses.replace(video, features=video.features[:, order], valid=video.valid[:, order])
    np.testing.assert_allclose(predict(head, video)[:, order], predict(head, mixed), atol=1e-6)
    assert len(order) == REGIONS
