"""The picture of now: made only while somebody looks, veiled before anything else, gone when it must be."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

import edge_runtime.service.pictures as preview_module
from edge_runtime.frame import Frame
from edge_runtime.privacy.zones import Zones
from edge_runtime.service.pictures import MAX_VIEWERS, Picture, Preview, TooManyViewers
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.sources.base import BaseSource
from edge_runtime.sources.demo import DemoSource
from edge_runtime.sources.live_source import LiveSource

LEFT_HALF = {"till": [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]}


def white(t: float, size: tuple[int, int] = (90, 160)) -> Frame:
    return Frame(np.full((*size, 3), 255, np.uint8), t)


@pytest.fixture
def always(monkeypatch):
    """Every picture is due."""
    monkeypatch.setattr(preview_module, "MAX_FPS", 1e9)
    return 1e9


def test_nothing_is_wanted_kept_or_veiled_while_nobody_looks():
    veiled: list[Frame] = []
    preview = Preview(lambda frame: veiled.append(frame) or frame)
    preview.offer(white(1.0))
    assert not preview.active and veiled == [] and preview.newest() is None
    with preview.watch(5):
        assert preview.active
        preview.offer(white(2.0))
        assert preview.newest().t == 2.0 and len(veiled) == 1
    assert preview.newest() is None and not preview.active


def test_a_zone_is_burnt_in_at_the_cameras_resolution_before_the_picture_is_shrunk():
    sizes: list[tuple[int, ...]] = []

    def veil(frame: Frame) -> Frame:
        sizes.append(frame.image.shape)
        return Zones(LEFT_HALF).mask_frame(frame)

    preview = Preview(veil)
    with preview.watch(5):
        preview.offer(white(1.0, (1440, 2560)))
        picture = preview.newest()
    assert sizes == [(1440, 2560, 3)] and picture.frame.image.shape == (720, 1280, 3)
    shown = cv2.imdecode(np.frombuffer(picture.jpeg(160), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (90, 160, 3) and shown[:, :78].max() < 40 and shown[:, 84:].min() > 215


def test_a_jpeg_is_made_once_for_all_widths_that_share_it():
    picture = Picture(white(0.0, (360, 640)))
    assert picture.jpeg(300) is picture.jpeg(320) and picture.jpeg(10_000) is picture.jpeg(1280)
    wide = cv2.imdecode(np.frombuffer(picture.jpeg(10_000), np.uint8), cv2.IMREAD_COLOR)
    assert wide.shape[1] == 640  # never larger than it is


def test_time_only_goes_forward(always):
    preview = Preview(lambda frame: frame)
    with preview.watch(always):
        preview.offer(white(3.0))
        preview.offer_masked(white(2.0))  # a sampled one, remembered a little later
        assert preview.newest().t == 3.0


def test_pictures_come_at_the_rate_of_the_viewer_who_wants_most(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(preview_module.time, "monotonic", lambda: now[0])
    shown: list[float] = []
    preview = Preview(lambda frame: shown.append(frame.t) or frame)
    with preview.watch(2), preview.watch(10):
        for k in range(250):  # a camera with 25 a second, for ten seconds
            now[0] = 100 + k / 25
            if preview.active:
                preview.offer(white(k / 25))
    assert len(shown) == pytest.approx(100, abs=3)


def test_only_so_many_may_look_and_each_that_goes_makes_room():
    preview = Preview(lambda frame: frame)
    with preview.watch(1):
        with contextlib.ExitStack() as others:
            for _ in range(MAX_VIEWERS - 1):
                others.enter_context(preview.watch(1))
            with pytest.raises(TooManyViewers, match="at most 4 viewers"), preview.watch(1):
                pass
        assert len(preview._rates) == 1
    assert preview._rates == []


@pytest.mark.parametrize("end", ["hide", "clear"])
def test_what_was_on_its_way_when_it_had_to_go_is_never_shown(end):
    inside, go_on = threading.Event(), threading.Event()

    def veil(frame: Frame) -> Frame:
        inside.set()
        assert go_on.wait(10)
        return frame

    preview = Preview(veil)
    with preview.watch(5):
        offering = threading.Thread(target=preview.offer, args=(white(1.0),))
        offering.start()
        assert inside.wait(10)
        if end == "hide":
            preview.hide(True)
            assert not preview.active
            preview.hide(False)  # the pause is over: the picture is still from before it
        else:
            preview.clear()
        go_on.set()
        offering.join()
        assert preview.newest() is None


@dataclass
class Seen:
    """A tap that remembers what it is offered."""

    active: bool = True

    def __post_init__(self) -> None:
        self.frames: list[Frame] = []

    def offer(self, frame: Frame) -> None:
        self.frames.append(frame)


def test_a_paced_demo_draws_what_happens_between_its_samples_only_while_somebody_looks():
    demo = DemoSource(WorldConfig(seed=3), sample_fps=0.5, size=(36, 64), speed=4.0)
    demo._world.frame(0.0, (36, 64))  # the first takes long
    tap = demo.tap = Seen(active=False)
    frames = iter(demo)
    first, second = next(frames), next(frames)
    assert len(tap.frames) == 2  # offered, and refused by a real one
    tap.active = True
    third = next(frames)
    between = [frame.t for frame in tap.frames[2:-1]]
    assert [first.t, second.t, third.t] == [0.0, 2.0, 4.0]
    assert between and all(2.0 < t < 4.0 for t in between) and between == sorted(between)


class Showing(BaseSource):
    """A camera with four pictures a second, sampled at one, that waits to be closed after two seconds."""

    def __init__(self) -> None:
        super().__init__("showing", live=True)

    def __iter__(self):
        for k in range(8):
            self.tally.seen += 1
            if self.has_viewer:
                self.show(white(1000 + k / 4))
            if k % 4 == 0:
                yield white(1000 + k / 4)
        self._closed.wait(20)
        self.show(white(2000.0))  # what a driver gives that comes back after it was left


def test_a_supervised_source_shows_its_openings_at_its_own_time_and_nothing_once_closed():
    tap = Seen()
    opened: list[Showing] = []

    def open_one(start: float) -> Showing:
        opened.append(Showing())
        return opened[-1]

    source = LiveSource(open_one, "showing", sample_fps=1.0, start=50.0)
    source.tap = tap
    frames = iter(source)
    next(frames)
    deadline = time.monotonic() + 20
    while len(tap.frames) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    source.close()
    opened[0].show(white(3000.0))
    assert len(tap.frames) == 8 and all(50 <= frame.t < 80 for frame in tap.frames)
