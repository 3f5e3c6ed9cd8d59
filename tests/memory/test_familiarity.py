"""An unfamiliar camera: what the memory keeps, and what is answered and logged about it."""

import numpy as np
import pytest

from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.familiarity import WITHHELD, is_familiar
from edge_runtime.memory.recurrent_state import STRANGENESS, clip_output_specs, forget_ticks
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import apply, empty_version, rank_candidates
from edge_runtime.persistence import Header, Snapshot, StateFolder, load_snapshot
from edge_runtime.persistence.step_codec import Record, RecordCoder
from edge_runtime.query.schema import TimeQuery
from tests.support.asking import FakeReader, make_asker, make_manifest, make_photo, make_query
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network

SEEING = small_network(
    backbone="tf_efficientnet_lite0", appearance=8, even_tokens=3, spread=True, clip_candidates=30
)


HEADER = Header(
    model="m", bundle="/b", source="cam", sampler="neural", epoch=1.5e9, sample_fps=1.0, network=SEEING
)


def watch(strangeness: float, count: int = 20, sampler: str = "neural", **changes):
    network = SEEING.model_copy(update=changes)
    engine = fake_sampler(network, strangeness)
    ingest = Ingest(network, fake_backbone(network), make_sampler(sampler, engine), empty_version(network))
    ingest.push(frames(count))
    ingest.close()
    return ingest.version


@pytest.mark.parametrize(
    ("strangeness", "familiar"), [(0.0, True), (1.0, True), (1.01, False), (300.0, False)]
)
def test_a_camera_is_familiar_up_to_the_limit(strangeness, familiar):
    assert is_familiar(watch(strangeness).recurrent_state) is familiar


def test_it_is_familiar_before_the_first_clip_and_where_the_bundle_cannot_tell():
    assert is_familiar(watch(300.0, count=3).recurrent_state)
    assert is_familiar({})


def test_a_camera_that_was_turned_becomes_strange_and_familiar_again():
    network = SEEING
    version = watch(0.0, count=8)
    said = []
    for part, strangeness in enumerate((5.0, 5.0, 0.0, 0.0, 0.0, 0.0), 2):
        ingest = Ingest(
            network,
            fake_backbone(network),
            make_sampler("neural", fake_sampler(network, strangeness)),
            version,
        )
        ingest.push(frames(4, start=4 * part))
        ingest.close()
        version = ingest.version
        said.append(is_familiar(version.recurrent_state))
    assert said == [False, False, False, True, True, True]


def test_what_was_forgotten_says_nothing_of_the_camera():
    after = forget_ticks(watch(300.0).recurrent_state, 0, 10**6)
    assert is_familiar(after) and not after[STRANGENESS].any()


def test_every_moment_of_a_strange_camera_keeps_tokens():
    """The fake sampler likes bright cells only; a strange clip is kept evenly instead."""
    strange, familiar = watch(5.0, memory_tokens=60), watch(0.0, memory_tokens=60)
    kept = np.unique(strange.memory.tokens().tick)
    assert len(kept) == 20 and len(np.unique(familiar.memory.tokens().tick)) <= len(kept)
    counts = np.bincount(strange.memory.tokens().tick // 5)
    assert counts.min() >= 1 and counts.max() <= 6


@pytest.mark.parametrize("sampler", ["random", "fifo", "svd-novelty"])
def test_other_samplers_know_strangeness_too(sampler):
    assert not is_familiar(watch(5.0, sampler=sampler).recurrent_state)


@pytest.mark.parametrize("even", [1, 5, 49])
def test_of_each_frame_so_many_cells_take_their_turn(even):
    network = SEEING.model_copy(update={"even_tokens": even, "clip_candidates": 4 * 49})
    version = watch(0.0, count=3, even_tokens=even, clip_candidates=4 * 49)
    clip = version.clip()
    ranks = rank_candidates(np.zeros(len(clip), np.float32), clip, network)
    chosen = ranks > 1
    assert [int(chosen[clip.tick == tick].sum()) for tick in np.unique(clip.tick)] == [even] * 3


def test_without_even_tokens_the_rank_is_the_novelty():
    network = small_network()
    novelty = np.linspace(-1, 1, 49, dtype=np.float32)
    clip = watch(0.0, count=1).clip()
    assert rank_candidates(novelty, clip, network) is novelty


def test_strangeness_survives_a_restart(tmp_path):
    version = watch(5.0)
    with StateFolder(tmp_path) as state:
        state.save(Snapshot(HEADER, version))
    saved = load_snapshot(tmp_path)
    assert not is_familiar(saved.version.recurrent_state)


def test_a_journal_gives_the_same_strangeness():
    steps = []
    network = SEEING
    sampler = make_sampler("neural", fake_sampler(network, 5.0))
    ingest = Ingest(network, fake_backbone(network), sampler, empty_version(network), on_step=steps.append)
    ingest.push(frames(10))
    ingest.close()
    specs = clip_output_specs(network)
    writer, reader = (RecordCoder(network.d_backbone, network.clip_frames, specs) for _ in range(2))
    version = empty_version(network)
    for step in steps:
        version = apply(version, reader.decode(writer.encode(Record(step))).step, network)
    expected = ingest.version.recurrent_state[STRANGENESS]
    assert np.array_equal(version.recurrent_state[STRANGENESS], expected) and expected[1] == 2
    assert np.array_equal(version.memory.features, ingest.version.memory.features)


# -- answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [make_query("object"), make_query("activity"), make_query("time")],
    ids=lambda query: query.type,
)
def test_activities_of_a_strange_camera_are_withheld(question):
    reader = FakeReader(SEEING)
    answer = make_asker(reader, SEEING).ask(question, watch(5.0))
    assert answer.abstained and answer.reason == WITHHELD and not answer.familiar
    assert not reader.calls and not answer.activities and not answer.boxes and not answer.spans


def test_a_photo_is_found_by_looks_on_a_strange_camera():
    reader, version = FakeReader(SEEING), watch(5.0)
    question = TimeQuery.model_validate({"object": {"photos": [make_photo(1)]}})
    answer = make_asker(reader, SEEING).ask(question, version)
    assert not reader.calls and not answer.familiar and not answer.abstained
    assert answer.spans and answer.confidence == answer.spans[0].confidence and answer.evidence
    assert 0 <= answer.spans[0].start < answer.spans[0].end <= 20


def test_a_familiar_camera_is_answered_by_the_reader():
    reader = FakeReader(SEEING)
    answer = make_asker(reader, SEEING).ask(make_query("activity", seed=1), watch(0.0))
    assert reader.calls and answer.familiar and answer.activities


def test_nothing_is_recognised_on_a_strange_camera():
    def detect(version):
        recogniser = ActivityRecogniser(make_manifest(SEEING), FakeReader(SEEING))
        return recogniser.detect(version, 0.0, 20.0, min_confidence=0.1)

    assert detect(watch(0.0)) and detect(watch(5.0)) == []
