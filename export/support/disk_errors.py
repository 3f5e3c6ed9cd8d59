"""A disk that is full, or a place that may not be written, is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from engines.errors import LvmError


@contextmanager
def written(place: Path, within: Path, remedy: str) -> Iterator[None]:
    """Raise LvmError where something cannot be written into the folder `within`, said to be `place`.

    A failed write names no file; what names a file elsewhere is none of ours and goes on as it is.
    """
    try:
        yield
    except SafetensorError as error:  # what its writer makes of every refusal of the system
        raise LvmError(f"{place} cannot be written: {error}; {remedy}") from error
    except OSError as error:
        if error.filename is not None and within not in (Path(error.filename), *Path(error.filename).parents):
            raise
        raise LvmError(f"{place} cannot be written: {error.strerror}; {remedy}") from error
