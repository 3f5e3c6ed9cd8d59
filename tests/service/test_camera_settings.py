"""Configuration to cameras, and which memory is meant by whom."""

import pytest

import edge_runtime.service.camera as module
from edge_runtime.config.paths import cameras_root, default_state_folder, state_root
from edge_runtime.config.schema import Config, load_config
from edge_runtime.interfaces.cli.locate import resolve_state, resolve_states
from edge_runtime.persistence import Header, StateError, check_owner, is_same_source, load_snapshot
from edge_runtime.service.camera_settings import CameraSettings, make_camera_settings, make_source_settings
from edge_runtime.service.runtime import Service
from engines.errors import LvmError
from tests.support.cameras import ScriptedSource, fake_engines


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("LVM_EDGE_STATE", str(tmp_path / "states"))
    monkeypatch.setattr(
        module, "open_source", lambda spec, *, sample_fps, start, settings: ScriptedSource(9, start=start)
    )


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> Config:
        (tmp_path / "c.yaml").write_text(text)
        return load_config(tmp_path / "c.yaml")

    return write


def _remember(settings: CameraSettings) -> None:
    with Service(fake_engines(), fake_engines) as service:
        service.add(settings)
        service.run()


def test_a_value_of_the_camera_comes_before_the_defaults_and_those_before_the_rest(written):
    config = written(
        "defaults: {save_interval_s: 5, sampler: fifo}\n"
        "model: {sampler: random}\n"
        "state: {save_interval_s: 7}\n"
        "cameras:\n"
        "  a: {source: 0, save_interval_s: 0, sample_fps: 0.5}\n"
        "  b: {source: demo, sampler: svd-novelty}\n"
    )
    a, b = make_camera_settings(config).values()
    assert (a.save_interval_s, a.sampler, a.sample_fps) == (0, "fifo", 0.5)
    assert (b.save_interval_s, b.sampler, b.sample_fps) == (5, "svd-novelty", None)
    assert make_camera_settings(config, sampler="neural")["b"].sampler == "neural"
    plain = make_camera_settings(
        written("model: {sampler: random}\nstate: {save_interval_s: 7}\ncameras: {a: {source: 0}}")
    )
    assert (plain["a"].save_interval_s, plain["a"].sampler) == (7, "random")


@pytest.mark.parametrize("named", ["state: {directory: %s}", "objects: {catalogue: %s/catalogue}"])
def test_a_memory_among_the_products_of_the_catalogue_is_refused(written, named):
    root = state_root() if "state:" in named else cameras_root()
    text = f"{named % root}\ncameras: {{catalogue: {{source: demo}}, b: {{source: 'demo?seed=1'}}}}\n"
    with pytest.raises(LvmError, match="the memory of camera catalogue would lie among the products"):
        make_camera_settings(written(text))
    own = text.replace("{source: demo}", f"{{source: demo, state: {root}/elsewhere}}")
    assert make_camera_settings(written(own))["catalogue"].state == root / "elsewhere"


def test_the_state_of_a_source_that_is_named_lies_where_it_always_did(written, tmp_path):
    empty = Config()
    for source in ("0", "demo", "rtsp://user:secret@host/live"):
        assert make_source_settings(empty, source, None, None).state == default_state_folder(source)
    video = make_source_settings(empty, str(tmp_path / "v.mp4"), None, None)
    assert video.state == default_state_folder(str(tmp_path / "v.mp4"))
    assert make_source_settings(empty, "0", tmp_path, None).state == tmp_path
    assert (
        make_source_settings(empty, "rtsp://user:secret@host/live", None, None).display_name
        == "rtsp://***@host/live"
    )
    config = written(f"state: {{directory: {tmp_path}/here}}\ncameras: {{lane: {{source: 3}}}}")
    assert make_camera_settings(config)["lane"].state == tmp_path / "here"
    assert make_camera_settings(written("cameras: {lane: {source: 3}}"))[
        "lane"
    ].state == default_state_folder("3")


