from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import pytest

from edge_runtime.sources.timeline import Timeline

STREAM = SimpleNamespace(time_base=Fraction(1, 1000), average_rate=Fraction(10), guessed_rate=None)


def times(pts, *, live, start=0.0):
    timeline = Timeline(STREAM, "camera", start=start, live=live)
    return [timeline.time_of(each) for each in pts]


def test_times_are_exact_and_count_from_the_first_picture():
    assert times([5000, 5033, 5067, 9000], live=False) == [0.0, 0.033, 0.067, 4.0]
    assert times([5000, 5100], live=True, start=60.0) == [60.0, 60.1]


def test_gaps_in_a_file_stay():
    assert times([0, 100, 3_600_000], live=False)[-1] == 3600.0


def test_pictures_without_stamps_lie_between_their_neighbours():
    assert times([0, None, None, 300], live=False) == [0.0, 0.1, pytest.approx(0.2), 0.3]
    assert times([None, 700, 800], live=False) == [0.0, 0.1, pytest.approx(0.2)]


def test_a_small_step_back_is_no_new_clock():
    assert times([0, 500, 400, 600], live=False) == [0.0, 0.5, 0.5, 0.6]


@pytest.mark.parametrize("live", [False, True])
def test_a_clock_that_begins_again_goes_on_where_it_was(live, caplog):
    seen = times([90_000, 90_100, 90_200, 0, 100, 200], live=live)
    assert seen == sorted(seen)
    assert seen[-1] - seen[3] == pytest.approx(0.2) and seen[3] - seen[2] < 0.11
    assert "its clock jumped by" in caplog.text


def test_a_live_camera_that_learns_the_time_does_not_jump():
    seen = times([0, 100, 1_700_000_000_000, 1_700_000_000_100], live=True)
    assert seen == sorted(seen) and seen[-1] < 1.0


def test_the_first_picture_of_rtsp_has_no_stamp_and_that_is_no_warning(caplog):
    assert times([None, 40, 80], live=True) == [0.0, 0.1, pytest.approx(0.14)]
    assert caplog.text == ""
