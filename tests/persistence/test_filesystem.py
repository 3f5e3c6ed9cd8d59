"""What a disk counts, and folders that are private already."""

from pathlib import Path

import pytest

from edge_runtime.persistence.filesystem import FOLDER_MODE, Disk, make_private_folder


def test_a_disk_counts_each_byte_and_each_sync(tmp_path):
    disk = Disk()
    file = disk.create(tmp_path / "a")
    file.write(b"12345")
    file.sync()
    file.close()
    assert (disk.written, disk.syncs) == (5, 1)
    disk.sync_folder(tmp_path)
    assert (disk.written, disk.syncs) == (5, 2)


def test_the_mode_of_a_private_folder_is_not_set_again(tmp_path, monkeypatch):
    """As on a disk that is mounted for reading only."""
    folder = tmp_path / "private"
    folder.mkdir(mode=FOLDER_MODE)

    def refuse(self, mode):
        raise OSError("Read-only file system")

    monkeypatch.setattr(Path, "chmod", refuse)
    make_private_folder(folder)
    folder.rmdir()
    folder.mkdir(mode=0o750)
    with pytest.raises(OSError, match="Read-only"):
        make_private_folder(folder)
