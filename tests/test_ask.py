"""What the reader is fed, and what its outputs become. The reader here is arithmetic, so both are known.

Letters: Q questions of a run, n tokens (memory, then recency), L steps, C classes.
"""

import base64
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import WIDTH, fake_backbone, fake_sampler, frames, small_network

from edge_runtime.ask import MAX_BATCH, MAX_EVIDENCE, Asker
from edge_runtime.context import make_context
from edge_runtime.frame import Frame
from edge_runtime.ingest import Ingest, empty_version
from edge_runtime.mosaic import mosaic
from edge_runtime.objects import ObjectEncoder
from edge_runtime.queries import QueryError, parse_query
from edge_runtime.samplers import make_sampler
from engines.fake import FakeEngine
from engines.manifest import ActivityClass, Manifest, Scaling, Thresholds, TrainingRecord
from engines.spec import TensorSpec
from export.contracts import graph_inputs

NETWORK = small_network()
N, STEPS, CLASSES = NETWORK.reader_tokens, NETWORK.query_steps, NETWORK.activities
NAMES = ("scan", "bag", "Return_Shelf")


def _manifest(network=NETWORK, *, trained=True, **thresholds) -> Manifest:
    return Manifest(
        format_version=1,
        name="fake",
        network=network,
        classes=tuple(ActivityClass(name=name, doing=name) for name in NAMES),
        graphs={},
        weights=None,
        files={},
        training=TrainingRecord(trained=trained, recipe="none"),
        thresholds=Thresholds(**thresholds),
    )


class FakeReader(FakeEngine):
    """Keeps its feeds. Every output depends on each of its row's inputs and on nothing of other rows."""

    def __init__(self, network=NETWORK, *, presence: float = 5.0) -> None:
        n, width = network.reader_tokens, network.d_backbone
        svd = (
            TensorSpec("svd_basis", "float32", ("batch", network.svd_rank, width)),
            TensorSpec("svd_strength", "float32", ("batch", network.svd_rank)),
        )
        inputs = (
            TensorSpec("memory_features", "float32", ("batch", n, width)),
            TensorSpec("memory_tick", "int32", ("batch", n)),
            TensorSpec("memory_cell", "int32", ("batch", n)),
            TensorSpec("memory_valid", "bool", ("batch", n)),
            *(svd if network.summary_rank else ()),
            *(spec for spec in graph_inputs(network, "reader") if spec.name.startswith("queue_")),
            TensorSpec("object_tokens", "float32", ("batch", 49, width)),
            TensorSpec("object_valid", "bool", ("batch",)),
            TensorSpec("activity", "float32", ("batch", CLASSES)),
            TensorSpec("activity_valid", "bool", ("batch",)),
            TensorSpec("query_tick", "int32", ("batch", STEPS)),
            TensorSpec("query_valid", "bool", ("batch", STEPS)),
        )
        super().__init__(self._answer, inputs, ())
        self.calls: list[dict[str, np.ndarray]] = []
        self.presence = presence

    def _answer(self, feeds):
        self.calls.append({name: array.copy() for name, array in feeds.items()})
        q = len(feeds["activity"])
        seed = feeds["object_tokens"].mean((1, 2)) + feeds["activity"] @ np.arange(1, CLASSES + 1) / 10
        step = feeds["query_tick"].astype(np.float32)[..., None]  # (Q, L, 1)
        box = np.concatenate([0.2 + 0 * step, 0.3 + 0 * step, 0.1 + step / 1e4, 0.2 + 0 * step], -1)
        evidence = np.abs(feeds["memory_features"].sum(-1)) + seed[:, None] ** 2 + 0.1  # (Q, n)
        return {
            "activity_logits": np.stack([seed, seed * 2 + 1, seed - 1], 1).astype(np.float32),
            "boxes_cxcywh": box.astype(np.float32),
            "start_logits": (-np.abs(step[..., 0] - 20)).astype(np.float32),
            "end_logits": (-np.abs(step[..., 0] - 40)).astype(np.float32),
            "pointer_logits": evidence.astype(np.float32),
            "pointer_offsets": np.full((q, evidence.shape[1], 2), 0.5, np.float32),
            "presence_logit": np.full(q, self.presence, np.float32),
            "evidence": (evidence / evidence.sum(1, keepdims=True)).astype(np.float32),
        }


