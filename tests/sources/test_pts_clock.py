from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.sources.base import Tally
from edge_runtime.sources.clocks import CONFIRMING, PtsClock

UNIT, PERIOD = Fraction(1, 1000), 0.1


def clock_of(*, live=False, start=0.0):
    return PtsClock(UNIT, PERIOD, Tally("camera"), start=start, live=live)


def times(pts, *, live, start=0.0):
    return [t for t, _ in clock_of(live=live, start=start).place((each, None) for each in pts)]


def repaired(pts):
    """Return the times of a file's pictures, and what was repaired."""
    tally = Tally("film")
    clock = PtsClock(UNIT, PERIOD, tally, start=0.0, live=False)
    placed = list(clock.place((each, number) for number, each in enumerate(pts)))
    assert [number for _, number in placed] == list(range(len(pts))), "a picture is missing, or out of order"
    return [t for t, _ in placed], dict(tally.repairs)


def test_times_are_exact_and_count_from_the_first_picture():
    assert times([5000, 5033, 5067, 9000], live=False) == [0.0, 0.033, 0.067, 4.0]
    assert times([5000, 5100], live=True, start=60.0) == [60.0, 60.1]


def test_gaps_in_a_file_stay():
    assert times([0, 100, 3_600_000, 3_600_100], live=False)[2:] == [3600.0, 3600.1]
    slow = [180_000 * k for k in range(5)]
    assert times(slow, live=False) == [180.0 * k for k in range(5)]


STEADY = [100 * k for k in range(100)]


def spoiled(by, places, stamps=STEADY):
    return [stamp + by if number in places else stamp for number, stamp in enumerate(stamps)]


