"""Turn errors of a full disk or an unwritable folder into one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from engines.errors import LvmError


@contextmanager
def explain_disk_errors(place: Path, within: Path, remedy: str) -> Iterator[None]:
    """Raise LvmError where something cannot be written into the folder `within`; the message names `place`.

    A failed write names no file. An error that names a file elsewhere is passed on unchanged.
    """
    try:
        yield
    except SafetensorError as error:  # what its writer makes of every refusal of the system
        raise LvmError(f"{place} cannot be written: {error}; {remedy}") from error
    except OSError as error:
        if error.filename is not None and within not in (Path(error.filename), *Path(error.filename).parents):
            raise
        raise LvmError(f"{place} cannot be written: {error.strerror}; {remedy}") from error
