"""What the tools share: progress on standard error, tables for people, one JSON object as the last line; and
one line for a person where a tool was given something wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from engines.errors import LvmError

_WIDTH = 160


class Step(Protocol):
    def __call__(self, what: str, by: int = 1) -> None:
        """Say what is going on, and that `by` more steps are done."""


@contextmanager
def progress(steps: int) -> Iterator[Step]:
    """A bar on standard error, gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps)

        def step(what: str, by: int = 1) -> None:
            bar.update(task, description=what, advance=by)

        yield step


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    # A pipe has no width of its own, and a folded table is hard to read.
    Console(width=max(Console().width, _WIDTH)).print(table)


def finish(result: dict[str, Any]) -> None:
    """The last line of standard output."""
    print(json.dumps(result))


def run_tool(main: Callable[[], int | None]) -> NoReturn:
    """Exit with the status of `main`. For an LvmError, or a path that the system refuses, that is one line on
    standard error, `NAME: message`, and the error's own status (2 for wrong use and wrong input)."""
    try:
        sys.exit(main())
    except LvmError as error:
        status, said = error.exit_status, str(error)
    except OSError as error:
        if error.filename is None:  # no path of the user's: a defect, or a broken pipe
            raise
        status, said = 2, f"{error.filename}: {error.strerror}"
    print(f"{_name()}: {' '.join(said.splitlines())}", file=sys.stderr)
    sys.exit(status)


def _name() -> str:
    """Return the tool's name as one calls it: `tools.quality.drift`."""
    parts = Path(sys.argv[0]).with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index("tools") :] if "tools" in parts else parts[-1:]
    return ".".join(["tools", *(part for part in below if part != "__main__")])
