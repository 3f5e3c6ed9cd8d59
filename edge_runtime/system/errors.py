"""Errors that more than one room raises."""

from __future__ import annotations

from engines.errors import LvmError


class GivenUp(LvmError):
    """A call that nobody waits for any more, as its camera leaves its source."""


class QueryError(LvmError):
    """A question that cannot be asked like this."""
