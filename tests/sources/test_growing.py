from __future__ import annotations

import threading
import time

import pytest

from edge_runtime.sources import canonicalise, open_source
from edge_runtime.sources.growing_file import GrowingVideo
from engines.errors import LvmError
from tests.support.media import read_number, write_video
from tests.support.stalls import timed


class Writer(threading.Thread):
    """Copies `data` to `path` in `pieces` that cut through packets and pictures."""

    def __init__(self, path, data, pieces=12, pause=0.05):
        super().__init__(daemon=True)
        self.path, self.data, self.pieces, self.pause = path, data, pieces, pause
        self.path.touch()

    def run(self):
        size = -(-len(self.data) // self.pieces)
        with open(self.path, "ab", buffering=0) as file:
            for at in range(0, len(self.data), size):
                file.write(self.data[at : at + size])
                time.sleep(self.pause)


@pytest.fixture(params=["ts", "mkv", "mp4"])
def recorded(request, tmp_path):
    """Fifty pictures of 2 s, in a format that can be read while it is written."""
    options = {"movflags": "frag_keyframe+empty_moov"} if request.param == "mp4" else {}
    path = write_video(tmp_path / f"whole.{request.param}", range(0, 2000, 40), options=options)
    return tmp_path / f"growing.{request.param}", path.read_bytes()


def test_every_frame_of_a_growing_file_comes_as_it_grows_and_quiet_ends_it(recorded):
    path, data = recorded
    writer = Writer(path, data)
    writer.start()
    came = []
    with GrowingVideo(path, sample_fps=5.0, silent_s=0.4) as video:
        for frame in video:
            came.append((frame.t, read_number(frame.image), writer.is_alive()))
        assert (video.live, video.seen, video.errors) == (False, 50, 0)
    assert [(t, n) for t, n, _ in came] == [(pytest.approx(n / 25), n) for n in range(0, 50, 5)]
    assert came[0][2], "nothing came before the file was complete"


def test_it_goes_on_at_start(recorded):
    path, data = recorded
    path.write_bytes(data)
    with GrowingVideo(path, sample_fps=5.0, start=1.0, silent_s=0.1) as video:
        assert [read_number(frame.image) for frame in video] == [25, 30, 35, 40, 45]


@timed
def test_closing_ends_the_wait_for_more_at_once(recorded):
    path, data = recorded
    for content in (data, b""):
        path.write_bytes(content)
        video = GrowingVideo(path, sample_fps=5.0, silent_s=30.0)
        got = []
        reader = threading.Thread(target=lambda video=video, got=got: got.extend(video))
        reader.start()
        time.sleep(0.3)
        began = time.monotonic()
        video.close()
        reader.join(5)
        assert not reader.is_alive() and time.monotonic() - began < 0.5
        assert len(got) > 5 if content else not got


def test_what_never_becomes_a_video_is_one_sentence(tmp_path):
    path = tmp_path / "a.ts"
    for content in (b"", bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(LvmError, match="a.ts (cannot be opened|holds no video)") as caught:
            list(GrowingVideo(path, sample_fps=1.0, silent_s=0.1))
        assert "\n" not in str(caught.value)
    with pytest.raises(LvmError, match="cannot be read: No such file"):
        list(GrowingVideo(tmp_path / "b.ts", sample_fps=1.0))
    with pytest.raises(ValueError, match="silent_s must be"):
        GrowingVideo(path, sample_fps=1.0, silent_s=0)


def test_follow_names_one(recorded, monkeypatch):
    path, data = recorded
    path.write_bytes(data)
    monkeypatch.chdir(path.parent)
    assert canonicalise(f"follow:{path.name}") == f"follow:{path}"
    source = open_source(f"follow:{path.name}", sample_fps=5.0)
    assert isinstance(source, GrowingVideo) and source.paced and not source.live
    with pytest.raises(LvmError, match="there is no source"):
        open_source("follow:nothing.ts", sample_fps=5.0)