def _ingested(count: int, network=NETWORK, start: float = 0.0):
    ingest = _ingest(network)
    ingest.push(frames(count, start=start))
    return ingest.version


def _ingest(network=NETWORK):
    sampler = make_sampler("neural", fake_sampler(network))
    return Ingest(network, fake_backbone(network), sampler, empty_version(network))


def _asker(reader, network=NETWORK, **manifest) -> Asker:
    shown = {frame.t: frame for frame in frames(60, size=64)}
    objects = ObjectEncoder(fake_backbone(network), 32, frame_at=lambda t: shown[int(t)], catalogue=None)
    return Asker(_manifest(network, **manifest), reader, objects)


def _photo(seed: int = 0) -> str:
    image = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    return base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()


def _query(kind: str, *, activity: str = "bag", seed: int = 0, **more):
    body = {"type": kind, **more}
    if kind != "object":
        body["object"] = {"photos": [_photo(seed)]}
    if kind != "activity":
        body["activity"] = activity
    return parse_query(json.dumps(body))


def _without_clock(answer):
    return answer.model_copy(update={"milliseconds": 0.0})


# -- feeds -------------------------------------------------------------------------------------------------


def test_the_reader_sees_memory_then_recency_with_ticks_counted_from_the_oldest():
    reader, version = FakeReader(), _ingested(42, start=100_000)
    _asker(reader).ask(_query("activity"), version)
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
        ingest, pictures = _ingest(), frames(42)
        ingest.push([Frame(one.image, one.t + start) for one in pictures])
        reader = FakeReader()
        _asker(reader).ask_all([_query(kind) for kind in ("activity", "object", "time")], ingest.version)
        calls.append(reader.calls[0])
    assert all(np.array_equal(calls[0][name], calls[1][name]) for name in calls[0])


def test_years_between_two_frames_never_wrap_to_the_other_side():
    """A clock that was set: 28 years are more ticks than the reader's 32 bits hold."""
    ingest, reader = _ingest(), FakeReader()
    ingest.push(frames(40))
    ingest.push([Frame(one.image, one.t + 9e8) for one in frames(2)])
    whole = {"from": 0, "to": 9e8 + 2}
    kinds = [_query(kind, **whole) for kind in ("activity", "object", "time")]
    told = _asker(reader).ask_all(kinds, ingest.version)
    feeds, m = reader.calls[0], NETWORK.memory_tokens
    assert not feeds["memory_valid"][:, :m].any() and feeds["memory_valid"][:, m:].all()
    assert (feeds["memory_tick"] >= 0).all() and (feeds["memory_tick"] <= 5).all()
    steps = feeds["query_tick"][2][feeds["query_valid"][2]]
    assert (np.diff(steps.astype(np.int64)) >= 0).all() and steps[0] < 0 and 0 <= steps[-1] <= 10
    assert all(one.t >= 9e8 for answer in told for one in answer.evidence)


def test_the_recency_buffer_holds_tokens_of_the_running_clip_newest_included():
    version = _ingested(43)
    context = make_context(version, _manifest().network)
    recent = slice(NETWORK.memory_tokens, None)
    clip = version.clip()
    known = {(t, c): f for t, c, f in zip(clip.tick, clip.cell, clip.features, strict=True)}
    for t, c, f in zip(context.tick[recent], context.cell[recent], context.features[recent], strict=True):
        assert (known[t, c].astype(np.float32) == f).all()
    assert len(known) == 3 * 49 and len(set(context.tick[recent])) > 1


def test_before_the_first_clip_is_full_the_recency_buffer_is_all_there_is():
    context = make_context(_ingested(1), _manifest().network)
    m = NETWORK.memory_tokens
    assert not context.valid[:m].any() and context.valid[m:].all() and context.origin == 0
    assert not context.features[:m].any() and not context.tick[:m].any()


