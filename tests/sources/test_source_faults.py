"""Real servers on loopback, stopped, stalled, slowed, switched and broken off under a live source."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime.sources import open_source
from edge_runtime.sources.live_source import Supervision
from edge_runtime.sources.network import probe
from engines.errors import LvmError
from tests.support.together import ParallelTests
from tools.fakes.http_camera import HttpServer
from tools.fakes.rtsp_camera import RtspServer
from tools.fakes.source_watcher import SourceReader

ROOT = Path(__file__).parents[2]
FPS = 10.0
RECOVERED = 2.0
"""Seconds after its return by which a camera has to be seen again, by default settings."""
together = ParallelTests()


@contextmanager
def watching(url, each=lambda: None, **settings):
    source = open_source(url, sample_fps=FPS, settings=Supervision(**settings))
    with SourceReader(source, each) as watch:
        watch.wait(lambda: len(watch.seen) >= 5)
        yield watch


def age(seen, server):
    """Seconds between the making of a picture and its arrival."""
    return seen.at - server.began - seen.number / 25


def assert_one_clock(watch, spread=0.5):
    """Strictly increasing, never more than `spread` from real time, gaps as long as they were."""
    times = [seen.t for seen in watch.seen]
    assert all(a < b for a, b in zip(times, times[1:], strict=False))
    late = [seen.at - seen.t for seen in watch.seen]
    assert max(late) - min(late) < spread, (min(late), max(late))


def assert_back(watch, returned):
    watch.wait(lambda: watch.first_after(returned))
    assert watch.first_after(returned).at - returned < RECOVERED


# -- RTSP --------------------------------------------------------------------------------------------------


@together
def a_server_that_stops_and_comes_back_with_other_pictures():
    with RtspServer(size=(160, 96)) as first, watching(first.url) as watch:
        first.__exit__()
        stopped = time.monotonic()
        watch.wait(lambda: watch.source.status.state == "connecting")
        watch.wait(lambda: "refused" in watch.source.status.why)
        time.sleep(0.8)
        with RtspServer(first.port, size=(320, 192), fps=15.0, began=first.began):
            assert_back(watch, returned := time.monotonic())
            watch.wait_frames(15)
            status = watch.source.status
    after = watch.first_after(returned)
    before = watch.seen[watch.seen.index(after) - 1]
    assert after.t - before.t == pytest.approx(after.at - before.at, abs=0.5)
    assert after.t - before.t > returned - stopped
    assert (status.state, status.size) == ("live", (320, 192)) and status.reconnects >= 2
    assert_one_clock(watch, 0.8)


@together
def a_broken_connection_is_replaced_at_once():
    with RtspServer() as server, watching(server.url) as watch:
        for _ in range(3):
            server.break_connections()
            assert_back(watch, time.monotonic())
            watch.wait_frames(2)
        assert server.clients == 7  # each time a probe and a connection


@contextmanager
def process():
    """A server in another process, and its URL."""
    command = [sys.executable, "-m", "tools.fakes.rtsp_camera"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        yield server, f"rtsp://127.0.0.1:{server.stdout.readline().strip()}/live"
        server.kill()


@together.each(shortly=0.7, beyond_the_timeouts=2.5)
def a_server_that_is_frozen_and_thawed(pause):
    with (
        process() as (server, url),
        watching(url, open_timeout_s=1.0, read_timeout_s=1.0, stalled_after_s=0.4) as watch,
    ):
        server.send_signal(signal.SIGSTOP)
        watch.wait(lambda: watch.source.status.state == "stalled")
        time.sleep(pause - 0.5)
        server.send_signal(signal.SIGCONT)
        assert_back(watch, time.monotonic())
        watch.wait_frames(5)
        status = watch.source.status
    assert status.state == "live" and status.abandoned == 0
    assert (status.reconnects == 0) == (pause < 1)


@together
def a_server_that_says_nothing_for_a_while():
    with RtspServer() as server, watching(server.url, read_timeout_s=0.6, stalled_after_s=0.3) as watch:
        server.silent = True
        watch.wait(lambda: watch.source.status.state == "stalled")
        watch.wait(lambda: watch.source.status.state == "connecting")
        assert "no answer in time" in watch.source.status.why
        server.silent = False
        assert_back(watch, time.monotonic())
        watch.wait_frames(10)
        assert_one_clock(watch, 0.8)


@together
def another_resolution_and_rate_in_the_middle_of_a_stream():
    with RtspServer() as server, watching(server.url) as watch:
        server.size = (192, 112)
        watch.wait(lambda: watch.source.status.size == (192, 112))
        server.fps = 12.0
        watch.wait_frames(15)
        status = watch.source.status
    assert status.reconnects == 0 and server.clients == 1
    assert max(age(seen, server) for seen in watch.seen[-5:]) < 0.6
    assert_one_clock(watch, 0.6)


@together.each(back=-3600.0, on=3600.0, a_bit_back=-0.7, a_bit_on=2.0, wrap=2**32 / 90_000 - 12)
def the_cameras_clock_is_set(offset):
    with RtspServer() as server:
        if offset > 4e4:  # counts from just before its 32 bits wrap
            server.stamp_offset = offset + 10.5
        with watching(server.url) as watch:
            if offset < 4e4:
                server.stamp_offset += offset
            watch.wait_frames(12)
            assert watch.source.status.reconnects == 0
    gaps = [b.at - a.at for a, b in zip(watch.seen, watch.seen[1:], strict=False)]
    assert max(gaps) < 1.2
    assert_one_clock(watch, 1.2 if abs(offset) < 1 else 0.6)


@together
def the_cameras_clock_stands_still():
    with RtspServer() as server, watching(server.url) as watch:
        server.stamp_still = True
        server.stamp_offset = time.monotonic() - server.began
        watch.wait_frames(20)
        server.stamp_still, server.stamp_offset = False, 0.0
        watch.wait_frames(10)
    gaps = [b.at - a.at for a, b in zip(watch.seen, watch.seen[1:], strict=False)]
    assert max(gaps) < 1.5  # the first second of it cannot be told from a pause
    assert_one_clock(watch, 1.5)


@together
def a_link_that_is_too_slow_is_left_for_the_present():
    with RtspServer() as server, watching(server.url, late_after_s=0.8, late_pause_s=1.0) as watch:
        server.pace = 0.25
        server.break_connections()
        began = time.monotonic()
        watch.wait(lambda: watch.source.status.reconnects >= 3, 12)
        watch.wait(lambda: time.monotonic() - began > 6)
    # Without a new connection now and then the last pictures would be 4.5 s old.
    assert max(age(seen, server) for seen in watch.seen) < 3.5


@together
def a_slow_consumer_stays_at_the_newest_picture():
    with RtspServer() as server, watching(server.url, each=lambda: time.sleep(0.3)) as watch:
        watch.wait_frames(4)
        assert max(age(seen, server) for seen in watch.seen[2:]) < 0.4
        assert watch.source.status.drops["slow consumer"] > 8


@together
def damaged_packets_are_skipped_and_counted():
    with RtspServer() as server:
        server.gop = 40
        with watching(server.url) as watch:
            server.damage = True
            watch.wait(lambda: watch.source.status.corrupt > 5)
            server.damage = False
            watch.wait_frames(5)
            status = watch.source.status
    assert status.state == "live" and status.reconnects == 0
    # No number that was never sent: a damaged picture reaches nobody.
    assert all(-0.05 < age(seen, server) < 0.6 for seen in watch.seen)


@together
def a_wrong_password_has_failed_and_is_said_without_it():
    with RtspServer(password="right") as server:
        url = server.url.replace("//", "//kiosk:{}@")
        source = open_source(url.format("s3cret"), sample_fps=FPS)
        with SourceReader(source) as watch:
            watch.wait(lambda: source.status.state == "failed", 2)
            time.sleep(0.5)
            status = source.status
        assert server.clients == 1 and "401" in status.why and "s3cret" not in str(status)
        with watching(url.format("right")) as watch:
            assert watch.source.status.state == "live"


@together
def an_address_that_swallows_packets_is_found_out_quickly():
    with socket.socket() as host:
        host.bind(("127.0.0.1", 0))
        host.listen(0)
        port = host.getsockname()[1]
        full = [socket.socket() for _ in range(4)]  # its queue: what comes next is not even refused
        for each in full:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        for attempt, shortest, longest in ((1, 0.4, 0.9), (8, 1.2, 1.9)):
            began = time.monotonic()
            with pytest.raises(LvmError, match=r"rtsp://\*\*\*@127.0.0.1:\d+ cannot be reached: .*time"):
                probe(f"rtsp://u:s3cret@127.0.0.1:{port}", attempt)
            assert shortest < time.monotonic() - began < longest
        for each in full:
            each.close()
    probe("udp://127.0.0.1", 1)
    probe("rtsp://[half/an/address", 1)


# -- HTTP --------------------------------------------------------------------------------------------------


@together.each(early=(0.3, True), late=(0.8, True), without_lengths=(0.8, False))
def mjpeg_that_breaks_off_inside_a_picture(case):
    at, lengths = case
    with HttpServer() as server:
        server.lengths = lengths
        with watching(f"{server.url}/mjpeg") as watch:
            server.break_at, server.break_after = at, 0
            watch.wait(lambda: watch.source.status.reconnects >= 2)
            server.break_after = None
            assert_back(watch, time.monotonic())
            watch.wait_frames(5)
            assert watch.source.status.corrupt >= 1
    # Half a picture shows another number.
    assert all(-0.05 < age(seen, server) < 0.5 for seen in watch.seen)


@together
def mjpeg_that_comes_back_in_grey_and_larger():
    with HttpServer() as server, watching(f"{server.url}/mjpeg") as watch:
        server.grey, server.size, server.break_after = True, (320, 192), 0
        watch.wait(lambda: watch.source.status.reconnects)
        server.break_after = None
        watch.wait(lambda: watch.source.status.size == (320, 192))
        watch.wait_frames(3)
    assert all(-0.05 < age(seen, server) < 0.5 for seen in watch.seen)


@together
def a_relay_without_its_camera_is_asked_again_soon():
    with HttpServer() as server, watching(f"{server.url}/mjpeg") as watch:
        server.status, server.break_after = 404, 0
        watch.wait(lambda: "404" in watch.source.status.why)
        time.sleep(1.0)
        server.status, server.break_after = 200, None
        assert_back(watch, time.monotonic())


@together
def the_33_bits_of_a_transport_stream_wrap():
    with HttpServer() as server:
        server.before_wrap = 1.5
        with watching(f"{server.url}/ts") as watch:
            watch.wait(lambda: watch.seen[-1].at - watch.seen[0].at > 2.5)
            assert watch.source.status.reconnects == 0
    gaps = [b.at - a.at for a, b in zip(watch.seen, watch.seen[1:], strict=False)]
    assert max(gaps) < 0.4
    assert_one_clock(watch)


@pytest.fixture(scope="module")
def outcomes(request):
    yield from together.outcomes(request)


@pytest.mark.parametrize("body", together.bodies)
def test_real_servers(body, outcomes):
    outcomes[body].result()
