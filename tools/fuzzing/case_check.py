"""Check a case: it may end cleanly, or be refused in one sentence with exit status 2 or 4."""

from __future__ import annotations

import resource
import traceback
from collections.abc import Callable
from pathlib import Path

from engines.errors import LvmError

Run = Callable[[bytes], None]

WALL_S = 10.0
MEMORY_BYTES = 1 << 30
MAX_MESSAGE_LENGTH = 1500
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / package) for package in ("edge_runtime", "engines", "export"))


def find_problem(run: Run, data: bytes) -> tuple[str, str] | None:
    """Return None if `run` handled `data`; else a signature, equal for equal bugs, and a description."""
    try:
        run(data)
    except LvmError as error:
        return _check_message(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = next((frame for frame in reversed(frames) if frame.filename.startswith(OURS)), frames[-1])
        place = f"{Path(at.filename).name}:{at.name}"
        return f"{type(error).__name__} in {place}", "".join(traceback.format_exception(error))
    return None


def _check_message(error: LvmError) -> tuple[str, str] | None:
    message = str(error)
    wrong = (
        "is empty" if not message
        else "is more than one line, or has control characters" if not message.isprintable()
        else "is longer than a person reads" if len(message) > MAX_MESSAGE_LENGTH
        else "has no exit status for wrong input" if error.exit_status not in (2, 4)
        else None
    )  # fmt: skip
    if wrong is None:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}"
    return f"sentence {wrong}, from {place}", f"{message[:4000]!r}\n" + "".join(
        traceback.format_exception(error)
    )


def peak_above(limit: int) -> bool:
    """Whether it has ever held more than `limit` bytes. Cheap as long as it has not."""
    # ru_maxrss begins with the peak of the process that started this one, so it can only acquit.
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 <= limit:
        return False
    return _status("VmHWM") > limit


def resident() -> int:
    """Return the bytes that this process holds now."""
    return _status("VmRSS")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024
