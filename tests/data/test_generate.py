"""Questions: unique answers, negatives that never happened, capped, pure, and rejections are counted."""

from __future__ import annotations

from collections import Counter

import pytest

from edge_runtime.simulation.config import WorldConfig
from edge_runtime.simulation.world import World
from export.data.candidates import QueryRules
from export.data.crops import CropSource, make_catalogue_crops, make_file_crops, make_video_crops
from export.data.files import Tracks
from export.data.generate import GeneratedQueries, generate_queries, slide_windows
from export.data.query_writer import compute_chance_levels
from export.data.records import (
    Box,
    CropFile,
    CropInVideo,
    CropView,
    EventRecord,
    QueryRecord,
    TrackRecord,
    Video,
)
from export.data.world_set import make_world_events
from tests.support.tracks import make_tracks

WORLD = World(WorldConfig.level("L3", seed=3))
VIDEO = Video(video="L3-3", seed=3, level="L3", fps=5, width=64, height=36, duration_s=1860.0, split="test")
EVENTS = make_world_events(VIDEO, WORLD)


def box_at(instance: int, tick: int) -> Box:
    """Where an instance is: a little further each tick."""
    x, y = (instance % 24) / 32, (tick % 100) / 200
    return round(x, 5), round(y, 5), round(x + 0.1, 5), round(y + 0.2, 5)


@pytest.fixture(scope="module")
def tracks() -> Tracks:
    """Every product active in its events, and idle every five seconds."""
    busy = {
        (one.instance, tick): one for one in EVENTS for tick in range(round(one.t_s * 5), round(one.t_e * 5))
    }
    keys = busy.keys() | {(instance, tick) for instance in range(24) for tick in range(0, 9300, 25)}
    return make_tracks(
        TrackRecord(
            video="L3-3", instance=i, category="tea", tick5=tick, box=box_at(i, tick),
            active=1 if (i, tick) in busy else 0,
        )
        for i, tick in sorted(keys)
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tracks: Tracks) -> GeneratedQueries:
    return generate_queries(VIDEO, EVENTS, tracks, seed=5, instances=range(24))


def during(start: float, end: float) -> list[EventRecord]:
    return [event for event in EVENTS if event.t_s < end and event.t_e > start]


def told(query: QueryRecord) -> tuple[float, float]:
    assert query.t_s is not None and query.t_e is not None
    return query.t_s, query.t_e


def of(made: GeneratedQueries, kind: str, happened: bool) -> list[QueryRecord]:
    found = [query for query in made.queries if query.type == kind and query.happened == happened]
    assert found
    return found


def test_an_activity_question_tells_all_activities_of_its_object_in_the_window(
    made: GeneratedQueries,
) -> None:
    for query in of(made, "activity", True):
        truth = {one.activity for one in during(*told(query)) if one.instance == query.instance}
        assert set(query.activities) == truth and truth


def test_an_object_question_has_one_answer_and_a_box_a_tick(made: GeneratedQueries) -> None:
    for query in of(made, "object", True):
        found = [one for one in during(*told(query)) if one.activity == query.activities[0]]
        assert {one.instance for one in found} == {query.instance}
        for tick, box in query.boxes.items():
            assert query.instance is not None
            assert box == pytest.approx(box_at(query.instance, tick), abs=1e-5)
            assert any(one.t_s <= tick / 5 < one.t_e for one in found)


def test_a_time_question_has_one_answer_inside_its_window(made: GeneratedQueries) -> None:
    for query in of(made, "time", True):
        pair = (query.activities[0], query.instance)
        found = [one for one in during(query.q_s, query.q_e) if (one.activity, one.instance) == pair]
        assert [(one.t_s, one.t_e) for one in found] == [told(query)]


def test_what_negatives_ask_for_never_happened(made: GeneratedQueries) -> None:
    for query in of(made, "activity", False):
        assert all(one.instance != query.instance for one in during(*told(query)))
    for query in of(made, "object", False):
        assert all(one.activity != query.activities[0] for one in during(*told(query)))
    for query in of(made, "time", False):
        pair = (query.activities[0], query.instance)
        assert all((one.activity, one.instance) != pair for one in during(query.q_s, query.q_e))
        assert query.t_s is None


def test_property_windows_are_tight_or_at_least_thirty_seconds(made: GeneratedQueries) -> None:
    spans = {(event.t_s, event.t_e) for event in EVENTS}
    windows = [told(query) for kind in ("activity", "object") for query in of(made, kind, True)]
    tight = [window in spans for window in windows]
    assert 0.3 < sum(tight) / len(tight) < 0.7
    assert all(window in spans or window[1] - window[0] >= 29.5 for window in windows), (
        "loose windows are long"
    )


