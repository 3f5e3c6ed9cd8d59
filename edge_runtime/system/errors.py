"""Errors that several packages raise."""

from __future__ import annotations

from engines.errors import LvmError


class CallAbandoned(LvmError):
    """An engine call was cancelled because its camera leaves its source."""


class QueryError(LvmError):
    """A question is invalid or cannot be answered."""
