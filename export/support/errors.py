"""Describe in one sentence what pydantic rejects in a file, and why a disk takes no file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError

from engines.errors import LvmError


def first_complaint(error: ValidationError) -> str:
    """Return pydantic's first complaint, in one sentence, with the value that it rejects."""
    # In a union every member complains; the member that parsed furthest has the useful complaint.
    first = max(
        error.errors(include_url=False),
        key=lambda problem: (len(problem["loc"]), problem["type"] != "missing"),
    )
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    got = (
        "" if first["type"] in ("missing", "json_invalid", "value_error") else f", got {first['input']!r:.80}"
    )
    return f"{place}: {message}{got}" if place else f"{message}{got}"


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
