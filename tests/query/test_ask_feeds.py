"""What the reader is fed. The reader here is arithmetic, so that is known."""

import json
from dataclasses import replace

import numpy as np

from edge_runtime.frame import Frame
from edge_runtime.query.photo_mosaic import mosaic
from edge_runtime.query.reader_inputs import make_context
from edge_runtime.query.schema import parse_query
from tests.support.asking import (
    NETWORK,
    STEPS,
    FakeReader,
    make_asker,
    make_ingest,
    make_manifest,
    make_photo,
    make_query,
    make_version,
)
from tests.support.fakes import WIDTH, fake_backbone, frames, small_network


def test_the_reader_sees_memory_then_recency_with_ticks_counted_from_the_oldest():
    reader, version = FakeReader(), make_version(42, start=100_000)
    make_asker(reader).ask(make_query("activity"), version)
    feeds, memory = reader.calls[0], version.memory
    m = NETWORK.memory_tokens
    assert (feeds["memory_features"][0, :m] == memory.features.astype(np.float32)).all()
    oldest = memory.tick.min()
    assert oldest >= 500_000 and (feeds["memory_tick"][0, :m] == memory.tick - oldest).all()
    assert (feeds["memory_cell"][0, :m] == memory.cell).all()
    assert feeds["memory_valid"].all()  # 20 in the memory, 10 of the two frames that wait
    assert set(feeds["memory_tick"][0, m:] + oldest) <= set(version.pending_ticks)


def test_a_stream_that_began_long_ago_feeds_what_one_that_began_now_feeds():
    calls = []
    for start in (0, 10_000_000):
        ingest, pictures = make_ingest(), frames(42)
        ingest.push([Frame(one.image, one.t + start) for one in pictures])
        reader = FakeReader()
        make_asker(reader).ask_all(
            [make_query(kind) for kind in ("activity", "object", "time")], ingest.version
        )
        calls.append(reader.calls[0])
    assert all(np.array_equal(calls[0][name], calls[1][name]) for name in calls[0])


def test_years_between_two_frames_never_wrap_to_the_other_side():
    """A clock that was set: 28 years are more ticks than the reader's 32 bits hold."""
    ingest, reader = make_ingest(), FakeReader()
    ingest.push(frames(40))
    ingest.push([Frame(one.image, one.t + 9e8) for one in frames(2)])
    whole = {"from": 0, "to": 9e8 + 2}
    kinds = [make_query(kind, **whole) for kind in ("activity", "object", "time")]
    told = make_asker(reader).ask_all(kinds, ingest.version)
    feeds, m = reader.calls[0], NETWORK.memory_tokens
    assert not feeds["memory_valid"][:, :m].any() and feeds["memory_valid"][:, m:].all()
    assert (feeds["memory_tick"] >= 0).all() and (feeds["memory_tick"] <= 5).all()
    steps = feeds["query_tick"][2][feeds["query_valid"][2]]
    assert (np.diff(steps.astype(np.int64)) >= 0).all() and steps[0] < 0 and 0 <= steps[-1] <= 10
    assert all(one.t >= 9e8 for answer in told for one in answer.evidence)


def test_the_recency_buffer_holds_tokens_of_the_running_clip_newest_included():
    version = make_version(43)
    context = make_context(version, make_manifest().network)
    recent = slice(NETWORK.memory_tokens, None)
    clip = version.clip()
    known = {(t, c): f for t, c, f in zip(clip.tick, clip.cell, clip.features, strict=True)}
    for t, c, f in zip(context.tick[recent], context.cell[recent], context.features[recent], strict=True):
        assert (known[t, c].astype(np.float32) == f).all()
    assert len(known) == 3 * 49 and len(set(context.tick[recent])) > 1


def test_before_the_first_clip_is_full_the_recency_buffer_is_all_there_is():
    context = make_context(make_version(1), make_manifest().network)
    m = NETWORK.memory_tokens
    assert not context.valid[:m].any() and context.valid[m:].all() and context.origin == 0
    assert not context.features[:m].any() and not context.tick[:m].any()


def test_right_after_a_clip_the_recency_buffer_is_empty():
    context = make_context(make_version(44), make_manifest().network)
    assert context.valid[: NETWORK.memory_tokens].all() and not context.valid[NETWORK.memory_tokens :].any()


def test_without_svd_the_newest_tokens_are_recent_and_no_summary_is_fed():
    network = small_network(svd_rank=0, sampler_novelty=False, clip_candidates=4 * 49)
    reader, version = FakeReader(network), make_version(43, network)
    make_asker(reader, network).ask(make_query("object"), version)
    assert "svd_basis" not in reader.calls[0]
    assert set(make_context(version, make_manifest(network).network).tick[-10:]) == {42 * 5}


