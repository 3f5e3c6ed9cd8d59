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
from edge_runtime.teaching.descriptions import MIN_FRAMES, Frames, Numbers, describe_span, describe_windows
from edge_runtime.teaching.examples import Example
from edge_runtime.teaching.linear_layer import Fit, LinearLayer, fit_layer

MIN_CONFIDENCE = 0.5
"""From here on a taught class counts, where the settings name no other limit for it."""
ENOUGH = 0.8
"""A class wants examples until it recognises its own this often, by the lower end of an 80 % interval."""
FEW_FALSE = 0.1
"""And is wrong with at most this share of what is not it."""
MANY = 8
"""Independent examples after which more of them hardly help, if it is still wrong."""
_WINDOW_STEPS = 4
"""Windows of a class begin a quarter of its length apart, or a frame."""
_Z = 1.2816
"""Deviations to either end of an 80 % interval."""
_MAX_MISSING = 30
_SAME_TIME = 0.3
"""Share of the shorter one that detections of two classes have in common, to be one occurrence: at its edges
an activity may look like another."""
_SAME_LENGTH = 2.0
"""Ratio of their lengths up to which: a short activity may lie within a long one."""
_INSIDE = 0.6
"""Share of a window that lies within the occurrence where it is first and last recognised."""
_HALF = 0.55
"""Share of a span beside an example that may be another example: half of one is not the activity, so that a
window that holds half of one is not taken for it."""
_MAX_OTHERS = 100
"""Examples of other classes that one is told from: with many classes they would be nearly all of the rows."""


@dataclass(frozen=True)
class TaughtClass:
    """A class with its layer. `length` in seconds is that of its windows: of its shortest example, since a
    longer occurrence is several windows, and a shorter one would not fill any."""

    name: str
    layer: LinearLayer
    length: float
    examples: int
    counterexamples: int
    independent: int
    """Examples of different times, videos or groups: only those count as evidence."""
    recall: float | None
    """Share of its examples that it recognises without having seen them; None with fewer than two."""
    false_rate: float | None
    """Share of the spans beside them and of other classes that it takes for it."""
    whole_s: float
    """Seconds up to which a video is scored as a whole: twice the windows' length, or twice the longest
    example where all are whole videos, of which nobody said when in them it happens."""

    @property
    def missing(self) -> int:
        """How many more independent examples would make it sure; 0 where it is, and where more of them would
        not help (`confused`)."""
        if self.recall is None or self.false_rate is None:
            return max(3 - self.independent, 1)
        if self.confused or self._is_sure(self.recall, 0):
            return 0
        # As if it went on as until now, or at best got half of its errors right.
        enough = (n for n in range(1, _MAX_MISSING) if self._is_sure((1 + self.recall) / 2, n))
        return next(enough, max(MANY - self.independent, 1))

    @property
    def confused(self) -> bool:
        """Whether it is often wrong although it has many examples: what it takes for it should be marked."""
        if self.recall is None or self.false_rate is None or self.independent < MANY:
            return False
        return self.recall < ENOUGH or self.false_rate > FEW_FALSE

    def _is_sure(self, recall: float, more: int) -> bool:
        bound = _lower_bound(recall, self.independent + more)
        return bound >= ENOUGH and (more > 0 or (self.false_rate or 0.0) <= FEW_FALSE)

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
            "confused": self.confused,
        }

    def join(
        self, begins: Sequence[float], scores: Sequence[float], minimum: float
    ) -> list[tuple[float, float, float]]:
        """Return start, end and confidence of what windows at `begins`, ascending, say with their `scores`.

        Windows whose confidence is at least `minimum` and that overlap are one occurrence, as long as a
        window at least.
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
        half = max(self.length, float(middles[-1] - middles[0]) + _INSIDE * self.length) / 2
        return max(middle - half, 0.0), middle + half, float(weights.max())


@dataclass(frozen=True)
class TaughtClasses:
    """All classes of a camera, from examples of one backbone. `waiting` were taught with another bundle, of
    `alone` there is nothing to tell them from."""

    classes: tuple[TaughtClass, ...] = ()
    waiting: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()

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
        found = [one for part in frames.split_at_gaps() for one in self._detect(part, minima)]
        return sorted(_merge(found), key=lambda detection: detection.start)

    def _detect(self, frames: Frames, minima: dict[str, float]) -> list[Detection]:
        """Return what is recognised in `frames` without gaps, of each class alone."""
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
        return found

    def score(self, samplings: Sequence[Frames]) -> dict[str, float]:
        """Return the confidence that each class is shown in a video, `samplings` of which are given.

        A video of up to `whole_s` is taken as a whole, as the class's examples were; of a longer one the best
        window counts. Samplings with fewer than two frames say nothing.
        """
        scores: dict[str, list[float]] = {known.name: [] for known in self.classes}
        for frames in samplings:
            if len(frames) < MIN_FRAMES:
                continue
            seconds = float(frames.times[-1] - frames.times[0])
            for known in self.classes:
                if seconds <= known.whole_s:
                    rows = describe_span(frames.rows)[None]
                else:  # the frames of a video may lie at any distance: all windows with two of them count
                    begins = np.arange(frames.times[0], frames.times[-1], known.length / _WINDOW_STEPS)
                    rows = describe_windows(frames, begins, known.length)[1]
                scores[known.name].append(float(known.layer.score(rows).max()))
        return {name: float(np.mean(found)) for name, found in scores.items() if found}


def fit_classes(examples: Sequence[Example], model: str) -> TaughtClasses:
    """Fit a layer for each class that has an example of the backbone `model` and something to tell it from.

    A few milliseconds a class with ten examples, a second with three hundred.
    """
    usable = [example for example in examples if example.model == model]
    names = sorted({example.name for example in usable if example.shows})
    fitted = {name: made for name in names if (made := _fit_class(name, usable)) is not None}
    return TaughtClasses(
        tuple(fitted.values()),
        tuple(sorted({example.name for example in examples} - set(names))),
        tuple(name for name in names if name not in fitted),
    )


@dataclass(frozen=True)
class ClassRows:
    """What a class is fitted to: `rows` (n, w), whether each is `positive`, its `group`, which is left out as
    a whole, the number of its `example`, and whether it is a span `beside` that; 0 is the example itself."""

    rows: Numbers
    positive: NDArray[np.bool_]
    group: NDArray[np.int64]
    example: NDArray[np.int64]
    beside: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_]) -> ClassRows:
        """Return the rows that are `chosen` (n,)."""
        return ClassRows(
            self.rows[chosen],
            self.positive[chosen],
            self.group[chosen],
            self.example[chosen],
            self.beside[chosen],
        )


def collect_rows(name: str, examples: Sequence[Example]) -> ClassRows | None:
    """Return what class `name` is fitted to, of examples of one backbone; None where there is nothing to tell
    it from."""
    own = [example for example in examples if example.name == name]
    shown = [example for example in own if example.shows]
    others = [example for example in examples if example.name != name and example.shows]
    others = others[:: -max(1, math.ceil(len(others) / _MAX_OTHERS))]  # evenly drawn, the newest among them
    by_video = _is_by_video(shown)
    rows, positive, clusters, numbers, beside = [], [], [], [], []
    for example in (*own, *others):
        cluster = _find_cluster(example, shown, by_video)
        for number, (span, row) in enumerate(zip(example.spans, example.rows, strict=True)):
            shows = number < example.own and example in shown
            # What lies beside one example may be another one, also one that was marked later.
            if not shows and any(_shared(span, example, other) > _HALF for other in shown):
                continue
            if example in others and number >= example.own:
                break  # what lies beside other classes is told from them
            rows.append(row)
            positive.append(shows)
            clusters.append(cluster)
            numbers.append(example.id)
            beside.append(max(number - example.own + 1, 0))
    if all(positive):
        return None
    order = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    groups = np.array([order[cluster] for cluster in clusters])
    return ClassRows(np.stack(rows), np.array(positive), groups, np.array(numbers), np.array(beside))


def _fit_class(name: str, examples: Sequence[Example]) -> TaughtClass | None:
    rows = collect_rows(name, examples)
    if rows is None:
        return None
    own = [example for example in examples if example.name == name]
    shown = [example for example in own if example.shows]
    by_video = _is_by_video(shown)
    fit = fit_layer(rows.rows, rows.positive.tolist(), rows.group.tolist())
    recall, false_rate = _judge(fit, rows.positive.tolist())
    lengths = [example.end - example.start for example in shown]
    length = _round_length(min(lengths))
    whole_videos = all(example.video is not None and len(example.spans) == example.own for example in shown)
    return TaughtClass(
        name,
        fit.layer,
        length,
        len(shown),
        len(own) - len(shown),
        len({_find_cluster(example, shown, by_video) for example in shown}),
        recall,
        false_rate,
        2 * (max(lengths) if whole_videos else length),
    )


def _is_by_video(positives: Sequence[Example]) -> bool:
    """Return whether videos are left out as a whole; examples of one video alone are judged by their times,
    as those of the camera's own stream are."""
    return len({example.group or example.video for example in positives}) > 1


