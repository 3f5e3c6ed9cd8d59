"""A state whose checksum is right and whose numbers are not: one sentence, and what lies there stays."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from edge_runtime.frame import MAX_T, Frame
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.coverage import MAX_GAPS, Coverage
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import ClipUpdate, Step, empty_version
from edge_runtime.persistence import FILE, MAGIC, Header, Snapshot, StateError, StateFolder, load_snapshot
from edge_runtime.persistence.encryption import Seal
from edge_runtime.persistence.journal import Journal, journal_name
from edge_runtime.persistence.step_codec import Record, RecordCoder
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network

NETWORK = small_network()  # 20 slots of width 16, clips of 4 frames, rank 3
HEADER = Header(
    model="m", bundle="/b", source="cam", sampler="neural", epoch=1.5e9, sample_fps=1.0, network=NETWORK
)


def _ingest(version, **more) -> Ingest:
    sampler = make_sampler("neural", fake_sampler(NETWORK))
    return Ingest(NETWORK, fake_backbone(NETWORK), sampler, version, **more)


@pytest.fixture(scope="module")
def version():
    """42 frames: ten clips, and two frames that wait."""
    return _ingest(empty_version(NETWORK)).push(frames(42))


@pytest.fixture
def folder(tmp_path, version):
    with StateFolder(tmp_path) as state:
        state.save(Snapshot(HEADER.model_copy(update={"last_t": 41.0, "seen": 42}), version))
    return tmp_path


def _rewrite(folder, header=lambda plain: None, arrays=lambda arrays: None) -> bytes:
    """Change what the file says, and put its checksum right."""
    payload = (folder / FILE).read_bytes()[40:]
    size = int.from_bytes(payload[:8], "little")
    plain = json.loads(json.loads(payload[8 : 8 + size])["__metadata__"]["header"])
    held = {name: array.copy() for name, array in load(payload).items()}
    header(plain)
    arrays(held)
    payload = save(held, {"header": json.dumps(plain)})
    data = MAGIC + hashlib.sha256(MAGIC + payload).digest() + payload
    (folder / FILE).write_bytes(data)
    return data


def _refused(folder, says: str) -> None:
    for network in (NETWORK, None):  # as `run` and as `status` read it
        with pytest.raises(StateError, match=says) as caught:
            load_snapshot(folder, network)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_what_is_only_written_anew_is_still_loaded(folder, version):
    _rewrite(folder)
    assert load_snapshot(folder, NETWORK).version.frames == 42


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "key, value",
    [
        ("sample_fps", 0), ("sample_fps", -1), ("sample_fps", NAN), ("sample_fps", 1e-300), ("sample_fps", 6),
        ("last_t", NAN), ("last_t", INF), ("last_t", -1e300), ("epoch", NAN), ("epoch", 1e11),
        ("last_tick", 2**63), ("last_tick", -(10**15)), ("frames", -1), ("frames", 2**70), ("seen", 2**64),
        ("dropped", -1), ("written", 1e400), ("memory_version", 2**64), ("id", "../../etc/passwd"),
        ("id", "a\0b"), ("camera", "x" * 65), ("coverage", [0.0, None, []]), ("coverage", [9.0, 0.0, []]),
        ("coverage", [0.0, 1e300, []]), ("coverage", [0.0, 9.0, [[1.0, NAN]]]),
        ("coverage", [0.0, 9.0, [[3.0, 4.0], [1.0, 2.0]]]), ("coverage", [0.0, 9.0, [[3.0, 10.0]]]),
        ("coverage", [0.0, 9e9, [[float(i), i + 0.5] for i in range(MAX_GAPS + 1)]]),
        ("coverage_frames", [3.0, 2.0]), ("coverage_frames", [1e9]), ("coverage_frames", [0.0] * 6),
        ("frame_period", 0), ("frame_period", NAN), ("frame_period", 1e9),
        ("coverage_notes", [[0.0, None, "a"], [1.0, 2.0, "b"]]), ("coverage_notes", [[2.0, 1.0, "a"]]),
        ("coverage_notes", [[0.0, 1.0, "x" * 201]]), ("pending_ticks", [200, 200]),
        ("pending_ticks", [205, 200]),
        ("pending_ticks", [200, 206]), ("pending_ticks", [200]), ("pending_ticks", [200, 10**15]),
        ("last_tick", None), ("last_tick", 3), ("svd", [0, 0.99, 1.0, 1]), ("svd", [3, 0, 1.0, 1]),
        ("svd", [3, NAN, 1.0, 1]), ("svd", [3, 0.99, -1.0, 1]), ("svd", [3, 0.99, INF, 1]), ("svd", None),
        ("svd", [2, 0.99, 1.0, 1]), ("model", None), ("unheard_of", 1), ("network", {"d_backbone": 16}),
    ],
    ids=lambda one: str(one)[:40],
)  # fmt: skip
def test_a_header_that_no_run_writes_is_one_sentence(folder, key, value):
    data = _rewrite(folder, header=lambda plain: plain.__setitem__(key, value))
    _refused(folder, "cannot be used: memory.state: not understood .*; move it away or name another --state")
    assert (folder / FILE).read_bytes() == data


def test_a_header_as_deep_as_a_well_is_one_sentence(folder):
    deep = '{"a":' * 100_000
    payload = save({"x": np.zeros(1, np.float32)}, {"header": deep})
    (folder / FILE).write_bytes(MAGIC + hashlib.sha256(MAGIC + payload).digest() + payload)
    _refused(folder, "not understood")


NUMBERS = (
    "memory.features", "memory.score", "pending", "pending_residual", "svd.basis", "svd.strength", "svd.mean",
    "cell_means", "novelty_scale",
)  # fmt: skip
OTHERS = ("memory.tick", "memory.cell", "memory.valid")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
def test_numbers_that_are_none_are_one_sentence(folder, name, value):
    _rewrite(folder, arrays=lambda held: held[name].reshape(-1)[-1:].fill(value))
    _refused(folder, f"{name} must be finite and within")


@pytest.mark.parametrize("name", sorted({*NUMBERS} - {"memory.features", "memory.score", "pending"}))
def test_numbers_beyond_all_measure_are_one_sentence(folder, name):
    _rewrite(folder, arrays=lambda held: held[name].reshape(-1)[:1].fill(3e38))
    _refused(folder, f"{name} must be finite and within")


@pytest.mark.parametrize("name", [*NUMBERS, *OTHERS])
@pytest.mark.parametrize("how", ["type", "shape", "rank", "none", "missing"])
def test_arrays_of_another_form_are_one_sentence(folder, name, how):
    def change(held):
        array = held.pop(name)
        if how == "type":
            held[name] = array.astype(np.float64)
        elif how == "shape":
            held[name] = np.ascontiguousarray(array[..., :-1])
        elif how == "rank":
            held[name] = array[None]
        elif how == "none":
            held[name] = array[:0]

    _rewrite(folder, arrays=change)
    if how == "missing" and name in ("cell_means", "novelty_scale"):
        assert load_snapshot(folder, NETWORK) is not None  # as before the first clip
    else:
        _refused(folder, "not understood|shapes are of another bundle")


def _set(name, place, value):
    return lambda held: held[name].__setitem__(place, value)


@pytest.mark.parametrize(
    "change, says",
    [
        (_set("memory.cell", 0, 49), "memory.cell must be in 0..48"),
        (_set("memory.cell", 3, -1), "memory.cell must be in 0..48"),
        (_set("memory.tick", 0, -(2**63)), "memory.tick must be within"),
        (_set("memory.tick", -1, 2**62), "memory.tick must be within"),
        (_set("memory.tick", -1, 10_000), "must not be after the newest frame"),
        (_set("memory.tick", 0, 195), "must ascend"),
        (_set("memory.valid", 0, False), "filled slots first"),
        (lambda held: held["memory.valid"].view(np.uint8).__setitem__(0, 2), "must be true or false"),
        (_set("svd.strength", 0, -1), "must not be negative"),
        (lambda held: held.__setitem__("x", np.zeros(1, np.int8)), "an array too many, 'x'"),
    ],
)
def test_slots_that_no_memory_has_are_one_sentence(folder, change, says):
    _rewrite(folder, arrays=change)
    _refused(folder, says)


@pytest.mark.parametrize(
    "rows, says",
    [
        ([[0.0, 5.0, 1.0, 2.0], [4.0, 6.0, 0.0, 0.0]], "must ascend"),
        ([[5.0, 4.0, 0.0, 0.0]], "must ascend"), ([[0.0, 5.0, 2.0, 1.0]], "must ascend"),
        ([[0.0, 5.0, -1.0, 1.0]], "must ascend"), ([[0.0, NAN, 0.0, 0.0]], "must ascend"),
        ([[0.0, 1e9, 0.0, 0.0]], "must ascend"), ([[-1.0, 5.0, 0.0, 0.0]], "must ascend"),
        ([[0.0, 5.0, 1.0, 6.0]], "watched for longer"), ([[0.0, 5.0, 1.0, NAN]], "must ascend"),
        ([[0.0, 5.0, 1.0]], r"must be float64 \(1, 4\)"),
    ],
)  # fmt: skip
def test_merged_gaps_that_no_coverage_has_are_one_sentence(folder, rows, says):
    _rewrite(folder, arrays=lambda held: held.__setitem__("coverage.merged", np.array(rows)))
    _refused(folder, says)


def test_a_coverage_of_version_2_is_loaded_and_its_gaps_are_uncertain_where_watched_time_was_lost(folder):
    def load_with(count):
        gaps = [[1.0 + i / 10, 1.05 + i / 10] for i in range(count)]

        def change(plain):
            plain.update(format_version=2, coverage=[0.0, 42.0, gaps])
            plain.pop("coverage_frames", None), plain.pop("frame_period", None)

        _rewrite(folder, header=change)
        return load_snapshot(folder, NETWORK).version.coverage

    assert load_with(255).within(1.0, 1.05).watched_range() == (0, 0)
    lost = load_with(256)
    assert lost.within(1.0, 1.05).watched_range() == pytest.approx((0, 0.05))
    assert lost.observe(42.0, 1.0, NETWORK.horizon_s).watched_range() == pytest.approx((43 - 256 / 20, 43))


def test_an_empty_memory_has_slots_all_the_same(folder):
    def change(held):
        for name in ("features", "tick", "cell", "score", "valid"):
            held[f"memory.{name}"] = held[f"memory.{name}"][:0]

    _rewrite(folder, arrays=change)
    _refused(folder, "no bundle has 0 slots")


@pytest.mark.parametrize("name", [FILE, "journal"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder, name):
    found = load_snapshot(folder).header.id
    path = folder / (FILE if name == FILE else journal_name(found))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StateError, match="it is no file"):
        load_snapshot(folder)


# -- what a run can come to is never refused ---------------------------------------------------------------


@pytest.mark.parametrize("start", [-1e9, 0.0, 1.8e9, MAX_T - 200])
@pytest.mark.parametrize("count", [1, 3, 4, 43])
def test_whatever_the_clock_says_a_run_is_saved_and_loaded(tmp_path, start, count):
    pictures = [Frame(one.image, start + one.t) for one in frames(count)]
    version = _ingest(empty_version(NETWORK)).push(pictures)
    version = replace(version, coverage=version.coverage.forget(start, start + 1).add_note(1, None, "x"))
    with StateFolder(tmp_path) as state:
        state.save(Snapshot(HEADER, version))
    assert load_snapshot(tmp_path, NETWORK).version.coverage == version.coverage


@pytest.mark.parametrize("level", [0.0, 65504.0, -65504.0])
def test_the_dullest_and_the_brightest_tokens_are_saved_and_loaded(tmp_path, level):
    ingest = _ingest(empty_version(NETWORK))
    rng = np.random.default_rng(0)
    for clip in range(6):
        same = np.full((4, 49, 16), level, np.float32)
        half = np.where(rng.random((4, 49, 16)) < 0.5, 65504, -65504).astype(np.float32)
        ingest.push_features(half if clip % 2 else same, [4.0 * clip + i for i in range(4)])
    with StateFolder(tmp_path) as state:
        state.save(Snapshot(HEADER, ingest.version))
    assert load_snapshot(tmp_path, NETWORK).version.frames == 24


def test_a_frame_at_the_end_of_time_is_refused_before_it_is_remembered():
    ingest = _ingest(empty_version(NETWORK))
    with pytest.raises(ValueError, match="within ±1e"):
        ingest.push([Frame(frames(1)[0].image, 2 * MAX_T)])
    assert ingest.version.frames == 0


def test_bounded_coverage_is_never_too_much_for_its_header(tmp_path, version):
    coverage = Coverage()
    for k in range(3 * MAX_GAPS):
        coverage = coverage.observe(3.0 * k, 1.0, NETWORK.horizon_s)
        if k > 5 * MAX_GAPS / 2:
            coverage = coverage.add_note(3.0 * k + 1, 3.0 * k + 2, f"reason {k}")
    with StateFolder(tmp_path) as state:
        state.save(Snapshot(HEADER, replace(version, coverage=coverage)))
    assert load_snapshot(tmp_path, NETWORK).version.coverage == coverage


# -- journals ----------------------------------------------------------------------------------------------


def _next_steps(version) -> list[Step]:
    """The next two frames, the second of which ends the clip."""
    steps: list[Step] = []
    for frame in frames(2, start=42):
        version = (ingest := _ingest(version, on_step=steps.append)).push([frame])
        ingest.close()
    return steps


def _journaled(folder, *steps: Step, **counts) -> None:
    """The journal of the snapshot in `folder`, as nobody writes it who keeps to `StateFolder`."""
    coder, found = RecordCoder(NETWORK.d_backbone), load_snapshot(folder).header.id
    with StateFolder(folder) as state:
        path = folder / journal_name(found)
        journal = Journal(state.disk, path, Seal(), snapshot=found, after="", frames=42)
        for step in steps:
            journal.append(coder.encode(Record(step, **counts)))
        journal.close()


def test_steps_of_a_journal_are_taken(folder, version):
    _journaled(folder, *_next_steps(version), seen=44)
    assert load_snapshot(folder, NETWORK).version.frames == 44


@pytest.mark.parametrize(
    "change, says",
    [
        (dict(times=(NAN,)), "a record's times"),
        (dict(times=(1e300,)), "a record's times"),
        (dict(period=NAN), "a record's period"),
        (dict(period=0.0), "a record's period must be above 0"),
        (dict(period=-1.0), "a record's period must be above 0"),
        (dict(period=1e300), "a record's period"),
        (dict(residual=np.full((1, 49), NAN, np.float32)), "a record's residuals"),
        (dict(residual=np.full((1, 49), 3e38, np.float32)), "a record's residuals"),
        (dict(features=np.full((1, 49, 16), NAN, np.float32)), "a record's tokens"),
        (dict(features=np.full((1, 49, 16), INF, np.float32)), "a record's tokens"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_step_that_no_run_takes_is_one_sentence(folder, version, change, says):
    first, _ = _next_steps(version)
    _journaled(folder, replace(first, **change))
    _refused(folder, f"its journal is not understood .{says}")


@pytest.mark.parametrize("kept", [[3, 2], [2, 2], [0, 4 * 49], []], ids=str)
def test_candidates_that_are_not_of_the_clip_are_one_sentence(folder, version, kept):
    first, last = _next_steps(version)
    update = ClipUpdate(np.array(kept, np.intp), last.clip_update.scores)
    _journaled(folder, first, replace(last, clip_update=update))
    _refused(folder, "candidates must be tokens of its clip")


def test_scores_that_are_none_are_one_sentence(folder, version):
    first, last = _next_steps(version)
    scores = np.full_like(last.clip_update.scores, NAN)
    _journaled(folder, first, replace(last, clip_update=ClipUpdate(last.clip_update.candidates, scores)))
    _refused(folder, "a record's scores")


def test_more_frames_than_a_clip_has_are_one_sentence(folder, version):
    first, _ = _next_steps(version)
    many = replace(
        first,
        features=np.zeros((5, 49, 16), np.float32),
        residual=np.zeros((5, 49), np.float32),
        times=tuple(42.0 + i for i in range(5)),
    )
    _journaled(folder, many)
    _refused(folder, "a record of 5 frames")


def test_counts_beyond_counting_are_one_sentence(folder, version):
    _journaled(folder, _next_steps(version)[0], seen=2**63)
    _refused(folder, "a record's counts")


@pytest.mark.parametrize(
    "head, says",
    [
        (b"", "JSONDecodeError"),
        (b"[]", "journal is not understood"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"format": 1}', "snapshot: Field required"),
        (
            b'{"format": 1, "snapshot": 3, "after": "", "frames": 0}',
            "snapshot: Input should be a valid string",
        ),
        (b'{"format": 1, "snapshot": "a", "after": "", "frames": -1}', "frames: Input should be greater"),
        (b'{"format": "1", "snapshot": "a", "after": [], "frames": 0}', "after: Input should be a valid"),
        (b'{"format": 3}', "its journal was written by a newer lvm-edge"),
    ],
)
def test_a_first_record_that_says_nothing_is_one_sentence(folder, monkeypatch, head, says):
    dumps = json.dumps
    with monkeypatch.context() as patched:
        patched.setattr("edge_runtime.persistence.journal.json.dumps", lambda value: head.decode())
        _journaled(folder)
    assert json.dumps is dumps
    _refused(folder, says)
