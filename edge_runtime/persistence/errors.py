"""Errors: why a state is not used."""

from __future__ import annotations

from pydantic import ValidationError

from edge_runtime.system.text import printable
from engines.errors import LvmError


class StateError(LvmError):
    """A state that cannot be read, belongs elsewhere or is in use. It is never overwritten because of
    that."""


class Damaged(StateError):
    """Bytes are not as they were written: torn, shortened or flipped. The older state is used."""


class NewerState(StateError):
    """Sound, but written by a later version: never read in part, never overwritten."""


def first_problem(error: ValidationError) -> str:
    """Return place and message of the first problem, without the value."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return printable(f"{place}: {message}" if place else message)[:300]
