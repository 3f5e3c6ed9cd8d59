"""How every program of the project ends: wrong use and wrong input are a sentence each and an exit status."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import traceback
from typing import NoReturn

import typer
from rich.console import Console

from edge_runtime.system.logs import without_secrets
from edge_runtime.system.secrets import masked
from engines.errors import LvmError


def run_app(app: typer.Typer, name: str) -> None:
    """Run a typer app and exit: 0 done, the error's own status, 2 for wrong use, 130 for Ctrl-C."""
    try:
        sys.exit(app(standalone_mode=False, prog_name=name) or 0)
    except LvmError as error:
        _end(name, error.exit_status, *error.sentences)
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone (for example `| head`); there is nobody left to tell.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # A path that the system refuses: too long, not allowed, gone in the meantime.
        if error.filename is None:
            _crash(error)
        _end(name, 2, f"{str(error.filename)[:200]}: {error.strerror}")
    except Exception as error:
        # typer's own errors of use share no public class, but this method.
        if not hasattr(error, "format_message"):
            _crash(error)
        said = error.format_message()
        if "\n" in said:  # the help, for a call without arguments
            print(said, file=sys.stderr)
            sys.exit(2)
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else name
        _end(name, 2, f"{said.rstrip('.')}; see {command} --help")


def leave_threads(ended: SystemExit) -> None:
    """End the process here and now, as `ended` says, if another of its threads is still at work; else return.

    Those are daemons: one that waits for a typed line, or hangs in a driver. Python does not wait for them,
    but takes itself down around them. A thread that came back from FFmpeg just then called into an
    interpreter that was no more, and a run that had saved everything ended by SIGSEGV (seen once, with a
    camera that never says a word).
    """
    hanging = [one for one in threading.enumerate() if one.daemon and one is not threading.current_thread()]
    if not hanging or not (ended.code is None or isinstance(ended.code, int)):
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it has gone, or it is closed
            stream.flush()
    os._exit(ended.code or 0)


def _crash(error: BaseException) -> NoReturn:
    """End as Python does, traceback and status 1, but for the secrets that stand in it."""
    # Secrets of several lines first, then the lines one by one, since a long text takes long to search.
    told = masked("".join(traceback.format_exception(error)))
    sys.stderr.write("\n".join(without_secrets(line) for line in told.split("\n")))
    sys.exit(1)


def _end(name: str, status: int, *sentences: str) -> NoReturn:
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    for sentence in sentences:
        console.print(f"{name}: {' '.join(masked(sentence).splitlines())}", markup=False)
    sys.exit(status)
