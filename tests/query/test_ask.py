"""What becomes of the reader's outputs. The reader here is arithmetic, so they are known."""

import json

import numpy as np
import pytest

from edge_runtime.interfaces.cli.ask import print_answer
from edge_runtime.memory.version import empty_version
from edge_runtime.query.executor import MAX_BATCH, MAX_EVIDENCE
from edge_runtime.query.reader_inputs import make_context
from edge_runtime.query.schema import parse_query
from edge_runtime.system.errors import QueryError
from engines.manifest import Scaling
from tests.support.asking import (
    NAMES,
    NETWORK,
    FakeReader,
    make_asker,
    make_ingest,
    make_manifest,
    make_query,
    make_version,
    without_time_taken,
)
from tests.support.fakes import frames, small_network


def test_mixed_questions_asked_together_get_the_answers_of_each_alone():
    reader, version = FakeReader(), make_version(42)
    queries = [
        make_query(kind, seed=seed, activity=NAMES[seed % 3], **window)
        for seed in range(4)
        for kind in ("activity", "object", "time")
        for window in ({}, {"from": 5, "to": 20}, {"from": 900})
    ]
    together = make_asker(reader).ask_all(queries, version)
    assert [len(call["activity"]) for call in reader.calls] == [11, 11, 2] and MAX_BATCH == 16
    alone = [make_asker(FakeReader()).ask(query, version) for query in queries]
    assert list(map(without_time_taken, together)) == list(map(without_time_taken, alone))
    assert len({answer.model_dump_json() for answer in map(without_time_taken, together)}) > 6


def test_no_questions_are_no_answers():
    assert make_asker(FakeReader()).ask_all([], make_version(5)) == []


def test_an_answer_does_not_change_when_the_memory_moves_on():
    ingest = make_ingest()
    before = ingest.push(frames(20))
    asker, query = make_asker(FakeReader()), make_query("time")
    first = asker.ask(query, before)
    after = ingest.push(frames(20, start=20))
    later = asker.ask(query, after)
    again = asker.ask(query, before)
    assert without_time_taken(first) == without_time_taken(again) != without_time_taken(later)
    assert first.memory_version == 5 and later.memory_version == 10
    fresh = make_asker(FakeReader())
    assert without_time_taken(later) == without_time_taken(fresh.ask(query, after))


def test_what_an_answer_was_made_of_belongs_to_its_own_question():
    queries = [make_query("time", activity=name) for name in NAMES]
    version = make_version(42)
    together = make_asker(FakeReader()).answer_with_outputs(queries, version)
    for query, told in zip(queries, together, strict=True):
        reader = FakeReader()
        assert without_time_taken(told.answer) == without_time_taken(make_asker(reader).ask(query, version))
        alone = reader._answer(reader.calls[0])
        assert all((told.outputs[name] == alone[name][0]).all() for name in alone)


def test_where_the_reader_was_not_run_there_are_no_outputs_and_no_spans():
    asker = make_asker(FakeReader())
    told = asker.answer_with_outputs([make_query("time", **{"from": 900})], make_version(42))[0]
    assert told.outputs == {} and asker.spans(told, "bins") == asker.spans(told, "pointer") == ()


def test_both_heads_can_be_read_and_the_manifest_names_the_one_that_answers():
    version, query = make_version(42), make_query("time", **{"from": 3, "to": 39.5})
    for head in ("bins", "pointer"):
        asker = make_asker(FakeReader(), time_head=head)
        told = asker.answer_with_outputs([query], version)[0]
        other = asker.spans(told, "pointer" if head == "bins" else "bins")
        assert told.answer.spans == asker.spans(told, head) != other and other


# -- answers -----------------------------------------------------------------------------------------------


def test_activities_are_ranked_and_the_first_is_the_answer():
    answer = make_asker(FakeReader()).ask(make_query("activity"), make_version(42))
    shares = [one.confidence for one in answer.activities]
    assert answer.answer == answer.activities[0].activity == "bag" and not answer.abstained
    assert shares == sorted(shares, reverse=True) and answer.confidence == shares[0]
    assert {one.activity for one in answer.activities} == set(NAMES)


def test_boxes_have_corners_in_the_picture_at_times_of_evidence_or_between_close_ones():
    version = make_version(42)
    answer = make_asker(FakeReader()).ask(make_query("object"), version)
    context = make_context(version, make_manifest().network)
    seen = set((context.tick[context.valid] / 5).tolist())
    assert answer.boxes and all(one.t in seen or one.interpolated for one in answer.boxes)
    assert all(
        0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 for x1, y1, x2, y2 in (one.box for one in answer.boxes)
    )
    assert answer.boxes[0].box[:2] == pytest.approx((0.15, 0.2), abs=0.02)


def test_a_window_in_which_nothing_is_remembered_gets_no_invented_box():
    version = make_version(42)
    kept = set((make_context(version, make_manifest().network).tick / 5).astype(int).tolist())
    empty = next(t for t in range(1, 40) if not {t - 1, t, t + 1} & kept)
    for kind in ("object", "activity", "time"):
        answer = make_asker(FakeReader()).ask(make_query(kind, **{"from": empty, "to": empty + 0.9}), version)
        assert answer.abstained and answer.boxes == answer.spans == answer.evidence == ()
        assert answer.reason == "nothing is remembered of that time"


