"""Print tables: nothing in a cell is markup, nothing is cut, and in a pipe nothing is folded either."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

_NO_LIMIT = 100_000
"""Columns of a pipe or file, which have no width."""


def print_table(table: Table) -> None:
    """Print a table to standard output; on a terminal long cells are folded."""
    for column in table.columns:
        column.overflow = "fold"
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = _NO_LIMIT
    with console.capture() as lines:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in lines.get().splitlines()))
