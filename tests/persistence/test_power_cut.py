"""Whatever the disk does at whichever operation: what is loaded is what an uninterrupted run had."""

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import edge_runtime.persistence.store as folder_module
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.diversity import REDUNDANT
from edge_runtime.memory.forgetting import forget_span
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Step, Version, empty_version
from edge_runtime.persistence import FILE, PREVIOUS, Header, Snapshot, StateError, StateFolder, load_snapshot
from edge_runtime.persistence.journal import PREFIX
from tests.support.breaking_disk import BreakingDisk, PowerCut
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network
from tools.reliability.kill import digest_of

NETWORK = small_network(clip_frames=12, spread=True)
FRAMES = 30
HEADER = Header(
    model="m", bundle="/b", source="cam", sampler="neural", epoch=0, sample_fps=1.0, network=NETWORK
)  # fmt: skip
FOLDER = Path("/no/such/folder")
SURVIVES = ("nothing", "all", "names", "parts")


@dataclass
class Life:
    """An uninterrupted run: `versions[n]` and its digest after n frames, `steps[n]` led from n to n + 1."""

    versions: list[Version]
    steps: list[Step]
    digests: list[str]


def _ingest(version: Version) -> Ingest:
    engine = fake_sampler(NETWORK)
    plain = engine._function
    engine._function = lambda feeds: {"score": -plain(feeds)["score"]}  # more is relevant than fits
    return Ingest(NETWORK, fake_backbone(NETWORK), make_sampler("neural", engine), version)


@pytest.fixture(scope="module")
def life() -> Life:
    ingest = _ingest(empty_version(NETWORK))
    versions, steps = [ingest.version], []
    ingest.on_step = steps.append
    for frame in frames(FRAMES):
        versions.append(ingest.push([frame]))
    assert any(
        (version.pending[1] == 0).all(axis=1).any() for version in versions if len(version.pending) > 9
    )
    assert any((step.clip_update.scores == REDUNDANT).any() for step in steps if step.clip_update)
    return Life(versions, steps, [digest_of(version) for version in versions])


@pytest.fixture(autouse=True)
def small_journals(monkeypatch) -> None:
    """So that a run of a few dozen frames rotates its journal several times, on pages as small."""
    monkeypatch.setattr(folder_module, "JOURNAL_PER_SNAPSHOT", 0.6)
    monkeypatch.setattr("edge_runtime.persistence.journal.PAGE", 64)


def _snapshot(version: Version) -> Snapshot:
    last = None if version.last_tick is None else version.last_tick / 5
    return Snapshot(HEADER.model_copy(update={"last_t": last, "seen": version.frames}), version)


def _run(disk: BreakingDisk, life: Life, start: int = 0, stop: int = FRAMES) -> int:
    """Keep frames from `start` on until the power goes. Returns how many were kept by then."""
    folder, kept = StateFolder(FOLDER, disk=disk), start
    try:
        for n in range(start, stop):
            folder.append([life.steps[n]], lambda n=n: _snapshot(life.versions[n + 1]), within=0.0)
            kept = n + 1
    except PowerCut:
        pass
    return kept


def _loaded(disk: BreakingDisk) -> Snapshot | None:
    return load_snapshot(FOLDER, NETWORK, disk=disk)


def _operations(life: Life) -> list[str]:
    disk = BreakingDisk()
    assert _run(disk, life) == FRAMES
    return disk.operations


def test_the_script_meets_every_kind_of_operation_and_several_rotations(life):
    made = _operations(life)
    assert set(made) == {"create", "write", "sync", "replace", "link", "unlink", "sync_folder"}
    assert made.count("sync_folder") >= 4 and len(made) > 90


def test_frames_that_the_journal_brings_back_are_bit_for_bit_those_that_were(life):
    for stop in range(1, FRAMES + 1):
        disk = BreakingDisk()
        _run(disk, life, stop=stop)
        found = _loaded(disk)
        assert digest_of(found.version) == life.digests[stop]
        assert found.header.last_t == stop - 1 and found.header.seen == stop


@pytest.mark.parametrize("torn", [False, True], ids=["before", "in the middle"])
def test_a_power_cut_at_any_operation_loses_at_most_the_frame_being_kept(life, torn):
    rng = random.Random(0)
    for n, what in enumerate(_operations(life), start=1):
        if torn and what != "write":
            continue
        disk = BreakingDisk()
        disk.cut_at, disk.torn = n, torn
        kept = _run(disk, life)
        for survives in SURVIVES:
            found = _loaded(disk.after_cut(survives, rng))
            have = found.version.frames if found else 0
            assert kept <= have <= kept + 1, (n, what, survives)
            assert found is None or digest_of(found.version) == life.digests[have], (n, what, survives)


