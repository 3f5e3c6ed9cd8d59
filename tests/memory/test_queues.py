"""Queues of text and region entries: which are read, what shares the slots, that nothing of it is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.forgetting import forget_span
from edge_runtime.memory.recurrent_state import (
    clip_output_specs,
    queue_length,
    read_entries,
    read_offsets,
    share_slots,
    state_specs,
)
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import FILE, Snapshot, StateError, StateFolder, load_snapshot
from edge_runtime.query.reader_inputs import make_context
from engines.bundle import Bundle
from engines.errors import EngineFault
from engines.network_config import NetworkConfig
from tests.persistence.test_state import _header, _same
from tests.support.asking import FakeReader, make_asker, make_query
from tests.support.bundles import TINY
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network

QUEUE = {"length": 3, "stride": 2, "text_slots": 6, "text_classes": 2, "regions": 4}
NETWORK = small_network(context=("svd", "text", "region"), queue=QUEUE)


def ingest_of(network=NETWORK, version=None, sampler="neural") -> Ingest:
    judge = make_sampler(sampler, fake_sampler(network))
    return Ingest(network, fake_backbone(network), judge, version or empty_version(network))


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 6, 12])
def test_read_out_goes_back_from_the_clip_before_by_the_stride(length, stride):
    """TinyMem: t - 1, t - 1 - s, ...; the entries themselves say of which clip they are."""
    assert list(read_offsets(length, stride)) == [1 + stride * i for i in range(length)]
    assert queue_length(length, stride) == (length - 1) * stride + 1
    network = small_network(context=("text",), queue={"length": length, "stride": stride})
    clips = queue_length(length, stride) + 3
    version = ingest_of(network).push(frames(4 * clips))
    read = read_entries(version.recurrent_state, network)
    assert read["there"].all()
    # A clip has 4 frames, one a second: clip number c begins at tick 20 c.
    assert list(read["span"][:, 0]) == [20 * (clips - back) for back in read_offsets(length, stride)]
    assert list(read["span"][:, 1] - read["span"][:, 0]) == [15] * length


def test_before_there_are_as_many_clips_the_rest_is_not_there():
    version = ingest_of().push(frames(4 * 3 + 1))
    read = read_entries(version.recurrent_state, NETWORK)
    assert list(read["there"]) == [True, True, False]
    assert not read["region"][2].any() and not read["text"][2].any()


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (1, 0)])
def test_a_queue_of_nothing_is_refused(length, stride):
    with pytest.raises(ValueError, match="length and stride must be at least 1"):
        read_offsets(length, stride)


def test_slots_are_shared_by_largest_remainder():
    # Of 16 slots .5, .3 and .2 of what the three likeliest have: 8, 4.8 and 3.2.
    scores = np.array([0.1, 0.5, 0.05, 0.3, 0.2])
    assert list(share_slots(scores, 16, 3)) == [1] * 8 + [3] * 5 + [4] * 3
    assert list(share_slots(np.zeros(4), 4, 2)) == [0, 0, 1, 1]
    assert list(share_slots(np.array([0.4, 0.4, 0.4]), 4, 3)) == [0, 0, 1, 2]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30), st.integers(1, 40), st.integers(1, 12))
def test_shares_are_exact_and_never_off_by_a_whole_slot(scores, slots, max_classes):
    scores = np.array(scores, np.float32)
    named = share_slots(scores, slots, max_classes)
    assert named.dtype == np.uint16 and len(named) == slots
    assert np.array_equal(named, share_slots(scores.copy(), slots, max_classes))
    best = np.argsort(-scores, kind="stable")[:max_classes]
    assert set(named) <= set(best)
    total = scores[best].astype(np.float64).sum()
    if total > 0:
        for one in best:
            assert abs(np.count_nonzero(named == one) - slots * scores[one] / total) < 1 + 1e-6


@pytest.mark.parametrize("scores", [[np.nan, 1.0], [-0.1, 1.0], [np.inf, 0.0], []])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(ValueError, match="scores must be finite, at least 0"):
        share_slots(np.array(scores), 4, 2)


def test_text_of_a_run_is_the_same_each_time():
    one, two = (ingest_of().push(frames(30)) for _ in range(2))
    for name, array in one.recurrent_state.items():
        assert array.tobytes() == two.recurrent_state[name].tobytes()
    assert len(np.unique(one.recurrent_state["queue.text"])) > 1


@pytest.mark.parametrize("sampler", ["random", "fifo", "svd-novelty"])
def test_every_sampler_leaves_the_same_entry_of_the_first_clip(sampler):
    """Later clips see other memories, and these entries nothing but the clip."""
    one, two = ingest_of().push(frames(12)), ingest_of(sampler=sampler).push(frames(12))
    for name, array in one.recurrent_state.items():
        np.testing.assert_array_equal(array, two.recurrent_state[name])


@pytest.mark.parametrize("sampler", ["neural", "s5"])
@pytest.mark.parametrize("context", [("text",), ("region",), ("region", "svd", "text")])
@pytest.mark.parametrize("cut", [2, 17, 24, 35])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, context, cut, sampler):
    """Saved at frame 12, journaled up to `cut`, read back, fed on: as if nothing had happened."""
    network = small_network(context=context, queue=QUEUE, sampler=sampler)
    whole, fed = ingest_of(network), frames(50)
    first = ingest_of(network)
    with StateFolder(tmp_path) as folder:
        header = _header(network=network)
        first.push(fed[:12] if cut > 12 else fed[:cut])
        folder.save(Snapshot(header, first.version))
        steps = []
        first.on_step = steps.append
        for frame in fed[12:cut]:
            first.push([frame])
            folder.append(steps, lambda: Snapshot(header, first.version), within=0)
            steps.clear()
        found = load_snapshot(tmp_path, network)
    assert found is not None and _same(found.version, first.version)
    assert found.version.recurrent_state.keys() == state_specs(network).keys()
    resumed = ingest_of(network, found.version)
    resumed.push(fed[cut:])
    whole.push(fed[:cut])
    whole.push(fed[cut:])
    assert _same(resumed.version, whole.version)


def test_a_state_of_other_queues_is_of_another_bundle(tmp_path):
    with StateFolder(tmp_path) as folder:
        folder.save(Snapshot(_header(network=NETWORK), ingest_of().push(frames(9))))
    other = small_network(context=("svd", "text"), queue=QUEUE)
    with pytest.raises(StateError, match="its shapes are of another bundle"):
        load_snapshot(tmp_path, other)
    with pytest.raises(StateError, match="its shapes are of another bundle"):
        load_snapshot(tmp_path, small_network())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("queue.text", 3, "queue.text must be finite and within ±2"),
        ("queue.region", np.nan, "queue.region must be finite"),
        ("queue.there", 2, "queue.there must be finite and within ±1"),
        ("queue.span", 2**62, "queue.span must be finite"),
    ],
)
def test_an_entry_that_no_run_makes_is_one_sentence(tmp_path, name, value, said):
    version = ingest_of().push(frames(9))
    array = version.recurrent_state[name].copy()
    array.flat[-1] = value
    with StateFolder(tmp_path) as folder:
        broken = replace(version, recurrent_state=dict(version.recurrent_state) | {name: array})
        folder.save(Snapshot(_header(network=NETWORK), broken))
    with pytest.raises(StateError, match=said):
        load_snapshot(tmp_path, NETWORK)


def test_a_graph_without_numbers_is_a_fault_and_changes_nothing():
    ingest = ingest_of()
    ingest.push(frames(4))
    before = ingest.version
    sound = ingest.sampler.graph

    def broken(*given):
        output = sound(*given)
        output.outputs["clip_regions"][0, 0] = np.nan
        return output

    ingest.sampler = replace(ingest.sampler, graph=broken)
    with pytest.raises(EngineFault, match="regions are NaN"):
        ingest.push(frames(4, start=4))
    assert ingest.version.recurrent_state is before.recurrent_state


def test_what_was_forgotten_leaves_the_queues():
    version = ingest_of().push(frames(20))
    after, _ = forget_span(version, 6.0, 7.0, clip_s=4.0, clip_frames=4)
    assert list(version.recurrent_state["queue.there"]) == [1] * 5
    assert list(after.recurrent_state["queue.there"]) == [1, 0, 1, 1, 1]
    for name, array in after.recurrent_state.items():
        assert not array[1].any(), name
        np.testing.assert_array_equal(array[2:], version.recurrent_state[name][2:])


def test_the_reader_gets_the_entries_of_the_asked_window():
    version = ingest_of().push(frames(22))
    reader = FakeReader(NETWORK)
    asker = make_asker(reader, NETWORK)
    asker.ask(make_query("activity", **{"from": 0.0, "to": 5.0}), version)
    asker.ask(make_query("activity"), version)
    short, whole = reader.calls
    # Clips 4, 2 and 0 of five: the last of them reaches into the window's five seconds.
    assert short["queue_valid"].tolist() == [[False, False, True]]
    assert whole["queue_valid"].tolist() == [[True, True, True]]
    origin = make_context(version, NETWORK).origin
    assert whole["queue_tick"].tolist() == [[87 - origin, 47 - origin, 7 - origin]]
    assert whole["queue_region"].dtype == np.float32 and whole["queue_text"].dtype == np.int32
    np.testing.assert_array_equal(whole["queue_text"][0, 0], version.recurrent_state["queue.text"][-1])


def test_queues_are_bounded_whatever_was_watched():
    short, long = ingest_of().push(frames(8)), ingest_of().push(frames(200))
    for version in (short, long):
        assert sum(array.nbytes for array in version.recurrent_state.values()) == 5 * (
            16 + 1 + 6 * 2 + 4 * 16 * 2
        )


def test_a_bundle_without_queues_says_nothing_of_them():
    """Its manifest, its model's identity and its state stay what they were before there were any."""
    network = Bundle.open(TINY).manifest.network
    plain = json.loads(network.model_dump_json())
    assert network.context == ("svd",) and not network.queues
    assert {"context", "queue"} & plain.keys() == set()
    assert state_specs(network) == {} and clip_output_specs(network) == {}
    asked = NetworkConfig.model_validate(plain | {"context": ["text", "svd"]})
    assert json.loads(asked.model_dump_json())["context"] == ["text", "svd"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": ("text", "text")}, "context must name each of its parts once"),
        ({"context": ("sound",)}, "Input should be 'svd', 'text' or 'region'"),
        ({"context": ("text",), "sampler_cell_code": False}, "need sampler_cell_code"),
        (
            {"context": ("region",), "queue": {"length": 1024, "stride": 1024, "regions": 256}},
            "memory, clip and queue must hold at most",
        ),
    ],
)
def test_a_context_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        small_network(**changes)


def test_the_state_file_grows_by_its_queues_only(tmp_path):
    sizes = []
    for index, network in enumerate((small_network(), NETWORK)):
        with StateFolder(tmp_path / str(index)) as folder:
            folder.save(Snapshot(_header(network=network), ingest_of(network).push(frames(21))))
        sizes.append((tmp_path / str(index) / FILE).stat().st_size)
    assert 0 < sizes[1] - sizes[0] < 5 * (16 + 1 + 6 * 2 + 4 * 16 * 2) + 1000
