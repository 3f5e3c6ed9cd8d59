"""Examples of what a camera is taught, in its state folder.

    taught.examples     what each span looked like, as numbers of `descriptions`; no picture, sealed where the
                        state has a key

An example is a span that shows a class, or that does not. Kept with it are the spans that hold one half of
it, and short ones beside it: what happens around it is what the class must be told from. Numbers of one
backbone mean nothing to another, so examples of another bundle wait until that runs again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from edge_runtime.persistence.encryption import Key, is_sealed, open_sealed
from edge_runtime.persistence.filesystem import make_private_folder, write_private
from edge_runtime.query.timestamps import format_clock_span
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import nearest, printable
from edge_runtime.teaching.descriptions import MIN_FRAMES, Frames, Numbers, describe_span
from engines.errors import LvmError

log = logging.getLogger(__name__)

FILE = "taught.examples"
ROLE = "taught examples"
"""Role of the sealed file, see `persistence.encryption`."""
FORMAT = 1
MAX_EXAMPLES = 2000
"""Of one camera: 45 MB."""
MAX_CLASSES = 200
MAX_NAME = 80
MAX_SPAN_S = 120.0
MIN_WATCHED = 0.8
"""Of the frames that a span should have."""
SAME_SPAN = 0.8
"""Share of both that two spans have in common, to be one that was marked twice."""
_BESIDE = 2
"""Spans beside an example on each side."""
_BESIDE_S = 5.0
"""Their length, at most that of the example: spans as long as it would reach into the next occurrence, which
nobody has marked. With a person at a table for 10 to 25 s, every 15 to 25 s, windows of the untaught half
were told apart with an area under the curve of 0.82 to 0.87 by spans as long as the example, of 1.00 by
these."""


@dataclass(frozen=True)
class Example:
    """A span that shows class `name`, or (`shows` false) does not.

    `spans` (k, 2) in seconds and `rows` (k, w): the span itself, which a video gives several times as it is
    sampled at other moments (`own` rows), then those beside it. `source` is the name of a video and `video`
    identifies it; None for the camera's own stream, whose second 0 is `epoch` in seconds since 1970, if
    known. Examples of one `group` are left out together, where it is given.
    """

    id: int
    name: str
    shows: bool
    source: str | None
    epoch: float | None
    model: str
    spans: tuple[tuple[float, float], ...]
    rows: Numbers = field(repr=False, compare=False)
    own: int = 1
    added: float = 0.0
    video: str | None = None
    group: str | None = None

    @property
    def start(self) -> float:
        return self.spans[0][0]

    @property
    def end(self) -> float:
        return self.spans[0][1]

    def shares_time(self, start: float, end: float, epoch: float | None) -> bool:
        """Return whether it, or what is kept beside it, shares time with [start, end) seconds of a stream
        that began at `epoch`."""
        shift = 0.0 if epoch is None or self.epoch is None else self.epoch - epoch
        return any(a + shift < end and b + shift > start for a, b in self.spans)

    def as_json(self) -> dict[str, Any]:
        """Return the example for the interfaces, without its numbers."""
        clock = {} if self.epoch is None else format_clock_span(self.start, self.end, self.epoch)
        return {
            "id": self.id,
            "name": self.name,
            "shows": self.shows,
            "source": self.source,
            "from": round(self.start, 3),
            "to": round(self.end, 3),
            "added": self.added,
            **clock,
        }


def make_example(
    samplings: Sequence[Frames],
    name: str,
    start: float,
    end: float,
    *,
    shows: bool = True,
    video: Video | None = None,
    epoch: float | None = None,
    model: str,
) -> Example:
    """Describe [start, end) seconds and the spans beside it, in each of the `samplings` of one stream.

    Raises QueryError for a span of another length than can be taught, or of which too little was watched.
    """
    length = end - start
    if not 0 < length <= MAX_SPAN_S:
        raise QueryError(
            f"an example must last up to {MAX_SPAN_S:g} s, got {length:g} s; mark one occurrence of it"
        )
    period = float(np.median(np.diff(samplings[0].times))) if len(samplings[0]) > 1 else 1.0
    short = min(length, max(_BESIDE_S, (MIN_FRAMES + 1) * period))
    beside = [
        begin
        for number in range(1, _BESIDE + 1)
        for begin in (start - number * short, end + (number - 1) * short)
    ]
    own = _describe_spans(samplings, [start], length)
    if not own:
        times = samplings[0].times
        taught = f"from {times[0]:.1f} to {times[-1]:.1f} s" if len(times) else "nothing yet"
        raise QueryError(
            f"too little of {start:.1f} to {end:.1f} s is still known frame by frame; what can be taught is "
            f"{taught}, without its gaps"
        )
    halves = [start - length / 2, start + length / 2]
    described = [
        *own,
        *_describe_spans(samplings[:1], _list_watched(samplings[0], halves, length), length),
        *_describe_spans(samplings[:1], _list_watched(samplings[0], beside, short), short),
    ]
    return Example(
        0,
        check_class_name(name),
        shows,
        None if video is None else video.name,
        epoch,
        model,
        tuple(span for span, _ in described),
        np.stack([row for _, row in described]).astype(np.float16).astype(np.float32),
        len(own),
        time.time(),
        None if video is None else video.digest,
        None if video is None else video.group,
    )


def _list_watched(frames: Frames, begins: Sequence[float], length: float) -> list[float]:
    """Return where spans of `length` seconds begin that lie within the stream. In one that reaches beyond it
    half of a short example is all that there is, and would be told from the example."""
    if len(frames) < MIN_FRAMES:
        return []
    period = float(np.median(np.diff(frames.times)))
    first, last = float(frames.times[0]) - period / 2, float(frames.times[-1]) + period
    return [begin for begin in begins if begin >= first and begin + length <= last]


def _describe_spans(
    samplings: Sequence[Frames], begins: Sequence[float], length: float
) -> list[tuple[tuple[float, float], Numbers]]:
    """Return each span of `length` seconds of which enough was watched, and its description."""
    spans = []
    for frames in samplings:
        steps = np.diff(frames.times)
        expected = length / float(np.median(steps)) if len(steps) else 0.0
        for begin in begins:
            inside = frames.within(begin, begin + length)
            if len(inside) >= max(MIN_FRAMES, MIN_WATCHED * expected - 1e-6):
                spans.append(((begin, begin + length), describe_span(inside.rows)))
    return sorted(spans, key=lambda span: begins.index(span[0][0]))


@dataclass(frozen=True)
class Video:
    """A video that teaches: its name, a digest of its content, and the group that it is left out with."""

    name: str
    digest: str
    group: str | None = None


def normalise_name(text: str) -> str:
    """Return `text` in Unicode normal form C, without surrounding blanks."""
    return unicodedata.normalize("NFC", text).strip()


def check_class_name(text: str) -> str:
    """Return `text` as the name of a taught class. Raises QueryError."""
    name = normalise_name(text)
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise QueryError(
            f"a taught activity's name has 1 to {MAX_NAME} printable letters, got {printable(text[:50])!r}"
        )
    return name


class DamagedExamples(LvmError):
    """A file of examples that cannot be read."""


class ExampleFile:
    """The examples of one camera. Safe for several threads and processes; caches nothing."""

    def __init__(self, folder: Path, key: Key | None = None) -> None:
        self.path = folder / FILE
        self._lock_path = folder / f"{FILE}.lock"
        self._key = key

    def stamp(self) -> tuple[int, int] | None:
        """Return what changes with the file's content; None where there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def read(self) -> list[Example]:
        """Return all examples, oldest first. Raises LvmError where they cannot be read."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LvmError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            return _decode(open_sealed(data, self._key, role=ROLE))
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DamagedExamples(
                f"{self.path} is damaged or of another version ({printable(str(error))[:100]}); move it away "
                "and teach again"
            ) from None

    def add(self, example: Example) -> Example:
        """Add an example; returns it with its number. One of the same span that said otherwise is replaced.

        Raises QueryError where there is no room, and for a span that was marked before; LvmError.
        """
        with self._writing() as examples:
            same = [known for known in examples if _is_same_span(known, example)]
            if same and same[0].shows == example.shows:
                raise QueryError(
                    f"this time was marked before, as example {same[0].id} of {printable(example.name)}: "
                    "mark another one"
                )
            examples[:] = [known for known in examples if known not in same]
            names = {known.name for known in examples}
            if len(examples) >= MAX_EXAMPLES or (example.name not in names and len(names) >= MAX_CLASSES):
                raise QueryError(
                    f"a camera has at most {MAX_EXAMPLES} examples of {MAX_CLASSES} activities; "
                    "remove some first"
                )
            numbered = replace(example, id=1 + max((known.id for known in examples), default=0))
            examples.append(numbered)
        return numbered

    def remove(self, name: str, number: int | None = None) -> int:
        """Remove a class, or its example `number`. Returns how many examples. Raises QueryError, LvmError."""
        name = normalise_name(name)
        with self._writing() as examples:
            check_taught(name, examples)
            gone = [
                known for known in examples if known.name == name and (number is None or known.id == number)
            ]
            if not gone:
                numbers = ", ".join(str(known.id) for known in examples if known.name == name)
                raise QueryError(f"{printable(name)} has no example {number}; it has {numbers}")
            examples[:] = [known for known in examples if known not in gone]
        return len(gone)

    def forget(self, start: float, end: float, epoch: float | None = None) -> int:
        """Remove the examples of the camera's own stream that share time with [start, end) seconds, also by
        what is kept beside them. Returns how many. Raises LvmError.

        `epoch` is the clock time of the stream's second 0, if known: examples of a stream before it are
        compared by the clock. A file that cannot be read may hold that time too, and is removed.
        """
        # A writer makes the lock first: without either nothing was taught, nor is being taught.
        if self.stamp() is None and not self._lock_path.exists():
            return 0
        with self._writing(damaged=[]) as examples:
            kept = [
                known
                for known in examples
                if known.source is not None or not known.shares_time(start, end, epoch)
            ]
            removed = len(examples) - len(kept)
            examples[:] = kept
        return removed

    def seal(self) -> None:
        """Encrypt the file if it was written before there was a key. Raises LvmError."""
        if self._key is not None and self.path.exists() and not is_sealed(self.path.read_bytes()):
            with self._writing():
                pass

    @contextlib.contextmanager
    def _writing(self, damaged: list[Example] | None = None) -> Iterator[list[Example]]:
        """Lock the file, give its examples to be changed, and write them; `damaged` instead of those of a
        file that cannot be read."""
        try:
            make_private_folder(self.path.parent)
            with self._lock_path.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    examples = self.read()
                except DamagedExamples as error:
                    if damaged is None:
                        raise
                    log.warning("%s; it is removed, since it may hold what is forgotten", error)
                    examples = damaged
                yield examples
                if examples:
                    data = _encode(examples)
                    sealed = data if self._key is None else self._key.seal(data, role=ROLE)
                    write_private(self.path, sealed)
                else:
                    self.path.unlink(missing_ok=True)
        except OSError as error:
            raise LvmError(f"{self.path} cannot be written: {error.strerror or error}") from error


def check_taught(name: str, examples: Sequence[Example]) -> None:
    """Raises QueryError, with the nearest name, if there is no example of this class."""
    name = normalise_name(name)
    names = sorted({example.name for example in examples})
    if name in names:
        return
    if not names:
        raise QueryError("nothing was taught yet; lvm-edge teach add NAME --from TIME --to TIME does it")
    raise QueryError(
        printable(
            f"{name[:50]!r} was not taught; nearest is {nearest(name, names)!r}, all: {', '.join(names[:16])}"
        )
    )


def _is_same_span(a: Example, b: Example) -> bool:
    """Return whether two examples mark the same time of the same stream for the same class."""
    shift = 0.0 if a.epoch is None or b.epoch is None else a.epoch - b.epoch
    shared = min(a.end + shift, b.end) - max(a.start + shift, b.start)
    longest = max(a.end - a.start, b.end - b.start)
    return (a.name, a.video) == (b.name, b.video) and shared >= SAME_SPAN * longest


def _encode(examples: Sequence[Example]) -> bytes:
    facts = []
    for example in examples:
        fields = asdict(replace(example, rows=np.zeros(0, np.float32)))
        facts.append({**fields, "rows": len(example.rows)})
    text = json.dumps({"format": FORMAT, "examples": facts}, ensure_ascii=False).encode()
    # Examples of two bundles may differ in width: one block for each example.
    blocks = {str(example.id): example.rows.astype(np.float16) for example in examples}
    return save({"facts": np.frombuffer(text, np.uint8), **blocks})


def _decode(data: bytes) -> list[Example]:
    """Raises SafetensorError, ValueError, KeyError, TypeError for what `_encode` did not write."""
    blocks = load(data)
    facts = json.loads(blocks["facts"].tobytes())
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']} instead of {FORMAT}")
    examples = []
    for fields in facts["examples"]:
        rows = blocks[str(fields["id"])].astype(np.float32)
        spans = tuple((float(a), float(b)) for a, b in fields["spans"])
        if rows.ndim != 2 or len(rows) != len(spans) or not spans or not np.isfinite(rows).all():
            raise ValueError(f"example {fields['id']} has {rows.shape} numbers for {len(spans)} spans")
        if not 1 <= fields["own"] <= len(spans):
            raise ValueError(f"example {fields['id']} has {fields['own']} rows of its own")
        examples.append(Example(**{**fields, "rows": rows, "spans": spans}))
    return examples
