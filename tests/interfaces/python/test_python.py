"""Memory, the Python API: it remembers what a run remembers, and asking changes nothing of it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Memory
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import default_bundle
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.runtime import Service
from edge_runtime.sources import open_source
from engines.bundle import Bundle
from engines.errors import LvmError
from tests.catalogue.test_products import photo, saved
from tests.support.cameras import equal_versions

ROOT = Path(__file__).parents[3]
DEMO = "demo?size=64x48"
SECONDS = 45
"""A clip and a half: one that was closed, and a batch that is not full."""


def opened(**more) -> Memory:
    return Memory(backend="onnxruntime", threads=1, **more)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """State folder and memory of `lvm-edge run` over the demo."""
    folder = tmp_path_factory.mktemp("run") / "state"
    with Service(Engines.load(Bundle.open(default_bundle()), "onnxruntime", threads=1)) as service:
        service.add(CameraSettings(DEMO, folder))
        service.run(SECONDS)
        yield folder, service.camera().version


@pytest.fixture(scope="module")
def memory():
    with opened() as memory:
        yield memory.watch(DEMO, SECONDS)


def pushed(into: Memory, ask_at: int | None = None) -> Memory:
    with open_source(DEMO, sample_fps=into._header.sample_fps) as source:
        for frame in source:
            if frame.t >= SECONDS:
                return into
            assert into.push(frame.image, frame.t)
            if frame.t == ask_at:
                into.object("scan")
    raise AssertionError("the demo has no end")


def test_what_is_watched_or_pushed_is_the_memory_of_a_run_bit_for_bit(ran, memory):
    assert equal_versions(memory.version, ran[1])
    with opened() as memory:
        assert equal_versions(pushed(memory).version, ran[1])


def test_asking_in_mid_batch_changes_nothing(ran):
    with opened() as memory:
        pushed(memory, ask_at=19)
        memory._flush()
        assert equal_versions(memory.version, ran[1])


def test_pictures_between_two_samples_are_passed_over(memory):
    with opened() as memory:
        sampled = [memory.push(photo(k), k / 4) for k in range(12)]
        assert sampled == [k % 4 == 0 for k in range(12)]
        assert memory.version.frames == 3 and memory.status()["seen"] == 12


def test_a_memory_is_saved_and_goes_on_as_if_nothing_had_been(ran, tmp_path):
    with opened() as memory:
        memory.watch(DEMO, 20).save(tmp_path / "state")
    with Memory.load(tmp_path / "state", backend="onnxruntime", threads=1) as two:
        assert equal_versions(two.watch(DEMO, SECONDS - 20).version, ran[1])
        with pytest.raises(LvmError, match=f"this memory is of {re.escape(DEMO)}; make another Memory"):
            two.push(photo(1), 1000)


def test_the_state_of_a_run_is_read_and_a_saved_one_is_asked(ran, tmp_path, memory):
    with Memory.load(ran[0], backend="onnxruntime", threads=1) as memory:
        assert equal_versions(memory.version, ran[1])
    memory.save(tmp_path / "mine")
    code = [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "ask", "object", "--activity", "scan"]
    done = subprocess.run(
        [*code, "--state", str(tmp_path / "mine")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "watched 0.0 to 45.0 s" in done.stdout, done.stderr


def test_an_object_is_named_in_any_way_and_means_the_equal_versions(tmp_path):
    image = photo(3, 60, 80)
    path = saved(tmp_path / "milk.png", image)
    catalogue = Catalogue(tmp_path / "catalogue")
    (catalogue.folder / "Oat milk").mkdir(parents=True)
    saved(catalogue.folder / "Oat milk" / "1.png", image)
    with opened(catalogue=catalogue.folder) as memory:
        memory.watch(DEMO, 30)
        ways = (path, Path(path), Path(path).read_bytes(), image, [image], [path, image], "Oat milk")
        answers = [memory.activity(way).model_dump(exclude={"milliseconds"}) for way in ways]
        assert all(answer == answers[0] for answer in answers[1:])
        image = memory._ring.find(29).image
        box = memory.time(box=(0, 0, 1, 1), at=29).model_dump(exclude={"milliseconds"})
        assert box == memory.time(object=image).model_dump(exclude={"milliseconds"})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.activity(), "name the object once"),
        (lambda m: m.activity("x", box=(0, 0, 1, 1), at=1), "name the object once"),
        (lambda m: m.activity(box=(0, 0, 1, 1)), "box= needs at="),
        (lambda m: m.activity(box=(1, 0, 0, 1), at=1), "box must be x1,y1,x2,y2"),
        (lambda m: m.activity(photo(1), at=1), "a photo has none"),
        (lambda m: m.activity("gone/milk.jpg"), "there is no photo 'gone/milk.jpg'"),
        (lambda m: m.activity("mlik"), "product 'mlik' is not in the catalogue"),
        (lambda m: m.activity([]), "by 1 to 16 photos"),
        (lambda m: m.activity(np.zeros((4, 4))), "a photo must be"),
        (lambda m: m.activity(7), "a photo must be a numpy array"),
        (lambda m: m.object("scna"), "nearest is 'scan'"),
        (lambda m: m.object("scan", start=9, end=3), "from must be before to"),
        (lambda m: m.object("scan", start=float("nan")), "finite"),
        (lambda m: m.ask({"type": "where"}), "type must be activity, object or time"),
        (lambda m: m.push(photo(1), 99), "make another Memory for pictures of"),
        (lambda m: m.push(photo(1).astype(float), 99), "of uint8, RGB, got (40, 60, 3) of float64"),
        (lambda m: m.watch("missing.mp4"), "make another Memory for /"),
        (lambda m: m.watch(DEMO, seconds=-1), "seconds must be a number above 0"),
        (lambda m: Memory.load("nowhere"), "no memory in nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(memory, ask, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LVM_EDGE_STATE", str(tmp_path))
    with pytest.raises(LvmError, match=re.escape(message)):
        ask(memory)


def test_times_grow_and_sources_exist():
    with opened() as memory:
        with pytest.raises(LvmError, match="there is no source"):
            memory.watch("missing.mp4")
        memory.push(photo(1), 5)
        for t in (5, 3, float("nan"), float("inf")):
            with pytest.raises(LvmError, match="newer than the one before, at 5.0 s"):
                memory.push(photo(1), t)
        assert memory.version.frames == 1


def test_another_memory_is_not_written_over(memory, tmp_path):
    with opened() as other:
        other.push(photo(1), 0)
        other.save(tmp_path)
    with pytest.raises(LvmError, match="has the memory of pictures of a Python program; name another folder"):
        memory.save(tmp_path)


def test_a_memory_and_an_answer_are_drawn(memory, tmp_path):
    answer = memory.object("scan")
    for html in (memory._repr_html_(), answer._repr_html_()):
        assert html.count("<div>") == html.count("</div>") == 1 and "<rect" in html and "nan" not in html
    assert "45 s in" in repr(memory)
    with opened() as empty:
        assert "nothing was watched" in empty._repr_html_()
        assert "nothing was watched" in empty.object("scan")._repr_html_()
    memory.plot(answer).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_names_in_a_drawing_are_text(memory):

    answer = memory.object("scan").model_copy(update={"answer": "<script>alert(1)</script>"})
    assert "<script>" not in answer._repr_html_()


def test_the_package_is_light_until_its_memory_is_asked_for():
    code = (
        "import sys, edge_runtime; print('numpy' in sys.modules); "
        "edge_runtime.Memory; print('cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'Memroy'"):
        __import__("edge_runtime").Memroy  # noqa: B018


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LVM_EDGE_STATE", str(tmp_path / "state"))
    for name in ("milk", "front", "back"):
        saved(tmp_path / f"{name}.jpg", photo(len(name)))
    Catalogue(tmp_path / "state" / "catalogue").add("Oat milk", [photo(5)])
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.M | re.S)
    assert len(blocks) >= 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (tmp_path / "answer.png").exists()
