"""Nothing is left to Python's garbage collector, which may come minutes later: no picture, no thread."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from collections.abc import Iterator

import av
import psutil
import pytest

from edge_runtime.sources import open_source
from edge_runtime.sources.live_source import Supervision
from edge_runtime.sources.video import VideoFile
from tests.support.media import write_video
from tools.fakes.http_camera import HttpServer
from tools.fakes.rtsp_camera import RtspServer
from tools.fakes.source_watcher import SourceReader

RECONNECTS = 10
QUICK = Supervision(first_wait_s=0.01, max_wait_s=0.02)
SPARE_THREADS = 3
"""Of a connection that is just being made anew. Each sampled picture used to leave one or two."""


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def threads() -> int:
    """Native ones too, which `threading` does not know."""
    return psutil.Process().num_threads()


def kept() -> list[object]:
    """Pictures, decoders and containers that only the collector could free."""
    kinds = (av.VideoFrame, av.CodecContext, av.container.InputContainer)
    return [one for one in gc.get_objects() if isinstance(one, kinds)]


def test_pictures_of_a_file_go_with_their_frames(tmp_path):
    # x264 says of each picture how it was made: data beside the picture, which was what kept it.
    path = write_video(tmp_path / "a.mp4", range(0, 2000, 50), size=(320, 240))
    most = 0
    with without_collector():
        before = threads()
        with VideoFile(path, sample_fps=20.0) as source:
            for count, frame in enumerate(source, 1):  # noqa: B007
                most = max(most, threads() - before)
        del frame
        assert count == 40 and not kept()
    # One decoder's threads and one converter's.
    assert most <= SPARE_THREADS, f"{most} threads more while {count} pictures were read"


@pytest.mark.parametrize("kind", ["rtsp", "mjpeg"])
def test_reconnecting_to_a_real_camera_leaves_nothing_behind(kind):
    """Threads, pictures and resident memory after so many broken connections are those of a few."""
    process = psutil.Process()
    with contextlib.ExitStack() as stack:
        if kind == "rtsp":
            server = stack.enter_context(RtspServer())
            url, end = server.url, server.break_connections
        else:
            relay = stack.enter_context(HttpServer())
            url, end = f"{relay.url}/mjpeg", relay.break_once
        stack.enter_context(without_collector())
        watch = stack.enter_context(SourceReader(open_source(url, sample_fps=25.0, settings=QUICK)))
        watch.wait_frames(3, 20)
        marks = []
        for count in range(1, RECONNECTS + 1):
            end()
            watch.wait(lambda count=count: watch.source.status.reconnects >= count, 20)
            watch.wait_frames(5, 20)
            if count in (3, RECONNECTS):
                marks.append((threads(), process.memory_info().rss))
        # Those of the connection that is open, and of the server's own coder.
        assert len(kept()) <= 12
    (early, first), (late, last) = marks
    assert late <= early + SPARE_THREADS, f"{early} threads after 3 reconnects, {late} after {RECONNECTS}"
    # Each picture of 160 x 96 used to keep 0.2 MB with its converter, a reconnect five of them.
    assert last - first < 4e6, f"{(last - first) / 1e6:.1f} MB in {RECONNECTS - 3} reconnects"


LEFT = """
import sys, threading, time
from edge_runtime.interfaces.cli import error_exit
if sys.argv[1] == "hangs":
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("said", end="")
try:
    sys.exit(3)
except SystemExit as ended:
    error_exit.exit_despite_threads(ended)
    print(" and goes on", end="")
    raise
"""


@pytest.mark.parametrize("word, said", [("hangs", "said"), ("none", "said and goes on")])
def test_a_process_with_a_thread_that_hangs_ends_without_taking_python_down(word, said):
    done = subprocess.run([sys.executable, "-c", LEFT, word], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")
