"""Pictures between the samples, for somebody who looks: what a source offers, and to whom.

A source that reads more pictures than are sampled has a `tap`. While `tap.wanted` it converts the picture
that it just decoded, sampled or not, and offers it; at all other times that costs it one question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from edge_runtime.frame import Frame


class Tap(Protocol):
    """Whoever may want to see pictures. Both may be called from any thread and never raise."""

    @property
    def wanted(self) -> bool:
        """Whether somebody would look at a picture that comes now."""

    def offer(self, frame: Frame) -> None:
        """Take a picture as the source gives it: no privacy zone is burnt in yet."""


@runtime_checkable
class Tapped(Protocol):
    """A source that can show what lies between its samples."""

    tap: Tap | None


class AtOurTime:
    """Hands on what one opening of a source shows, at the time of whoever opened it.

    `allowed` is asked each time: a pause must not wait for a source to be told of it.
    """

    def __init__(self, tap: Tap, now: Callable[[], float], allowed: Callable[[], bool]) -> None:
        self._tap, self._now, self._allowed = tap, now, allowed

    @property
    def wanted(self) -> bool:
        return self._allowed() and self._tap.wanted

    def offer(self, frame: Frame) -> None:
        if self._allowed():
            self._tap.offer(Frame(frame.image, self._now()))
