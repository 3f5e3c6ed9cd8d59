"""The real `lvm-edge` with one thing more: its engines fail for as long as a file is there.

The file is named by SOAK_ENGINE_FAULT. Nothing else is changed. It ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from edge_runtime.interfaces.cli.main import run_process
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.spec import Array, Feeds

_PR_SET_PDEATHSIG = 1


def engines_that_fail(flag: Path) -> None:
    """Every engine call raises what a backend might, while `flag` exists."""
    real = OnnxRuntimeEngine._run

    def run(self: OnnxRuntimeEngine, feeds: Feeds) -> dict[str, Array]:
        if flag.exists():
            raise RuntimeError("an injected fault")
        return real(self, feeds)

    OnnxRuntimeEngine._run = run  # type: ignore[method-assign]


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    engines_that_fail(Path(os.environ["SOAK_ENGINE_FAULT"]))
    run_process()