def test_right_after_a_clip_the_recency_buffer_is_empty():
    context = make_context(_ingested(44), _manifest().network)
    assert context.valid[: NETWORK.memory_tokens].all() and not context.valid[NETWORK.memory_tokens :].any()


def test_without_svd_the_newest_tokens_are_recent_and_no_summary_is_fed():
    network = small_network(svd_rank=0, sampler_novelty=False, clip_candidates=4 * 49)
    reader, version = FakeReader(network), _ingested(43, network)
    _asker(reader, network).ask(_query("object"), version)
    assert "svd_basis" not in reader.calls[0]
    assert set(make_context(version, _manifest(network).network).tick[-10:]) == {42 * 5}


def test_summary_tokens_are_the_basis_with_zeros_where_a_direction_is_not_known_yet():
    version = _ingested(4)
    svd = version.background.svd
    svd = replace(svd, basis=svd.basis[:2], strength=svd.strength[:2])
    version = replace(version, background=replace(version.background, svd=svd))
    feeds = make_context(version, _manifest().network).svd
    assert feeds["svd_basis"].shape == (3, WIDTH) and (feeds["svd_basis"][:2] == svd.basis).all()
    assert not feeds["svd_basis"][2].any() and feeds["svd_strength"][2] == 0 < feeds["svd_strength"][0]


def test_what_a_kind_does_not_name_is_masked():
    reader = FakeReader()
    _asker(reader).ask_all([_query(kind) for kind in ("activity", "object", "time")], _ingested(10))
    feeds = reader.calls[0]
    assert feeds["object_valid"].tolist() == [True, False, True]
    assert feeds["activity_valid"].tolist() == [False, True, True]
    assert feeds["activity"].tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert not feeds["object_tokens"][1].any() and feeds["object_tokens"][0].any()


def test_only_tokens_of_the_asked_window_are_read():
    reader, version = FakeReader(), _ingested(42)
    windows = ({}, {"from": 10, "to": 20})
    _asker(reader).ask_all([_query("activity", **window) for window in windows], version)
    context = make_context(version, _manifest().network)
    whole, part = reader.calls[0]["memory_valid"]
    assert (whole == context.valid).all() and 0 < part.sum() < whole.sum()
    assert (part == (context.valid & (context.tick >= 50) & (context.tick <= 100))).all()


def test_evidence_comes_from_the_asked_window():
    answer = _asker(FakeReader()).ask(_query("activity", **{"from": 10, "to": 20}), _ingested(42))
    assert answer.evidence and all(10 <= one.t <= 20 for one in answer.evidence)


def test_steps_are_spread_over_the_asked_window():
    reader, version = FakeReader(), _ingested(42)
    _asker(reader).ask(_query("time", **{"from": 10, "to": 30}), version)
    feeds = reader.calls[0]
    ticks = (
        feeds["query_tick"][0][feeds["query_valid"][0]] + make_context(version, _manifest().network).origin
    )
    assert len(ticks) == STEPS and ticks[0] == 50 and ticks[-1] == 150 and (np.diff(ticks) > 0).all()


def test_a_short_window_has_fewer_steps_and_the_rest_is_masked():
    reader, version = FakeReader(), _ingested(42)
    t = float(make_context(version, _manifest().network).tick[0]) / 5
    _asker(reader).ask(_query("time", **{"from": t, "to": t + 0.5}), version)
    feeds = reader.calls[0]
    count = feeds["query_valid"][0].sum()
    assert 1 <= count <= 4 and feeds["query_valid"][0, :count].all()
    assert not feeds["query_tick"][0, count:].any()


def test_boxes_are_asked_only_where_something_is_remembered():
    reader, version = FakeReader(), _ingested(42)
    _asker(reader).ask(_query("object"), version)
    feeds, context = reader.calls[0], make_context(version, _manifest().network)
    asked = feeds["query_tick"][0][feeds["query_valid"][0]] + context.origin
    assert set(asked) <= set(context.tick[context.valid])


