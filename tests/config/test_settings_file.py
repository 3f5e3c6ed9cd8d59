"""What a person's YAML may cost, what it may take from the environment, and the errors when it is wrong."""

from __future__ import annotations

import gc
import os
import re
import time

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

import edge_runtime.system.secrets as secret_room
from edge_runtime.config.yaml_loader import MAX_CONFIG_BYTES, MAX_VALUES, read_settings
from edge_runtime.interfaces.cli.error_exit import run_app
from edge_runtime.system.secrets import mask_secrets, register_secret
from engines.errors import LvmError


class Zone(BaseModel):
    model_config = ConfigDict(extra="forbid")
    points: list[float] = []
    speed: float = Field(default=1, ge=0)


class Shop(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = ""
    password: SecretStr = SecretStr("")
    port: int = 1
    zones: dict[str, Zone] = {}
    rows: list[Zone] = []
    home: Zone | None = None

    @field_validator("name")
    @classmethod
    def _lower(cls, name: str) -> str:
        if name != name.lower():
            raise ValueError(f"name must be lower case, got {name}")
        return name


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    monkeypatch.setattr(secret_room, "_values", set())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "shop.yaml"


def _read(file, text, **environment):
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_settings(file, Shop, environment)


def _error_message(file, text, **environment) -> str:
    with pytest.raises(LvmError) as caught:
        _read(file, text, **environment)
    message = str(caught.value)
    assert message.startswith(f"{file}:") and message.isprintable() and len(message) < 900
    assert caught.value.__cause__ is None  # its text would be in a traceback
    assert caught.value.exit_status == 2
    return message.removeprefix(f"{file}:")


# -- bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, words",
    [
        ("name: a\nzones: " + "[" * 5000, "2: a configuration nests at most 20 deep"),
        ("- " * 3000, "1: a configuration nests at most 20 deep"),
        ("? " * 3000, "1: a configuration nests at most 20 deep"),
        ("rows: [" + "1," * MAX_VALUES + "1]", f"1: a configuration has at most {MAX_VALUES} keys"),
        ("\n".join(f"k{i}: 1" for i in range(MAX_VALUES)), f"5000: a configuration has at most {MAX_VALUES}"),
        ("name: x\na: &a [1]\n", "2: aliases"),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "1: aliases"),
        ("name: a\nport: 1\nname: b\n", "3: 'name' is written twice, first in line 1"),
        ("zones:\n  till: {}\n  till: {}\n", "3: 'till' is written twice, first in line 2"),
        ("port: .inf", "1: a number must be finite, got .inf"),
        ("\nzones: {a: {speed: .nan}}", "2: a number must be finite"),
        ("port: " + "9" * 5000, "1: not YAML: '999"),
        ("name: !secret x", "1: not YAML: tags are not allowed in a configuration; put"),
        ("!!set {a}", "1: not YAML: tags are not allowed"),
        ("zones: !!python/object:os.system {}", "1: not YAML: tags are not allowed"),
        ("name: a\nport: \x07", "2: not YAML: the character U+0007 is not allowed"),
        ('name: "\\U00110000"', "1: not YAML: "),
        ('name: "\\UFFFFFFFF"', "1: not YAML: "),
        (b"name: a\nport: \xff", "2: the configuration cannot be read: it is not UTF-8"),
        ("<<: {name: a}", "1: <<: Extra inputs"),
    ],
    ids=range(20),
)
def test_what_is_too_much_or_no_plain_yaml_is_refused_with_its_line(file, text, words):
    assert _error_message(file, text).startswith(words)