def test_a_run_that_is_resumed_after_any_cut_ends_as_the_uninterrupted_one(life):
    rng = random.Random(1)
    for n in range(1, len(_operations(life)) + 1):
        disk = BreakingDisk()
        disk.cut_at = n
        _run(disk, life)
        disk = disk.after_cut(rng.choice(SURVIVES), rng)
        for _ in range(2):  # and the power goes a second time on the way
            found = _loaded(disk)
            have = found.version.frames if found else 0
            disk.cut_at = rng.randint(1, 40)
            kept = _run(disk, life, have)
            disk = disk.after_cut(rng.choice(SURVIVES), rng)
        found = _loaded(disk)
        have = found.version.frames if found else 0
        assert have >= kept
        _run(disk, life, have)
        assert digest_of(_loaded(disk).version) == life.digests[-1]


@pytest.mark.parametrize("how", ["flipped", "shortened"])
def test_a_write_that_is_silently_spoiled_is_never_loaded_as_if_it_were_sound(life, how):
    made = _operations(life)
    for n, what in enumerate(made, start=1):
        if what != "write":
            continue
        for later in (4, len(made)):
            disk = BreakingDisk()
            disk.spoil, disk.cut_at = (n, how), n + later
            _run(disk, life)
            try:
                found = _loaded(disk.after_cut("all", random.Random(0)))
            except StateError as error:  # the only snapshot that there is so far
                assert "damaged" in str(error) and n < 10
                continue
            assert found is None or digest_of(found.version) == life.digests[found.version.frames]
            assert found is not None or n < 10


def test_a_bit_flipped_in_the_snapshot_costs_no_frame_while_what_was_before_is_sound(life, caplog):
    disk = BreakingDisk()
    _run(disk, life)
    files = disk.files()
    for at in range(0, len(files[FILE]), 211):
        damaged = bytearray(files[FILE])
        damaged[at] ^= 1 << at % 8
        found = _loaded(BreakingDisk({**files, FILE: bytes(damaged)}))
        assert digest_of(found.version) == life.digests[FRAMES]
    assert "the snapshot before is used" in caplog.text


def test_a_bit_flipped_in_a_journal_ends_it_there(life, monkeypatch):
    monkeypatch.setattr(folder_module, "JOURNAL_PER_SNAPSHOT", 5)
    disk = BreakingDisk()
    _run(disk, life, stop=6)
    files = disk.files()
    (name,) = (name for name in files if name.startswith(PREFIX))
    seen = set()
    for at in range(0, len(files[name]), 61):
        damaged = bytearray(files[name])
        damaged[at] ^= 1 << at % 8
        found = _loaded(BreakingDisk({**files, name: bytes(damaged)}))
        assert digest_of(found.version) == life.digests[found.version.frames]
        seen.add(found.version.frames)
    assert seen - {6} == {1, 2, 3, 4, 5}  # in the empty rest of a page a bit costs nothing


def test_a_damaged_snapshot_that_is_replaced_is_set_aside_and_the_one_before_stays(life):
    disk = BreakingDisk()
    _run(disk, life)
    files = disk.files() | {FILE: b"torn"}
    disk = BreakingDisk(files)
    folder = StateFolder(FOLDER, disk=disk)
    folder.save(folder.load(NETWORK))
    now = disk.files()
    assert now["memory.state.damaged"] == b"torn" and now[PREVIOUS] == files[PREVIOUS]
    before = _loaded(BreakingDisk({name: data for name, data in now.items() if name != FILE}))
    assert digest_of(before.version) == life.digests[before.version.frames] and before.version.frames > 10


def test_a_journal_is_never_replayed_on_another_snapshot(life):
    one, two = BreakingDisk(), BreakingDisk()
    _run(one, life, stop=8)
    StateFolder(FOLDER, disk=two).save(_snapshot(life.versions[1]))
    snapshot, journal = two.files()[FILE], next(n for n in one.files() if n.startswith(PREFIX))
    mine = next(n for n in two.files() if n.startswith(PREFIX))
    for name in (journal, mine):  # under its own name and under that of the other's
        found = _loaded(BreakingDisk({FILE: snapshot, name: one.files()[journal]}))
        assert found.version.frames == 1


