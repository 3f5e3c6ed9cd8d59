"""What was watched is never overstated."""

from edge_runtime.memory.coverage import FORGOTTEN, MAX_GAPS, MAX_NOTES, PAUSED, Coverage


def _watched(times, period=1.0):
    coverage = Coverage()
    for t in times:
        coverage = coverage.observe(t, period)
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


def test_gaps_are_bounded_and_watched_time_is_never_overstated():
    times = [i * 3.0 for i in range(2 * MAX_GAPS)]
    coverage = _watched(times)
    assert len(coverage.gaps) <= MAX_GAPS
    assert coverage.watched_seconds() <= len(times)
    assert (coverage.start, coverage.end) == (0, times[-1] + 1)
    assert all(a[1] < b[0] for a, b in zip(coverage.gaps, coverage.gaps[1:], strict=False))


# -- why ---------------------------------------------------------------------------------------------------


def test_a_gap_says_why_as_far_as_it_is_known():
    coverage = _watched([0, 1, 2, 10, 11]).add_note(4, 8, PAUSED)
    assert coverage.gaps_with_reasons() == ((3, 4, None), (4, 8, PAUSED), (8, 10, None))
    assert coverage.observe(12, 1.0).notes == coverage.notes


def test_a_pause_that_goes_on_explains_what_comes_after_the_end():
    coverage = _watched([0, 1, 2]).add_note(3, None, PAUSED)
    assert coverage.within(50, 60).main_reason() == PAUSED and coverage.within(50, 60).watched_seconds() == 0
    assert coverage.within(0, 2).main_reason() is None
    over = coverage.end_note(20).observe(20, 1.0)
    assert over.ongoing_note() is None and over.gaps_with_reasons() == ((3, 20, PAUSED),)
    assert coverage.end_note(3).notes == ()


def test_a_forgotten_span_is_a_gap_that_says_so_and_swallows_what_it_meets():
    coverage = _watched([0, 1, 2, 10, 11, 12, 13]).add_note(3, 10, PAUSED).forget(2, 12)
    assert coverage.gaps == ((2, 12),) and coverage.watched_seconds() == 4
    assert coverage.gaps_with_reasons() == ((2, 12, FORGOTTEN),)
    part = coverage.forget(-5, 1)
    assert part.gaps_with_reasons() == ((0, 1, FORGOTTEN), (2, 12, FORGOTTEN)) and part.start == 0


def test_forgetting_ends_where_watching_did():
    coverage = _watched([0, 1, 2, 3]).forget(2, 1e9)
    assert coverage.gaps == ((2, 4),) and coverage.end == 4
    assert coverage.observe(4, 1.0).gaps == ((2, 4),)
    assert Coverage().forget(0, 5) == Coverage() and coverage.forget(8, 9) == coverage


def test_a_new_note_replaces_the_part_that_it_covers():
    coverage = Coverage(0, 100).add_note(10, 50, PAUSED).add_note(20, 30, FORGOTTEN)
    assert coverage.notes == ((10, 20, PAUSED), (20, 30, FORGOTTEN), (30, 50, PAUSED))
    assert coverage.add_note(15, None, PAUSED).notes == ((10, 15, PAUSED), (15, None, PAUSED))


def test_notes_are_bounded():
    coverage = Coverage(0.0, 1e6)
    for i in range(2 * MAX_NOTES):
        coverage = coverage.add_note(i * 10.0, i * 10.0 + 3, PAUSED if i % 3 else FORGOTTEN)
        assert len(coverage.notes) <= MAX_NOTES
    assert all(a[1] <= b[0] for a, b in zip(coverage.notes, coverage.notes[1:], strict=False))
    assert coverage.notes[-1] == ((2 * MAX_NOTES - 1) * 10.0, (2 * MAX_NOTES - 1) * 10.0 + 3, PAUSED)
