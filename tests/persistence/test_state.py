"""A state comes back bit for bit or not at all."""

import fcntl
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.coverage import Coverage, Gap
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import (
    FILE,
    MAGIC,
    PREVIOUS,
    Header,
    Snapshot,
    StateError,
    StateFolder,
    check_owner,
    load_header,
    load_snapshot,
    model_digest,
    to_arrays,
)
from edge_runtime.persistence.journal import PREFIX
from edge_runtime.service.status import make_status
from tests.support.fakes import fake_backbone, fake_sampler, frames, small_network

NETWORK = small_network()


def _ingest(version=None, network=NETWORK):
    sampler = make_sampler("neural", fake_sampler(network))
    return Ingest(network, fake_backbone(network), sampler, version or empty_version(network))


def _header(**changes) -> Header:
    values = dict(model="m", bundle="/b", source="demo", sampler="neural", epoch=1.5e9, sample_fps=1.0)
    return Header(**{**values, **changes})


def _snapshot(count: int, *, network=NETWORK, **changes) -> Snapshot:
    ingest = _ingest(network=network)
    if count:
        ingest.push(frames(count))
    return Snapshot(_header(**changes), ingest.version)


def _save(folder, *snapshots) -> None:
    with StateFolder(folder) as state:
        for snapshot in snapshots:
            state.save(snapshot)


def _same(one, two) -> bool:
    first, second = to_arrays(one), to_arrays(two)
    plain = ("coverage", "pending_ticks", "last_tick", "frames")
    return (
        first.keys() == second.keys()
        and all(first[name].tobytes() == second[name].tobytes() for name in first)
        and all(first[name].dtype == second[name].dtype for name in first)
        and all(getattr(one, name) == getattr(two, name) for name in plain)
        and one.memory.version == two.memory.version
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    """The bytes of a state with memory, background and a running clip."""
    folder = tmp_path_factory.mktemp("saved")
    _save(folder, _snapshot(42))
    return (folder / FILE).read_bytes()


# -- round trip --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 42])
def test_what_is_loaded_is_what_was_saved_bit_for_bit(tmp_path, count):
    snapshot = _snapshot(count, last_t=float(count), seen=7, dropped=2, ended=True)
    _save(tmp_path, snapshot)
    loaded = load_snapshot(tmp_path, NETWORK)
    assert _same(loaded.version, snapshot.version)
    assert loaded.header.model_dump(include={"epoch", "last_t", "seen", "dropped", "ended", "source"}) == {
        "epoch": 1.5e9, "last_t": float(count), "seen": 7, "dropped": 2, "ended": True, "source": "demo",
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 30), st.integers(1, 12))
def test_a_run_that_is_saved_and_loaded_anywhere_goes_on_as_if_it_had_not(tmp_path_factory, first, more):
    folder = tmp_path_factory.mktemp("cut")
    _save(folder, _snapshot(first))
    resumed = _ingest(load_snapshot(folder, NETWORK).version)
    resumed.push(frames(more, start=first))
    assert _same(resumed.version, _snapshot(first + more).version)


def test_gaps_and_a_network_without_svd_come_back_too(tmp_path):
    network = small_network(svd_rank=0, sampler_novelty=False, clip_candidates=196)
    snapshot = _snapshot(9, network=network)
    merged = (Gap(-60.0, -4.0, None, 3.0, 3.5), Gap(-4.0, -2.5))
    gaps = Coverage(-60.0, 99.5, ((3.0, 4.25), (10.0, 90.0)), (), merged, (2.0, 98.5), 1.0)
    _save(tmp_path, Snapshot(snapshot.header, replace(snapshot.version, coverage=gaps)))
    loaded = load_snapshot(tmp_path, network)
    assert loaded.version.coverage == gaps and loaded.version.background is None


def test_the_number_of_bytes_is_told_and_does_not_grow_with_the_stream(tmp_path):
    with StateFolder(tmp_path) as state:
        sizes = [state.save(_snapshot(count)) for count in (40, 80)]
    assert sizes[1] == (tmp_path / FILE).stat().st_size
    assert abs(sizes[1] - sizes[0]) < 40  # digits of counters


def test_a_writer_that_reads_its_own_state_counts_no_byte_again(tmp_path):
    snapshot = Snapshot(_header(network=NETWORK), _snapshot(5).version)
    with StateFolder(tmp_path) as state:
        state.save(snapshot)
        written = state.saving.written
        assert state.load(NETWORK).saving.written == state.saving.written == written > 0
    with StateFolder(tmp_path) as state:
        assert state.load(NETWORK).saving.written == state.saving.written == written


