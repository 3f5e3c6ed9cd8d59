"""What was watched is known within bounds that always contain the truth."""

import bisect
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from edge_runtime.memory.coverage import (
    FORGOTTEN,
    MAX_GAPS,
    MAX_LISTED,
    MAX_NOTES,
    PAUSED,
    Coverage,
    Gap,
)

HORIZON_S = 36_000.0


def _watched(times, period=1.0, coverage=None):
    coverage = coverage or Coverage()
    for t in times:
        coverage = coverage.observe(t, period, HORIZON_S)
    return coverage


def test_an_unbroken_stream_has_no_gap_and_its_whole_duration():
    coverage = _watched(range(40))
    assert (coverage.start, coverage.end, coverage.gaps) == (0, 40, ())
    assert coverage.watched_seconds() == 40


def test_jitter_below_half_a_period_is_no_gap():
    assert _watched([0, 1.04, 1.98, 3.3]).gaps == ()


def test_an_outage_is_a_gap():
    coverage = _watched([0, 1, 2, 10, 11])
    assert coverage.gaps == ((3, 10),)
    assert coverage.watched_seconds() == 5


def test_a_window_sees_only_its_part():
    coverage = _watched([0, 1, 2, 10, 11])
    part = coverage.within(2, 8)
    assert (part.start, part.end, part.gaps) == (2, 8, ((3, 8),))
    assert part.watched_seconds() == 1
    assert coverage.within(20, 30).watched_seconds() == 0
    assert coverage.within(4, 9).watched_seconds() == 0
    assert Coverage().within(0, 5).watched_seconds() == 0


# -- many gaps ---------------------------------------------------------------------------------------------


class Truth:
    """Every stretch that was watched, in full."""

    def __init__(self, starts, ends):
        self.starts, self.ends = starts, ends
        self.sums = [0.0, *np.cumsum(np.subtract(ends, starts)).tolist()]

    def until(self, t):
        i = bisect.bisect_right(self.starts, t)
        return self.sums[i] - (max(0.0, self.ends[i - 1] - t) if i else 0.0)

    def watched(self, start, end):
        i, j = bisect.bisect_right(self.ends, start), bisect.bisect_left(self.starts, end)
        return self.until(end) - self.until(start) if i < j else 0.0


def _list_stretches(times, period):
    """Beginnings and ends of what frames stand for."""
    starts, ends = [], []
    for t in times:
        if ends and t - ends[-1] <= 0.5 * period:
            ends[-1] = t + period
        else:
            starts.append(t)
            ends.append(t + period)
    return starts, ends


def _draw_stretches(rng, gaps, period):
    """Stretches of a camera with so many gaps; both are short, long or anything between."""
    size, at = gaps + 1, rng.uniform(-1e5, 1e5)
    frames = rng.choice(
        [lambda: np.ones(size), lambda: 1 + np.floor(rng.exponential(1 / 0.3, size)),
         lambda: rng.choice((1.0, 1.0, 40.0), size)]
    )()  # fmt: skip
    away = rng.uniform(0.6, 3, size) if rng.random() < 0.5 else 1 + rng.pareto(0.9, size)
    edges = np.cumsum(np.stack([frames, np.clip(away, 0.6, 1e4)], 1).ravel()) * period + at
    starts = [at, *edges[1:-1:2].tolist()]
    return starts, edges[::2].tolist()


def _fold(starts, ends, period):
    """What `observe` makes of stretches, without a call for each frame: it merges when there are too many."""
    coverage = Coverage(starts[0], starts[0] + period, frames=(starts[0],), period=period)
    gaps = list(zip(ends[:-1], starts[1:], strict=True))
    at, room = 0, MAX_GAPS + 1
    while at + room <= len(gaps):
        at += room
        coverage = replace(coverage, end=starts[at] + period, gaps=(*coverage.gaps, *gaps[at - room : at]))
        coverage = coverage._move_oldest()._merge(HORIZON_S)
        room = MAX_GAPS + 1 - len(coverage.gaps)
    return replace(coverage, end=ends[-1], gaps=(*coverage.gaps, *gaps[at:]))


