"""What a case may do: end cleanly, or be refused in one sentence with exit status 2 or 4."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from engines.errors import LvmError

Run = Callable[[bytes], None]

WALL_S = 10.0
MEMORY_BYTES = 1 << 30
LONGEST_SENTENCE = 1500
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / room) for room in ("edge_runtime", "engines", "export"))


def judge(run: Run, data: bytes) -> tuple[str, str] | None:
    """None where `run` took `data` well; else a signature, equal for equal bugs, and the whole story."""
    try:
        run(data)
    except LvmError as error:
        return _sentence(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = next((frame for frame in reversed(frames) if frame.filename.startswith(OURS)), frames[-1])
        place = f"{Path(at.filename).name}:{at.name}"
        return f"{type(error).__name__} in {place}", "".join(traceback.format_exception(error))
    return None


def _sentence(error: LvmError) -> tuple[str, str] | None:
    said = str(error)
    wrong = (
        "is empty" if not said
        else "is more than one line, or has control characters" if not said.isprintable()
        else "is longer than a person reads" if len(said) > LONGEST_SENTENCE
        else "has no exit status for wrong input" if error.exit_status not in (2, 4)
        else None
    )  # fmt: skip
    if wrong is None:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}"
    return f"sentence {wrong}, from {place}", f"{said[:4000]!r}\n" + "".join(
        traceback.format_exception(error)
    )
