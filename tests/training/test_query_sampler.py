"""Questions about what a memory has been shown."""

import numpy as np
import pytest

from export.training.lvm.query_sampler import KINDS, QueryMix, SampledQuestion, draw_question, match_events
from tests.support.training_models import make_truth

ACTIVITY, OBJECT, TIME = range(3)
TRUTH = make_truth(
    (0, 0, 10, 40), (1, 1, 60, 90), (0, 0, 100, 130), (2, 0, 150, 180), (1, 2, 200, 230), (3, 1, 300, 330)
)  # fmt: skip
LAST = 1000


def question(kind, instance=-1, activity=-1, start=0, end=LAST, event=-1):
    return SampledQuestion(kind, instance, 0, activity, start, end, event)


def asking(**changes):
    return QueryMix(**{"photos": 3, "negatives": 0.0, "tight": 0.0, "unnamed": 0.0, **changes})


def drawn(count=400, truth=TRUTH, visited=None, fresh=None, seed=0, last=LAST, **changes):
    rng = np.random.default_rng(seed)
    everything = np.ones(len(truth), bool)
    visited = everything if visited is None else np.array(visited, bool)
    fresh = ~everything if fresh is None else np.array(fresh, bool)
    found = [draw_question(truth, visited, fresh, last, asking(**changes), rng) for _ in range(count)]
    return [one for one in found if one is not None]


def by_hand(one, visited):
    """Which events the question is about, told event by event and tick by tick."""
    window = set(range(one.start, one.end + 1))
    out = []
    for event in range(len(TRUTH)):
        ticks = set(range(int(TRUTH.start[event]), int(TRUTH.end[event])))
        meant = ticks <= window if KINDS[one.kind] == "time" else bool(ticks & window)
        meant &= one.instance in (-1, TRUTH.instance[event])
        meant &= one.activity in (-1, TRUTH.activity[event])
        out.append(bool(meant and visited[event]))
    return out


def test_matching_is_what_counting_ticks_tells(rng):
    for _ in range(500):
        start, length = int(rng.integers(0, 340)), int(rng.integers(0, 200))
        kind = int(rng.integers(3))
        one = question(
            kind,
            instance=-1 if kind == OBJECT else int(rng.integers(3)),
            activity=-1 if kind == ACTIVITY else int(rng.integers(4)),
            start=start,
            end=start + length,
        )
        visited = rng.random(len(TRUTH)) < 0.7
        assert match_events(one, TRUTH, visited).tolist() == by_hand(one, visited)


@pytest.mark.parametrize(("start", "end", "shared"), [(0, 9, 0), (0, 10, 1), (39, 50, 1), (40, 59, 0)])
def test_an_event_ends_before_its_end(start, end, shared):
    assert match_events(question(ACTIVITY, 0, start=start, end=end), TRUTH, np.ones(6, bool)).sum() == shared


def test_all_three_kinds_are_asked_activity_half_of_the_time():
    kinds = np.bincount([one.kind for one in drawn(1000)], minlength=3) / 1000
    np.testing.assert_allclose(kinds, [0.5, 0.25, 0.25], atol=0.08)


def test_each_kind_gives_what_it_is_asked_with():
    for one in drawn():
        assert (one.instance >= 0, one.activity >= 0) == (one.kind != OBJECT, one.kind != ACTIVITY)


def test_a_share_of_time_questions_names_no_activity_and_means_all_that_was_done():
    times = [one for one in drawn(1600, unnamed=0.3) if one.kind == TIME]
    unnamed = [one for one in times if one.activity < 0]
    assert len(unnamed) / len(times) == pytest.approx(0.3, abs=0.08)
    assert all(by_hand(one, [True] * 6)[one.event] for one in unnamed)
    assert {sum(by_hand(one, [True] * 6)) for one in unnamed} > {1}, "an object may be handled twice"


def test_only_what_was_visited_is_asked_for():
    visited = np.array([0, 1, 0, 1, 0, 0], bool)
    assert {one.event for one in drawn(visited=visited)} == {1, 3}


