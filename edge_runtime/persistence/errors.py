"""Errors: why a state is not used."""

from __future__ import annotations

from engines.errors import LvmError


class StateError(LvmError):
    """A state cannot be read, belongs elsewhere or is in use; it is never overwritten then."""


class Damaged(StateError):
    """Bytes are not as they were written: torn, shortened or flipped. The older state is used."""


class NewerState(StateError):
    """Sound, but written by a later version: never read in part, never overwritten."""
