"""Thumbnails: off by default, bounded in number, bytes and age, private, and of remembered moments only."""

import errno
import os
import time
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.config.privacy import PrivacySettings, ThumbnailSettings
from edge_runtime.imaging.decode import read_image
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.persistence.encryption import Key, SealError
from edge_runtime.privacy.thumbnails import FOLDER, Thumbnails
from engines.errors import LvmError
from tests.support.fakes import fake_backbone, frames, small_network

KEY = Key(bytes(range(32)))


def _settings(**changes) -> ThumbnailSettings:
    return ThumbnailSettings(**{"enabled": True, "side_px": 32, **changes})


def _watched(thumbnails: Thumbnails, count: int, *, slots: int = 20) -> Ingest:
    network = small_network(memory_tokens=slots)
    ingest = Ingest(network, fake_backbone(network), make_sampler("fifo", None), empty_version(network))
    for frame in frames(count):
        thumbnails.add(frame)
        thumbnails.update(ingest.push([frame]))
    return ingest


def _names(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / FOLDER).iterdir())


def test_off_is_the_default_and_leaves_nothing(tmp_path):
    assert not PrivacySettings().thumbnails.enabled
    _watched(Thumbnails(tmp_path, ThumbnailSettings()), 8)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_remembered_moments_only_and_for_the_owner_only(tmp_path):
    thumbnails = Thumbnails(tmp_path, _settings())
    ingest = _watched(thumbnails, 9)
    ticks = {int(t) for t in ingest.version.memory.tick[ingest.version.memory.valid]}
    assert 0 < len(ticks) < 8 and _names(tmp_path) == sorted(f"{t}.jpg" for t in ticks)
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / FOLDER).iterdir()} == {0o600}
    t = min(ticks) / 5
    picture = read_image(thumbnails.read(t))
    assert picture.shape == (32, 32, 3) and thumbnails.times()[0] == t and thumbnails.read(999) is None
    assert abs(picture.mean() - frames(9)[int(t)].image.mean()) < 10


def test_number_bytes_and_age_are_bounded(tmp_path):
    _watched(Thumbnails(tmp_path, _settings(most=2)), 12, slots=500)
    assert _names(tmp_path) == ["50.jpg", "55.jpg"]  # the newest
    size = max(path.stat().st_size for path in (tmp_path / FOLDER).iterdir())
    _watched(Thumbnails(tmp_path, _settings(most_mb=1.5 * size / 1e6)), 12, slots=500)
    assert _names(tmp_path) == ["55.jpg"]
    then = time.time() - 8 * 86400
    os.utime(tmp_path / FOLDER / "55.jpg", (then, then))
    again = Thumbnails(tmp_path, _settings())
    assert "55.jpg" not in _names(tmp_path)
    _watched(again, 12, slots=500)
    assert "55.jpg" in _names(tmp_path)


def test_pictures_that_a_wrong_clock_wrote_age_from_when_it_is_right(tmp_path, monkeypatch):
    thumbnails, now = Thumbnails(tmp_path, _settings(days=7)), time.time()
    _watched(thumbnails, 12, slots=500)
    wrong = {"50.jpg": 1000, "55.jpg": now + 8 * 86400}  # before the clock was set; by one that ran ahead
    for name, then in wrong.items():
        os.utime(tmp_path / FOLDER / name, (then, then))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 2000.0)  # the machine has started, and has no clock yet
        thumbnails.prune()
    thumbnails.prune()
    assert wrong.keys() < set(_names(tmp_path))
    monkeypatch.setattr(time, "time", lambda: now + 7.5 * 86400)
    thumbnails.prune()
    assert _names(tmp_path) == []


def test_switched_off_what_was_kept_is_removed(tmp_path, caplog):
    _watched(Thumbnails(tmp_path, _settings()), 8)
    count = len(_names(tmp_path))
    Thumbnails(tmp_path, ThumbnailSettings())
    assert not (tmp_path / FOLDER).exists() and f"{count} that were kept before are removed" in caplog.text


def test_what_is_half_written_or_foreign_goes_at_the_next_start(tmp_path):
    _watched(Thumbnails(tmp_path, _settings()), 8)
    (tmp_path / FOLDER / "10.jpg.new").write_bytes(b"half")
    Thumbnails(tmp_path, _settings())
    assert "10.jpg.new" not in _names(tmp_path)


def test_sealed_pictures_are_opened_with_their_key_and_in_their_place_only(tmp_path):
    thumbnails = Thumbnails(tmp_path, _settings(), KEY)
    _watched(thumbnails, 12, slots=500)
    assert all(name.endswith(".jpg.sealed") for name in _names(tmp_path))
    folder = tmp_path / FOLDER
    assert not [p for p in folder.iterdir() if b"\xff\xd8\xff" in p.read_bytes()]
    assert read_image(thumbnails.read(10.0)).shape == (32, 32, 3)
    (folder / "55.jpg.sealed").write_bytes((folder / "50.jpg.sealed").read_bytes())
    with pytest.raises(SealError, match="sealed for 50, not for 55"):
        thumbnails.read(11.0)
    with pytest.raises(SealError, match="name its file"):
        Thumbnails(tmp_path, _settings()).read(10.0)


def test_forgotten_pictures_are_gone_also_those_that_wait(tmp_path):
    thumbnails = Thumbnails(tmp_path, _settings())
    ingest = _watched(thumbnails, 11, slots=600)  # two clips of four and three frames that wait
    assert thumbnails.forget(20, 100) == 4
    assert _names(tmp_path) == ["0.jpg", "10.jpg", "15.jpg", "5.jpg"]
    thumbnails.update(ingest.push(frames(1, start=11)))
    assert _names(tmp_path) == ["0.jpg", "10.jpg", "15.jpg", "5.jpg"]


def test_a_full_disk_costs_a_picture_and_not_the_memory(tmp_path, monkeypatch, caplog):
    thumbnails = Thumbnails(tmp_path, _settings())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_runtime.privacy.thumbnails.write_private", full)
    assert _watched(thumbnails, 8).version.frames == 8
    assert "cannot be written: No space left" in caplog.text


def test_an_unchanged_memory_costs_nothing(tmp_path, monkeypatch):
    thumbnails = Thumbnails(tmp_path, _settings())
    version = _watched(thumbnails, 8).version
    monkeypatch.setattr(Thumbnails, "prune", lambda self: pytest.fail("pruned"))
    thumbnails.update(replace(version, frames=9))
    assert np.all(version.memory.valid)


def test_a_read_only_disk_costs_pictures_and_not_the_memory(tmp_path, monkeypatch, caplog):
    thumbnails = Thumbnails(tmp_path, _settings(most=2))
    _watched(thumbnails, 8)

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        for where, name in (("pathlib.Path", "unlink"), ("pathlib.Path", "mkdir"), ("os", "open")):
            patch.setattr(f"{where}.{name}", refused)
        assert _watched(thumbnails, 20).version.frames == 20
        Thumbnails(tmp_path, _settings())
        for gone in (lambda: thumbnails.forget(0, 999), lambda: Thumbnails(tmp_path, ThumbnailSettings())):
            with pytest.raises(LvmError, match="cannot be removed: Read-only file system"):
                gone()
    assert "cannot be written: Read-only" in caplog.text and "cannot be removed: Read-only" in caplog.text
    assert thumbnails.forget(0, 999) > 0 and _names(tmp_path) == []


def test_a_folder_that_is_gone_is_made_again(tmp_path):
    thumbnails = Thumbnails(tmp_path, _settings())
    (tmp_path / FOLDER).rmdir()
    _watched(thumbnails, 8)
    assert _names(tmp_path)
