"""Teaching: descriptions, the layer and its left-out confidences, examples on disk, classes of a stream."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.persistence.encryption import Key
from edge_runtime.system.errors import QueryError
from edge_runtime.teaching.descriptions import (
    FrameDescriber,
    Frames,
    RecentFrames,
    describe_span,
    describe_windows,
)
from edge_runtime.teaching.examples import FILE, Example, ExampleFile, Video, make_example
from edge_runtime.teaching.linear_layer import RIDGES, fit_layer
from edge_runtime.teaching.taught_classes import _lower_bound, fit_classes
from engines.errors import LvmError

D = 8


def stream(seconds: int, events: list[tuple[int, int, int]], seed: int = 0) -> Frames:
    """Tokens of noise; while event (kind, start, end) lasts, three cells show its own tokens."""
    rng = np.random.default_rng(seed)
    looks = np.random.default_rng(99).normal(size=(4, D)) * 3
    base = rng.normal(size=(49, D))
    recent = RecentFrames(1e6)
    for t in range(seconds):
        tokens = base + 0.1 * rng.normal(size=(49, D))
        for kind, start, end in events:
            if start <= t < end:
                tokens[rng.integers(0, 49, 3)] = looks[kind]
        recent.add(tokens[None].astype(np.float32), [float(t)])
    return recent.take()


def examples_of(frames: Frames, marked: list[tuple[str, int, int]]):
    made = [make_example([frames], name, start, end, model="m") for name, start, end in marked]
    return [replace(example, id=number) for number, example in enumerate(made, 1)]


# -- descriptions ------------------------------------------------------------------------------------------


def test_a_frame_is_its_mean_and_the_mean_of_what_moves(rng):
    still = rng.normal(size=(49, D)).astype(np.float32)
    moved = still.copy()
    moved[[3, 8, 20, 21, 30, 48]] += 5
    describer = FrameDescriber()
    rows = [describer.describe(frame) for frame in (still, moved)]
    assert np.allclose(rows[0], np.tile(still.mean(0), 2), atol=1e-6), "nothing is known to have moved yet"
    assert np.allclose(
        rows[1], np.concatenate([moved.mean(0), moved[[3, 8, 20, 21, 30, 48]].mean(0)]), atol=1e-5
    )


def test_windows_are_described_as_each_alone(rng):
    times = np.sort(rng.uniform(0, 60, 80))
    frames = Frames(times, rng.normal(size=(80, 2 * D)).astype(np.float32))
    begins = np.arange(-2, 64, 0.7)
    kept, rows = describe_windows(frames, begins, 3.0)
    counts = [len(frames.within(begin, begin + 3.0)) for begin in begins]
    assert kept.tolist() == [number for number, count in enumerate(counts) if count >= 2]
    for number, row in zip(kept, rows, strict=True):
        own = frames.within(begins[number], begins[number] + 3.0).rows
        change = np.abs(np.diff(own[:, :D], axis=0)).mean(0)
        half = len(own) // 2
        trend = own[-half:, :D].mean(0) - own[:half, :D].mean(0)
        assert np.allclose(row, np.concatenate([own.mean(0), own.std(0), change, trend]), atol=1e-4)
        assert np.allclose(row, describe_span(own), atol=1e-4)


def test_recent_frames_are_bounded_and_forgotten(rng):
    recent = RecentFrames(100.0)
    for t in range(300):
        recent.add(rng.normal(size=(1, 49, D)).astype(np.float32), [float(t)])
    frames = recent.take()
    assert frames.times[0] == 199 and frames.times[-1] == 299 and len(frames) == 101
    assert recent.take(290.0).times.tolist() == list(range(290, 300))
    assert np.array_equal(recent.take(290.0).rows, frames.rows[-10:])
    assert recent.forget(250, 260) == 10 and len(recent.take().within(250, 260)) == 0


# -- the layer ---------------------------------------------------------------------------------------------


def test_confidences_are_those_of_layers_that_never_saw_the_group(rng):
    """The closed form against fitting again without each group, ridge by ridge."""
    rows = rng.normal(size=(24, 30)).astype(np.float32)
    positive = np.arange(24) % 3 == 0
    rows[positive] += 0.7
    groups = np.arange(24) // 4
    from edge_runtime.teaching import linear_layer

    label = np.where(positive, 1.0, -1.0)
    scale = np.maximum(rows.std(0), 0.1 * rows.std(0).mean() + 1e-6)
    x = ((rows - rows.mean(0)) / scale).astype(np.float64)
    unit = float((x * x).sum(1).mean())
    weight = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum()) * 24
    losses, by_ridge = [], []
    for ridge in RIDGES:
        values = np.empty(24)
        for group in np.unique(groups):
            seen = groups != group
            design = np.hstack([x, np.full((24, 1), np.sqrt(unit))])
            a = design[seen]
            solved = np.linalg.solve(
                a.T @ (weight[seen, None] * a) + ridge * unit * np.eye(31), a.T @ (weight[seen] * label[seen])
            )
            values[~seen] = design[~seen] @ solved
        by_ridge.append(values)
        slope, shift = linear_layer._calibrate(values, label)
        losses.append((weight * np.logaddexp(0, -label * (slope * values + shift))).mean())
    best = by_ridge[int(np.argmin(losses))]
    slope, shift = linear_layer._calibrate(best, label)
    fit = fit_layer(rows, positive, groups)
    assert np.allclose(fit.left_out, 1 / (1 + np.exp(-(slope * best + shift))), atol=1e-5)


def test_noise_is_not_taken_for_a_class(rng):
    rows = rng.normal(size=(60, 40)).astype(np.float32)
    positive = np.arange(60) % 4 == 0
    fit = fit_layer(rows, positive, np.arange(60))
    said = fit.left_out >= 0.5
    assert abs(said[positive].mean() - said[~positive].mean()) < 0.35
    with pytest.raises(ValueError, match="rows that do not"):
        fit_layer(rows, [True] * 60, range(60))


# -- examples ----------------------------------------------------------------------------------------------


def test_an_example_has_what_lies_beside_it_and_no_picture(tmp_path):
    frames = stream(60, [(0, 20, 26)])
    example = make_example([frames], "stocking", 20, 26, model="m", epoch=1000.0)
    assert example.spans == (
        (20, 26), (17, 23), (23, 29), (15, 20), (26, 31), (10, 15), (31, 36),
    )  # fmt: skip
    assert example.rows.shape == (7, 6 * D)
    with pytest.raises(QueryError, match=r"of 80\.0 to 90\.0 s is still known .* from 0\.0 to 59\.0 s"):
        make_example([frames], "stocking", 80, 90, model="m")
    with pytest.raises(QueryError, match="up to 120 s, got 500 s"):
        make_example([frames], "stocking", 0, 500, model="m")
    with pytest.raises(QueryError, match="1 to 80 printable letters"):
        make_example([frames], "a\nb", 20, 26, model="m")


@pytest.mark.parametrize("seconds", [2, 3, 4, 5, 20])
def test_a_short_video_that_is_an_example_as_a_whole_is_told_from_nothing_of_itself(seconds):
    frames = stream(seconds, [(0, 0, seconds)])
    example = make_example([frames], "red", 0, seconds - 1 + 1e-3, model="m")
    assert len(example.spans) == example.own == 1
    wider = stream(seconds + 60, [(0, 30, 30 + seconds)])
    example = make_example([wider], "red", 30, 30 + seconds, model="m")
    assert len(example.spans) == 7, "two halves and four spans beside it"


@pytest.mark.parametrize("key", [None, Key(bytes(32))])
def test_examples_outlast_the_process(tmp_path, key):
    frames = stream(60, [(0, 20, 26)])
    file = ExampleFile(tmp_path, key)
    assert file.read() == [] and file.stamp() is None
    first = file.add(make_example([frames], "stocking", 20, 26, model="m"))
    second = file.add(
        make_example([frames], "stocking", 30, 36, model="m", shows=False, video=Video("a.mp4", "d"))
    )
    assert [first.id, second.id] == [1, 2]
    again = ExampleFile(tmp_path, key).read()
    assert again == [first, second] and all(
        np.array_equal(a.rows, b.rows) for a, b in zip(again, (first, second), strict=True)
    )
    if key is not None:
        assert b"stocking" not in (tmp_path / FILE).read_bytes()
        with pytest.raises(LvmError, match="sealed with key"):
            ExampleFile(tmp_path).read()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(QueryError, match="nearest is 'stocking'"):
        file.remove("stockin")
    with pytest.raises(QueryError, match="has no example 7; it has 1, 2"):
        file.remove("stocking", 7)
    assert file.remove("stocking", 1) == 1 and [one.id for one in file.read()] == [2]
    assert file.remove("stocking") == 1 and not (tmp_path / FILE).exists()


def test_forgetting_reaches_what_is_kept_beside_an_example(tmp_path):
    frames = stream(100, [(0, 20, 26), (0, 70, 76)])
    file = ExampleFile(tmp_path)
    for start in (20, 70):
        file.add(make_example([frames], "stocking", start, start + 6, model="m"))
    file.add(make_example([frames], "stocking", 20, 26, model="m", video=Video("video.mp4", "d")))
    assert file.forget(26, 27) == 1, "the span beside the first one shares its second 26"
    assert [(one.start, one.source) for one in file.read()] == [(70, None), (20, "video.mp4")]
    assert file.forget(0, 10) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-40],
        lambda data: b"\xff" * 64 + data,
        lambda data: data.replace(b'"format": 1', b'"format": 9'),
        lambda data: data.replace(b'"own": 1', b'"own": 8'),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, spoil):
    file = ExampleFile(tmp_path)
    file.add(make_example([stream(60, [])], "stocking", 20, 26, model="m"))
    (tmp_path / FILE).write_bytes(spoil((tmp_path / FILE).read_bytes()))
    with pytest.raises(LvmError, match="damaged or of another version"):
        file.read()


# -- classes of a stream -----------------------------------------------------------------------------------

EVENTS = [(number % 3, 20 + 25 * number, 26 + 25 * number) for number in range(24)]


def test_a_few_examples_find_the_others():
    frames = stream(640, EVENTS)
    marked = [(f"kind {kind}", start, end) for kind, start, end in EVENTS[:9]]
    taught = fit_classes(examples_of(frames, marked), "m")
    assert taught.names == ("kind 0", "kind 1", "kind 2") and taught.waiting == ()
    assert all(
        known.examples == 3 and known.recall >= 0.6 and known.false_rate < 0.25 for known in taught.classes
    )
    detections = taught.detect(frames.within(240, 640), {})
    found = [(taught.names[one.best], one.start, one.end) for one in detections]
    expected = [(f"kind {kind}", start, end) for kind, start, end in EVENTS[9:]]
    assert [name for name, _, _ in found] == [name for name, _, _ in expected]
    for (_, start, end), (_, a, b) in zip(found, expected, strict=True):
        assert abs(start - a) <= 2.5 and abs(end - b) <= 2.5
    assert taught.detect(frames.within(240, 640), {f"kind {kind}": 1.1 for kind in range(3)}) == []


def test_passes_that_overlap_see_the_same_windows():
    frames = stream(640, EVENTS)
    taught = fit_classes(examples_of(frames, [("kind 0", start, end) for _, start, end in EVENTS[:9:3]]), "m")
    whole = [(round(one.start, 3), round(one.end, 3)) for one in taught.detect(frames.within(240, 640), {})]
    parts = set()
    for begin in range(240, 640, 40):
        for one in taught.detect(frames.within(begin - 10, begin + 50), {}):
            parts.add((round(one.start, 3), round(one.end, 3)))
    assert set(whole) <= parts


def test_one_example_is_too_few_to_say_how_sure_and_examples_of_another_bundle_wait():
    frames = stream(200, EVENTS)
    examples = examples_of(frames, [("kind 0", *EVENTS[0][1:])])
    (only,) = fit_classes(examples, "m").classes
    assert only.recall is None and only.missing >= 1
    other = fit_classes(examples, "another bundle")
    assert other.names == () and other.waiting == ("kind 0",)
    json.dumps(only.as_json())


def test_it_asks_for_more_examples_until_it_is_sure():
    assert [round(_lower_bound(1.0, count), 2) for count in (1, 3, 6, 10)] == [0.38, 0.65, 0.79, 0.86]
    frames = stream(640, EVENTS)
    marks = [("kind 0", start, end) for kind, start, end in EVENTS if kind == 0]
    missing = [fit_classes(examples_of(frames, marks[:count]), "m").classes[0].missing for count in (2, 4, 8)]
    assert missing == [5, 3, 0]


def test_what_is_marked_as_something_else_is_no_longer_found():
    """Two events that look alike in part: a counterexample tells them apart."""
    frames = stream(640, [*EVENTS[:12], *[(3, start, end) for _, start, end in EVENTS[12:]]])
    marks = [("kind 0", start, end) for kind, start, end in EVENTS[:12] if kind == 0]
    shown = examples_of(frames, marks)
    other = make_example([frames], "kind 0", *EVENTS[12][1:], shows=False, model="m")
    taught = fit_classes([*shown, replace(other, id=99)], "m")
    assert taught.detect(frames.within(EVENTS[13][1] - 10, 640), {}) == []
    assert taught.classes[0].examples == len(marks)


def test_a_short_activity_within_a_long_one_is_both():
    begins = range(40, 900, 120)
    frames = stream(900, [*((0, t, t + 60) for t in begins), *((1, t + 30, t + 35) for t in begins)])
    marks = [("at the table", t, t + 60) for t in range(40, 400, 120)]
    marks += [("drinks", t + 30, t + 35) for t in range(40, 400, 120)]
    taught = fit_classes(examples_of(frames, marks), "m")
    found = [taught.names[one.best] for one in taught.detect(frames.within(400, 640), {})]
    assert {"at the table", "drinks"} <= set(found)


def test_one_time_marked_ten_times_is_one_example():
    rng = np.random.default_rng(3)
    recent = RecentFrames(1e6)
    for t in range(300):
        recent.add(rng.normal(size=(1, 49, D)).astype(np.float32), [float(t)])
    frames = recent.take()
    shifted = [make_example([frames], "noise", 100 + 0.4 * n, 106 + 0.4 * n, model="m") for n in range(5)]
    (known,) = fit_classes([replace(one, id=n + 1) for n, one in enumerate(shifted)], "m").classes
    assert known.examples == 5 and known.independent == 1 and known.recall is None


def test_the_same_time_is_marked_once_and_may_be_corrected(tmp_path):
    frames, file = stream(60, []), ExampleFile(tmp_path)
    file.add(make_example([frames], "stocking", 20, 26, model="m"))
    with pytest.raises(QueryError, match="was marked before, as example 1 of stocking"):
        file.add(make_example([frames], "stocking", 20.5, 26.2, model="m"))
    file.add(make_example([frames], "stocking", 20, 26, model="m", shows=False))
    assert [one.shows for one in file.read()] == [False]


def test_nothing_is_recognised_across_a_gap_or_beyond_what_was_watched():
    frames = stream(640, EVENTS)
    taught = fit_classes(examples_of(frames, [("kind 0", start, end) for _, start, end in EVENTS[:9:3]]), "m")
    whole = taught.detect(frames.within(300, 640), {})
    hole = np.r_[0 : np.searchsorted(frames.times, 345), np.searchsorted(frames.times, 420) : len(frames)]
    torn = Frames(frames.times[hole], frames.rows[hole]).within(300, 640)
    expected = [one for one in whole if one.end <= 345 or one.start >= 420]
    found = [one for one in taught.detect(torn, {}) if one.end <= 345 or one.start >= 421]
    assert [round(one.start) for one in found] == [round(one.start) for one in expected]
    assert not [one for one in taught.detect(torn, {}) if one.start < 400 and one.end > 350]
    assert taught.detect(frames.within(318, 321), {}) == [], "three of six seconds are no window yet"
    with pytest.raises(QueryError, match="still known frame by frame"):
        make_example([torn], "kind 0", 340, 425, model="m")


def test_examples_of_a_stream_before_are_compared_by_the_clock(tmp_path):
    frames, file = stream(100, []), ExampleFile(tmp_path)
    file.add(make_example([frames], "stocking", 20, 26, model="m", epoch=1000.0))
    assert file.forget(20, 26, epoch=5000.0) == 0, "second 20 of today's stream is another time"
    assert file.forget(1020 - 1015, 1026 - 1015, epoch=1015.0) == 1


def test_a_hundred_classes_are_fitted_in_seconds():
    rng = np.random.default_rng(0)
    spans = [((50.0 * n, 50.0 * n + 6), (50.0 * n + 6, 50.0 * n + 12)) for n in range(1000)]
    rows = rng.normal(size=(1000, 2, 640)).astype(np.float32)
    examples = [Example(n, f"class {n % 100}", True, None, None, "m", spans[n], rows[n]) for n in range(1000)]
    started = time.process_time()
    assert len(fit_classes(examples, "m").classes) == 100
    assert time.process_time() - started < 30


def test_times_of_one_video_are_judged_by_one_another_and_videos_as_a_whole():
    frames = stream(640, EVENTS)
    marks = [("kind 0", *EVENTS[number][1:]) for number in (0, 3, 6)]

    def fitted(videos):
        made = [
            replace(make_example([frames], *mark, model="m", video=Video(f"{v}.mp4", v)), id=number)
            for number, (mark, v) in enumerate(zip(marks, videos, strict=True), 1)
        ]
        return fit_classes(made, "m").classes[0]

    assert fitted("aaa").independent == 3 and fitted("aaa").recall is not None
    assert fitted("aab").independent == 2


def test_a_video_is_scored_as_its_examples_were_taught():
    """Whole videos of four to thirty seconds teach: one of thirty is scored whole, not by its best part."""

    def video(seconds: int, kind: int, number: int) -> Frames:
        return stream(seconds, [(kind, second, second + 1) for second in range(0, seconds, 3)], number)

    lengths = (4, 30, 8, 15)
    examples = [
        replace(
            make_example(
                [frames], "ab"[kind], 0, seconds - 1 + 1e-3, model="m", video=Video("v", f"{kind} {seconds}")
            ),
            id=1 + 10 * kind + number,
        )
        for kind in (0, 1)
        for number, seconds in enumerate(lengths)
        for frames in [video(seconds, kind, number + 50 * kind)]
    ]
    first, _ = fit_classes(examples, "m").classes
    assert first.whole_s == pytest.approx(2 * 29, abs=0.1) and first.length < 4
    for seconds in (3, 30, 50):
        frames = video(seconds, 0, 99)
        score = fit_classes(examples, "m").score([frames])["a"]
        assert score == pytest.approx(float(first.layer.score(describe_span(frames.rows)[None])[0]))
    # Marked within a video, the activity is looked for in each part of another one.
    marked = [
        replace(make_example([stream(60, [(0, at, at + 4)], at)], "a", at, at + 4, model="m"), id=at)
        for at in (20, 30, 40)
    ]
    (known,) = fit_classes(marked, "m").classes
    assert known.whole_s == 2 * known.length < 10


def test_the_ridge_is_chosen_by_order_and_not_by_size():
    """Looks of recordings vary much where the class differs little: a large ridge sees the looks."""
    right = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        spectrum = np.arange(1, 301) ** -0.7
        mixed = rng.normal(size=(300, 300)) * spectrum[:, None]
        direction = (rng.normal(size=300) * spectrum) @ mixed
        positive = np.arange(200) % 2 == 0
        rows = (0.8 * rng.normal(size=(100, 300)).repeat(2, 0) + rng.normal(size=(200, 300))) @ mixed
        rows = rows / rows.std(0) + np.outer(0.4 * (positive - 0.5), direction / direction.std())
        layer = fit_layer(rows[:40], positive[:40], np.arange(40) // 2).layer
        score = layer.score(rows[40:].astype(np.float32))
        right.append((score[positive[40:]][:, None] > score[~positive[40:]]).mean())
    assert np.mean(right) > 0.79, right