@pytest.mark.parametrize("head", ["pointer", "bins"])
def test_spans_lie_within_what_was_asked(head):
    answer = make_asker(FakeReader(), time_head=head).ask(
        make_query("time", **{"from": 3, "to": 39.5}), make_version(42)
    )
    assert answer.spans and all(3 <= one.start <= one.end <= 39.5 for one in answer.spans)
    assert answer.answer == f"{answer.spans[0].start:.1f} to {answer.spans[0].end:.1f} s"


def test_evidence_is_remembered_tokens_of_watched_time_most_telling_first():
    version = make_version(42)
    answer = make_asker(FakeReader()).ask(make_query("activity"), version)
    context = make_context(version, make_manifest().network)
    known = set(zip((context.tick / 5).tolist(), context.cell.tolist(), strict=True))
    weights = [one.weight for one in answer.evidence]
    assert len(weights) == MAX_EVIDENCE and weights == sorted(weights, reverse=True)
    assert all((one.t, one.cell) in known and 0 <= one.t < 42 for one in answer.evidence)
    one = answer.evidence[0]
    assert one.box == pytest.approx(
        ((one.cell % 7) / 7, one.cell // 7 / 7, (one.cell % 7 + 1) / 7, (one.cell // 7 + 1) / 7)
    )


def test_empty_slots_are_never_evidence():
    answer = make_asker(FakeReader()).ask(make_query("activity"), make_version(1))
    assert len(answer.evidence) == 10 and {one.t for one in answer.evidence} == {0.0}


def test_coverage_tells_the_gaps_of_the_asked_window():
    ingest = make_ingest()
    ingest.push(frames(10))
    ingest.push(frames(10, start=20))
    answer = make_asker(FakeReader()).ask(make_query("activity", **{"from": 5, "to": 25}), ingest.version)
    assert json.loads(answer.coverage.model_dump_json()) == {
        "from": 5,
        "to": 25,
        "watched_share": [0.5, 0.5],
        "gaps": [{"from": 10, "to": 20}],
    }


@pytest.mark.parametrize(
    "window", [{"from": 10.5, "to": 19}, {"from": 900}, {"to": -5}, {"from": -9, "to": 0}]
)
@pytest.mark.parametrize("kind", ["activity", "object", "time"])
def test_time_that_nobody_watched_is_said_without_asking_the_reader(kind, window):
    ingest, reader = make_ingest(), FakeReader()
    ingest.push(frames(10))
    ingest.push(frames(10, start=20))
    answer = make_asker(reader).ask(make_query(kind, **window), ingest.version)
    assert answer.abstained and answer.answer == answer.reason == "nobody was watching at that time"
    assert answer.confidence == 0 and reader.calls == [] and answer.evidence == ()


def test_before_the_first_frame_nobody_has_watched():
    answer = make_asker(FakeReader()).ask(make_query("object"), empty_version(NETWORK))
    assert answer.abstained and answer.coverage.start is None and answer.coverage.end is None


def test_watched_time_of_which_nothing_is_remembered_is_said():
    network = small_network(recency_tokens=0)
    reader = FakeReader(network)
    answer = make_asker(reader, network).ask(make_query("object"), make_version(2, network))
    assert answer.reason == "nothing is remembered of that time" and answer.abstained and reader.calls == []


@pytest.mark.parametrize("kind", ["activity", "object", "time"])
def test_below_the_threshold_of_presence_it_was_not_seen(kind):
    asker = make_asker(FakeReader(presence=-3.0), presence=0.5)
    answer = asker.ask(make_query(kind), make_version(42))
    assert answer.abstained and answer.answer == answer.reason == "what was asked was not seen"
    assert (
        not make_asker(FakeReader(presence=3.0), presence=0.5)
        .ask(make_query(kind), make_version(42))
        .abstained
    )


@pytest.mark.parametrize("presence", [-3.0, 3.0])
@pytest.mark.parametrize("window", [{}, {"from": 900}], ids=["watched", "not watched"])
def test_an_answer_says_which_activity_was_asked_about(presence, window):
    asker = make_asker(FakeReader(presence=presence), presence=0.5)
    for kind in ("object", "time"):
        fields = asker.ask(make_query(kind, activity="scan", **window), make_version(42)).json_fields
        assert fields["activity"] == "scan"
    log = parse_query('{"type": "time", "activity": "bag"}')
    assert asker.ask(log, make_version(42)).json_fields["activity"] == "bag"
    for query in (make_query("activity", **window), make_query("time", activity=None, **window)):
        assert "activity" not in asker.ask(query, make_version(42)).json_fields, "the question named none"


def test_confidences_are_scaled_as_the_manifest_says_and_keep_their_order():
    version, one = make_version(42), Scaling(a=0.5, b=-1.0)
    for kind, scaling in (("activity", "activity_scaling"), ("object", "presence_scaling")):
        plain = make_asker(FakeReader()).ask(make_query(kind), version)
        scaled = make_asker(FakeReader(), **{scaling: one}).ask(make_query(kind), version)
        odds = np.log(plain.confidence / (1 - plain.confidence))
        assert scaled.confidence == pytest.approx(1 / (1 + np.exp(-(0.5 * odds - 1.0))), abs=1e-4)
        assert scaled.activities == () or scaled.activities[0].activity == plain.activities[0].activity
    plain = make_asker(FakeReader()).ask(make_query("time"), version).spans
    scaled = make_asker(FakeReader(), span_scaling=one).ask(make_query("time"), version).spans
    assert [span.start for span in scaled] == [span.start for span in plain]
    odds = np.log(plain[0].confidence / (1 - plain[0].confidence))
    assert scaled[0].confidence == pytest.approx(1 / (1 + np.exp(-(0.5 * odds - 1.0))), abs=1e-4)


def test_the_threshold_of_presence_is_one_of_the_scaled_probability():
    version = make_version(42)
    asker = make_asker(FakeReader(presence=2.0), presence=0.5, presence_scaling=Scaling(a=1.0, b=-3.0))
    assert asker.ask(make_query("object"), version).abstained


def test_an_untrained_bundle_marks_every_answer():
    asker = make_asker(FakeReader(), trained=False)
    for query in (make_query("activity"), make_query("activity", **{"from": 900})):
        answer = asker.ask(query, make_version(42))
        assert not answer.trained and answer.answer.endswith("(untrained bundle: without meaning)")


@pytest.mark.parametrize(
    "wrong, nearest",
    [("scam", "scan"), ("SCAN", "scan"), ("return shelf", "Return_Shelf"), ("bagging", "bag")],
)
def test_an_unknown_activity_names_the_nearest(wrong, nearest):
    with pytest.raises(QueryError, match=f"nearest is '{nearest}', all: scan, bag, Return_Shelf"):
        make_asker(FakeReader()).ask(make_query("object", activity=wrong), make_version(5))


def test_an_unknown_activity_of_any_letters_is_one_short_sentence():
    for name in ("é" * 200, "\n", " ", "x" * 200):
        with pytest.raises(QueryError) as caught:
            make_asker(FakeReader()).ask(make_query("object", activity=name), make_version(5))
        assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_a_product_without_a_catalogue_is_one_sentence():
    query = parse_query('{"type": "activity", "object": {"product": "milk"}}')
    with pytest.raises(
        QueryError, match="product 'milk' is not in the catalogue; no catalogue is configured"
    ):
        make_asker(FakeReader()).ask(query, make_version(5))


@pytest.mark.parametrize("kind", ["object", "time", "activity"])
@pytest.mark.parametrize("presence", [-5.0, -0.1, 0.1, 5.0])
def test_an_answer_that_says_no_shows_no_boxes_and_measurements_have_them(kind, presence, capsys):
    asker, version = make_asker(FakeReader(presence=presence), presence=0.5), make_version(42)
    told = asker.answer_with_outputs([make_query(kind)], version)[0]
    answer = asker.ask(make_query(kind), version)
    assert answer.abstained == told.full.abstained == (presence < 0)
    assert bool(told.full.boxes) == (kind == "object")
    assert answer.boxes == told.answer.boxes == (() if answer.abstained else told.full.boxes)
    assert ("<rect" in answer._repr_html_()) and ('fill="#2a2"' in answer._repr_html_()) == (
        kind != "activity" and not answer.abstained
    ), "and no place in time is drawn as found"
    print_answer(answer, as_json=False)
    out = capsys.readouterr().out
    assert ("rests on" in out) == (not answer.abstained)
    assert (" s: 0." in out) == (kind == "object" and not answer.abstained)
    if answer.abstained:
        (first, *lines) = out.splitlines()
        assert "%" not in first, "its confidence is none of a no"
        assert sum(line.startswith("  at best ") for line in lines) == (kind != "object")
        assert not any(line.startswith("  or ") for line in lines)


@pytest.mark.parametrize("count", [1, 8, 9, 40])
def test_boxes_that_are_not_printed_are_counted(count, capsys):
    answer = make_asker(FakeReader()).ask(make_query("object"), make_version(42))
    some = tuple(answer.boxes[0].model_copy(update={"t": float(t)}) for t in range(count))
    print_answer(answer.model_copy(update={"boxes": some}), as_json=False)
    out = capsys.readouterr().out
    assert out.count(" s: ") == min(count, 8)
    assert (f"and {count - 8} more; --json shows all" in out) == (count > 8)


@pytest.mark.parametrize("presence, word, lines", [(-5.0, "  at best ", 1), (5.0, "  or ", 4)])
def test_what_was_not_seen_is_printed_with_its_best_time_alone(presence, word, lines, capsys):
    answer = make_asker(FakeReader(presence=presence), presence=0.5).ask(make_query("time"), make_version(42))
    assert len(answer.spans) == 5 and answer.abstained == (presence < 0)
    print_answer(answer, as_json=False)
    out = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(word) for line in out) == lines
    assert sum(line.startswith(("  at best ", "  or ")) for line in out) == lines
