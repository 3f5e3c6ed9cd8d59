"""Validate external data: the base of strict models, and a one-line description of an error."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from edge_runtime.system.text import printable


class StrictModel(BaseModel):
    """A model that rejects unknown fields, NaN and infinity, and is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def require_text(value: Any) -> Any:
    """Return the value of a secret setting. Raises ValueError, which does not repeat it, for no text."""
    if not isinstance(value, (str, SecretStr)):
        raise ValueError("a secret must be text; got something else, put it in quotes")
    return value


def describe_first_problem(error: ValidationError, *, skip: int = 0, max_chars: int = 300) -> str:
    """Return place and cause of the first problem, in one line; the input is not repeated.

    The first `skip` parts of the place are left out, where they mean nothing to a user.
    """
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"][skip:])[:100]
    message = problem["msg"].removeprefix("Value error, ")
    return printable(f"{where}: {message}" if where else message)[:max_chars]
