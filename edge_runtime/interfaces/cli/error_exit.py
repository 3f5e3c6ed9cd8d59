"""Run a command line and end the process: an error is a message of one line and an exit status."""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import sys
import threading
import traceback
import unicodedata
from typing import NoReturn

import typer
from rich.console import Console

from edge_runtime.system.logs import remove_secrets
from edge_runtime.system.secrets import hide_secrets, mask_secrets, register_source
from engines.errors import LvmError

_PLAIN = "lvm-edge-plain"
_LIKE = {
    "·": "-",
    "▏": "|",
    "–": "-",
    "—": "-",
    "→": "->",
    "←": "<-",
    "×": "x",
    "✓": "+",
    "✗": "x",
    "•": "*",
    "█": "#",
    "▇": "#",
    "░": ".",
}


def run_app(app: typer.Typer, name: str) -> None:
    """Run a typer app and exit: 0 on success, an LvmError's own status, 2 for wrong use, 130 for Ctrl-C."""
    _hide_secrets_everywhere()
    _print_despite_locale()
    try:
        sys.exit(app(standalone_mode=False, prog_name=name) or 0)
    except LvmError as error:
        _exit(name, error.exit_status, *error.sentences)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (for example `| head`).
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # A path that cannot be used: too long, not permitted, removed in the meantime.
        if error.filename is None:
            _crash(error)
        _exit(name, 2, f"{str(error.filename)[:200]}: {error.strerror}")
    except Exception as error:
        # typer's usage errors share no public class, but they share this method.
        if not hasattr(error, "format_message"):
            _crash(error)
        message = error.format_message()
        if "\n" in message:  # the help, for a call without arguments
            print(message, file=sys.stderr)
            sys.exit(2)
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else name
        _exit(name, 2, f"{message.rstrip('.')}; see {command} --help")


def exit_despite_threads(ended: SystemExit) -> None:
    """End the process at once with the status of `ended` if a daemon thread is still running; else return.

    Such a thread waits for a typed line, or hangs in a driver. Python does not wait for daemon threads, but
    finalises the interpreter under them. Once, a thread that returned from FFmpeg at that moment called into
    the finalised interpreter, and a run that had saved everything ended with SIGSEGV (with a camera that
    sends nothing).
    """
    current = threading.current_thread()
    daemons = [thread for thread in threading.enumerate() if thread.daemon and thread is not current]
    if not daemons or not (ended.code is None or isinstance(ended.code, int)):
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader has gone, or it is closed
            stream.flush()
    os._exit(ended.code or 0)


def _hide_secrets_everywhere() -> None:
    """Mask the passwords of proxies, which libraries read themselves, and those in errors of threads."""
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy"):
            register_source(value)
    threading.excepthook = lambda failed: _write_traceback(failed.exc_value or failed.exc_type())
    sys.unraisablehook = lambda failed: _write_traceback(failed.exc_value or failed.exc_type())


def _print_despite_locale() -> None:
    """Replace characters that the terminal's encoding lacks (Latin-1, ASCII), where Python would raise."""
    codecs.register_error(_PLAIN, _replace_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors=_PLAIN)


def _replace_characters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    plain = []
    for character in error.object[error.start : error.end]:
        base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        plain.append(_LIKE.get(character) or base or "?")
    return "".join(plain), error.end


def _crash(error: BaseException) -> NoReturn:
    """End as Python does, with traceback and status 1, but without secrets."""
    _write_traceback(error)
    sys.exit(1)


def _write_traceback(error: BaseException) -> None:
    # Secrets of several lines first; then line by line, since a long text takes long to search.
    text = mask_secrets("".join(traceback.format_exception(error)))
    sys.stderr.write("\n".join(remove_secrets(line) for line in text.split("\n")))


def _exit(name: str, status: int, *messages: str) -> NoReturn:
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    for message in messages:
        console.print(f"{name}: {' '.join(hide_secrets(message).splitlines())}", markup=False)
    sys.exit(status)