def test_several_photos_are_their_mean_and_a_box_is_what_lies_in_it():
    reader, version = FakeReader(), _ingested(10)
    asker = _asker(reader)
    both = parse_query(json.dumps({"type": "activity", "object": {"photos": [_photo(1), _photo(2)]}}))
    there = parse_query('{"type": "activity", "object": {"box": [0.5, 0, 1, 0.5], "t": 3.4}}')
    asker.ask_all([_query("activity", seed=1), _query("activity", seed=2), both, there], version)
    tokens = reader.calls[0]["object_tokens"]
    np.testing.assert_allclose(tokens[2], (tokens[0] + tokens[1]) / 2, rtol=1e-5)
    cut = mosaic(frames(1, start=3, size=64)[0].image[:32, 32:], 32)
    assert (tokens[3] == fake_backbone(NETWORK)({"image": cut[None]})["tokens"][0]).all()


# -- batches -----------------------------------------------------------------------------------------------


def test_mixed_questions_asked_together_get_the_answers_of_each_alone():
    reader, version = FakeReader(), _ingested(42)
    queries = [
        _query(kind, seed=seed, activity=NAMES[seed % 3], **window)
        for seed in range(4)
        for kind in ("activity", "object", "time")
        for window in ({}, {"from": 5, "to": 20}, {"from": 900})
    ]
    together = _asker(reader).ask_all(queries, version)
    assert [len(call["activity"]) for call in reader.calls] == [11, 11, 2] and MAX_BATCH == 16
    alone = [_asker(FakeReader()).ask(query, version) for query in queries]
    assert list(map(_without_clock, together)) == list(map(_without_clock, alone))
    assert len({answer.model_dump_json() for answer in map(_without_clock, together)}) > 6


def test_no_questions_are_no_answers():
    assert _asker(FakeReader()).ask_all([], _ingested(5)) == []


def test_an_answer_does_not_change_when_the_memory_moves_on():
    ingest = _ingest()
    before = ingest.push(frames(20))
    asker, query = _asker(FakeReader()), _query("time")
    first = asker.ask(query, before)
    after = ingest.push(frames(20, start=20))
    later = asker.ask(query, after)
    again = asker.ask(query, before)
    assert _without_clock(first) == _without_clock(again) != _without_clock(later)
    assert first.memory_version == 5 and later.memory_version == 10
    fresh = _asker(FakeReader())
    assert _without_clock(later) == _without_clock(fresh.ask(query, after))


def test_what_an_answer_was_made_of_belongs_to_its_own_question():
    queries = [_query("time", activity=name) for name in NAMES]
    version = _ingested(42)
    together = _asker(FakeReader()).tell_all(queries, version)
    for query, told in zip(queries, together, strict=True):
        reader = FakeReader()
        assert _without_clock(told.answer) == _without_clock(_asker(reader).ask(query, version))
        alone = reader._answer(reader.calls[0])
        assert all((told.outputs[name] == alone[name][0]).all() for name in alone)


def test_where_the_reader_was_not_run_there_are_no_outputs_and_no_spans():
    asker = _asker(FakeReader())
    told = asker.tell_all([_query("time", **{"from": 900})], _ingested(42))[0]
    assert told.outputs == {} and asker.spans(told, "bins") == asker.spans(told, "pointer") == ()


def test_both_heads_can_be_read_and_the_manifest_names_the_one_that_answers():
    version, query = _ingested(42), _query("time", **{"from": 3, "to": 39.5})
    for head in ("bins", "pointer"):
        asker = _asker(FakeReader(), time_head=head)
        told = asker.tell_all([query], version)[0]
        other = asker.spans(told, "pointer" if head == "bins" else "bins")
        assert told.answer.spans == asker.spans(told, head) != other and other


# -- answers -----------------------------------------------------------------------------------------------