@pytest.mark.parametrize("by", [37_600_000, -37_600_000, 3_000, -3_000, 7 * 86_400_000, 2**33 // 90])
@pytest.mark.parametrize("run", [1, 2, CONFIRMING - 1])
def test_stamps_astray_in_a_file_are_placed_between_their_neighbours(by, run, caplog):
    places = {start + offset for start in (20, 50, 80) for offset in range(run)}
    seen, repairs = repaired(spoiled(by, places))
    assert seen == pytest.approx([stamp / 1000 for stamp in STEADY])
    assert repairs == {"stray": 3 * run}
    assert len(caplog.records) == 1 and "s off" in caplog.text, "a damaged file must not fill the log"


@pytest.mark.parametrize("by", [37_600_000, -37_600_000, 3_000, -3_000, 100 * 86_400_000])
@pytest.mark.parametrize("run", [4, 5, 10, 18])
def test_a_longer_run_astray_is_one_too_where_the_clock_returns(by, run):
    seen, repairs = repaired(spoiled(by, set(range(50, 50 + run))))
    assert seen == pytest.approx([stamp / 1000 for stamp in STEADY]) and repairs == {"stray": run}


@pytest.mark.parametrize("run", [4, 10, 18])
@pytest.mark.parametrize("again", [0, 2000, -500_000])
def test_a_gap_before_a_clock_that_begins_again_elsewhere_stays_a_gap(run, again):
    before = STEADY[:50]
    after = [5000 + 60_000 + 100 * k for k in range(run)]
    seen, repairs = repaired([*before, *after, *(again + 100 * k for k in range(40))])
    assert seen[50] == pytest.approx(65.0) and seen[-1] == pytest.approx(65.0 + (run + 39) / 10, abs=0.02)
    assert repairs == {"jump": 1} and seen == sorted(seen)


def test_a_clock_that_is_away_for_longer_than_can_be_waited_for_was_set():
    seen, repairs = repaired(spoiled(100 * 86_400_000, set(range(30, 70))))
    assert seen == pytest.approx([stamp / 1000 for stamp in STEADY]) and repairs == {"jump": 2}


@pytest.mark.parametrize("by", [37_600_000, -37_600_000])
@pytest.mark.parametrize("place", [0, 99])
def test_a_first_or_last_stamp_astray_stretches_nothing(by, place):
    seen, _ = repaired(spoiled(by, {place}))
    assert seen == pytest.approx([stamp / 1000 for stamp in STEADY], abs=0.001)


def test_strays_do_not_become_a_gap_nor_a_gap_strays():
    stamps = [stamp if number < 50 else stamp + 60_000 for number, stamp in enumerate(STEADY)]
    seen, repairs = repaired(spoiled(-500_000, {30, 70}, stamps))
    assert seen == pytest.approx([stamp / 1000 for stamp in stamps]) and repairs == {"stray": 2}


@pytest.mark.parametrize("still", [1, 3, 4, 5, 60])
@pytest.mark.parametrize("goes_on", ["where it is", "where it stood", "never"])
@pytest.mark.parametrize("first", [1, 20])
def test_a_file_whose_stamps_stand_still_is_counted_on(still, goes_on, first):
    rest = range(first + still, first + still + 30) if goes_on == "where it is" else range(first, first + 30)
    stamps = [100 * k for k in (*range(first), *[first - 1] * still, *(rest if goes_on != "never" else ()))]
    seen, repairs = repaired(stamps)
    # A clock that stood for less than a second and goes on where it stood is as if those pictures were more.
    tolerance = 0.001 if goes_on != "where it stood" else 1.01
    assert seen == pytest.approx([k / 10 for k in range(len(stamps))], abs=tolerance)
    assert seen == sorted(seen) and repairs["standing still"] == still


@pytest.mark.parametrize(
    "stamps",
    [
        [0, 1] * 50,
        list(range(100)),
        [2 * k for k in range(100)],
        [0, 1, 0, 2] * 25,
        [5000 + k // 3 for k in range(100)],
        [100 - k for k in range(100)],
        [0, 1, 2, 3],
    ],
)
def test_a_file_whose_stamps_are_nearly_equal_has_the_declared_rate(stamps):
    seen, repairs = repaired(stamps)
    assert seen == pytest.approx([k / 10 for k in range(len(stamps))])
    assert repairs == {"standing still": len(stamps) - 1}


def test_where_stamps_are_nearly_equal_at_first_the_others_count():
    seen, repairs = repaired([*range(40), *(10_000 + 100 * k for k in range(60))])
    assert seen == pytest.approx([k / 10 for k in range(100)], abs=0.001)
    assert repairs == {"standing still": 39}


@pytest.mark.parametrize(
    "stamps", [[10 * k for k in range(60)], [40 * k for k in range(60)], [0, 1], [0, 1, 2]]
)
def test_a_fast_or_short_film_keeps_its_stamps(stamps):
    assert repaired(stamps) == ([stamp / 1000 for stamp in stamps], {})


def test_the_first_picture_of_a_file_does_not_wait_for_the_second():
    read = []
    placed = clock_of().place((read.append(pts) or pts, pts) for pts in range(0, 1000, 100))
    assert next(placed)[0] == 0.0 and read == [0]


def test_an_hour_without_stamps_ends_at_the_full_second():
    assert times([None] * 36_001, live=False)[-1] == 3600.0


def test_stamps_coarser_than_the_pictures_are_spread(caplog):
    seen, _ = repaired([300 * (k // 3) for k in range(60)])
    assert seen == pytest.approx([k / 10 for k in range(60)], abs=0.001)


def test_the_distance_of_pictures_is_learned_from_the_film_itself():
    stamps = [40 * k for k in range(50)] + [40 * 49] * 100  # the container said ten a second
    seen, _ = repaired(stamps)
    assert seen == pytest.approx([k / 25 for k in range(150)], abs=0.001)


def test_a_leap_of_more_than_a_day_is_a_clock_that_was_set():
    leap = 20 * 365 * 86_400_000
    seen, repairs = repaired([stamp + (leap if number >= 50 else 0) for number, stamp in enumerate(STEADY)])
    assert seen == pytest.approx([stamp / 1000 for stamp in STEADY]) and repairs == {"jump": 1}


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62), st.integers(0, 3000)), max_size=40),
    st.booleans(),
)
def test_whatever_the_stamps_time_never_goes_back_and_no_picture_is_lost(stamps, live):
    seen = times(stamps, live=live, start=5.0)
    assert seen == sorted(seen) and len(seen) == len(stamps) and (not seen or seen[0] == 5.0)


def test_random_damage_never_moves_the_end():
    rng = random.Random(3)
    for _ in range(50):
        places = {k for k in range(2, 97) if rng.random() < 0.05}
        stamps = [stamp + rng.choice([-1, 1]) * rng.randint(2_000, 10**8) if n in places else stamp
                  for n, stamp in enumerate(STEADY)]  # fmt: skip
        seen, _ = repaired(stamps)
        assert seen[-1] == pytest.approx(9.9, abs=0.31), places


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

    def come():
        for each in pts:
            yield each, None
            now[0] += every

    return [t for t, _ in clock_of(live=True).place(come())]


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


@pytest.mark.parametrize("declared", [5, 25, 60])
@pytest.mark.parametrize("fps", [5, 8, 12.5, 25, 29.97])
@pytest.mark.parametrize("resolution", [100, 250, 333, 500, 750, 1000, 1500])
def test_a_clock_in_coarse_steps_is_spread_evenly_over_them(resolution, fps, declared):
    """As of a recorder that counts half seconds; also where the declared rate is another."""
    truth = [k / fps for k in range(int(40 * fps))]
    tally = Tally("film")
    clock = PtsClock(UNIT, 1 / declared, tally, start=0.0, live=False)
    stamps = ((int(1000 * t) // resolution * resolution, None) for t in truth)
    placed = [t for t, _ in clock.place(stamps)]
    assert placed == sorted(placed) and "jump" not in tally.repairs
    worst = max(abs(t - real) for t, real in zip(placed, truth, strict=True))
    # Of the first step nothing but the declared rate is known.
    known = max(1, declared / fps, fps / declared)
    assert worst <= (resolution / 1000 + 1 / fps) * (known if known > 1.3 else 0.6)
