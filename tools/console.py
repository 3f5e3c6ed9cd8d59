"""Console output of the tools: progress on standard error, tables, a last line of JSON, one-line errors."""

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
        """Show what is going on, and advance by `by` steps."""


@contextmanager
def progress(steps: int) -> Iterator[Step]:
    """Show a bar on standard error, which disappears at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps)

        def step(what: str, by: int = 1) -> None:
            bar.update(task, description=what, advance=by)

        yield step


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on standard output; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    # A pipe has no width of its own, and a folded table is hard to read.
    Console(width=max(Console().width, _WIDTH)).print(table)


def finish(result: dict[str, Any]) -> None:
    """Print the result as JSON, as the last line of standard output."""
    print(json.dumps(result))


def run_tool(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit with its status.

    An LvmError, or a path that the system refuses, becomes one line on standard error, `NAME: message`, and
    the error's own status (2 for wrong use and wrong input).
    """
    try:
        sys.exit(main())
    except LvmError as error:
        status, message = error.exit_status, str(error)
    except OSError as error:
        if error.filename is None:  # no path of the user's: a defect, or a broken pipe
            raise
        status, message = 2, f"{error.filename}: {error.strerror}"
    print(f"{_name()}: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(status)


def _name() -> str:
    """Return the tool's name as on the command line: `tools.quality.drift`."""
    parts = Path(sys.argv[0]).with_suffix("").parts
    below = parts[len(parts) - parts[::-1].index("tools") :] if "tools" in parts else parts[-1:]
    return ".".join(["tools", *(part for part in below if part != "__main__")])