def test_no_folder_is_named_after_a_password_and_one_that_was_is_found_again():
    for source in ("rtsp://kiosk:hunter22@host", "http://host/v?token=hunter22"):
        now = default_state_folder(source)
        assert "hunter22" not in now.name and now == default_state_folder(source)
        before = now.with_name(
            ("kiosk-hunter22-host" if "kiosk" in source else "v-token-hunter22") + now.name[-9:]
        )
        before.mkdir(parents=True)
        assert default_state_folder(source) == before


def test_each_of_several_cameras_has_a_folder_of_its_name(written, tmp_path):
    text = "cameras: {a: {source: 0}, b: {source: 1, state: /own}}\n"
    states = {name: one.state for name, one in make_camera_settings(written(text)).items()}
    assert {name: str(path) for name, path in states.items()} == {"a": str(cameras_root() / "a"), "b": "/own"}
    config = written(text + f"state: {{directory: {tmp_path}/d}}\n")
    assert make_camera_settings(config)["a"].state == tmp_path / "d" / "a"
    assert make_camera_settings(config, tmp_path / "e")["a"].state == tmp_path / "e" / "a"


@pytest.mark.parametrize("directory", ["", "state: {directory: %s/d}\n"])
def test_a_second_camera_in_the_file_moves_no_memory_nor_does_its_going(written, tmp_path, directory):
    directory = directory and directory % tmp_path
    one, two = "cameras: {a: {source: demo}}\n", 'cameras: {a: {source: demo}, b: {source: "demo?seed=1"}}\n'
    alone = make_camera_settings(written(directory + one))["a"]
    _remember(alone)
    both = make_camera_settings(written(directory + two))
    assert both["a"].state == alone.state != both["b"].state
    _remember(both["b"])
    only_b = written(directory + 'cameras: {b: {source: "demo?seed=1"}}\n')
    assert make_camera_settings(only_b)["b"].state == both["b"].state


def test_whose_memory_it_is_is_known_without_replaying_its_journal(written, tmp_path, monkeypatch):
    """A SIGHUP asks that of every camera while it runs."""
    directory = f"state: {{directory: {tmp_path / 'kept'}}}\n"
    one = written(directory + "cameras: {a: {source: demo}}")
    _remember(make_camera_settings(one)["a"])

    def replayed(*given):
        raise AssertionError("a journal was replayed")

    monkeypatch.setattr("edge_runtime.persistence.load._replay_journals", replayed)
    two = written(directory + "cameras: {a: {source: demo}, b: {source: 0}}")
    assert make_camera_settings(two)["a"].state == tmp_path / "kept"


def test_of_two_memories_of_one_source_the_usual_place_has_the_right_one(written, tmp_path):
    for folder in ("d", "d/a"):
        _remember(CameraSettings("demo", tmp_path / folder))
    text = f"state: {{directory: {tmp_path}/d}}\ncameras: {{a: {{source: demo}}%s}}"
    assert make_camera_settings(written(text % ", b: {source: '0'}"))["a"].state == tmp_path / "d" / "a"
    assert make_camera_settings(written(text % ""))["a"].state == tmp_path / "d"


def test_a_folder_with_the_memory_of_another_source_is_not_taken(written, tmp_path):
    _remember(CameraSettings("demo?seed=9", tmp_path / "d"))
    config = written(
        f"state: {{directory: {tmp_path}/d}}\ncameras: {{a: {{source: demo}}, b: {{source: 'demo?seed=1'}}}}"
    )
    assert make_camera_settings(config)["a"].state == tmp_path / "d" / "a"


def test_whose_memory_is_meant(tmp_path):
    root = tmp_path / "kiosk"
    for name in ("left", "right"):
        _remember(CameraSettings(f"demo?seed={len(name)}", root / name, name))
    assert resolve_states(root, None, None) == {"left": root / "left", "right": root / "right"}
    assert resolve_state(root, "right", None) == root / "right"
    assert resolve_state(root / "left", None, None) == root / "left"
    with pytest.raises(LvmError, match="name one of the cameras with --camera: left, right"):
        resolve_state(root, None, None)
    with pytest.raises(LvmError, match="knows no camera 'middle'; there are left, right"):
        resolve_state(root, "middle", None)
    assert resolve_state(tmp_path / "nothing", None, None) == tmp_path / "nothing"


