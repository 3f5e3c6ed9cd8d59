"""Why a state is not used."""

from __future__ import annotations

from engines.errors import LvmError


class StateError(LvmError):
    """A state that cannot be read, belongs elsewhere or is in use. It is never overwritten for that."""


class Damaged(StateError):
    """Bytes that are not those that were written: torn, shortened or flipped. What was before is used."""


class NewerState(StateError):
    """Sound, but written by a later version: never half understood, never overwritten."""
