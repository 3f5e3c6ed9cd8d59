"""What was watched is never overstated."""

from edge_runtime.coverage import MAX_GAPS, Coverage


def _watched(times, period=1.0):
    coverage = Coverage()
    for t in times:
        coverage = coverage.observe(t, period)
    return coverage


def test_an_unbroken_stream_has_no_gap_and_its_whole_duration():
    coverage = _watched(range(40))
    assert (coverage.start, coverage.end, coverage.gaps) == (0, 40, ())
    assert coverage.watched() == 40


def test_jitter_below_half_a_period_is_no_gap():
    assert _watched([0, 1.04, 1.98, 3.3]).gaps == ()


def test_an_outage_is_a_gap():
    coverage = _watched([0, 1, 2, 10, 11])
    assert coverage.gaps == ((3, 10),)
    assert coverage.watched() == 5


def test_a_window_sees_only_its_part():
    coverage = _watched([0, 1, 2, 10, 11])
    part = coverage.within(2, 8)
    assert (part.start, part.end, part.gaps) == (2, 8, ((3, 8),))
    assert part.watched() == 1
    assert coverage.within(20, 30).watched() == 0
    assert coverage.within(4, 9).watched() == 0
    assert Coverage().within(0, 5).watched() == 0


def test_gaps_are_bounded_and_watched_time_is_never_overstated():
    times = [i * 3.0 for i in range(2 * MAX_GAPS)]
    coverage = _watched(times)
    assert len(coverage.gaps) <= MAX_GAPS
    assert coverage.watched() <= len(times)
    assert (coverage.start, coverage.end) == (0, times[-1] + 1)
    assert all(a[1] < b[0] for a, b in zip(coverage.gaps, coverage.gaps[1:], strict=False))
