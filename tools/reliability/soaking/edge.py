"""Run the real `lvm-edge` with engines that fail while the file named by SOAK_ENGINE_FAULT exists.

Nothing else is changed. The process ends together with the one that started it.
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


def patch_engines(flag: Path) -> None:
    """Make every engine call raise an error as a backend might, while `flag` exists."""
    real = OnnxRuntimeEngine._run

    def run(self: OnnxRuntimeEngine, feeds: Feeds) -> dict[str, Array]:
        if flag.exists():
            raise RuntimeError("an injected fault")
        return real(self, feeds)

    OnnxRuntimeEngine._run = run  # type: ignore[method-assign]


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    patch_engines(Path(os.environ["SOAK_ENGINE_FAULT"]))
    run_process()