@pytest.fixture
def alone():
    """What other tests left behind is not looked through by every collection of this one's garbage."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_a_file_at_the_limit_costs_a_moment(file, alone):
    started = time.thread_time()  # not that of what other tests have left running
    _error_message(file, "- " * (MAX_CONFIG_BYTES // 2 - 1))
    _error_message(file, "[" * MAX_CONFIG_BYTES)
    _error_message(file, "{" * MAX_CONFIG_BYTES)
    _error_message(file, "a:\n" + "- [x, {y: z}]\n" * (MAX_CONFIG_BYTES // 14 - 1))
    _error_message(file, "'" + "''" * (MAX_CONFIG_BYTES // 2 - 1))
    _error_message(file, '"' + "\\\n" * (MAX_CONFIG_BYTES // 2 - 1))
    assert time.thread_time() - started < 10


def test_a_pipe_is_refused_at_once(file):
    os.mkfifo(file)
    with pytest.raises(LvmError, match="no plain file"):
        read_settings(file, Shop, {})


@pytest.mark.parametrize("text", ["yes", "2024-01-02", "1:30", "0x1F", "1_000", "~x", "off: 1"])
def test_a_key_is_the_word_that_is_written(file, text):
    key = text.partition(": ")[0] if ": " in text else text
    assert list(_read(file, f"zones: {{{key}: {{}}}}").zones) == [key]


# -- what is wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, words",
    [
        ("nam: x", "1: nam: Extra inputs are not permitted; did you mean name?"),
        ("Port: 3", "1: Port: Extra inputs are not permitted; did you mean port?"),
        ("zones:\n  till:\n    sped: 1",
        "3: zones.till.sped: Extra inputs are not permitted; did you mean speed?"),
        ("rows:\n- speed: 1\n- sped: 2",
        "3: rows.1.sped: Extra inputs are not permitted; did you mean speed?"),
        ("home:\n  point: []", "2: home.point: Extra inputs are not permitted; did you mean points?"),
        ("home:\n  colour: red", "2: home.colour: Extra inputs are not permitted; known here: points, speed"),
        ("port: many",
        "1: port: Input should be a valid integer, unable to parse string as an integer, got 'many'"),
        ("rows:\n- speed: 1\n- speed: fast", "3: rows.1.speed: Input should be a valid number"),
        ("name: [a]", "1: name: Input should be a valid string"),
        ("zones: 3", "1: zones: Input should be a valid dictionary"),
        ("name: A", "1: name: name must be lower case, got A"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_line_place_and_nearest_word(file, text, words):
    assert _error_message(file, text).startswith(words)


def test_an_unknown_word_of_a_megabyte_is_not_repeated(file):
    assert len(_error_message(file, "? " + "x" * 200_000 + "\n: 1")) < 500


# -- the environment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written, value",
    [
        ("${USER_NAME}", "ann"),
        ("'${USER_NAME}'", "ann"),
        ('"a-${USER_NAME}-b"', "a-ann-b"),
        ("${USER_NAME}${USER_NAME}", "annann"),
        ("${NONE:-bob}", "bob"),
        ("${EMPTY:-bob}", "bob"),
        ("${NONE:-}", ""),
        ("${NONE:-a:b}", "a:b"),
        ("${USER_NAME:-bob}", "ann"),
        ("$${user_name}", "${user_name}"),
        ("$5 ${USER_NAME}", "$5 ann"),
        ("a$b", "a$b"),
        ("2024-13-45", "2024-13-45"),
    ],
)
def test_the_environment_is_put_in(file, written, value):
    assert _read(file, f"name: {written}", USER_NAME="ann", EMPTY="").name == value


def test_what_the_environment_holds_is_text_and_no_yaml(file):
    hostile = "x\nport: 9\n? [&a *a ${user_name}"
    assert _read(file, "name: ${USER_NAME}", USER_NAME=hostile).name == hostile
    assert _read(file, "port: ${PORT}", PORT="8971").port == 8971


@pytest.mark.parametrize(
    "text, words",
    [
        ("port: 1\nname: ${CAM_PASS}",
        "2: the environment variable CAM_PASS is not set; set it or write ${CAM_PASS:-"),
        ("name: ${}", "1: expected ${NAME} or ${NAME:-default}"),
        ("name: ${1A}", "1: expected ${NAME} or ${NAME:-default}"),
        ("name: ${A-b}", "1: expected ${NAME} or ${NAME:-default} after this $"),
        ("name: ${A", "1: expected ${NAME} or ${NAME:-default} after this $; a plain ${ is written $${"),
        ("name: ${A${B}}", "1: expected ${NAME}"),
    ],
)  # fmt: skip
def test_a_missing_or_misspelt_variable_is_one_sentence_with_its_line(file, text, words):
    assert _error_message(file, text).startswith(words)


def test_the_environment_cannot_blow_a_configuration_up(file):
    many = "rows: [" + "'${BIG}'," * 4000 + "]"
    assert "the environment makes the configuration longer than" in _error_message(
        file, many, BIG="x" * 100_000
    )


SECRET = "S3cr et/pass@word"


@pytest.mark.parametrize(
    "text",
    [
        "port: ${PASSWORD}",
        "port: x${PASSWORD}x",
        "name: ${PASSWORD}",  # our own validator repeats what came
        "name: ${PASSWORD}\nname: b",
        "zones: ${PASSWORD}",
        "name: ${PASSWORD}\nport: [",
        "password: ${PASSWORD}\nport: many",
        "rows: [{speed: '${PASSWORD}'}]",
    ],
)
@pytest.mark.parametrize("password", [SECRET, SECRET * 20, "\x1b]0;" + SECRET, SECRET + "\n" + SECRET[::-1]])
def test_a_value_of_the_environment_is_in_no_error(file, text, password):
    message = _error_message(file, text, PASSWORD=password)
    assert "word" not in message and "S3cr" not in message and "drow" not in message


def test_a_secret_is_blanked_in_every_form_that_it_takes(file):
    shop = _read(file, "password: ${PASSWORD}", PASSWORD=SECRET)
    assert shop.password.get_secret_value() == SECRET
    assert SECRET not in repr(shop) and SECRET not in str(shop.model_dump(mode="json"))
    for form in (SECRET, "S3cr%20et%2Fpass%40word", "S3cr%20et/pass%40word", "S3cr+et%2Fpass%40word"):
        assert mask_secrets(f"rtsp://user:{form}@host") == "rtsp://user:***@host"
    assert mask_secrets("nothing of it") == "nothing of it"


def test_a_default_is_in_the_file_and_no_secret(file):
    _read(file, "name: ${NONE:-public}")
    assert mask_secrets("public") == "public"


def test_of_two_secrets_the_longer_is_blanked_whole(file):
    _read(file, "name: ${A}\npassword: ${B}", A="abcd", B="abcdefgh")
    assert mask_secrets("abcdefgh abcd") == "*** ***"


# -- anything ----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["name: ", "port: ", "zones: ", "rows:\n- ", "home: {", "}", "[", "]", "${A}", "${A:-b}", "${", "$$",
    "\n", "  "]
    + ["&a ", "*a", "!!int ", "<<: ", "? ", "| \n", "> \n", "'", '"', "\\U", "...\n", "---\n",
    "%YAML 1.1\n", "#", "\t"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS | st.text(max_size=4), max_size=20).map("".join), st.text(min_size=9, max_size=30))
def test_any_text_is_settings_or_one_sentence_without_the_environment(tmp_path_factory, text, value):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_settings(file, Shop, {"A": value})
    except LvmError as error:
        message = str(error)
        assert message.isprintable() and len(message) < 900
        assert re.match(r":\d+: .", message.removeprefix(str(file)))
        assert value not in message or value in text


@pytest.mark.parametrize("error", [KeyError, OSError, RuntimeError])
def test_a_crash_keeps_its_traceback_and_loses_its_secrets(error, capsys):
    register_secret("hunter22")
    app = typer.Typer()

    @app.command()
    def crash() -> None:
        raise error("hunter22 at rtsp://kiosk:other-pw@10.0.0.5/live")

    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["app"])
        run_app(app, "app")
    message = capsys.readouterr().err
    assert (
        ended.value.code == 1
        and "Traceback" in message
        and error.__name__ in message
        and "in crash" in message
    )
    assert "hunter22" not in message and "other-pw" not in message and "***" in message
