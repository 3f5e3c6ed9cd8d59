from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import pytest

from edge_runtime.sources.clocks import PtsClock

STREAM = SimpleNamespace(time_base=Fraction(1, 1000), average_rate=Fraction(10), guessed_rate=None)


def times(pts, *, live, start=0.0):
    clock = PtsClock(STREAM, "camera", start=start, live=live)
    return [clock.to_seconds(each) for each in pts]


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


def arriving(monkeypatch, pts, every=0.1):
    """Times of pictures that come every `every` seconds on a live stream."""
    now = [50.0]
    monkeypatch.setattr("edge_runtime.sources.clocks.time.monotonic", lambda: now[0])
    clock = PtsClock(STREAM, "camera", start=0.0, live=True)
    out = []
    for each in pts:
        out.append(clock.to_seconds(each))
        now[0] += every
    return out


def test_a_live_clock_that_stands_still_counts_by_arrival_after_a_second(monkeypatch):
    seen = arriving(monkeypatch, [7000] * 50 + [7000 + 100 * k for k in range(1, 30)])
    assert seen == sorted(seen)
    assert seen[9] == 0.0 and seen[12] == pytest.approx(1.2) and seen[49] == pytest.approx(4.9)
    assert seen[-1] - seen[50] == pytest.approx(2.8)


def test_a_clock_that_goes_on_after_standing_still_does_not_jump(monkeypatch):
    moving = [100 * k for k in range(140)]
    seen = arriving(monkeypatch, [*moving[:20], *[1900] * 100, *moving[120:]])
    assert max(b - a for a, b in zip(seen, seen[1:], strict=False)) < 1.2
    assert seen[15] == pytest.approx(1.5) and seen[-1] == pytest.approx(13.9)