def test_activities_are_ranked_and_the_first_is_the_answer():
    answer = _asker(FakeReader()).ask(_query("activity"), _ingested(42))
    shares = [one.confidence for one in answer.activities]
    assert answer.answer == answer.activities[0].activity == "bag" and not answer.abstained
    assert shares == sorted(shares, reverse=True) and answer.confidence == shares[0]
    assert {one.activity for one in answer.activities} == set(NAMES)


def test_boxes_have_corners_in_the_picture_at_times_of_evidence_or_between_close_ones():
    version = _ingested(42)
    answer = _asker(FakeReader()).ask(_query("object"), version)
    context = make_context(version, _manifest().network)
    seen = set((context.tick[context.valid] / 5).tolist())
    assert answer.boxes and all(one.t in seen or one.interpolated for one in answer.boxes)
    assert all(
        0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 for x1, y1, x2, y2 in (one.box for one in answer.boxes)
    )
    assert answer.boxes[0].box[:2] == pytest.approx((0.15, 0.2), abs=0.02)


def test_a_window_in_which_nothing_is_remembered_gets_no_invented_box():
    version = _ingested(42)
    kept = set((make_context(version, _manifest().network).tick / 5).astype(int).tolist())
    empty = next(t for t in range(1, 40) if not {t - 1, t, t + 1} & kept)
    for kind in ("object", "activity", "time"):
        answer = _asker(FakeReader()).ask(_query(kind, **{"from": empty, "to": empty + 0.9}), version)
        assert answer.abstained and answer.boxes == answer.spans == answer.evidence == ()
        assert answer.reason == "nothing is remembered of that time"


@pytest.mark.parametrize("head", ["pointer", "bins"])
def test_spans_lie_within_what_was_asked(head):
    answer = _asker(FakeReader(), time_head=head).ask(
        _query("time", **{"from": 3, "to": 39.5}), _ingested(42)
    )
    assert answer.spans and all(3 <= one.start <= one.end <= 39.5 for one in answer.spans)
    assert answer.answer == f"{answer.spans[0].start:.1f} to {answer.spans[0].end:.1f} s"


