"""Several cameras at one set of engines: in turn, together where it helps, never at each other's cost."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.ingest.pipeline import BATCH_FRAMES
from edge_runtime.service.engine_pool import EnginePool
from edge_runtime.system.errors import CallAbandoned
from engines import spec
from engines.errors import EngineFault
from engines.fake import FakeEngine
from tests.support.cameras import fake_engines


class Backbone:
    """Remembers which pictures came together; `hold` keeps a call inside until it is released."""

    def __init__(self, engines) -> None:
        self.calls: list[list[int]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.inside = threading.Event()
        self.fails = lambda numbers: False
        self._real = engines.backbone
        fake = FakeEngine(self._run, engines.backbone.inputs, engines.backbone.outputs)
        self.pool = EnginePool(replace(engines, backbone=fake))

    def _run(self, feeds):
        numbers = [int(image[0, 0, 0]) for image in feeds["image"]]
        self.calls.append(numbers)
        self.inside.set()
        assert self.hold.wait(10)
        if self.fails(numbers):
            raise EngineFault(f"no luck with {numbers}")
        return self._real(feeds)


@pytest.fixture
def backbone():
    return Backbone(fake_engines())


def _pictures(*numbers: int) -> dict[str, np.ndarray]:
    size = fake_engines().bundle.manifest.network.image_size
    return {"image": np.stack([np.full((size, size, 3), n, np.uint8) for n in numbers])}


def _all_at_once(backbone: Backbone, asked: dict[str, tuple[bool, dict]]) -> dict[str, object]:
    """What each client gets when all wait behind a call that is under way, in the order of `asked`."""
    backbone.hold.clear()
    first = threading.Thread(target=lambda: backbone.pool.client("first").backbone(_pictures(0)))
    first.start()
    assert backbone.inside.wait(10)
    got: dict[str, object] = {}

    def ask(name: str, shares: bool, feeds: dict) -> None:
        client = backbone.pool.client(name)
        client.shares_calls = shares
        try:
            got[name] = client.backbone(feeds)["tokens"]
        except Exception as error:
            got[name] = error
        got[name + ".faults"] = client.faults

    threads = []
    for name, (shares, feeds) in asked.items():
        threads.append(threading.Thread(target=ask, args=(name, shares, feeds)))
        threads[-1].start()
        end = time.monotonic() + 10
        while len(backbone.pool._waiting) < len(threads) and time.monotonic() < end:
            time.sleep(0.001)
    backbone.hold.set()
    for thread in [first, *threads]:
        thread.join(10)
    return got


def test_frames_of_live_cameras_that_wait_share_a_call_and_each_gets_its_own(backbone):
    live = {f"live{n}": (True, _pictures(n)) for n in (1, 2, 3)}
    got = _all_at_once(backbone, {**live, "file": (False, _pictures(7, 8)), "live4": (True, _pictures(4))})
    assert backbone.calls == [[0], [1, 2, 3, 4], [7, 8]]
    for n in (1, 2, 3, 4):
        assert np.array_equal(got[f"live{n}"], fake_engines().backbone(_pictures(n))["tokens"])
    assert got["file"].shape[0] == 2


def test_a_files_batch_takes_no_live_frame_with_it(backbone):
    live = {f"live{n}": (True, _pictures(n)) for n in (1, 2)}
    _all_at_once(backbone, {"file": (False, _pictures(7, 8)), **live, "other": (False, _pictures(9))})
    assert backbone.calls == [[0], [7, 8], [1, 2], [9]]


def test_a_shared_call_has_at_most_a_batch(backbone):
    live = {f"live{n}": (True, _pictures(n)) for n in range(1, 12)}
    _all_at_once(backbone, live)
    assert [len(call) for call in backbone.calls] == [1, BATCH_FRAMES, 3]
    assert sorted(sum(backbone.calls, [])) == list(range(12))


def test_of_frames_that_failed_together_only_the_bad_ones_are_lost(backbone):
    backbone.fails = lambda numbers: 2 in numbers
    got = _all_at_once(backbone, {f"live{n}": (True, _pictures(n)) for n in (1, 2, 3)})
    assert backbone.calls == [[0], [1, 2, 3], [1], [2], [3]]
    assert isinstance(got["live2"], EngineFault) and got["live1"].shape == got["live3"].shape
    assert (got["live1.faults"], got["live2.faults"], got["live3.faults"]) == (1, 2, 1)


def test_a_call_that_fails_once_is_made_again_and_nobody_notices(backbone):
    backbone.fails = lambda numbers: len(backbone.calls) == 1
    client = backbone.pool.client("it")
    assert client.backbone(_pictures(5))["tokens"].shape[0] == 1
    assert backbone.calls == [[5], [5]] and client.faults == 1


def test_wrong_feeds_are_not_tried_again_and_hold_nobody_up(backbone):
    client = backbone.pool.client("it")
    with pytest.raises(ValueError, match="feeds must be"):
        client.backbone({})
    assert backbone.calls == [] and client.backbone(_pictures(1))["tokens"].shape[0] == 1


def test_cameras_take_turns_however_many_frames_each_brings():
    """Between two calls of one camera, every other that waited is served: nobody is ever two calls ahead."""
    engines = fake_engines()
    sizes, rounds = {1: 8, 2: 8, 3: 1, 4: 4}, 12
    order: list[int] = []
    left = dict.fromkeys(sizes, rounds)

    def run(feeds):
        camera = int(feeds["image"][0, 0, 0, 0])
        left[camera] -= 1
        order.append(camera)
        end = time.monotonic() + 10
        while len(pool._waiting) < sum(n > 0 for c, n in left.items() if c != camera):
            assert time.monotonic() < end
            time.sleep(0.0005)
        return engines.backbone(feeds)

    pool = EnginePool(
        replace(engines, backbone=FakeEngine(run, engines.backbone.inputs, engines.backbone.outputs))
    )

    def ask(camera: int) -> None:
        client, feeds = pool.client(str(camera)), _pictures(*[camera] * sizes[camera])
        for _ in range(rounds):
            client.backbone(feeds)

    threads = [threading.Thread(target=ask, args=(camera,)) for camera in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(order) == sorted(list(sizes) * rounds)
    for done in range(len(order)):
        served = [order[:done].count(camera) for camera in sizes]
        assert max(served) - min(served) <= 1, order


def test_what_a_camera_that_is_left_waits_for_is_dropped_and_the_others_are_served(backbone):
    clients = {name: backbone.pool.client(name) for name in ("first", "left", "other")}
    got: dict[str, object] = {}

    def ask(name: str, number: int) -> None:
        try:
            got[name] = clients[name].backbone(_pictures(number))["tokens"]
        except Exception as error:
            got[name] = error

    backbone.hold.clear()
    threads = []
    for number, name in enumerate(clients):
        threads.append(threading.Thread(target=ask, args=(name, number)))
        threads[-1].start()
        assert backbone.inside.wait(10)
        end = time.monotonic() + 10
        while len(backbone.pool._waiting) < number and time.monotonic() < end:
            time.sleep(0.001)
    clients["left"].cancel()
    threads[1].join(10)
    assert isinstance(got["left"], CallAbandoned) and "first" not in got
    backbone.hold.set()
    for thread in threads:
        thread.join(10)
    assert backbone.calls == [[0], [2]] and clients["left"].faults == 0
    with pytest.raises(CallAbandoned):
        clients["left"].backbone(_pictures(1))
    clients["left"].cancelled = False
    assert clients["left"].backbone(_pictures(1))["tokens"].shape[0] == 1


def test_questions_go_past_the_queue_one_at_a_time(backbone):
    """A backend keeps memory for as many calls as it ever ran side by side."""
    pool = backbone.pool
    backbone.hold.clear()
    ingest = threading.Thread(target=lambda: pool.client("camera").backbone(_pictures(0)))
    ingest.start()
    assert backbone.inside.wait(10)
    asking = [threading.Thread(target=lambda: pool.query_backbone(_pictures(7))) for _ in range(4)]
    for one in asking:
        one.start()
    until = time.monotonic() + 10
    while len(backbone.calls) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)  # for a third that must not come
    assert backbone.calls == [[0], [7]]
    backbone.hold.set()
    for one in [ingest, *asking]:
        one.join(10)
    assert backbone.calls == [[0], *[[7]] * 4]


def test_a_calls_feeds_are_checked_once(backbone, monkeypatch):
    checked: list[int] = []
    check = spec.check_feeds
    monkeypatch.setattr(spec, "check_feeds", lambda *args: (checked.append(1), check(*args)))
    backbone.pool.client("camera").backbone(_pictures(1))
    assert (
        backbone.calls == [[1]] and len(checked) == 2
    )  # the other is the test's own call of the real engine