def _find_cluster(example: Example, positives: Sequence[Example], by_video: bool) -> str:
    """Name what is left out together: one group or video, else one time, however often it was marked."""
    if by_video and (example.group or example.video) is not None:
        return f"group {example.group}" if example.group is not None else f"video {example.video}"
    overlapping = [other for other in positives if _shared(example.spans[0], example, other) > 0]
    return f"example {min((other.id for other in overlapping), default=example.id)}"


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
    short, long = sorted((a.end - a.start, b.end - b.start))
    return shared >= _SAME_TIME * short and long <= _SAME_LENGTH * short


def _list_windows(frames: Frames, length: float) -> NDArray[np.float64]:
    """Return where windows of `length` seconds begin that lie within `frames`, (W,): on a raster of the
    stream, so that passes that overlap see the same windows."""
    first, last = float(frames.times[0]), float(frames.times[-1])
    period = float(np.median(np.diff(frames.times)))
    step = max(length / _WINDOW_STEPS, period)
    low = math.ceil((first - period / 2) / step - 1e-6)
    high = math.floor((last + period - length) / step + 1e-6)
    return np.asarray(np.arange(low, high + 1) * step, np.float64)


def _round_length(seconds: float) -> float:
    """Round to a power of sqrt(2): classes of similar length then share their windows."""
    return float(2 ** (round(2 * math.log2(seconds)) / 2))


def _judge(fit: Fit, positive: Sequence[bool]) -> tuple[float | None, float | None]:
    if fit.left_out is None:
        return None, None
    said, shows = fit.left_out >= MIN_CONFIDENCE, np.asarray(positive, bool)
    return float(said[shows].mean()), float(said[~shows].mean())


def _shared(span: tuple[float, float], example: Example, other: Example) -> float:
    """Return which share of a span of `example` lies within what `other` marks."""
    if example.video != other.video:
        return 0.0
    shift = 0.0 if example.epoch is None or other.epoch is None else example.epoch - other.epoch
    shared = min(span[1] + shift, other.end) - max(span[0] + shift, other.start)
    return max(shared, 0.0) / (span[1] - span[0])


def _lower_bound(share: float, count: int) -> float:
    """Return the lower end of Wilson's interval of a share of `count` examples."""
    square = _Z * _Z / count
    middle = share + square / 2
    width = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return (middle - width) / (1 + square)