def _frame_times(rng, gaps, period):
    """Times of a camera with so many gaps, whose stretches and gaps are short, long or anything between."""
    kind, t, times = rng.random(), rng.uniform(-1e5, 1e5), []
    for _ in range(gaps + 1):
        frames = 1 if kind < 0.3 else 1 + int(rng.expovariate(0.3)) if kind < 0.7 else rng.choice((1, 1, 40))
        for _ in range(frames):
            times.append(t)
            t += period
        away = rng.uniform(0.6, 3) if kind < 0.5 else rng.paretovariate(0.9)
        t += period * min(max(away, 0.6), 1e4)
    return times


def _check_window(coverage, truth, start, end):
    """Compare a window with the truth; return how wide its share is."""
    part, watched = coverage.within(start, end), truth.watched(start, end)
    low, high = part.watched_range()
    assert low - 1e-5 <= watched <= high + 1e-5
    assert (high > 0) >= (watched > 0) and (low > 0) <= (watched > 0)
    return part.watched_share()[1] - part.watched_share()[0]


@pytest.mark.parametrize("seed", range(4))
def test_folding_is_what_observing_makes(seed):
    rng = random.Random(seed)
    period = rng.choice((0.2, 1.0, 3.0))
    times = _frame_times(rng, 8_000, period)
    observed, folded = _watched(times, period), _fold(*_list_stretches(times, period), period)
    assert (observed.gaps, observed.merged) == (folded.gaps, folded.merged) and observed.merged
    assert (observed.start, observed.end) == (folded.start, folded.end)


@pytest.mark.parametrize("seed", range(4))
def test_a_window_of_what_was_observed_is_known_within_bounds_that_contain_the_truth(seed):
    rng = random.Random(seed)
    period = rng.choice((0.2, 1.0, 1.0, 3.0))
    times = _frame_times(rng, 8_000, period)
    _check_windows(rng, _watched(times, period), Truth(*_list_stretches(times, period)))


@pytest.mark.parametrize(
    ("seed", "gaps"),
    [
        *((seed, 100_000) for seed in range(6)),
        *(pytest.param(seed, 1_000_000, marks=pytest.mark.slow) for seed in range(20, 26)),
    ],
)
def test_a_window_is_known_within_bounds_that_contain_the_truth(seed, gaps):
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    period = rng.choice((0.2, 1.0, 1.0, 3.0))
    starts, ends = _draw_stretches(draw, gaps, period)
    coverage, truth = _fold(starts, ends, period), Truth(starts, ends)
    assert coverage.gap_count <= 45_000 + MAX_GAPS and len(coverage.gaps) <= MAX_GAPS
    _check_windows(rng, coverage, truth)


def _check_windows(rng, coverage, truth):
    """Compare windows of any length anywhere, and such of 1 % of the horizon or more within it."""
    assert len(coverage.gaps) <= MAX_GAPS and len(coverage.merged) <= 45_000
    assert coverage.watched_range() == pytest.approx([truth.sums[-1]] * 2, rel=1e-9)
    first, last = coverage.start, coverage.end
    for _ in range(400):  # also at the ends of gaps
        start = rng.choice((rng.uniform(first, last), rng.choice(truth.starts), rng.choice(truth.ends)))
        length = rng.choice((rng.uniform(0, 5), rng.expovariate(1e-3), rng.uniform(0, last - first)))
        _check_window(coverage, truth, start, min(start + length + 1e-3, last))
    oldest = max(first, last - HORIZON_S)
    for _ in range(400):
        length = min(0.01 * HORIZON_S * rng.choice((1.0, 1.0, rng.uniform(1, 90))), last - oldest)
        start = rng.uniform(oldest, last - length)
        width = _check_window(coverage, truth, start, start + length)
        assert width <= 0.01 or length < 0.01 * HORIZON_S