def test_the_folder_holds_two_snapshots_with_their_journals_and_a_lock_and_nothing_else(tmp_path):
    _save(tmp_path / "deep" / "er", *(_snapshot(count) for count in (1, 2, 3)))
    names = sorted(os.listdir(tmp_path / "deep" / "er"))
    assert [name for name in names if not name.startswith(PREFIX)] == ["lock", FILE, PREVIOUS]
    assert len(names) == 5  # and a journal for each
    assert load_snapshot(tmp_path / "deep" / "er").version.frames == 3
    assert (tmp_path / "deep" / "er").stat().st_mode & 0o777 == 0o700, "nobody else reads what was watched"


def test_it_goes_on_at_the_first_period_that_was_not_ingested():
    assert _header().resume_at() == 0
    assert _header(last_t=0.0).resume_at() == 1
    assert _header(last_t=7.99).resume_at() == 8
    assert _header(last_t=7.9999999).resume_at() == 9  # float noise of 8
    assert _header(last_t=0.4, sample_fps=5.0).resume_at() == pytest.approx(0.6)


# -- damage ------------------------------------------------------------------------------------------------


def test_a_folder_without_a_state_is_none(tmp_path):
    assert load_snapshot(tmp_path) is None and load_snapshot(tmp_path / "nowhere") is None


def test_the_header_alone_is_that_of_the_newest_sound_snapshot(tmp_path):
    assert load_header(tmp_path) is None
    _save(tmp_path, _snapshot(1, seen=7), _snapshot(2, seen=8))
    assert load_header(tmp_path).seen == 8
    (tmp_path / FILE).write_bytes(b"torn")
    assert load_header(tmp_path).seen == 7


@pytest.mark.parametrize("size", [0, 7, 8, 39, 40, 47, 48, 1000, -1])
def test_a_torn_file_falls_back_to_the_snapshot_before(tmp_path, saved, size):
    _save(tmp_path, _snapshot(3), _snapshot(42))
    (tmp_path / FILE).write_bytes(saved[:size])
    assert load_snapshot(tmp_path, NETWORK).version.frames == 3


@pytest.mark.parametrize("size", [0, 7, 8, 39, 40, 47, 48, 1000, -1])
def test_a_torn_file_without_one_before_is_one_sentence_and_stays(tmp_path, saved, size):
    (tmp_path / FILE).write_bytes(saved[:size])
    with pytest.raises(StateError, match="cannot be used: memory.state: .*; move it away or name another"):
        load_snapshot(tmp_path, NETWORK)
    assert (tmp_path / FILE).read_bytes() == saved[:size]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flipped_bit_is_ever_loaded(tmp_path_factory, saved, data):
    at = data.draw(st.integers(0, len(saved) * 8 - 1))
    damaged = bytearray(saved)
    damaged[at // 8] ^= 1 << at % 8
    folder = tmp_path_factory.mktemp("flip")
    (folder / FILE).write_bytes(damaged)
    with pytest.raises(StateError):
        load_snapshot(folder, NETWORK)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff" * 100,
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (22).to_bytes(8, "little") + b'{"__metadata__": null}',
        (36).to_bytes(8, "little") + b'{"__metadata__": {"header": "null"}} ',
    ],
)
def test_a_foreign_content_with_a_right_checksum_is_one_sentence(tmp_path, payload):
    (tmp_path / FILE).write_bytes(MAGIC + hashlib.sha256(MAGIC + payload).digest() + payload)
    with pytest.raises(StateError, match="not understood"):
        load_snapshot(tmp_path)


def _newer(data: bytes, way: str) -> bytes:
    """A sound state as a later version might write it: another magic, or another number in the header."""
    magic, payload = (b"LVMSTAT3", data[40:]) if way == "magic" else (MAGIC, data[40:])
    if way == "header":
        payload = payload.replace(b'format_version\\":3', b'format_version\\":4')
    return magic + hashlib.sha256(magic + payload).digest() + payload


