"""Keys and lines as a terminal and a pipe really give them."""

import os
import pty
import sys
import termios
import threading

import pytest

from edge_runtime.interfaces.cli.line_input import KeyReader, LineReader

_PATIENCE_S = 5


class Keyboard:
    """A terminal whose other end we type on; records the calls of the reader."""

    def __init__(self, monkeypatch) -> None:
        self.master, self.slave = pty.openpty()
        self.stdin = os.fdopen(self.slave, "r")
        monkeypatch.setattr(sys, "stdin", self.stdin)
        self.typed: list[str] = []
        self.lines: list[str] = []
        self._entered = threading.Event()

    def on_line(self, line: str) -> None:
        self.lines.append(line)
        self._entered.set()

    def type(self, data: bytes) -> str:
        """Types `data` and Enter; the line that came of it."""
        self._entered.clear()
        os.write(self.master, data)
        os.write(self.master, b"\n")
        assert self._entered.wait(_PATIENCE_S), f"no line came of {data!r}"
        return self.lines[-1]

    def reader(self) -> KeyReader:
        return KeyReader(self.typed.append, self.on_line)

    def close(self) -> None:
        self.stdin.close()
        os.close(self.master)


@pytest.fixture
def keyboard(monkeypatch):
    made = Keyboard(monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize(
    "keys, line",
    [
        (b"object --activity scan", "object --activity scan"),
        ("Käse – 乳".encode(), "Käse – 乳"),
        (b"scab\x7fn", "scan"),
        (b"scab\x08n", "scan"),
        ("é\x7fe".encode(), "e"),
        ("乳\x7f\x7fx".encode(), "x"),
        ("😀a\x7f\x7fb".encode(), "b"),
        (b"\x7f\x7fx", "x"),
        (b"all wrong\x15right", "right"),
        (b"  spaces  ", "spaces"),
        (b"a\x01\x04\tb", "ab"),
    ],
)
def test_a_line_is_what_was_typed_and_not_taken_back(keyboard, keys, line):
    with keyboard.reader():
        assert keyboard.type(keys) == line


def test_letters_of_several_bytes_may_come_apart(keyboard):
    with keyboard.reader():
        for byte in "é":
            for code in byte.encode():
                os.write(keyboard.master, bytes([code]))
        assert keyboard.type(b"") == "é"


def test_arrow_keys_type_nothing(keyboard):
    with keyboard.reader():
        keyboard.type(b"first")
        for key in (b"\x1b[A", b"\x1bOP", b"\x1b[3~"):
            count = len(keyboard.typed)
            os.write(keyboard.master, key)
            threading.Event().wait(0.05)
            assert len(keyboard.typed) == count
        assert keyboard.type(b"second") == "second"


def test_what_is_typed_is_shown_key_by_key_and_gone_after_enter(keyboard):
    with keyboard.reader():
        keyboard.type(b"abc")
    assert keyboard.typed == ["a", "ab", "abc", ""]


def test_an_empty_line_asks_nothing(keyboard):
    with keyboard.reader():
        os.write(keyboard.master, b"\n  \n")
        keyboard.type(b"x")
    assert keyboard.lines == ["x"]


def test_the_terminal_is_as_before_afterwards_and_keys_stay_signals_meanwhile(keyboard):
    before = termios.tcgetattr(keyboard.slave)
    with pytest.raises(ZeroDivisionError), keyboard.reader():
        local = termios.tcgetattr(keyboard.slave)[3]
        assert not local & termios.ICANON and not local & termios.ECHO and local & termios.ISIG
        raise ZeroDivisionError
    assert termios.tcgetattr(keyboard.slave) == before


@pytest.fixture
def pipe(monkeypatch):
    end, ours = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(end, "r"))
    with os.fdopen(ours, "wb", buffering=0) as writer:
        yield writer
    sys.stdin.close()


def test_lines_of_a_pipe_come_whole_also_after_one_that_is_no_text(pipe):
    lines, three = [], threading.Event()

    def on_line(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            three.set()

    with LineReader(on_line):
        pipe.write(b"fir")
        pipe.write("st é\n\n  \n".encode() + b"\xff\xfe\n")
        pipe.write(b"last\n")
        assert three.wait(_PATIENCE_S)
    assert lines == ["first é", "\ufffd\ufffd", "last"]


def test_a_last_line_without_an_end_counts_and_a_closed_pipe_ends_the_reading(pipe):
    lines = []
    with LineReader(lines.append) as reader:
        pipe.write(b"one\ntwo")
        pipe.close()
        reader._thread.join(_PATIENCE_S)
        assert not reader._thread.is_alive()
    assert lines == ["one", "two"]


def test_a_reader_that_waits_is_gone_when_it_is_left(pipe):
    with LineReader(lambda line: None) as reader:
        pass
    assert not reader._thread.is_alive()


def test_a_pipe_without_an_end_of_line_is_cut_and_what_follows_is_whole(pipe):
    lines, two = [], threading.Event()

    def on_line(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            two.set()

    with LineReader(on_line, max_bytes=100_000) as reader:
        for _ in range(40):
            pipe.write(b"x" * 50_000)
        assert len(reader._line) <= 100_001
        pipe.write(b"\nnext\n")
        assert two.wait(_PATIENCE_S)
    assert lines == ["x" * 100_001, "next"]


def test_typing_without_end_is_cut(keyboard, monkeypatch):
    monkeypatch.setattr("edge_runtime.interfaces.cli.line_input.MAX_TYPED_BYTES", 20)
    with keyboard.reader():
        assert keyboard.type(b"y" * 30) == "y" * 20
