"""A configuration is understood whole, or one sentence names the file, the line and the key."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.config.paths import configs
from edge_runtime.config.schema import MAX_CONFIG_BYTES, Config, load_config
from edge_runtime.service.camera_settings import make_camera_settings
from engines.errors import LvmError


def _written(folder, text):
    path = folder / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _error_message(folder, text) -> str:
    path = _written(folder, text)
    with pytest.raises(LvmError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.isprintable() and len(message) < 700
    return message.removeprefix(str(path))


@pytest.mark.parametrize("path", sorted(configs().glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_sound(path):
    assert load_config(path).cameras


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "version: 1\n"])
def test_an_empty_configuration_is_the_defaults(tmp_path, text):
    assert load_config(_written(tmp_path, text)) == Config()


def test_what_is_written_is_what_is_meant(tmp_path):
    text = "cameras:\n  lane:\n    source: 2\nmodel: {threads: 2, sampler: fifo}\nhttp:\n  enabled: false\n"
    config = load_config(_written(tmp_path, text))
    assert config.cameras["lane"].source == 2 and config.model.threads == 2
    assert config.model.sampler == "fifo" and not config.http.enabled


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("version: 1\ncolour: red\n", 2, "colour: Extra inputs"),
        ("version: 1\nmodel:\n  backend: auto\n\n  # note\n  colour: red\n", 6, "model.colour: Extra inputs"),
        ("version: 2\n", 1, "version: Input should be 1"),
        ("model:\n  threads: 0\n", 2, "model.threads"),
        ("model:\n  threads: many\n", 2, "model.threads"),
        ("cameras:\n  a:\n    source: 0\n    fps: 3\n", 4, "cameras.a.fps: Extra inputs"),
        ("cameras:\n  a: 3\n", 2, "cameras.a"),
        ("cameras:\n  a: {}\n", 2, "cameras.a.source: Field required"),
        ("cameras:\n- source: 0\n", 1, "cameras"),
        ("state:\n  save_interval_s: -1\n", 2, "save_interval_s"),
        ("http:\n  listen: 8971\n", 2, "http.listen"),
        ("1: 2\n", 1, "1"),
        ('"a\\nb": 2\n', 1, "Extra inputs"),
        ("? " + "x" * 5000 + "\n: 1\n", 1, "Extra inputs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, line, words):
    message = _error_message(tmp_path, text)
    assert message.startswith(f":{line}: ") and words in message


@pytest.mark.parametrize("text", ["[]", "- a\n", "hello", "3", "false"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    assert "top level" in _error_message(tmp_path, text)


@pytest.mark.parametrize("text", ["version: &v 1\ncameras: *v\n", "a: &a [1]\nb: [*a, *a]\n", "*a"])
def test_aliases_are_refused(tmp_path, text):
    assert "alias" in _error_message(tmp_path, text)


@pytest.mark.parametrize("name", ["../up", "a/b", ".", "-a", "two words", "a" * 65, "''"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name):
    message = _error_message(tmp_path, f"cameras:\n  {name}:\n    source: 0\n")
    assert message.startswith(":2: ") and "ASCII letters, digits" in message


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        "a:\n\t- b",
        "'open",
        'version: !!int "x"',
        "version: !!int ",
        "version: " + "9" * 5000,
        'version: "\\UFFFFFFFF"',
        "x: !!python/object/apply:os.system [true]",
        "? [a]\n: b",
        "a: 1\n---\nb: 2",
        "a: \x00",
        "a: \x1b[31m",
    ],
    ids=range(12),
)
def test_what_is_no_yaml_is_one_sentence_with_its_line(tmp_path, text):
    assert re.match(r":\d: not YAML: .", _error_message(tmp_path, text))


def test_what_is_no_text_is_one_sentence(tmp_path):
    assert "cannot be read" in _error_message(tmp_path, b"\x89PNG\r\n\x1a\n" + bytes(range(256)))


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = _written(tmp_path, "")
    os.truncate(path, MAX_CONFIG_BYTES + 1)
    with pytest.raises(LvmError, match=f"at most {MAX_CONFIG_BYTES} bytes, got {MAX_CONFIG_BYTES + 1}"):
        load_config(path)


def test_a_file_that_is_not_there_or_a_folder_is_one_sentence(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(LvmError, match="the configuration cannot be read"):
            load_config(path)


_YAML = st.lists(st.sampled_from(list("{}[]:,-?&*!|>#%@'\" \n\tab01.") + ["version", "cameras", "!!", "<<"]))


@settings(max_examples=300, deadline=None)
@given(_YAML.map("".join) | st.text(max_size=40))
def test_no_text_raises_anything_but_one_sentence(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_config(path)
    except LvmError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("source", ["rtsp://kiosk:hunter22@10.0.0.5/live", "http://h/v?token=hunter22"])
def test_no_form_of_a_configuration_shows_a_cameras_credentials(tmp_path, source):
    config = load_config(_written(tmp_path, f"cameras: {{lane: {{source: '{source}'}}}}"))
    camera, settings = config.cameras["lane"], make_camera_settings(config)["lane"]
    assert camera.source == settings.source == source
    dumps = (str(config.model_dump()), config.model_dump_json())
    for text in (*dumps, repr(config), repr(camera), repr(settings)):
        assert "hunter22" not in text
    assert camera.model_dump()["source"].endswith("***" if "?" in source else "@10.0.0.5/live")
    zero = load_config(_written(tmp_path, "cameras: {a: {source: 0}}"))
    assert zero.cameras["a"].model_dump()["source"] == 0