@pytest.mark.parametrize("way", ["magic", "header"])
def test_a_state_of_a_later_version_is_refused_and_stays_although_an_older_one_lies_beside(tmp_path, way):
    _save(tmp_path, _snapshot(3), _snapshot(5))
    newer = _newer((tmp_path / FILE).read_bytes(), way)
    (tmp_path / FILE).write_bytes(newer)
    with pytest.raises(StateError, match="written by a newer lvm-edge; move it away or name another --state"):
        load_snapshot(tmp_path, NETWORK)
    with StateFolder(tmp_path) as folder, pytest.raises(StateError, match="left as it is: .*newer lvm-edge"):
        folder.save(_snapshot(8))
    assert (tmp_path / FILE).read_bytes() == newer and len(os.listdir(tmp_path)) == 5


def test_a_damaged_magic_is_no_later_version(tmp_path):
    _save(tmp_path, _snapshot(3), _snapshot(5))
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(b"LVMSTAT3" + data[8:])
    assert load_snapshot(tmp_path, NETWORK).version.frames == 3


# -- version 1 -----------------------------------------------------------------------------------------------

OLD = Path(__file__).parents[1] / "data" / "version-1.state"
"""Written by the last commit that knew version 1 only, from ten frames of `frames`."""
OLD_NETWORK = small_network(d_backbone=8, memory_tokens=12)


def test_a_state_of_version_1_goes_on_bit_for_bit_and_is_kept_until_the_second_save(tmp_path):
    (tmp_path / FILE).write_bytes(OLD.read_bytes())
    with StateFolder(tmp_path) as folder:
        found = folder.load(OLD_NETWORK)
        header = found.header
        assert (found.version.frames, header.seen, header.dropped, header.last_t) == (10, 12, 2, 9.0)
        resumed, whole = _ingest(found.version, OLD_NETWORK), _ingest(network=OLD_NETWORK)
        resumed.push(frames(20, start=10))
        whole.push(frames(30))
        assert _same(resumed.version, whole.version)
        folder.save(Snapshot(header, resumed.version))
    assert (tmp_path / FILE).read_bytes()[:8] == MAGIC and (
        tmp_path / PREVIOUS
    ).read_bytes() == OLD.read_bytes()
    assert _same(load_snapshot(tmp_path, OLD_NETWORK).version, whole.version)
    (tmp_path / FILE).unlink()
    assert load_snapshot(tmp_path, OLD_NETWORK).version.frames == 10


def test_a_damaged_state_of_version_1_is_told(tmp_path):
    data = bytearray(OLD.read_bytes())
    data[500] ^= 1
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(StateError, match="damaged"):
        load_snapshot(tmp_path)


def test_a_save_that_fails_leaves_the_snapshot_before(tmp_path):
    with StateFolder(tmp_path) as state:
        state.save(_snapshot(3))
        (tmp_path / (FILE + ".new")).mkdir()
        with pytest.raises(StateError, match="cannot be saved"):
            state.save(_snapshot(5))
    assert load_snapshot(tmp_path).version.frames == 3


def test_a_power_cut_between_the_two_renames_loses_the_newest_snapshot_only(tmp_path):
    _save(tmp_path, _snapshot(3), _snapshot(5))
    os.replace(tmp_path / FILE, tmp_path / PREVIOUS)
    assert load_snapshot(tmp_path).version.frames == 5


def test_a_damaged_file_never_takes_the_place_of_the_sound_one_before(tmp_path):
    _save(tmp_path, _snapshot(3), _snapshot(5))
    (tmp_path / FILE).write_bytes(b"torn")
    with StateFolder(tmp_path) as state:
        assert load_snapshot(tmp_path).version.frames == 3
        state.save(_snapshot(8))
    (tmp_path / FILE).unlink()  # and now the newest is lost as well
    assert load_snapshot(tmp_path).version.frames == 3


# -- whose it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"memory_tokens": 21},
        {"d_backbone": 24},
        {"clip_frames": 2},
        {"clip_frames": 3},  # three frames wait, which would be a whole clip
        {"svd_rank": 0, "sampler_novelty": False, "clip_candidates": 196},
    ],
    ids=str,
)
def test_shapes_of_another_bundle_are_refused(tmp_path, other):
    _save(tmp_path, _snapshot(42 if "clip_frames" not in other else 43))
    with pytest.raises(StateError, match="shapes are of another bundle"):
        load_snapshot(tmp_path, small_network(**other))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"model": "x"}, r"was made by another bundle \(/b\)"),
        ({"source": "/v.mp4"}, r"belongs to source demo, not /v.mp4"),
    ],
)
def test_a_state_of_another_bundle_or_source_is_refused(tmp_path, changes, says):
    check_owner(_header(), model="m", source="demo", folder=tmp_path)
    with pytest.raises(StateError, match=says):
        check_owner(_header(), **{"model": "m", "source": "demo", **changes}, folder=tmp_path)


