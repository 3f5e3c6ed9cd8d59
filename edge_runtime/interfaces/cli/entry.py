"""Entry point of `lvm-edge`: signals to a run are kept before what takes long is imported."""

from __future__ import annotations

import contextlib
import sys

from edge_runtime.interfaces.cli.signals import kept


def main() -> None:
    with kept() if "run" in sys.argv[1:] else contextlib.nullcontext():
        from edge_runtime.interfaces.cli.main import program

        program()


if __name__ == "__main__":
    main()
