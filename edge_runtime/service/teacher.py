"""Teach one camera: examples from what it watched lately, and the classes that they make."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.persistence.encryption import Key
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from edge_runtime.teaching.descriptions import Frames, RecentFrames
from edge_runtime.teaching.examples import (
    Example,
    ExampleFile,
    Video,
    check_taught,
    make_example,
    normalise_name,
)
from edge_runtime.teaching.judgement import Judgement, judge_classes
from edge_runtime.teaching.taught_classes import TaughtClasses, fit_classes

RECENT_S = 7200.0
"""Seconds of the stream that can be taught from afterwards: 7 MB of RAM at one frame a second."""


class Teacher:
    """What a camera is taught. Safe for several threads.

    `model` is the digest of the bundle's networks, `known` the names of its activities, `read_epoch` gives
    the clock time of the stream's second 0.
    """

    def __init__(
        self,
        folder: Path,
        key: Key | None,
        model: str,
        known: Sequence[str],
        read_epoch: Callable[[], float | None] = lambda: None,
        *,
        period: float = 1.0,
    ) -> None:
        self.file = ExampleFile(folder, key)
        self.file.seal()  # what was taught before there was a key
        self.recent = RecentFrames(RECENT_S, period)
        self._model, self._read_epoch = model, read_epoch
        self._known = {normalise_name(name).casefold() for name in known}
        self._lock = threading.RLock()
        """Held while examples are made and forgotten, and while layers are fitted."""
        self._fitted: tuple[object, TaughtClasses] | None = None

    def add(self, name: str, start: float, end: float, *, shows: bool = True) -> dict[str, Any]:
        """Add [start, end) seconds of the camera's stream as an example of a class, or as one that does not
        show it. Returns the example and the class as it is now.

        Raises QueryError for a span of which too little is known, and for the name of an activity that the
        bundle knows; LvmError where it cannot be saved.
        """
        with self._lock:  # what is forgotten meanwhile must not come back
            example = self.add_example([self.recent.take()], name, start, end, shows=shows)
        return {"example": example.as_json(), "class": self.describe(example.name)}

    def add_example(
        self,
        samplings: Sequence[Frames],
        name: str,
        start: float,
        end: float,
        *,
        shows: bool = True,
        video: Video | None = None,
    ) -> Example:
        """Add an example from `samplings` of the camera's stream, or of a video. Raises as `add`."""
        if normalise_name(name).casefold() in self._known:
            raise QueryError(
                f"{printable(name)} is an activity that the bundle knows already; choose another name"
            )
        epoch = None if video is not None else self._read_epoch()
        example = make_example(
            samplings, name, start, end, shows=shows, video=video, epoch=epoch, model=self._model
        )
        if not shows:
            check_taught(example.name, self.file.read())
        return self.file.add(example)

    def describe(self, name: str) -> dict[str, Any]:
        """Return a class with its examples. Raises QueryError where there is none of this name."""
        name, examples = normalise_name(name), self.file.read()
        check_taught(name, examples)
        own = [example for example in examples if example.name == name]
        facts = next((one.as_json() for one in self.classes().classes if one.name == name), None)
        return {**(facts or _describe_unfitted(name, own)), "marked": [one.as_json() for one in own]}

    def as_json(self) -> dict[str, Any]:
        """Return all classes; `waiting` were taught with another bundle, of `alone` there is nothing to tell
        them from."""
        fitted = self.classes()
        return {
            "classes": [one.as_json() for one in fitted.classes],
            "waiting": list(fitted.waiting),
            "alone": list(fitted.alone),
        }

    def remove(self, name: str, number: int | None = None) -> int:
        """Remove a class, or one of its examples. Returns how many examples. Raises QueryError, LvmError."""
        return self.file.remove(name, number)

    def classes(self) -> TaughtClasses:
        """Return the classes, fitted anew where examples have changed. Raises LvmError for a damaged file."""
        with self._lock:
            stamp = self.file.stamp()
            if self._fitted is None or self._fitted[0] != stamp:
                self._fitted = stamp, fit_classes(self.file.read(), self._model)
            return self._fitted[1]

    def judge(self, *, curve: bool = False) -> list[Judgement]:
        """Judge the classes by their own examples, see `judge_classes`. Raises LvmError. Takes seconds."""
        return judge_classes(self.file.read(), self._model, curve=curve)

    def forget(self, start: float, end: float) -> int:
        """Remove the examples and recent frames of [start, end) seconds. Returns how many examples."""
        with self._lock:
            self.recent.forget(start, end)
            self._fitted = None
            return self.file.forget(start, end, self._read_epoch())


def _describe_unfitted(name: str, own: Sequence[Example]) -> dict[str, Any]:
    shown = sum(example.shows for example in own)
    return {
        "name": name,
        "examples": shown,
        "counterexamples": len(own) - shown,
        "length_s": None,
        "recall": None,
        "false_rate": None,
        "missing": max(1, 3 - shown),
        "confused": False,
    }