def test_the_model_is_its_weights_and_shapes_wherever_it_lies(tmp_path):
    from edge_runtime.config.paths import default_bundle
    from engines.bundle import Bundle
    from tests.support.bundles import copy_bundle, edit_manifest

    shipped = model_digest(Bundle.open(default_bundle()))
    folder = edit_manifest(copy_bundle(tmp_path), lambda d: d.update(name="else"))
    assert model_digest(Bundle.open(folder)) == shipped
    edit_manifest(folder, lambda d: d["network"].pop("spread"))  # what is kept from now on is no other token
    assert model_digest(Bundle.open(folder)) == shipped
    edit_manifest(folder, lambda d: d["network"].update(svd_forgetting=0.5))
    assert model_digest(Bundle.open(folder)) != shipped


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    code = (
        "import sys; from pathlib import Path; from edge_runtime.persistence import StateFolder\n"
        "with StateFolder(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match="is in use by another lvm-edge; name another --state"):
            StateFolder(tmp_path).__enter__()
        holder.kill()
    with StateFolder(tmp_path):
        pass


def test_the_lock_goes_when_the_folder_is_left_by_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), StateFolder(tmp_path):
        raise ZeroDivisionError
    with StateFolder(tmp_path), (tmp_path / "lock").open() as file, pytest.raises(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    "there", [(), ("a/",), ("a/b/c/",), ("a/b/c/film.mp4",), ("a/b/c/lock",), ("a/film.mp4",)]
)
@pytest.mark.parametrize("saved", [False, True])
def test_a_folder_in_which_no_memory_began_is_left_as_it_was(tmp_path, there, saved):
    for name in there:
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    before = sorted(tmp_path.rglob("*"))
    folder = StateFolder(tmp_path / "a" / "b" / "c")
    for _ in range(2):
        with folder:
            if saved:
                folder.save(_snapshot(1))
        folder.__exit__(None, None, None)  # leaving twice is leaving once
        if saved:
            assert load_snapshot(folder.folder).version.frames == 1 and (folder.folder / "lock").exists()
        else:
            assert sorted(tmp_path.rglob("*")) == before


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    """The one who waits for it has opened the file that the other removes on leaving."""
    one, two, flock = StateFolder(tmp_path / "s"), StateFolder(tmp_path / "s"), fcntl.flock

    def leave_first(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        one.__exit__(None, None, None)
        flock(file, how)

    one.__enter__()
    monkeypatch.setattr(fcntl, "flock", leave_first)
    with two, pytest.raises(StateError, match="in use by another"), StateFolder(tmp_path / "s"):
        pass
    assert not (tmp_path / "s").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(StateError, match="cannot be written: .*; name another --state"):
            StateFolder(folder).__enter__()


def test_a_folder_without_permission_is_one_sentence(tmp_path):
    tmp_path.chmod(0o555)
    for parent in tmp_path.parents:
        if "pytest" in str(parent):  # pytest's own are for their owner alone
            parent.chmod(0o755)
    root = os.geteuid() == 0
    if root:  # who may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(StateError, match="Permission denied"):
            StateFolder(tmp_path).__enter__()
    finally:
        if root:
            os.seteuid(0)


# -- status ------------------------------------------------------------------------------------------------


def test_the_status_counts_what_is_there(tmp_path):
    _save(tmp_path, _snapshot(42, last_t=41.0, seen=42))
    status = make_status(load_snapshot(tmp_path), tmp_path)
    assert (status.frames, status.tokens, status.slots, status.clip_frames) == (42, 20, 20, 2)
    assert status.svd_rank == 3 and status.state_bytes == (tmp_path / FILE).stat().st_size
    assert status.coverage == {
        "from": 0.0, "to": 42.0, "watched_share": (1, 1), "gaps": [], "epoch": 1.5e9,
    }  # fmt: skip
    assert status.frame_period_s == 1
    assert 0 < status.oldest_age_s <= 41


def test_the_status_of_an_empty_memory_has_no_age(tmp_path):
    status = make_status(_snapshot(0), tmp_path)
    assert status.oldest_age_s is None and status.state_bytes == 0 and status.tokens == 0
    assert np.isfinite(status.slots)