def test_a_gap_that_is_not_short_stays_exact_among_many():
    away = (40_000.0, 43_600.0)
    times = _frame_times(random.Random(3), 30_000, 1.0)
    times = [t - times[0] for t in times]
    coverage = _watched([t if t < away[0] else t + 3600 for t in times])
    gap = next(gap for gap in coverage.gaps_with_reasons() if gap.end - gap.start > 3000)
    inside = coverage.within(gap.start, gap.end)
    assert gap.max_watched == 0 and inside.watched_range() == (0, 0)
    assert coverage.merged  # there were so many that others are not exact


def test_what_was_paused_or_forgotten_stays_exact_among_many_gaps():
    coverage, t, notes = Coverage(), 0.0, []
    rng = random.Random(5)
    for i in range(30_000):
        coverage = coverage.observe(t, 1.0, HORIZON_S)
        t += rng.choice((1.0, 2.2, 3.0))
        if i % 500 == 250:
            coverage = coverage.add_note(t, None, PAUSED).end_note(t + 1.5)
            notes.append((t, t + 1.5, PAUSED))
            t += 2.5
        elif i % 500 == 499:
            coverage = coverage.forget(t - 100, t - 90)
            (note,) = set(coverage.notes) - set(notes)
            assert note[2] == FORGOTTEN and t - 100 <= note[0] < note[1] <= t - 90
            notes.append(note)
    pieces = {gap[:3]: gap for gap in coverage.gaps_with_reasons() if gap.reason}
    for note in notes:
        assert pieces[note].max_watched == 0
        assert coverage.within(*note[:2]).main_reason() == note[2]
    assert coverage.merged and coverage.notes == tuple(notes)
    listed = coverage.list_gaps()
    assert len(listed) <= MAX_LISTED and {gap[:3] for gap in listed if gap.reason} == set(pieces)


def test_forgetting_a_part_of_merged_gaps_leaves_bounds_that_contain_the_truth():
    rng = random.Random(8)
    times = _frame_times(rng, 20_000, 1.0)
    coverage, truth = _watched(times), Truth(*_list_stretches(times, 1.0))
    for _ in range(30):
        start = rng.uniform(times[0], times[-1])
        coverage = coverage.forget(start, start + rng.choice((0.5, 7.0, 300.0)))
    forgotten = [note[:2] for note in coverage.notes]
    for start, end in forgotten:
        assert coverage.within(start, end).watched_range() == (0, 0)
    for _ in range(500):
        start = rng.uniform(times[0], times[-1])
        end = start + rng.expovariate(1e-2)
        gone = [(max(a, start), min(b, end)) for a, b in forgotten if a < end and b > start]
        watched = truth.watched(start, end) - sum(truth.watched(a, b) for a, b in gone)
        low, high = coverage.within(start, end).watched_range()
        assert low - 0.01 <= watched <= high + 0.01
    gaps = [*coverage.merged, *(Gap(a, b) for a, b in coverage.gaps)]
    assert all(a.end <= b.start for a, b in pairwise(gaps))


def test_a_list_of_gaps_is_bounded_and_says_how_much_of_them_was_watched():
    coverage = _watched([3.0 * k + 0.1 * (k % 3) for k in range(2000)])
    listed = coverage.list_gaps()
    assert len(listed) == MAX_LISTED < coverage.gap_count
    unwatched = sum(gap.end - gap.start - gap.max_watched for gap in listed)
    assert unwatched == pytest.approx(coverage.end - coverage.start - coverage.watched_seconds())


# -- slow sources ------------------------------------------------------------------------------------------


def test_the_frames_of_a_slow_source_stand_for_longer_and_leave_no_gaps():
    coverage = _watched([2.0 * k for k in range(100)], period=2.0)
    assert coverage.gaps == () and coverage.end == 200 and coverage.period == 2