def test_places_and_times_have_one_answer():
    for one in drawn(400):
        if one.kind != ACTIVITY:
            assert np.flatnonzero(match_events(one, TRUTH, np.ones(6, bool))).tolist() == [one.event]


def test_a_question_is_about_the_event_it_was_drawn_for():
    for one in drawn():
        assert match_events(one, TRUTH, np.ones(6, bool))[one.event]


def test_every_window_holds_its_event_and_lies_in_the_video():
    for one in drawn(400):
        assert 0 <= one.start <= TRUTH.start[one.event]
        assert TRUTH.end[one.event] - 1 <= one.end <= LAST


def test_tight_windows_are_those_of_the_event():
    for one in drawn(tight=1.0):
        if one.kind != TIME:
            assert (one.start, one.end) == (TRUTH.start[one.event], TRUTH.end[one.event] - 1)


def test_windows_of_time_are_never_tight():
    """Their start and end would be the answer."""
    truth = make_truth((0, 0, 30_000, 30_025))
    lengths = [
        one.end + 1 - one.start for one in drawn(100, truth, last=60_000, tight=1.0) if one.kind == TIME
    ]
    assert set(lengths) == {1500, 4500, 9000}


def test_where_in_its_window_an_event_lies_tells_nothing():
    """In a video that is long on both sides the share of the window before the event is even."""
    truth = make_truth((0, 0, 30_000, 30_025))
    shares = [
        (30_000 - one.start) / (one.end + 1 - one.start - 25)
        for one in drawn(600, truth, last=60_000)
        if one.end - one.start > 1000
    ]
    counts, _ = np.histogram(shares, bins=4, range=(0, 1))
    assert counts.min() > 0.7 * len(shares) / 4


def test_loose_windows_are_of_all_lengths():
    truth = make_truth((0, 0, 30_000, 30_025))
    seconds = [(one.end + 1 - one.start) / 5 for one in drawn(600, truth, last=60_000) if one.kind != TIME]
    assert min(seconds) < 60 and max(seconds) > 900
    assert 30 - 1 <= min(seconds) and max(seconds) <= 1800 + 1


def test_negatives_never_happened_in_what_was_visited():
    visited = np.array([1, 1, 0, 1, 0, 1], bool)
    found = drawn(300, visited=visited, negatives=1.0)
    assert len(found) > 100
    assert all(not match_events(one, TRUTH, visited).any() and one.event == -1 for one in found)


def test_negatives_come_in_their_share():
    found = drawn(700, negatives=0.2)
    assert 0.1 < np.mean([one.event == -1 for one in found]) < 0.25


def test_negatives_ask_for_products_and_activities_that_there_are():
    for one in drawn(negatives=1.0):
        assert one.instance <= TRUTH.instance.max() and one.activity <= TRUTH.activity.max()


def test_half_of_the_questions_are_about_what_is_new():
    """Activity questions only: the others are drawn again until one event answers."""
    fresh = np.array([0, 0, 0, 0, 0, 1], bool)
    found = [one.event == 5 for one in drawn(1000, fresh=fresh) if one.kind == ACTIVITY]
    assert np.mean(found) == pytest.approx(0.5 + 0.5 / 6, abs=0.06)


def test_where_nothing_happened_nothing_is_asked():
    nothing = np.zeros(6, bool)
    assert drawn(20, visited=nothing) == []
    assert drawn(20, truth=make_truth()) == []


def test_no_place_is_asked_for_where_two_events_answer():
    truth = make_truth((0, 0, 100, 140), (0, 0, 160, 190))
    places = [one for one in drawn(300, truth, last=400) if one.kind == OBJECT]
    assert places and all(one.end < 160 or one.start >= 140 for one in places)


def test_all_views_of_a_product_are_asked_with():
    assert {one.photo for one in drawn()} == {0, 1, 2}


def test_a_question_and_its_row_are_the_same():
    one = drawn(1)[0]
    assert SampledQuestion(*one.row()) == one
