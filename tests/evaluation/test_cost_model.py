"""Frames and seconds that answering costs, against counts worked by hand."""

import numpy as np
import pytest

from engines.errors import LvmError
from export.data.records import QueryRecord, Video
from export.evaluation import cost_model as loads
from export.evaluation.cost_model import compare_costs, extrapolate_to_rest


def video(name="v", duration_s=1620.0):
    return Video(video=name, path="v.mp4", fps=30, width=640, height=480, duration_s=duration_s, split="test")


def query(kind="activity", q_s=0.0, q_e=300.0, t_s=10.0, t_e=20.0, name="v"):
    return QueryRecord(qid="q", video=name, type=kind, duration="short", q_s=q_s, q_e=q_e, t_s=t_s, t_e=t_e)


def test_a_window_has_its_first_frame_and_not_the_one_at_its_end():
    assert list(loads.list_window_frames(2.0, 5.0, 1.0)) == [2, 3, 4]
    assert list(loads.list_window_frames(0.2, 0.8, 5.0)) == [1, 2, 3]
    assert list(loads.list_window_frames(1.5, 3.5, 1.0)) == [2, 3]


@pytest.mark.parametrize(("window_s", "ratio"), [(300, 278), (900, 833), (1620, 1500)])
def test_a_rest_sized_load_is_read_hundreds_of_times_over(window_s, ratio):
    queries = [query(q_e=float(window_s))] * 1500
    count = loads.count_frame_reads([video()], queries, fps=1.0)
    assert (count.once, round(count.ratio)) == (1620, ratio)


def test_a_time_query_reads_120_frames_of_any_longer_window():
    read = loads.list_read_frames(query("time", 100.0, 1600.0), 1.0)
    assert len(read) == len(np.unique(read)) == 120
    assert read[0] >= 100 and read[-1] < 1600
    assert loads.list_read_frames(query("time", 0.0, 60.0), 1.0).tolist() == list(range(60))


def test_uniform_frames_are_the_middles_of_equal_parts():
    assert loads.choose_uniform_frames(5, 120).tolist() == [0, 1, 2, 3, 4]
    assert loads.choose_uniform_frames(9, 3).tolist() == [1, 4, 7]
    assert len(np.unique(loads.choose_uniform_frames(121))) == 120


def test_the_property_window_is_read_where_asked_for():
    assert loads.list_read_frames(query(), 1.0, "property").tolist() == list(range(10, 20))
    assert len(loads.list_read_frames(query("time"), 1.0, "property")) == 120
    with pytest.raises(LvmError, match="needs t_s and t_e"):
        loads.list_read_frames(query(t_s=None, t_e=None), 1.0, "property")


def test_each_frame_counts_the_queries_that_read_it():
    queries = [query(q_s=0.0, q_e=4.0), query(q_s=2.0, q_e=9.0), query(q_e=6.0, name="w")]
    read = loads.count_reads_by_frame(video(duration_s=6.0), queries, 1.0)
    assert read.tolist() == [1, 1, 2, 2, 1, 1]
    count = loads.count_frame_reads([video(duration_s=6.0), video("w", 6.0)], queries, 1.0)
    assert count == (8 + 6, 12)


def test_measured_seconds_become_those_of_27_minutes_and_1500_queries():
    cost = extrapolate_to_rest([0.01] * 50, once_s=10.0, watched_s=810.0)
    assert cost.total_s == pytest.approx(20 + 15)


def test_a_window_longer_than_the_video_is_read_as_the_video():
    assert extrapolate_to_rest([2.0] * 50, window_s=1800).total_s == pytest.approx(1500 * 1.8)
    assert extrapolate_to_rest([2.0] * 50, window_s=300).total_s == pytest.approx(3000)


def test_a_speed_up_holds_the_truth_in_its_interval(rng):
    baseline, ours = extrapolate_to_rest(rng.gamma(9, 0.1, 60)), extrapolate_to_rest(rng.gamma(9, 0.001, 60))
    faster = compare_costs(baseline, ours)
    assert faster.low < faster.estimate < faster.high
    assert 60 < faster.low < 100 < faster.high < 150
    assert faster == compare_costs(baseline, ours)


def test_stage_one_counts():
    baseline = extrapolate_to_rest([0.2] * 50)
    assert compare_costs(baseline, extrapolate_to_rest([0.01] * 50)).estimate == pytest.approx(20)
    assert compare_costs(baseline, extrapolate_to_rest([0.01] * 50, once_s=15.0)).estimate == pytest.approx(
        10
    )


def test_few_or_odd_measurements_are_not_extrapolated():
    with pytest.raises(LvmError, match=r"got \(49,\): measure more queries"):
        extrapolate_to_rest([0.1] * 49)
    with pytest.raises(LvmError, match="must be positive and finite"):
        extrapolate_to_rest([0.1] * 49 + [float("nan")])