def test_a_configuration_without_cameras_means_the_memory_in_its_folder(tmp_path):
    file = tmp_path / "kiosk.yaml"
    file.write_text("version: 1\n")
    with pytest.raises(LvmError, match="names no camera; name the memory with --state"):
        resolve_states(None, None, file)
    _remember(CameraSettings("demo", tmp_path / "d"))
    assert resolve_state(tmp_path / "d", None, file) == tmp_path / "d"
    file.write_text(f"state: {{directory: {tmp_path}/d}}\n")
    assert resolve_state(None, None, file) == tmp_path / "d"


def test_the_only_memory_in_a_folder_is_meant_by_its_folder(tmp_path):
    _remember(CameraSettings("demo", tmp_path / "kiosk" / "lane", "lane"))
    assert resolve_state(tmp_path / "kiosk", None, None) == tmp_path / "kiosk" / "lane"


def test_without_a_folder_the_newest_memory_is_meant_unless_it_is_one_of_several(tmp_path):
    with pytest.raises(LvmError, match="no memory found"):
        resolve_state(None, None, None)
    _remember(CameraSettings("demo", state_root() / "demo-1"))
    assert resolve_state(None, None, None) == state_root() / "demo-1"
    _remember(CameraSettings("demo", cameras_root() / "left", "left"))
    assert resolve_state(None, None, None) == cameras_root() / "left"
    _remember(CameraSettings("demo?seed=1", cameras_root() / "right", "right"))
    with pytest.raises(LvmError, match="--camera: left, right"):
        resolve_state(None, None, None)
    assert resolve_state(None, "right", None) == cameras_root() / "right"


def test_a_configuration_says_where_its_memories_lie(written, tmp_path):
    written(f"state: {{directory: {tmp_path}/d}}\ncameras: {{a: {{source: 0}}, b: {{source: 1}}}}")
    assert resolve_state(None, "b", tmp_path / "c.yaml") == tmp_path / "d" / "b"
    with pytest.raises(LvmError, match="--camera: a, b"):
        resolve_state(None, None, tmp_path / "c.yaml")


def test_a_live_camera_keeps_its_memory_by_its_name_when_its_address_changes(written, tmp_path, monkeypatch):
    monkeypatch.setattr(
        module,
        "open_source",
        lambda spec, *, sample_fps, start, settings: ScriptedSource(int(start) + 4, live=True, start=start),
    )
    text = f"state: {{directory: {tmp_path}/d}}\ncameras: {{lane: {{source: %s}}%s}}"
    _remember(make_camera_settings(written(text % ("rtsp://a/1", "")))["lane"])
    for other in ("", ", b: {source: demo}"):  # also when a second camera comes into the file
        moved = make_camera_settings(written(text % ("rtsp://user:secret@b/2", other)))["lane"]
        assert moved.state == tmp_path / "d"
    _remember(moved)
    header = load_snapshot(tmp_path / "d").header
    assert (header.camera, header.source, header.frames) == ("lane", "rtsp://***@b/2", 8)


@pytest.mark.parametrize(
    "name, source, says",
    [
        ("lane", "{}/v.mp4", "belongs to source rtsp://a/1 .camera lane., not "),
        ("b", "rtsp://b/2", "not rtsp://b/2; name another --state"),
    ],
)
def test_another_camera_or_a_recording_does_not_get_it(tmp_path, name, source, says):
    header = _header_of(tmp_path, "lane", "rtsp://a/1")
    source = source.format(tmp_path)
    assert not is_same_source(header, source=source, camera=name)
    with pytest.raises(StateError, match=says):
        check_owner(header, model=header.model, source=source, camera=name, folder=tmp_path)


def test_a_file_is_known_by_its_path_whatever_the_camera_is_called(tmp_path):
    for camera in (None, "lane", "other"):
        header = _header_of(tmp_path, camera, "/v.mp4")
        assert is_same_source(header, source="/v.mp4", camera="lane") and is_same_source(
            header, source="/v.mp4"
        )
        assert not is_same_source(header, source="/w.mp4", camera="lane")


def _header_of(tmp_path, camera, source):
    return Header(
        model="m", bundle="/b", source=source, camera=camera, sampler="fifo", epoch=0, sample_fps=1.0
    )
