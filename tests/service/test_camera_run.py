"""A run that is stopped, killed or broken off loses nothing that was saved, and goes on bit for bit."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edge_runtime.service.camera as module
from edge_runtime.frame import Frame
from edge_runtime.persistence import FILE, StateError, StateFolder, load_snapshot, to_arrays
from edge_runtime.persistence.set_aside import list_set_aside
from edge_runtime.query.schema import parse_query
from edge_runtime.service.camera import CameraRun
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import EnginePool, Engines
from edge_runtime.service.pictures import RING_FRAMES, FrameRing
from edge_runtime.service.status import make_camera_status
from edge_runtime.sources.base import BaseSource
from edge_runtime.system.errors import QueryError
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.fake import FakeEngine
from tests.support.bundles import copy_bundle, edit_manifest
from tests.support.media import write_video
from tests.support.stalls import timed

DEMO = "demo?size=64x48"
WHERE = parse_query('{"type": "object", "activity": "scan"}')


def _camera(engines, source: str, folder: StateFolder, **options) -> CameraRun:
    return CameraRun(EnginePool(engines), CameraSettings(source, folder.folder, **options), folder)


@pytest.fixture
def open_camera(engines, tmp_path):
    """Opens a service on a named state; `stop_after` frames it is stopped as by a signal."""

    def opened(name: str, source: str = DEMO, **options) -> CameraRun:
        folder = StateFolder(tmp_path / name)
        folder.__enter__()
        held.append(folder)
        try:
            return _camera(engines, source, folder, **options)
        except LvmError:
            folder.__exit__(None, None, None)
            raise

    held: list[StateFolder] = []
    yield opened
    for folder in held:
        folder.__exit__(None, None, None)


def _run(camera: CameraRun, seconds: float | None = None, *, stop_after: int | None = None) -> CameraRun:
    def progress() -> None:
        if stop_after is not None and camera.version.frames >= stop_after:
            camera.stop()

    camera.run(seconds, progress)
    camera.folder.__exit__(None, None, None)
    return camera


def _same(one: CameraRun, two: CameraRun) -> bool:
    first, second = to_arrays(one.version), to_arrays(two.version)
    return (
        first.keys() == second.keys()
        and all(first[name].tobytes() == second[name].tobytes() for name in first)
        and one.version.coverage == two.version.coverage
        and one.version.frames == two.version.frames
        and one.version.memory.version == two.version.memory.version
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """75 s in pictures of uneven distances, so that sampling is not every n-th."""
    steps = np.random.default_rng(0).integers(150, 700, 180).cumsum()
    return str(write_video(tmp_path_factory.mktemp("video") / "v.mp4", [int(t) for t in steps if t < 75_000]))


# -- resuming ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [1, 9, 30, 41])
def test_a_stopped_demo_goes_on_as_the_uninterrupted_one(open_camera, stop_after):
    whole = _run(open_camera("whole"), 70)
    first = _run(open_camera("cut"), stop_after=stop_after)
    done = first.version.frames
    assert stop_after <= done < stop_after + 24  # two batches may be on their way
    resumed = _run(open_camera("cut"), 70 - done)
    assert whole.version.frames == 70 and _same(whole, resumed)


@pytest.mark.parametrize("stop_after", [5, 33])
def test_a_stopped_video_goes_on_as_the_uninterrupted_one(open_camera, video, stop_after):
    whole = _run(open_camera("whole", video))
    first = _run(open_camera("cut", video), stop_after=stop_after)
    resumed = _run(open_camera("cut", video))
    assert first.version.frames < whole.version.frames > 60 and _same(whole, resumed)
    assert not first.header.ended and resumed.header.ended


def test_what_was_not_kept_is_read_again(open_camera, tmp_path):
    whole = _run(open_camera("whole"), 50)
    camera = open_camera("killed", save_interval_s=0)
    batches: list[int] = []
    save, append = camera.folder.save, camera.folder.append
    camera.folder.save = lambda snapshot: save(snapshot) if len(batches) < 4 else 0
    camera.folder.append = lambda *steps, **how: (
        batches.append(1) or (append(*steps, **how) if len(batches) < 4 else None)
    )
    _run(camera, 50)  # as after kill -9: what it did after the third batch is nowhere
    on_disk = load_snapshot(tmp_path / "killed")
    assert 0 < on_disk.version.frames < 50
    resumed = _run(open_camera("killed"), 50 - on_disk.version.frames)
    assert _same(whole, resumed)


def test_a_video_that_has_ended_is_over_when_started_again(open_camera, video):
    first = _run(open_camera("ended", video))
    again = _run(open_camera("ended", video))
    assert _same(first, again) and again.header.ended and again.resumed is not None


def test_an_ended_state_is_open_again_while_it_runs(open_camera, video):
    _run(open_camera("ended", video))
    assert not open_camera("ended", video).header.ended


@pytest.mark.parametrize("sampler", ["svd-novelty", "random", "fifo"])
def test_every_sampler_goes_on_bit_for_bit(open_camera, sampler):
    whole = _run(open_camera("whole", sampler=sampler), 40)
    cut = _run(open_camera("cut", sampler=sampler), stop_after=10)
    assert _same(whole, _run(open_camera("cut", sampler=sampler), 40 - cut.version.frames))


class Ending(BaseSource):
    """Pictures of a file that is stopped by a signal while the eleventh is read, when the first batch is
    `begun`: on a busy machine it may wait until then."""

    def __init__(self, stop, begun: threading.Event) -> None:
        super().__init__("ending", live=False)
        self._stop, self._begun = stop, begun

    def __iter__(self):
        for second in range(20):
            if second == 11:
                assert self._begun.wait(60)
                self._stop()
            yield Frame(np.full((48, 64, 3), second * 10, np.uint8), float(second))


def test_frames_of_a_batch_that_was_not_full_are_left_for_the_resumed_run(open_camera, monkeypatch):
    camera = open_camera("half")
    backbone, begun = camera.ingest.backbone, threading.Event()

    def counted(feeds):
        outputs = backbone(feeds)
        begun.set()  # only now: a stop gives up calls that still wait for their turn
        return outputs

    camera.ingest.backbone = FakeEngine(counted, backbone.inputs, backbone.outputs)
    monkeypatch.setattr(module, "open_source", lambda *_, **__: Ending(camera.stop, begun))
    _run(camera)
    assert camera.version.frames == 8 and camera.header.last_t == 7 and not camera.header.ended


def test_batches_fall_at_the_same_places_of_a_clip_wherever_it_went_on(engines, tmp_path):
    sizes: list[int] = []

    def counted(feeds):
        sizes.append(len(feeds["image"]))
        return engines.backbone(feeds)

    backbone = FakeEngine(counted, engines.backbone.inputs, engines.backbone.outputs)
    for seconds in (3, 40):
        with StateFolder(tmp_path) as folder:
            _camera(replace(engines, backbone=backbone), DEMO, folder).run(seconds)
    assert sizes == [3, 5, 8, 8, 6, 8, 5]


# -- how long ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds, frames", [(1, 1), (0.5, 1), (30, 30), (30.5, 31)])
def test_seconds_are_those_of_the_stream(open_camera, seconds, frames):
    camera = _run(open_camera("for"), seconds)
    assert camera.version.frames == frames and camera.version.coverage.end == frames


def test_seconds_count_from_where_it_goes_on(open_camera):
    _run(open_camera("for"), 10)
    assert _run(open_camera("for"), 10).version.frames == 20


def test_seconds_of_a_video_are_presentation_times(open_camera, video):
    camera = _run(open_camera("for", video), 20)
    assert 18 <= camera.version.frames <= 20 and camera.header.last_t < 20


class _Dark(BaseSource):
    """A camera that is connected and gives so many frames, and then none."""

    def __init__(self, frames: int) -> None:
        super().__init__("dark", live=True)
        self._frames = frames

    def __iter__(self):
        for k in range(self._frames):
            yield _picture(float(k))
        self._closed.wait(60)


@pytest.mark.parametrize("frames", [0, 2])
@timed
def test_seconds_of_a_camera_that_gives_no_frame_are_those_of_the_clock(
    open_camera, engines, monkeypatch, frames
):
    monkeypatch.setattr(module, "open_source", lambda *given, **more: _Dark(frames))
    began = time.monotonic()
    camera = _run(open_camera("dark", "rtsp://127.0.0.1/live"), 2.5)
    assert 2.5 <= time.monotonic() - began < 30
    assert camera.condition == "ended" and not camera.header.ended and camera.version.frames == frames


def test_a_stop_before_the_start_ends_it_at_once(open_camera):
    camera = open_camera("early")
    camera.stop()
    _run(camera)
    assert camera.version.frames == 0 and load_snapshot(camera.folder.folder).version.frames == 0


# -- asking meanwhile --------------------------------------------------------------------------------------


def test_questions_from_other_threads_are_answered_while_it_runs(open_camera):
    camera = open_camera("asked")
    answers, errors = [], []

    def ask() -> None:
        try:
            while not done.wait(0.01):
                answers.append(camera.ask(WHERE))
        except Exception as error:
            errors.append(error)

    done = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    _run(camera, 40)
    time.sleep(0.2)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == [] and len({one.memory_version for one in answers}) > 1
    assert answers[-1].coverage.end == 40
    plain = open_camera("alone")
    _run(plain, 40)
    assert _same(camera, plain)


def test_a_box_in_a_picture_of_just_now_is_asked_and_one_of_the_past_is_read_again(open_camera):
    camera = _run(open_camera("box"), 20)
    for t in (19, 2.5):
        query = parse_query(f'{{"type": "activity", "object": {{"box": [0.1, 0.1, 0.5, 0.5], "t": {t}}}}}')
        assert len(camera.ask(query).activities) == 10


def test_a_box_in_a_picture_that_is_gone_is_one_sentence(open_camera, video):
    camera = open_camera("box", video)
    for t in (76, 1e6, 1e9):
        query = parse_query(f'{{"type": "activity", "object": {{"box": [0, 0, 1, 1], "t": {t}}}}}')
        with pytest.raises(QueryError, match="is no longer here"):
            camera.ask(query)


# -- what goes wrong ---------------------------------------------------------------------------------------


class Failing(BaseSource):
    """Gives ten pictures and then fails as a cable does."""

    def __init__(self, error: Exception) -> None:
        super().__init__("failing", live=False)
        self._error = error

    def __iter__(self):
        for second in range(10):
            self.tally.seen += 1
            yield Frame(np.full((48, 64, 3), second * 20, np.uint8), float(second))
        raise self._error


@pytest.mark.parametrize("error", [LvmError("the cable is out"), ZeroDivisionError("a bug")])
def test_a_source_that_fails_is_reported_after_what_it_gave_is_saved(open_camera, monkeypatch, error):
    monkeypatch.setattr(module, "open_source", lambda *_, **__: Failing(error))
    camera = open_camera("failing")
    with pytest.raises(type(error), match=str(error)):
        camera.run()
    saved = load_snapshot(camera.folder.folder)
    assert saved.version.frames == saved.header.seen == 8 and not saved.header.ended


def test_a_source_that_is_not_there_changes_nothing(open_camera, tmp_path):
    camera = open_camera("none", str(tmp_path / "nothing.mp4"))
    with pytest.raises(LvmError, match="there is no source"):
        camera.run()
    assert load_snapshot(tmp_path / "none") is None


def test_another_source_or_sampler_on_the_same_state_is_refused(open_camera):
    _run(open_camera("mine"), 3)
    with pytest.raises(StateError, match="belongs to source demo"):
        open_camera("mine", "demo?seed=4")
    with pytest.raises(StateError, match="made with sampler neural, not fifo"):
        open_camera("mine", sampler="fifo")
    assert _run(open_camera("mine"), 3).version.frames == 6


def make_other_engines(engines, tmp_path):
    """The engines of another model."""
    bundle = Bundle.open(
        edit_manifest(copy_bundle(tmp_path), lambda d: d["network"].update(svd_forgetting=0.5))
    )
    return Engines(bundle, engines.choice, engines.backbone, engines.sampler, engines.reader)


def test_an_upgrade_sets_the_memory_aside_and_a_roll_back_takes_it_up_again(
    open_camera, engines, tmp_path, caplog
):
    _run(open_camera("mine"), 3)
    before = (tmp_path / "mine" / FILE).read_bytes()
    with StateFolder(tmp_path / "mine") as folder:
        camera = _camera(make_other_engines(engines, tmp_path), DEMO, folder)
        assert camera.version.frames == 0 and "is set aside in" in caplog.text
        (aside,) = make_camera_status(camera)["set_aside"]
        assert aside["bundle"] == str(engines.bundle.path.resolve())
        _run(camera, 2)
    assert (Path(aside["state"]) / FILE).read_bytes() == before
    assert load_snapshot(Path(aside["state"])).version.frames == 3, "readable as a state of its own"
    assert load_snapshot(tmp_path / "mine").version.frames == 2
    assert _run(open_camera("mine"), 3).version.frames == 6, "the old bundle goes on with the old memory"
    assert len(list_set_aside(tmp_path / "mine")) == 1, "and the new one waits"


def test_an_upgrade_knows_a_camera_whose_address_is_masked(engines, tmp_path):
    with StateFolder(tmp_path / "mine") as folder:
        _camera(engines, "rtsp://u:one@127.0.0.1:9/7fhq2k?token=f81c22", folder).save()
        _camera(make_other_engines(engines, tmp_path), "rtsp://u:two@127.0.0.1:9/7fhq2k?token=f81c22", folder)
    assert len(list_set_aside(tmp_path / "mine")) == 1


def test_another_cameras_memory_is_not_set_aside_by_an_upgrade(open_camera, engines, tmp_path):
    _run(open_camera("mine"), 3)
    with StateFolder(tmp_path / "mine") as folder, pytest.raises(StateError, match="belongs to source demo"):
        _camera(make_other_engines(engines, tmp_path), "demo?seed=4", folder)
    assert list_set_aside(tmp_path / "mine") == []


def test_forgetting_removes_what_was_set_aside(open_camera, engines, tmp_path):
    _run(open_camera("mine"), 3)
    with StateFolder(tmp_path / "mine") as folder:
        camera = _camera(make_other_engines(engines, tmp_path), DEMO, folder)
        _run(camera, 2)
        assert camera.privacy.forget(0.0, 1.0).earlier == 1
    assert list_set_aside(tmp_path / "mine") == []


def test_every_batch_is_saved_while_it_runs(open_camera):
    camera = open_camera("saving", save_interval_s=0)
    seen: list[tuple[int, int]] = []
    camera.run(
        20,
        lambda: seen.append((load_snapshot(camera.folder.folder).version.frames, camera.version.frames)),
    )
    assert len(seen) >= 3 and all(on_disk == known for on_disk, known in seen)


# -- the ring ----------------------------------------------------------------------------------------------


def _picture(t: float, height: int = 4, width: int = 6) -> Frame:
    return Frame(np.full((height, width, 3), int(t), np.uint8), t)


def test_the_ring_gives_what_was_shown_and_forgets_what_is_old():
    ring = FrameRing()
    assert ring.find(0) is None
    for second in range(RING_FRAMES + 5):
        ring.push(_picture(second))
    assert ring.find(4.9) is None and ring.find(5).t == 5 and ring.find(10.7).t == 10
    assert ring.find(1e9).t == RING_FRAMES + 4 and (ring.find(10.7).image == 10).all()


@pytest.mark.parametrize(
    "height, width, shape", [(720, 1280, (360, 640)), (2000, 3, (640, 1)), (48, 64, (48, 64))]
)
def test_the_ring_keeps_small_pictures_of_the_same_form(height, width, shape):
    ring = FrameRing()
    ring.push(_picture(1, height, width))
    assert ring.find(1).image.shape == (*shape, 3)