def test_crops_are_never_cut_out_of_an_event(made: GeneratedQueries) -> None:
    crops = [query for query in made.queries if isinstance(query.crop, CropInVideo)]
    assert len(crops) > 50
    for query in crops:
        assert isinstance(query.crop, CropInVideo)
        t = query.crop.tick5 / 5
        assert all(one.instance != query.instance for one in EVENTS if one.t_s <= t < one.t_e)


def test_types_and_durations_get_their_share(made: GeneratedQueries) -> None:
    counts = Counter((query.type, query.duration, query.happened) for query in made.queries)
    assert set(counts.values()) == {32, 8} and len(counts) == 18
    assert made.rejected["time/long: it happened several times"] > 0


def test_no_question_is_asked_twice(made: GeneratedQueries) -> None:
    assert len({query.qid for query in made.queries}) == len(made.queries)
    keys = Counter(
        (query.type, query.duration, query.activities, query.instance, query.t_s, query.t_e)
        for query in made.queries
        if query.happened
    )
    assert max(keys.values()) == 1


def test_questions_are_a_function_of_the_seed(tracks: Tracks) -> None:
    def asked(seed: int) -> list[QueryRecord]:
        return generate_queries(VIDEO, EVENTS, tracks, seed=seed, rules=QueryRules(per_cell=5)).queries

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)


def test_windows_slide_by_half_their_length_and_reach_the_end() -> None:
    assert slide_windows(700.0, "short") == [(0, 300), (150, 450), (300, 600), (400, 700)]
    assert slide_windows(1620.0, "long") == [(0, 1620)]
    assert slide_windows(700.0, "long") == []
    assert slide_windows(120.0, "short") == [(0, 120)] and slide_windows(120.0, "medium") == []


@pytest.mark.parametrize(
    ("crops", "kind"),
    [
        (make_catalogue_crops(WORLD), CropView),
        (make_file_crops(dict.fromkeys(range(24), ["a.png", "b.png"])), CropFile),
        (make_file_crops({}, make_catalogue_crops(WORLD)), CropView),
    ],
)
def test_crops_come_from_where_they_are_wanted(tracks: Tracks, crops: CropSource, kind: type) -> None:
    queries = generate_queries(VIDEO, EVENTS, tracks, rules=QueryRules(per_cell=4), crops=crops).queries
    assert {type(query.crop) for query in queries if query.type != "object"} == {kind}


def test_an_object_that_is_never_seen_idle_outside_its_events_is_not_asked_about() -> None:
    video = Video(video="v", path="v.mp4", fps=25, width=64, height=36, duration_s=200.0, split="test")
    event = EventRecord(video="v", event="e", activity=0, instance=1, t_s=10.0, t_e=20.0)
    record = TrackRecord(video="v", instance=1, category="cup", tick5=60, box=(0.1, 0.1, 0.2, 0.2), active=1)
    seen = make_tracks([record])
    made = generate_queries(
        video, [event], seen, rules=QueryRules(negatives=0.0), crops=make_video_crops(seen)
    )
    assert {query.type for query in made.queries} == {"object"}
    assert made.rejected["time/short: no crop of the object outside its events"] == 1


def test_a_video_without_events_has_no_questions() -> None:
    assert generate_queries(VIDEO, [], make_tracks([])).queries == []


def test_chance_levels_know_the_answers_that_need_no_eyes() -> None:
    def query(number: int, **changes: object) -> QueryRecord:
        base = {"qid": str(number), "video": "v", "duration": "short", "q_s": 0, "q_e": 100, "instance": 1}
        return QueryRecord.model_validate({**base, "t_s": 45, "t_e": 55, **changes})

    box = (0.2, 0.2, 0.4, 0.4)
    queries = [
        *(query(n, type="activity", activities=(0 if n < 3 else 1,)) for n in range(4)),
        *(query(10 + n, type="object", activities=(0,), boxes={n: box}) for n in range(3)),
        query(20, type="time", activities=(0,)),
        query(21, type="time", activities=(0,), t_s=5, t_e=15),
        query(22, type="time", activities=(0,), t_s=None, t_e=None, happened=False),
    ]
    levels = compute_chance_levels(queries, classes=5)
    assert levels["activity/short"]["recall_at_1x"] == 0.75
    assert levels["object/short"]["viou_at_0.3"] == 1.0
    assert levels["time/short"] == {
        "queries": 3, "negatives": 1, "mean_tiou": 0.5, "tiou_at_0.3": 0.5, "median_seconds": 10.0
    }  # fmt: skip
    assert "medium" not in "".join(levels)