@pytest.mark.parametrize("distance", [1.6, 2.0, 12.0, 300.0])
def test_gaps_between_the_first_frames_close_when_the_period_is_known(distance):
    coverage = _watched([0.0, distance, 2 * distance], period=1.0)
    assert coverage.gap_count == 2
    coverage = _watched([3 * distance, 4 * distance], distance, coverage)
    assert coverage.gaps == () and coverage.watched_seconds() == pytest.approx(5 * distance)


def test_a_real_outage_and_a_pause_stay_gaps_when_the_period_grows():
    coverage = _watched([0.0, 2.0, 20.0]).add_note(21.2, None, PAUSED).end_note(21.5)
    coverage = _watched([22.0, 24.0, 26.0], 2.0, coverage)
    assert coverage.gaps_with_reasons() == (
        (3, 20, None, 0, 0),
        (21, 21.2, None, 0, 0),
        (21.2, 21.5, PAUSED, 0, 0),
        (21.5, 22, None, 0, 0),
    )


def test_no_frame_stands_for_a_pause_however_slow_its_source_is():
    coverage = _watched([0.0, 12.0], 12.0).add_note(15.0, None, PAUSED)
    assert coverage.end == 15 and coverage.within(15, 24).main_reason() == PAUSED
    coverage = _watched([20.0, 32.0], 12.0, coverage.end_note(18.0))
    assert coverage.gaps_with_reasons() == ((15, 18, PAUSED, 0, 0), (18, 20, None, 0, 0))


# -- why ---------------------------------------------------------------------------------------------------


def test_a_gap_says_why_as_far_as_it_is_known():
    coverage = _watched([0, 1, 2, 10, 11]).add_note(4, 8, PAUSED)
    pieces = [gap[:3] for gap in coverage.gaps_with_reasons()]
    assert pieces == [(3, 4, None), (4, 8, PAUSED), (8, 10, None)]
    assert coverage.observe(12, 1.0, HORIZON_S).notes == coverage.notes


def test_the_main_reason_is_the_one_of_most_of_the_time():
    coverage = _watched([0, 1, 2, 60, 61]).add_note(4, 14, PAUSED)
    assert coverage.within(3, 20).main_reason() == PAUSED
    assert coverage.within(3, 60).main_reason() is None


def test_a_pause_that_goes_on_explains_what_comes_after_the_end():
    coverage = _watched([0, 1, 2]).add_note(3, None, PAUSED)
    assert coverage.within(50, 60).main_reason() == PAUSED and coverage.within(50, 60).watched_seconds() == 0
    assert coverage.within(0, 2).main_reason() is None
    over = coverage.end_note(20).observe(20, 1.0, HORIZON_S)
    assert over.ongoing_note() is None and over.gaps_with_reasons() == (Gap(3, 20, PAUSED),)
    assert coverage.end_note(3).notes == ()


def test_a_forgotten_span_is_a_gap_that_says_so_and_swallows_what_it_meets():
    coverage = _watched([0, 1, 2, 10, 11, 12, 13]).add_note(3, 10, PAUSED).forget(2, 12)
    assert coverage.gaps == ((2, 12),) and coverage.watched_seconds() == 4
    assert coverage.gaps_with_reasons() == (Gap(2, 12, FORGOTTEN),)
    part = coverage.forget(-5, 1)
    assert part.gaps_with_reasons() == (Gap(0, 1, FORGOTTEN), Gap(2, 12, FORGOTTEN)) and part.start == 0


def test_forgetting_ends_where_watching_did():
    coverage = _watched([0, 1, 2, 3]).forget(2, 1e9)
    assert coverage.gaps == ((2, 4),) and coverage.end == 4
    assert coverage.observe(4, 1.0, HORIZON_S).gaps == ((2, 4),)
    assert Coverage().forget(0, 5) == Coverage() and coverage.forget(8, 9) == coverage