def test_evidence_is_remembered_tokens_of_watched_time_most_telling_first():
    version = _ingested(42)
    answer = _asker(FakeReader()).ask(_query("activity"), version)
    context = make_context(version, _manifest().network)
    known = set(zip((context.tick / 5).tolist(), context.cell.tolist(), strict=True))
    weights = [one.weight for one in answer.evidence]
    assert len(weights) == MAX_EVIDENCE and weights == sorted(weights, reverse=True)
    assert all((one.t, one.cell) in known and 0 <= one.t < 42 for one in answer.evidence)
    one = answer.evidence[0]
    assert one.box == pytest.approx(
        ((one.cell % 7) / 7, one.cell // 7 / 7, (one.cell % 7 + 1) / 7, (one.cell // 7 + 1) / 7)
    )


def test_empty_slots_are_never_evidence():
    answer = _asker(FakeReader()).ask(_query("activity"), _ingested(1))
    assert len(answer.evidence) == 10 and {one.t for one in answer.evidence} == {0.0}


def test_coverage_tells_the_gaps_of_the_asked_window():
    ingest = _ingest()
    ingest.push(frames(10))
    ingest.push(frames(10, start=20))
    answer = _asker(FakeReader()).ask(_query("activity", **{"from": 5, "to": 25}), ingest.version)
    assert json.loads(answer.coverage.model_dump_json()) == {
        "from": 5,
        "to": 25,
        "gaps": [{"from": 10, "to": 20}],
    }


@pytest.mark.parametrize(
    "window", [{"from": 10.5, "to": 19}, {"from": 900}, {"to": -5}, {"from": -9, "to": 0}]
)
@pytest.mark.parametrize("kind", ["activity", "object", "time"])
def test_time_that_nobody_watched_is_said_without_asking_the_reader(kind, window):
    ingest, reader = _ingest(), FakeReader()
    ingest.push(frames(10))
    ingest.push(frames(10, start=20))
    answer = _asker(reader).ask(_query(kind, **window), ingest.version)
    assert answer.abstained and answer.answer == answer.reason == "nobody was watching at that time"
    assert answer.confidence == 0 and reader.calls == [] and answer.evidence == ()


def test_before_the_first_frame_nobody_has_watched():
    answer = _asker(FakeReader()).ask(_query("object"), empty_version(NETWORK))
    assert answer.abstained and answer.coverage.start is None and answer.coverage.end is None


def test_watched_time_of_which_nothing_is_remembered_is_said():
    network = small_network(recency_tokens=0)
    reader = FakeReader(network)
    answer = _asker(reader, network).ask(_query("object"), _ingested(2, network))
    assert answer.reason == "nothing is remembered of that time" and answer.abstained and reader.calls == []


@pytest.mark.parametrize("kind", ["activity", "object", "time"])
def test_below_the_threshold_of_presence_it_was_not_seen(kind):
    asker = _asker(FakeReader(presence=-3.0), presence=0.5)
    answer = asker.ask(_query(kind), _ingested(42))
    assert answer.abstained and answer.answer == answer.reason == "what was asked was not seen"
    assert not _asker(FakeReader(presence=3.0), presence=0.5).ask(_query(kind), _ingested(42)).abstained


def test_confidences_are_scaled_as_the_manifest_says_and_keep_their_order():
    version, one = _ingested(42), Scaling(a=0.5, b=-1.0)
    for kind, scaling in (("activity", "activity_scaling"), ("object", "presence_scaling")):
        plain = _asker(FakeReader()).ask(_query(kind), version)
        scaled = _asker(FakeReader(), **{scaling: one}).ask(_query(kind), version)
        odds = np.log(plain.confidence / (1 - plain.confidence))
        assert scaled.confidence == pytest.approx(1 / (1 + np.exp(-(0.5 * odds - 1.0))), abs=1e-4)
        assert scaled.activities == () or scaled.activities[0].activity == plain.activities[0].activity
    plain = _asker(FakeReader()).ask(_query("time"), version).spans
    scaled = _asker(FakeReader(), span_scaling=one).ask(_query("time"), version).spans
    assert [span.start for span in scaled] == [span.start for span in plain]
    odds = np.log(plain[0].confidence / (1 - plain[0].confidence))
    assert scaled[0].confidence == pytest.approx(1 / (1 + np.exp(-(0.5 * odds - 1.0))), abs=1e-4)


def test_the_threshold_of_presence_is_one_of_the_scaled_probability():
    version = _ingested(42)
    asker = _asker(FakeReader(presence=2.0), presence=0.5, presence_scaling=Scaling(a=1.0, b=-3.0))
    assert asker.ask(_query("object"), version).abstained


def test_an_untrained_bundle_marks_every_answer():
    asker = _asker(FakeReader(), trained=False)
    for query in (_query("activity"), _query("activity", **{"from": 900})):
        answer = asker.ask(query, _ingested(42))
        assert not answer.trained and answer.answer.endswith("(untrained bundle: without meaning)")


@pytest.mark.parametrize(
    "wrong, nearest",
    [("scam", "scan"), ("SCAN", "scan"), ("return shelf", "Return_Shelf"), ("bagging", "bag")],
)
def test_an_unknown_activity_names_the_nearest(wrong, nearest):
    with pytest.raises(QueryError, match=f"nearest is '{nearest}', all: scan, bag, Return_Shelf"):
        _asker(FakeReader()).ask(_query("object", activity=wrong), _ingested(5))


def test_an_unknown_activity_of_any_letters_is_one_short_sentence():
    for name in ("é" * 200, "\n", " ", "x" * 200):
        with pytest.raises(QueryError) as caught:
            _asker(FakeReader()).ask(_query("object", activity=name), _ingested(5))
        assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_a_product_without_a_catalogue_is_one_sentence():
    query = parse_query('{"type": "activity", "object": {"product": "milk"}}')
    with pytest.raises(
        QueryError, match="product 'milk' is not in the catalogue; no catalogue is configured"
    ):
        _asker(FakeReader()).ask(query, _ingested(5))
