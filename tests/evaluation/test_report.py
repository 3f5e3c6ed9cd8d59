"""Tables' numbers from results that are made up, so that every one is known."""

from typing import Any

import pytest

from engines.errors import LvmError
from export.evaluation.report import (
    TABLE_1,
    TABLE_2,
    TABLE_CELLS,
    cell_intervals,
    compare_cells,
    coverage_interval,
    covered_query_shares,
    list_seeds,
    make_recall_1x,
    presence_auroc,
    recall_3x,
    recall_by_gap,
)
from export.evaluation.results import EventResult, Result, SpanResult


def result(video: str, number: int, **changes: Any) -> Result:
    body: dict[str, Any] = {
        "qid": f"{video}/{number}",
        "video": video,
        "seed": 0,
        "type": "activity",
        "duration": "short",
        "window": "tight",
        "happened": True,
        "abstained": False,
        "hit1": 0.0,
        "hit3": 1.0,
    }
    return Result.model_validate({**body, **changes})


def run(share: float, seeds: tuple[int, ...] = (0, 1), **changes: Any) -> list[Result]:
    """Of four queries in each of three videos, the first `share` are hits."""
    return [
        result(video, number, seed=seed, hit1=float(number < 4 * share), **changes)
        for seed in seeds
        for video in "abc"
        for number in range(4)
    ]


def test_a_cell_is_the_mean_over_its_queries_with_videos_and_seeds_counted() -> None:
    found = cell_intervals(run(0.5), make_recall_1x("pointer"))
    assert set(found) == {("activity", "short")}
    one = found["activity", "short"]
    assert (one.estimate, one.n_videos, one.n_seeds) == (0.5, 3, 2)
    assert one.low == one.high == 0.5  # all videos are alike


def test_negatives_have_no_part_in_recall() -> None:
    never = [result(video, 9, happened=False, hit1=None, hit3=None) for video in "abc"]
    assert cell_intervals(run(0.5, (0,)) + never, make_recall_1x("bins")) == cell_intervals(
        run(0.5, (0,)), make_recall_1x("bins")
    )
    assert cell_intervals(never, recall_3x) == {}


def test_time_is_read_by_the_named_head_or_by_the_only_one_there_is() -> None:
    spans = {
        "bins": SpanResult(tiou=1.0, confidence=0.5),
        "pointer": SpanResult(tiou=0.0, confidence=0.5),
    }
    ours = [result("a", 0, type="time", spans=spans)]
    theirs = [result("a", 0, type="time", spans={"bins": spans["bins"]})]
    assert make_recall_1x("pointer")(ours[0]) == 0 and make_recall_1x("bins")(ours[0]) == 1
    assert make_recall_1x("pointer")(theirs[0]) == 1


def test_two_runs_are_compared_by_difference_and_ratio() -> None:
    difference, ratio = compare_cells(run(0.75), run(0.5), make_recall_1x("bins"), make_recall_1x("bins"))[
        "activity", "short"
    ]
    assert (difference.estimate, difference.low, difference.high) == (0.25, 0.25, 0.25)
    assert ratio.estimate == pytest.approx(1.5)


def test_runs_with_other_seeds_are_compared_on_the_same_videos() -> None:
    metric = make_recall_1x("bins")
    difference, _ = compare_cells(run(0.75, (0, 1, 2)), run(0.5, (7,)), metric, metric)["activity", "short"]
    assert difference.estimate == 0.25 and difference.n_seeds == 1


def test_runs_on_other_queries_are_refused() -> None:
    with pytest.raises(LvmError, match="the same queries"):
        compare_cells(
            run(0.5), run(0.5)[:-1] + [result("c", 17)], make_recall_1x("bins"), make_recall_1x("bins")
        )


def test_each_run_is_read_by_its_own_time_head() -> None:
    """Ours has learned with the pointer, theirs with bins; read by ours, theirs would be wrong each time."""
    spans = {
        "bins": SpanResult(tiou=1.0, confidence=0.5),
        "pointer": SpanResult(tiou=0.0, confidence=0.5),
    }
    runs = [result("a", n, type="time", spans=spans) for n in range(4)]
    difference, _ = compare_cells(runs, runs, make_recall_1x("bins"), make_recall_1x("pointer"))[
        "time", "short"
    ]
    assert difference.estimate == 1.0


def test_coverage_counts_events_with_enough_evidence() -> None:
    events = [EventResult(video="a", seed=0, event=i, evidence=i) for i in range(5)]
    assert coverage_interval(events).estimate == 0.8 and coverage_interval(events, 4).estimate == 0.2


def test_coverage_by_cell_counts_queries_of_what_happened() -> None:
    some = [result("a", i, evidence=i) for i in range(4)] + [result("a", 9, evidence=None)]
    assert covered_query_shares(some)["activity", "short"].estimate == 0.75


def test_objects_are_split_by_distance_to_their_evidence() -> None:
    gaps = [0.0, 0.9, 1.0, 3.9, 60.0, None]
    objects = [
        result("a", i, type="object", viou=0.5 if i % 2 else 0.1, evidence=i, evidence_gap_s=gap)
        for i, gap in enumerate(gaps)
    ]
    found = recall_by_gap(objects)
    assert {name: (n, one.estimate) for name, (n, one) in found.items()} == {
        "0 to 1 s": (2, 0.5),
        "1 to 2 s": (1, 0.0),
        "2 to 4 s": (1, 1.0),
        "4 s and more": (1, 0.0),
        "nothing remembered": (1, 1.0),
    }


def test_what_happened_is_told_from_what_never_did() -> None:
    some = [
        result(video, number, happened=number > 1, presence_logit=float(number))
        for video in "abc"
        for number in range(4)
    ]
    told = presence_auroc(some)
    assert told is not None and told.estimate == 1
    assert presence_auroc(run(0.5)) is None


def test_what_is_not_remembered_counts_as_surely_not_seen() -> None:
    some = [result("a", 0, presence_logit=-5.0), result("a", 1, happened=False)]
    told = presence_auroc(some)
    assert told is not None and told.estimate == 1


def test_a_run_that_was_given_twice_is_refused() -> None:
    assert list_seeds(run(0.5)) == (0, 1)
    with pytest.raises(LvmError, match="give each run folder once"):
        list_seeds(run(0.5) + run(0.5, (1,)))


def test_printed_tables_have_all_nine_cells() -> None:
    assert set(TABLE_1) == set(TABLE_2) == set(TABLE_CELLS) and len(TABLE_CELLS) == 9
