"""Entry point of `lvm-edge`: defers signals to a run before it imports anything slow."""

from __future__ import annotations

import contextlib
import sys

from edge_runtime.interfaces.cli.signals import defer_signals


def main() -> None:
    with defer_signals() if "run" in sys.argv[1:] else contextlib.nullcontext():
        from edge_runtime.interfaces.cli.main import run_process

        run_process()


if __name__ == "__main__":
    main()
