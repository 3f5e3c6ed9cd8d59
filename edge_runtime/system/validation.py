"""Validate data from outside: the base of models that take nothing unknown, and what is said of an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_runtime.system.text import printable


class StrictModel(BaseModel):
    """Refuses unknown fields, NaN and infinity; cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def first_problem(error: ValidationError, *, skip: int = 0, max_chars: int = 300) -> str:
    """Say where the first problem is and what it is, in one line; the input is not repeated.

    `skip` parts of the place are left out from its front, where they say nothing to a person.
    """
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"][skip:])[:100]
    message = problem["msg"].removeprefix("Value error, ")
    return printable(f"{where}: {message}" if where else message)[:max_chars]