def test_summary_tokens_are_the_basis_with_zeros_where_a_direction_is_not_known_yet():
    version = make_version(4)
    svd = version.background.svd
    svd = replace(svd, basis=svd.basis[:2], strength=svd.strength[:2])
    version = replace(version, background=replace(version.background, svd=svd))
    feeds = make_context(version, make_manifest().network).svd
    assert feeds["svd_basis"].shape == (3, WIDTH) and (feeds["svd_basis"][:2] == svd.basis).all()
    assert not feeds["svd_basis"][2].any() and feeds["svd_strength"][2] == 0 < feeds["svd_strength"][0]


def test_what_a_kind_does_not_name_is_masked():
    reader = FakeReader()
    make_asker(reader).ask_all(
        [make_query(kind) for kind in ("activity", "object", "time")], make_version(10)
    )
    feeds = reader.calls[0]
    assert feeds["object_valid"].tolist() == [True, False, True]
    assert feeds["activity_valid"].tolist() == [False, True, True]
    assert feeds["activity"].tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert not feeds["object_tokens"][1].any() and feeds["object_tokens"][0].any()


def test_only_tokens_of_the_asked_window_are_read():
    reader, version = FakeReader(), make_version(42)
    windows = ({}, {"from": 10, "to": 20})
    make_asker(reader).ask_all([make_query("activity", **window) for window in windows], version)
    context = make_context(version, make_manifest().network)
    whole, part = reader.calls[0]["memory_valid"]
    assert (whole == context.valid).all() and 0 < part.sum() < whole.sum()
    assert (part == (context.valid & (context.tick >= 50) & (context.tick <= 100))).all()


def test_evidence_comes_from_the_asked_window():
    answer = make_asker(FakeReader()).ask(make_query("activity", **{"from": 10, "to": 20}), make_version(42))
    assert answer.evidence and all(10 <= one.t <= 20 for one in answer.evidence)


def test_steps_are_spread_over_the_asked_window():
    reader, version = FakeReader(), make_version(42)
    make_asker(reader).ask(make_query("time", **{"from": 10, "to": 30}), version)
    feeds = reader.calls[0]
    ticks = (
        feeds["query_tick"][0][feeds["query_valid"][0]]
        + make_context(version, make_manifest().network).origin
    )
    assert len(ticks) == STEPS and ticks[0] == 50 and ticks[-1] == 150 and (np.diff(ticks) > 0).all()


def test_a_short_window_has_fewer_steps_and_the_rest_is_masked():
    reader, version = FakeReader(), make_version(42)
    t = float(make_context(version, make_manifest().network).tick[0]) / 5
    make_asker(reader).ask(make_query("time", **{"from": t, "to": t + 0.5}), version)
    feeds = reader.calls[0]
    count = feeds["query_valid"][0].sum()
    assert 1 <= count <= 4 and feeds["query_valid"][0, :count].all()
    assert not feeds["query_tick"][0, count:].any()


def test_boxes_are_asked_only_where_something_is_remembered():
    reader, version = FakeReader(), make_version(42)
    make_asker(reader).ask(make_query("object"), version)
    feeds, context = reader.calls[0], make_context(version, make_manifest().network)
    asked = feeds["query_tick"][0][feeds["query_valid"][0]] + context.origin
    assert set(asked) <= set(context.tick[context.valid])


def test_a_memory_with_tokens_of_every_picture_is_asked_for_boxes_where_something_is_relevant():
    network = small_network(even_tokens=1, clip_candidates=30)
    version = make_version(42, network)
    memory = version.memory
    scores = np.where(memory.tick >= np.median(memory.tick), 3.0, -3.0).astype(np.float32)
    reader = FakeReader(network)
    asker = make_asker(reader, network)
    asker.ask(make_query("object"), replace(version, memory=replace(memory, score=scores)))
    asker.ask(make_query("object"), replace(version, memory=replace(memory, score=np.full_like(scores, -3))))
    context = make_context(version, network)
    some, none = (call["query_tick"][0][call["query_valid"][0]] + context.origin for call in reader.calls[:2])
    assert some.min() >= np.median(memory.tick)
    assert none.min() == memory.tick.min()  # as of fifo, whose scores say nothing of relevance


def test_several_photos_are_their_mean_and_a_box_is_what_lies_in_it():
    reader, version = FakeReader(), make_version(10)
    asker = make_asker(reader)
    both = parse_query(json.dumps({"type": "activity", "object": {"photos": [make_photo(1), make_photo(2)]}}))
    there = parse_query('{"type": "activity", "object": {"box": [0.5, 0, 1, 0.5], "t": 3.4}}')
    asker.ask_all([make_query("activity", seed=1), make_query("activity", seed=2), both, there], version)
    tokens = reader.calls[0]["object_tokens"]
    np.testing.assert_allclose(tokens[2], (tokens[0] + tokens[1]) / 2, rtol=1e-5)
    cut = mosaic(frames(1, start=3, size=64)[0].image[:32, 32:], 32)
    assert (tokens[3] == fake_backbone(NETWORK)({"image": cut[None]})["tokens"][0]).all()
