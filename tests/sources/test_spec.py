"""Names of sources as people write and paste them."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

from edge_runtime.sources import canonicalise, is_live, open_source
from edge_runtime.sources.camera import V4l2Camera
from edge_runtime.sources.folder import ImageFolder
from edge_runtime.sources.live_source import LiveSource
from edge_runtime.sources.network import NetworkStream
from edge_runtime.sources.spec import tidy
from engines.errors import LvmError, Unavailable
from tests.support.media import make_picture


@pytest.mark.parametrize(
    "scheme", ["rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "rtp", "udp", "tcp"]
)
@pytest.mark.parametrize(
    "spelling", ["{}://h:5/A?b", "{upper}://h:5/A?b", " {}://h:5/A?b", "\t{}://h:5/A?b\r\n"]
)
def test_an_address_is_known_however_it_is_written(scheme, spelling):
    spec = spelling.format(scheme, upper=scheme.upper())
    assert canonicalise(spec) == f"{scheme}://h:5/A?b"
    assert is_live(canonicalise(spec))
    assert isinstance(open_source(spec, sample_fps=1.0), LiveSource)
    assert isinstance(open_source(spec, sample_fps=1.0, reconnect=False), NetworkStream)


@pytest.mark.parametrize(
    "device",
    [
        "/dev/video97",
        "/dev/v4l/by-id/usb-Acme_Cam-video-index0",
        "/dev/v4l/by-path/pci-0-usb-0:1",
        "/dev/front-door",
    ],
)
def test_links_to_devices_are_cameras_also_while_they_are_unplugged(device):
    assert canonicalise(f" {device}") == device and is_live(device)
    with pytest.raises(Unavailable, match=f"there is no camera {device}"):
        open_source(device, sample_fps=1.0, reconnect=False)


def test_a_link_elsewhere_to_a_device_is_that_device(tmp_path):
    (tmp_path / "door").symlink_to("/dev/null")
    assert canonicalise(str(tmp_path / "door")) == "/dev/null" and is_live("/dev/null")
    with open_source(str(tmp_path / "door"), sample_fps=1.0, reconnect=False) as camera:
        assert isinstance(camera, V4l2Camera)
        with pytest.raises(Unavailable, match="does not open as a camera"):
            next(iter(camera))


def test_memory_disks_below_dev_hold_files():
    assert not is_live("/dev/shm/a.mp4") and not is_live("/dev/fd/3")


@pytest.mark.parametrize("name", ["20241126", "7", "007"])
def test_a_folder_of_digits_is_a_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    cv2.imwrite(f"{name}/a.png", make_picture(1))
    assert canonicalise(name) == str(tmp_path / name) and not is_live(canonicalise(name))
    assert isinstance(open_source(name, sample_fps=1.0), ImageFolder)


def test_digits_that_name_nothing_are_a_camera_or_a_mistake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert canonicalise("3") == "3" and is_live("3")
    with pytest.raises(LvmError, match="there is no source"):
        open_source("20241126", sample_fps=1.0)


def test_a_file_whose_name_begins_with_a_blank_or_looks_like_an_address_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (" a.mp4", "RTSP:a.mp4"):
        Path(name).touch()
        assert canonicalise(name) == os.path.join(tmp_path, name)


@pytest.mark.parametrize("spec", ["FILE:///tmp/a.mp4", "File:///tmp/a.mp4", " /tmp/a.mp4 ", "/tmp/a.mp4"])
def test_paths_become_absolute(spec):
    assert canonicalise(spec) == "/tmp/a.mp4"


@pytest.mark.parametrize("spec", ["DEMO", "demo:seed=3", "GST:videotestsrc", "Csi://0", "FOLLOW:/tmp/a.ts"])
def test_other_kinds(spec):
    known = {
        "GST:videotestsrc": "gst:videotestsrc",
        "Csi://0": "csi://0",
        "FOLLOW:/tmp/a.ts": "follow:/tmp/a.ts",
    }
    assert tidy(spec) == known.get(spec, spec)
