"""init, check-config, completion: what they write is what the program reads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from edge_runtime.config.paths import configs
from edge_runtime.config.schema import BackendName, Config, SamplerName, load_config
from edge_runtime.config.yaml_loader import InvalidSettings, _Loader, _ValueBuilder
from edge_runtime.interfaces.cli import init as init_module
from edge_runtime.interfaces.cli.main import app
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.service.camera_settings import make_camera_settings
from edge_runtime.sources.discovery import CameraDevice, list_cameras
from engines.errors import LvmError
from engines.select import BACKENDS
from tests.support.fakes import fake_sampler, small_network

ROOT = Path(__file__).parents[3]


def edge(*words: object, answers: str | None = None):
    return CliRunner().invoke(app, [str(word) for word in words], input=answers)


def refused(*words: object) -> str:
    done = edge(*words)
    assert isinstance(done.exception, LvmError), done.output
    return str(done.exception)


# -- init --------------------------------------------------------------------------------------------------


def test_what_is_written_is_sound_and_means_what_was_said(tmp_path):
    file = tmp_path / "edge.yaml"
    (tmp_path / "a video.mp4").touch()
    done = edge("init", file, "--source", "door=rtsp://u:p@10.0.0.1/x?a=1#b", "--source", "0", "--source",
                f"clip={tmp_path}/a video.mp4", "--state", tmp_path / 'a "state"', "--no-http")  # fmt: skip
    assert done.exit_code == 0, done.exception
    config = load_config(file)
    assert {name: str(camera.source) for name, camera in config.cameras.items()} == {
        "door": "rtsp://u:p@10.0.0.1/x?a=1#b", "camera2": "0", "clip": f"{tmp_path}/a video.mp4",
    }  # fmt: skip
    assert config.state.directory == tmp_path / 'a "state"' and not config.http.enabled
    assert file.stat().st_mode & 0o777 == 0o600, "an address may hold a password"
    assert os.listdir(tmp_path).count(file.name) == 1 and not list(tmp_path.glob(".*"))


def test_a_file_that_is_there_is_left_alone_but_for_force(tmp_path):
    file = tmp_path / "edge.yaml"
    file.write_text("mine")
    assert "exists already" in refused("init", file, "--source", "demo")
    assert file.read_text() == "mine"
    assert edge("init", file, "--source", "demo", "--force").exit_code == 0
    assert load_config(file).cameras["camera1"].source == "demo"


def test_what_would_not_be_sound_is_not_written(tmp_path):
    file = tmp_path / "edge.yaml"
    assert "edge.yaml:" in refused("init", file, "--source", "rtsp://${NOT_SET_HERE}@10.0.0.1/x")
    assert "two cameras are called a" in refused("init", file, "--source", "a=0", "--source", "a=1")
    assert "needs a name of up to 64 ASCII letters" in refused(
        "init", file, "--source", "lane 2=rtsp://10.0.0.1/x"
    )
    assert "cannot be written" in refused("init", tmp_path / "missing" / "edge.yaml", "--source", "demo")
    assert os.listdir(tmp_path) == []


def test_without_a_terminal_it_takes_the_cameras_that_there_are(tmp_path, monkeypatch):
    there = [
        CameraDevice("2", "/dev/video2", "Cam"),
        CameraDevice("4", "/dev/video4", "Other", "this user may not", "x"),
    ]
    monkeypatch.setattr(init_module, "list_cameras", lambda: there)
    assert edge("init", tmp_path / "a.yaml").exit_code == 0
    assert [camera.source for camera in load_config(tmp_path / "a.yaml").cameras.values()] == [2]
    monkeypatch.setattr(init_module, "list_cameras", lambda: [])
    assert "no camera was found here" in refused("init", tmp_path / "b.yaml")


def test_on_a_terminal_it_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(init_module, "list_cameras", lambda: [CameraDevice("2", "/dev/video2", "HD Cam")])
    monkeypatch.setattr(init_module, "_is_terminal", lambda: True)
    done = edge("init", tmp_path / "a.yaml", answers=f"2 demo\n{tmp_path}/state\n")
    assert "HD Cam at /dev/video2" in done.output and done.exit_code == 0
    config = load_config(tmp_path / "a.yaml")
    assert [camera.source for camera in config.cameras.values()] == [2, "demo"]
    assert config.state.directory == tmp_path / "state"


# -- check-config ------------------------------------------------------------------------------------------


def test_a_sound_configuration_is_told_with_what_is_missing_here(tmp_path):
    file = tmp_path / "edge.yaml"
    file.write_text(
        "cameras:\n  a: {source: /no/such.mp4}\n  b: {source: demo}\nobjects: {catalogue: /no/c}\n"
    )
    done = edge("check-config", file)
    assert done.exit_code == 0 and done.stdout == f"{file}: sound; a, b\n"
    assert "cameras.a.source: there is no file /no/such.mp4 here" in done.stderr
    assert "objects.catalogue: there is no /no/c here" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  sampler: nural\n", "edge.yaml:2: model.sampler: Input should be 'neural', 'svd-novelty'"),
        ("model: {backend: tensorflow}\n", "edge.yaml:1: model.backend: Input should be 'auto', 'tensorrt'"),
        ("camera:\n  a: 3\n", "did you mean cameras?"),
    ],
)
def test_a_wrong_one_is_refused_with_its_line(tmp_path, text, message):
    file = tmp_path / "edge.yaml"
    file.write_text(text)
    assert message in refused("check-config", file)


def test_everything_that_is_wrong_is_said_at_once_line_by_line(tmp_path):
    file = tmp_path / "edge.yaml"
    cameras = "cameras:\n  a: {source: demo, sample_fps: 0}\n  b c: {source: demo}\n"
    file.write_text(f"mqtt: {{hst: x}}\n{cameras}model: {{sampler: 3}}\n")
    with pytest.raises(InvalidSettings) as caught:
        load_config(file)
    lines = [sentence.removeprefix(f"{file}:").split(":")[:2] for sentence in caught.value.sentences]
    assert [(line, place.strip()) for line, place in lines] == [
        ("1", "mqtt.hst"), ("3", "cameras.a.sample_fps"), ("4", "cameras.b c"), ("5", "model.sampler"),
    ]  # fmt: skip
    assert str(caught.value) == caught.value.sentences[0]


def test_shown_is_what_holds_for_each_camera_and_is_a_configuration_that_means_the_same(tmp_path):
    file = tmp_path / "edge.yaml"
    file.write_text(
        "defaults: {save_interval_s: 5, privacy: {zones: {till: [[0, 0], [1, 0], [1, 1]]}}}\n"
        "model: {sampler: fifo}\n"
        "cameras:\n  a: {source: demo}\n"
        "  b: {source: demo, sampler: random, privacy: {zones: {door: [[0, 0], [0, 1], [1, 1]]}}}\n"
    )
    settings = tmp_path / "shown.yaml"
    settings.write_text(edge("check-config", file, "--show").stdout)
    a, b = (load_config(settings).cameras[name] for name in "ab")
    assert (a.sampler, a.save_interval_s, list(a.privacy.zones)) == ("fifo", 5, ["till"])
    assert (b.sampler, b.save_interval_s, sorted(b.privacy.zones)) == ("random", 5, ["door", "till"])
    assert make_camera_settings(load_config(settings)) == make_camera_settings(load_config(file))


def test_shown_settings_are_whole_sound_and_without_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("DOOR_PASSWORD", "geheim-genug-1234")
    monkeypatch.setenv("EDGE_TOKEN", "t" * 40 + "uvw")
    file = tmp_path / "edge.yaml"
    file.write_text(
        "cameras:\n  a:\n    source: rtsp://u:${DOOR_PASSWORD}@10.0.0.1/x\n"
        "http: {tokens: [{name: page, role: admin, token: '${EDGE_TOKEN}'}]}\n"
    )
    output = edge("check-config", file, "--show").stdout
    assert "geheim" not in output and "tttt" not in output and "save_interval_s: 1.0" in output
    (tmp_path / "shown.yaml").write_text(output.replace("token: '**********'", "token: " + "x" * 40))
    assert load_config(tmp_path / "shown.yaml").state == Config().state


def test_the_schema_takes_what_the_program_takes(tmp_path):
    schema = json.loads(edge("check-config", "--schema").stdout)
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    for file in configs().glob("*.yaml"):
        node = _Loader(file.read_text()).get_single_node()
        check.validate(_ValueBuilder({}).build(node))
    assert not check.is_valid({"model": {"backend": "x"}}) and not check.is_valid({"colour": 1})


def test_the_names_of_settings_are_those_of_the_program():
    assert get_args(BackendName) == ("auto", *BACKENDS)
    for name in get_args(SamplerName):
        assert make_sampler(name, fake_sampler(small_network())).name == name


# -- completion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_names_the_program(shell):
    script = edge("completion", shell).stdout
    assert "lvm-edge" in script and "_LVM_EDGE_COMPLETE=complete_" + shell in script


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        ("check", {"check-config"}),
        ("ask obj", {"object"}),
        ("ask time --activity sc", {"scan"}),
        ("run --backend openv", {"openvino"}),
        ("ask time --product Oat", {"Oat milk"}),
        ("ask time --product nobody", set()),
    ],
)
def test_commands_and_values_are_completed(tmp_path, typed, there):
    (tmp_path / "catalogue" / "Oat milk").mkdir(parents=True)
    words = ["lvm-edge", *typed.split()]
    environment = {
        "_LVM_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1), "LVM_EDGE_STATE": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime.interfaces.cli.main"],
        env=os.environ | environment, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert set(filter(None, done.stdout.splitlines())) == there, done.stderr


# -- cameras -----------------------------------------------------------------------------------------------


def test_each_camera_is_found_once_with_what_is_in_its_way(tmp_path, monkeypatch):
    dev, system = tmp_path / "dev", tmp_path / "system"
    dev.mkdir()
    for number, (name, index) in enumerate([("HD Cam", 0), ("HD Cam", 1), ("vi-output, imx219 9-0010", 0)]):
        (dev / f"video{number}").touch()
        about = system / f"video{number}"
        about.mkdir(parents=True)
        (about / "name").write_text(f"{name}\n")
        (about / "index").write_text(f"{index}\n")
    (dev / "video10").touch()
    cameras = list_cameras(dev, system)
    assert [(camera.source, camera.name) for camera in cameras] == [
        ("0", "HD Cam"), ("csi://2", "vi-output, imx219 9-0010"), ("10", "a camera without a name"),
    ]  # fmt: skip
    assert all(camera.problem is None for camera in cameras)
    monkeypatch.setattr("edge_runtime.sources.discovery.os.access", lambda path, mode: False)
    assert all(
        "may not open" in camera.problem and "usermod -aG" in camera.remedy
        for camera in list_cameras(dev, system)
    )