def test_what_lies_on_the_disk_is_bounded(life):
    disk, most = BreakingDisk(), 0
    folder = StateFolder(FOLDER, disk=disk)
    for n in range(FRAMES):
        folder.append([life.steps[n]], lambda n=n: _snapshot(life.versions[n + 1]), within=0.0)
        most = max(most, disk.used())
        assert len(disk.files()) <= 4
    largest = max(len(data) for name, data in disk.files().items() if name.startswith(FILE))
    assert most < 2 * largest + 2 * 2.2 * 0.6 * largest + 4000


# -- a disk that is full or cannot be written ---------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_full_disk_costs_nothing_but_what_a_kill_meanwhile_would(life, trouble, caplog):
    caplog.set_level(logging.WARNING)
    disk, now = BreakingDisk(), [0.0]
    folder = StateFolder(FOLDER, disk=disk, clock=lambda: now[0])

    def keep(start: int, stop: int) -> None:
        for n in range(start, stop):
            now[0] += 1
            folder.append([life.steps[n]], lambda n=n: _snapshot(life.versions[n + 1]), within=0.0)

    keep(0, 8)
    disk.room, disk.readonly = (disk.used() + 500, False) if trouble == "full" else (None, True)
    keep(8, 24)
    says = {"full": "No space left on device", "read-only": "Read-only file system"}[trouble]
    assert says in folder.problem and folder.saving.problem == folder.problem
    assert len([r for r in caplog.records if "in RAM only" in r.getMessage()]) == 1
    tried = len(disk.operations)
    assert tried < 60  # not every frame tries again
    on_disk = _loaded(disk)
    assert 8 <= on_disk.version.frames < 24
    assert digest_of(on_disk.version) == life.digests[on_disk.version.frames]
    disk.room, disk.readonly = None, False
    now[0] += 60
    keep(24, FRAMES)
    assert folder.problem is None and digest_of(_loaded(disk).version) == life.digests[FRAMES]
    assert "is saved again" in caplog.text


def test_a_snapshot_that_does_not_fit_leaves_no_crumbs(life):
    disk = BreakingDisk()
    folder = StateFolder(FOLDER, disk=disk)
    folder.save(_snapshot(life.versions[3]))
    before = disk.files()
    disk.room = disk.used() + 300
    with pytest.raises(StateError, match="cannot be saved: No space left on device"):
        folder.save(_snapshot(life.versions[5]))
    assert disk.files() == before


# -- forgetting ---------------------------------------------------------------------------------------------


def test_what_is_saved_alone_leaves_nothing_of_what_was_before(life):
    disk = BreakingDisk()
    _run(disk, life)
    folder = StateFolder(FOLDER, disk=disk)
    folder.load(NETWORK)
    folder.save_without_history(_snapshot(life.versions[2]))
    names = [name for name in disk.files() if not name.startswith(PREFIX)]
    assert names == [FILE] and len(disk.files()) == 2
    disk = BreakingDisk({name: data for name, data in disk.files().items() if name != FILE})
    assert _loaded(disk) is None


def test_what_cannot_be_saved_alone_does_not_mix_with_what_was_before(life):
    disk, now = BreakingDisk(), [0.0]
    folder = StateFolder(FOLDER, disk=disk, clock=lambda: now[0])
    folder.save(_snapshot(life.versions[0]))
    for n in range(4):
        folder.append([life.steps[n]], lambda n=n: _snapshot(life.versions[n + 1]), within=0.0)
    after, told = forget_span(life.versions[4], 1.0, 3.0, clip_s=12, clip_frames=12)
    assert told.pending_frames == 3
    disk.room = disk.used() + 300  # a record of the journal would fit, a snapshot does not
    with pytest.raises(StateError, match="No space left"):
        folder.save_without_history(_snapshot(after))
    ingest, steps = _ingest(after), []
    ingest.on_step = steps.append
    for frame in frames(3, start=4):
        ingest.push([frame])
        folder.append(steps[-1:], lambda: _snapshot(ingest.version), within=0.0)
    assert digest_of(_loaded(disk).version) == life.digests[4]  # what was, or what is: nothing between them
    disk.room, now[0] = None, 60.0
    ingest.push(frames(1, start=7))
    folder.append(steps[-1:], lambda: _snapshot(ingest.version), within=0.0)
    assert digest_of(_loaded(disk).version) == digest_of(ingest.version)


def test_reading_needs_no_engine_and_no_network(life):
    disk = BreakingDisk()
    _run(disk, life, stop=14)
    found = load_snapshot(FOLDER, disk=disk)
    assert digest_of(found.version) == life.digests[14]
    assert np.isfinite(found.version.memory.features).all()