def test_time_that_was_never_watched_is_not_forgotten():
    coverage = _watched([0, 1, 2, 10, 11])
    assert coverage.forget(4, 9) == coverage.forget(12, 50) == coverage.forget(-9, 0) == coverage
    partly = coverage.forget(2, 8)
    assert partly.gaps_with_reasons() == (Gap(2, 3, FORGOTTEN), Gap(3, 10))
    assert partly.within(4, 9).main_reason() is None and partly.within(2, 3).main_reason() == FORGOTTEN
    assert coverage.forget(5, 11).gaps_with_reasons() == (Gap(3, 10), Gap(10, 11, FORGOTTEN))


def test_a_new_note_replaces_the_part_that_it_covers():
    coverage = Coverage(0, 100).add_note(10, 50, PAUSED).add_note(20, 30, FORGOTTEN)
    assert coverage.notes == ((10, 20, PAUSED), (20, 30, FORGOTTEN), (30, 50, PAUSED))
    assert coverage.add_note(15, None, PAUSED).notes == ((10, 15, PAUSED), (15, None, PAUSED))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reasons", [(PAUSED,), (FORGOTTEN,), (PAUSED, FORGOTTEN)])
def test_no_gap_of_many_has_a_reason_that_was_not_there(seed, reasons):
    rng = random.Random(seed)
    coverage, t, spans = Coverage(), 0.0, []
    for _ in range(rng.randrange(300, 1000)):
        coverage = _watched([t + k for k in range(rng.randrange(6, 30))], coverage=coverage)
        t = coverage.end
        reason = rng.choice(reasons)
        if reason == PAUSED:
            length = rng.uniform(0.5, 20)
            coverage = coverage.add_note(t, None, PAUSED).end_note(t + length)
            spans.append((t, t + length, PAUSED))
            t += length + rng.choice((0, 0, 3, 60))
        else:
            start = t - rng.uniform(1, 4)
            coverage = coverage.forget(start, t - 0.5)
            spans.append((start, t - 0.5, FORGOTTEN))
        t += rng.choice((0, 2, 5, 30))  # an outage
        assert len(coverage.notes) <= MAX_NOTES
    coverage = coverage.observe(t, 1.0, HORIZON_S)
    explained = [gap for gap in coverage.gaps_with_reasons() if gap.reason]
    for gap in explained:
        of_reason = [(a, b) for a, b, why in spans if why == gap.reason and a < gap.end and gap.start < b]
        noted = sum(min(b, gap.end) - max(a, gap.start) for a, b in of_reason)
        assert noted + gap.max_watched >= gap.end - gap.start - 1e-6, (gap, of_reason)
        assert gap.max_watched or coverage.within(gap.start, gap.end).main_reason() == gap.reason
    newest = {span for span in spans[-100:]}
    assert len(explained) >= 100 and newest <= {(*gap[:2], gap.reason) for gap in explained}
    for before, after in pairwise(coverage.gaps_with_reasons()):
        if before.reason is None and before.max_watched == 0:
            assert coverage.within(before.start, before.end).main_reason() is None, after


def test_notes_are_joined_where_all_between_them_was_watched_only():
    coverage = Coverage(0.0, 1e6, gaps=((1000.0, 1005.0),))
    for i in range(MAX_NOTES + 40):
        coverage = coverage.add_note(i * 10.0, i * 10.0 + 3, PAUSED)
    assert len(coverage.notes) == MAX_NOTES and coverage.notes[0][0] == 0
    outage = [note for note in coverage.notes if note[0] < 1005 and note[1] > 1003]
    assert outage == []


def test_notes_are_bounded():
    coverage = Coverage(0.0, 1e6)
    for i in range(2 * MAX_NOTES):
        coverage = coverage.add_note(i * 10.0, i * 10.0 + 3, PAUSED if i % 3 else FORGOTTEN)
        assert len(coverage.notes) <= MAX_NOTES
    assert all(a[1] <= b[0] for a, b in zip(coverage.notes, coverage.notes[1:], strict=False))
    assert coverage.notes[-1] == ((2 * MAX_NOTES - 1) * 10.0, (2 * MAX_NOTES - 1) * 10.0 + 3, PAUSED)
