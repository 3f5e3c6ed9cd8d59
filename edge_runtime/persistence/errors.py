"""Why a state is not used."""

from __future__ import annotations

from pydantic import ValidationError

from edge_runtime.system.text import printable
from engines.errors import LvmError


class StateError(LvmError):
    """A state that cannot be read, belongs elsewhere or is in use. It is never overwritten for that."""


class Damaged(StateError):
    """Bytes that are not those that were written: torn, shortened or flipped. What was before is used."""


class NewerState(StateError):
    """Sound, but written by a later version: never half understood, never overwritten."""


def first_problem(error: ValidationError) -> str:
    """Where and what, of the first problem; what stands there is not repeated."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ")
    return printable(f"{where}: {said}" if where else said)[:300]
