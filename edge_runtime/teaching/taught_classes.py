"""The classes that a camera was taught: one linear layer for each, how sure it is, and what it wants.

Letters: F frames, w numbers of a span.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.activity.recognizer import Detection
from edge_runtime.teaching.descriptions import MIN_FRAMES, Frames, describe_span, describe_windows
from edge_runtime.teaching.examples import Example
from edge_runtime.teaching.linear_layer import Fit, LinearLayer, fit_layer

MIN_CONFIDENCE = 0.5
"""From here on a taught class counts, where the settings name no other limit for it."""
ENOUGH = 0.8
"""A class wants examples until it is right with its own this often for certain (90 % interval, lower end)."""
_WINDOW_STEPS = 4
"""Windows of a class begin a quarter of its length apart, or a frame."""
_Z = 1.2816
"""Of the lower end of a two-sided 80 % interval."""
_MAX_MISSING = 30
_SAME_TIME = 0.3
"""Share of the shorter one that detections of two classes have in common, to be one occurrence: at its edges
an activity may look like another."""
_MAX_OTHERS = 80
"""Examples of other classes that one is told from."""


@dataclass(frozen=True)
class TaughtClass:
    """A class with its layer. `length` in seconds is that of its examples, in the middle."""

    name: str
    layer: LinearLayer
    length: float
    examples: int
    counterexamples: int
    """Spans that it is told from."""
    recall: float | None
    """Share of its examples that it recognises without having seen them; None with fewer than two."""
    false_rate: float | None
    """Share of the spans beside them and of other classes that it takes for it."""

    @property
    def missing(self) -> int:
        """How many more examples would make it sure."""
        if self.recall is None:
            return max(3 - self.examples, 1)
        if _lower_bound(self.recall, self.examples) >= ENOUGH:
            return 0
        for more in range(1, _MAX_MISSING):
            # As if it went on as until now, or at best got half of its errors right.
            if _lower_bound((1 + self.recall) / 2, self.examples + more) >= ENOUGH:
                return more
        return _MAX_MISSING

    def as_json(self) -> dict[str, Any]:
        """Return its facts for the interfaces."""
        rounded = {"recall": self.recall, "false_rate": self.false_rate}
        return {
            "name": self.name,
            "examples": self.examples,
            "counterexamples": self.counterexamples,
            "length_s": round(self.length, 2),
            **{key: None if value is None else round(value, 3) for key, value in rounded.items()},
            "missing": self.missing,
        }

    def join(
        self, begins: Sequence[float], scores: Sequence[float], minimum: float
    ) -> list[tuple[float, float, float]]:
        """Return start, end and confidence of what windows at `begins`, ascending, say with their `scores`.

        Windows whose confidence is at least `minimum` and that overlap are one occurrence. It is as long as
        an example at least, and longer where windows far apart agree.
        """
        found: list[list[tuple[float, float]]] = []
        for begin, score in zip(begins, scores, strict=True):
            if score < minimum:
                continue
            if found and begin - found[-1][-1][0] <= self.length:
                found[-1].append((begin, score))
            else:
                found.append([(begin, score)])
        return [self._join(windows) for windows in found]

    def _join(self, windows: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
        weights = np.array([score for _, score in windows])
        middles = np.array([begin for begin, _ in windows]) + self.length / 2
        middle = float((weights * middles).sum() / weights.sum())
        half = max(self.length, float(middles[-1] - middles[0])) / 2
        return max(middle - half, 0.0), middle + half, float(weights.max())


@dataclass(frozen=True)
class TaughtClasses:
    """All classes of a camera, from examples of one backbone. `waiting` were taught with another bundle."""

    classes: tuple[TaughtClass, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(known.name for known in self.classes)

    @property
    def longest(self) -> float:
        """Seconds of the longest window."""
        return max((known.length for known in self.classes), default=0.0)

    def detect(self, frames: Frames, minima: dict[str, float]) -> list[Detection]:
        """Return what is recognised in `frames`, by start; `minima` are the confidences that classes need.

        Classes that are recognised at the same time are one occurrence, named after the surest of them.
        """
        found: list[Detection] = []
        if len(frames) < MIN_FRAMES:
            return found
        # Classes of one length share the descriptions of their windows.
        for length in sorted({known.length for known in self.classes}):
            begins = _list_windows(frames, length)
            kept, rows = describe_windows(frames, begins, length)
            for number, known in enumerate(self.classes):
                if known.length == length:
                    minimum = minima.get(known.name, MIN_CONFIDENCE)
                    found += [
                        Detection({number: confidence}, start, end)
                        for start, end, confidence in known.join(
                            begins[kept].tolist(), known.layer.score(rows).tolist(), minimum
                        )
                    ]
        return sorted(_merge(found), key=lambda detection: detection.start)

    def score(self, samplings: Sequence[Frames]) -> dict[str, float]:
        """Return the confidence that each class is shown in a video, `samplings` of which are given.

        A video of up to twice a class's length is taken as a whole, as its examples were; of a longer one the
        best window counts. Samplings with fewer than two frames say nothing.
        """
        scores: dict[str, list[float]] = {known.name: [] for known in self.classes}
        for frames in samplings:
            if len(frames) < MIN_FRAMES:
                continue
            seconds = float(frames.times[-1] - frames.times[0])
            for known in self.classes:
                if seconds <= 2 * known.length:
                    rows = describe_span(frames.rows)[None]
                else:
                    rows = describe_windows(frames, _list_windows(frames, known.length), known.length)[1]
                scores[known.name].append(float(known.layer.score(rows).max()))
        return {name: float(np.mean(found)) for name, found in scores.items() if found}


def fit_classes(examples: Sequence[Example], model: str) -> TaughtClasses:
    """Fit a layer for each class that has an example of the backbone `model` and something to tell it from.

    A few milliseconds a class with ten examples, a second with three hundred.
    """
    usable = [example for example in examples if example.model == model]
    names = sorted({example.name for example in usable if example.shows})
    waiting = sorted({example.name for example in examples} - set(names))
    classes = [made for name in names if (made := _fit_class(name, usable)) is not None]
    return TaughtClasses(tuple(classes), tuple(waiting))


def _fit_class(name: str, examples: Sequence[Example]) -> TaughtClass | None:
    shown = [example for example in examples if example.name == name and example.shows]
    own = [example for example in examples if example.name == name]
    others = [example for example in examples if example.name != name]
    # Evenly drawn, the newest among them: with many classes the others would be nearly all of the rows.
    others = others[:: -max(1, math.ceil(len(others) / _MAX_OTHERS))]
    rows, positive, groups = [], [], []
    for example in (*own, *others):
        for number, (span, row) in enumerate(zip(example.spans, example.rows, strict=True)):
            shows = number < example.own and example.name == name and example.shows
            # What lies beside one example may be another one, also one that was marked later.
            if not shows and any(_overlaps(span, example.source, other) for other in shown):
                continue
            rows.append(row)
            positive.append(shows)
            # Spans of one video are alike, so they are left out together.
            groups.append(example.id if example.source is None else f"video {example.source}")
    if all(positive):
        return None
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    fit = fit_layer(np.stack(rows), positive, [numbers[group] for group in groups])
    recall, false_rate = _judge(fit, positive)
    return TaughtClass(
        name,
        fit.layer,
        _round_length(float(np.median([example.end - example.start for example in shown]))),
        len(shown),
        len(positive) - sum(positive),
        recall,
        false_rate,
    )


def _merge(detections: Sequence[Detection]) -> list[Detection]:
    merged: list[Detection] = []
    for detection in sorted(detections, key=lambda one: -one.scores[one.best]):
        same = next((known for known in merged if _share_time(known, detection)), None)
        if same is None:
            merged.append(detection)
        else:
            same.scores.setdefault(detection.best, detection.scores[detection.best])
    return merged


def _share_time(a: Detection, b: Detection) -> bool:
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared >= _SAME_TIME * min(a.end - a.start, b.end - b.start)


def _list_windows(frames: Frames, length: float) -> NDArray[np.float64]:
    """Return where windows of `length` seconds begin in `frames`, (W,): on a raster of the stream, so that
    passes that overlap see the same windows. A stream shorter than a window is one window."""
    first, last = float(frames.times[0]), float(frames.times[-1])
    period = (last - first) / (len(frames) - 1)
    step = max(length / _WINDOW_STEPS, period)
    low = math.ceil((first - period / 2) / step - 1e-6)
    high = math.floor((last + period - length) / step + 1e-6)
    begins = np.arange(low, high + 1) * step if high >= low else np.array([first])
    return np.asarray(begins, np.float64)


def _round_length(seconds: float) -> float:
    """Round to a power of sqrt(2): classes of similar length then share their windows."""
    return float(2 ** (round(2 * math.log2(seconds)) / 2))


def _judge(fit: Fit, positive: Sequence[bool]) -> tuple[float | None, float | None]:
    if fit.left_out is None:
        return None, None
    said, shows = fit.left_out >= MIN_CONFIDENCE, np.asarray(positive, bool)
    return float(said[shows].mean()), float(said[~shows].mean())


def _overlaps(span: tuple[float, float], source: str | None, other: Example) -> bool:
    return source == other.source and span[0] < other.end and span[1] > other.start


def _lower_bound(share: float, count: int) -> float:
    """Return the lower end of Wilson's interval of a share of `count` examples."""
    square = _Z * _Z / count
    middle = share + square / 2
    width = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return (middle - width) / (1 + square)
