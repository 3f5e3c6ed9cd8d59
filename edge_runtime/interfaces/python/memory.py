"""A memory in a script or a notebook: watch or push pictures, ask, save.

    from edge_runtime import Memory

    with Memory() as memory:
        memory.watch("video.mp4")
        print(memory.time("scan", "milk.jpg").answer)

What it remembers is what `lvm-edge run` remembers of the same pictures, bit for bit, and asking changes
nothing of it. For one thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from pydantic import ValidationError

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import catalogue_root, default_bundle
from edge_runtime.frame import Frame, to_tick
from edge_runtime.ingest.frame_loop import Pass
from edge_runtime.ingest.pipeline import Ingest, batch_size, preprocess
from edge_runtime.interfaces.python.object_argument import Box, Image, Wanted, picture, wanted
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.persistence import Header, Snapshot, StateError, StateFolder, load_snapshot, model_digest
from edge_runtime.persistence.encryption import find_key
from edge_runtime.query.answers import Answer
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import ActivityQuery, AnyQuery, ObjectQuery, TimeQuery, parse_query
from edge_runtime.service.camera_settings import CameraSettings, make_header
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.pictures import FrameRing
from edge_runtime.service.status import make_status
from edge_runtime.service.wall_clock import on_clock
from edge_runtime.sources import canonicalise, is_live, open_source, read_frame_at
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.system.errors import QueryError
from edge_runtime.system.secrets import redact
from engines.bundle import Bundle
from engines.errors import LvmError

PUSHED = "pictures of a Python program"
"""The source of a memory that was pushed to, in its state."""

Path_ = str | Path


class Memory(AbstractContextManager["Memory"]):
    """What was seen, in the fixed number of tokens of `bundle` (default: the one that ships).

    `sampler` is neural, svd-novelty, random or fifo; `catalogue` the folder of products that questions name,
    `key` the file of the key that they are sealed with, by default that of the environment.
    Close it, or use it in a `with`, to give the engines back. Raises LvmError where something is missing.
    """

    _header: Header
    _ingest: Ingest
    _clock: SampleClock
    _last_t: float | None
    _last_tick: int
    _waiting: list[tuple[Image, float]]
    """Pushed pictures of a batch that is not full yet, as the backbone sees them, with their seconds."""
    _now: Version | None
    """With those that wait; None where nobody has asked since the last one."""

    def __init__(
        self,
        bundle: Path_ | None = None,
        *,
        backend: str = "auto",
        threads: int | None = None,
        sampler: str = "neural",
        catalogue: Path_ | None = None,
        key: Path_ | None = None,
    ) -> None:
        opened = Bundle.open(Path(bundle) if bundle is not None else default_bundle())
        self._engines = Engines.load(opened, backend, threads)
        self._manifest = opened.manifest
        self._sampler = make_sampler(sampler, self._engines.sampler)
        settings = CameraSettings(PUSHED, Path(), sampler=sampler)
        self._source: str | None = None
        """What this is the memory of; None while it is of nothing."""
        self._ring = FrameRing()
        folder = Path(catalogue) if catalogue is not None else catalogue_root()
        products = Catalogue(folder, find_key(Path(key) if key is not None else None))
        size = self._manifest.network.image_size
        objects = ObjectEncoder(self._engines.backbone, size, frame_at=self._shown_at, catalogue=products)
        self._asker = Asker(self._manifest, self._engines.reader, objects)
        self._begin(make_header(settings, opened, None), empty_version(self._manifest.network))

    @classmethod
    def load(
        cls, folder: Path_, bundle: Path_ | None = None, *, key: Path_ | None = None, **more: Any
    ) -> Memory:
        """What was saved in `folder`, by `save` or by `lvm-edge run`; `more` as for a new memory.

        Raises StateError where nothing was, or it was saved with another bundle.
        """
        saved = load_snapshot(Path(folder), key=find_key(Path(key) if key is not None else None))
        if saved is None:
            raise StateError(f"no memory in {folder}; save one there first")
        header = saved.header
        memory = cls(bundle or header.bundle, key=key, **({"sampler": header.sampler} | more))
        try:
            if model_digest(memory._engines.bundle) != header.model:
                raise StateError(
                    f"state {folder} was made by another bundle ({header.bundle}); name that one"
                )
        except StateError:
            memory.close()
            raise
        memory._ingest.close()
        memory._source = None if header.source == PUSHED else header.source
        memory._begin(header, saved.version)
        return memory

    # -- seeing --------------------------------------------------------------------------------------------

    def watch(self, source: Path_ | int, seconds: float | None = None) -> Memory:
        """Take in a source: whatever `lvm-edge run --source` takes, or a camera's number.

        Until it ends, or for `seconds` of it; a camera without them until it is interrupted. The same source
        again goes on where it was left. Raises LvmError where it cannot be read, or another one was watched.
        """
        spec = canonicalise(str(source))
        if seconds is not None and not 0 < seconds < float("inf"):
            raise LvmError(f"seconds must be a number above 0, got {seconds}")
        shown = redact(spec) if is_live(spec) else spec
        self._check_source(shown)
        self._settle()
        if self._header.last_t is None:
            self._header = self._header.model_copy(update={"epoch": time.time()})
        start = self._header.resume_at()
        if is_live(spec) and self._header.last_t is not None:  # what was not watched meanwhile is a gap
            start = max(start, time.time() - self._header.epoch)
        limit = None if seconds is None else start + seconds
        opened = open_source(spec, sample_fps=self._header.sample_fps, start=start)
        self._source = shown
        self._header = self._header.model_copy(update={"source": shown})
        seen = self._header.seen
        taking = Pass(opened, self._ingest, lambda frame: frame, threading.Event(), limit)
        with opened:
            for one in taking:
                self._ring.push(one.newest)
                taken = {"last_t": one.newest.t, "seen": seen + one.seen}
                self._header = self._header.model_copy(update=taken)
        self._header = self._header.model_copy(update={"ended": not opened.live and not taking.limited})
        return self

    def push(self, image: Image, t: float) -> bool:
        """Take in a picture (H, W, 3) uint8 RGB that was shown at `t` seconds; times must grow.

        False where it was not sampled: the bundle looks at one picture a period, and passes over the others
        as it does with a video's. Raises LvmError for what is no picture or does not grow.
        """
        frame = Frame(picture(image, "a pushed picture"), float(t))
        self._check_source(PUSHED)
        last = self._last_t
        if not np.isfinite(frame.t) or (last is not None and frame.t <= last):
            raise LvmError(f"a pushed picture must be newer than the one before, at {last} s, got {t} s")
        self._last_t = frame.t
        self._header = self._header.model_copy(update={"seen": self._header.seen + 1})
        if not self._clock.accept(frame.t) or to_tick(frame.t) <= self._last_tick:
            return False
        self._source, self._now = PUSHED, None
        self._last_tick = to_tick(frame.t)
        self._ring.push(frame)
        self._waiting.append((preprocess(frame, self._manifest.network.image_size).copy(), frame.t))
        network = self._manifest.network
        if len(self._waiting) == batch_size(len(self._ingest.version.pending), network.clip_frames):
            self._settle()
        return True

    # -- asking --------------------------------------------------------------------------------------------

    def activity(
        self,
        object: Wanted | None = None,
        *,
        box: Box | None = None,
        at: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Answer:
        """What was done with an object between `start` and `end` seconds?

        `object` is a photo (path, bytes or RGB array), several in a list, or a product's name; or else `box`
        (x1, y1, x2, y2 in 0..1) is where it lies in the picture shown `at` seconds. Raises QueryError.
        """
        return self._put(ActivityQuery, object=wanted(object, box, at), start=start, end=end)

    def object(self, activity: str, *, start: float | None = None, end: float | None = None) -> Answer:
        """Where was what this activity was done on? Raises QueryError."""
        return self._put(ObjectQuery, activity=activity, start=start, end=end)

    def time(
        self,
        activity: str | None = None,
        object: Wanted | None = None,
        *,
        box: Box | None = None,
        at: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Answer:
        """When was this done with the object; without an activity: when was anything done with it?

        Objects are named as for `activity`. Raises QueryError.
        """
        return self._put(TimeQuery, activity=activity, object=wanted(object, box, at), start=start, end=end)

    def ask(self, question: AnyQuery | Mapping[str, Any] | str) -> Answer:
        """Answer a question as every door takes it: its JSON, as text or as values. Raises QueryError."""
        if isinstance(question, Mapping):
            question = json.dumps(dict(question))
        if isinstance(question, str):
            question = parse_query(question)
        return on_clock(self._asker.ask(question, self.version), self._header)

    def _put(self, kind: type[ActivityQuery | ObjectQuery | TimeQuery], **fields: Any) -> Answer:
        try:
            return self.ask(kind.model_validate(fields))
        except ValidationError as error:
            raise QueryError(f"question not understood: {error.errors()[0]['msg']}") from None

    # -- what there is -------------------------------------------------------------------------------------

    @property
    def activities(self) -> list[str]:
        """Names of the activities that can be asked about."""
        return [one.name for one in self._manifest.classes]

    @property
    def version(self) -> Version:
        """Everything known now; immutable. Pushed pictures that wait for their batch are in it too."""
        if not self._waiting:
            return self._ingest.version
        if self._now is None:
            # Beside the memory: whoever asks in mid-batch must not change how the pictures are batched.
            beside = self._new_ingest(self._ingest.version)
            try:
                images, times = zip(*self._waiting, strict=True)
                self._now = beside.push_images(images, times)
            finally:
                beside.close()
        return self._now

    def status(self) -> dict[str, Any]:
        """The fields of `lvm-edge status`."""
        return make_status(self._snapshot(), Path()).as_json()

    def save(self, folder: Path_) -> int:
        """Write the memory to `folder`, for `load`, `lvm-edge ask --state` and `lvm-edge run`. Returns bytes.

        Raises StateError where that cannot be, or another memory lies there.
        """
        self._settle()
        with StateFolder(Path(folder)) as place:
            there = place.load()
            if there is not None and (there.header.model, there.header.source) != (
                self._header.model,
                self._header.source,
            ):
                raise StateError(f"{folder} has the memory of {there.header.source}; name another folder")
            return place.save(self._snapshot())

    def close(self) -> None:
        """Give the engines back. What was not saved is gone."""
        self._ingest.close()
        self._engines.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        memory = self.version.memory
        watched = self.version.coverage.watched()
        return (
            f"<Memory of {self._header.source}: {watched:.0f} s in {memory.filled} of {memory.slots} tokens>"
        )

    def _repr_html_(self) -> str:
        from edge_runtime.query.html import memory_html

        return memory_html(self.version, repr(self))

    def plot(self, answer: Answer | None = None) -> Any:
        """A matplotlib figure: what is remembered over time, and an answer in it.

        Raises Unavailable where matplotlib is not installed.
        """
        from edge_runtime.interfaces.python.plot import plot_memory

        return plot_memory(self.version, answer)

    # -- inside --------------------------------------------------------------------------------------------

    def _begin(self, header: Header, version: Version) -> None:
        self._header = header
        self._clock = SampleClock(header.sample_fps)
        self._last_t = header.last_t
        if header.last_t is not None:
            self._clock.accept(header.last_t)  # its period has its picture already
        self._last_tick = -(1 << 62) if version.last_tick is None else version.last_tick
        self._waiting, self._now = [], None
        self._ingest = self._new_ingest(version)

    def _new_ingest(self, version: Version) -> Ingest:
        network, engines = self._manifest.network, self._engines
        period = 1 / self._header.sample_fps
        return Ingest(network, engines.backbone, self._sampler, version, period=period)

    def _settle(self) -> None:
        """Take in what waits for its batch."""
        if not self._waiting:
            return
        images, times = zip(*self._waiting, strict=True)
        self._ingest.push_images(images, times)
        self._waiting, self._now = [], None
        self._header = self._header.model_copy(update={"last_t": times[-1]})

    def _check_source(self, source: str) -> None:
        if self._source is not None and self._source != source:
            raise LvmError(f"this memory is of {self._source}; make another Memory for {source}")

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._header, self.version)

    def _shown_at(self, t: float) -> Frame:
        frame = self._ring.find(t)
        if frame is not None and t - frame.t <= 1 / self._header.sample_fps:
            return frame
        gone = f"the picture at {t:g} s is no longer here"
        if self._source in (None, PUSHED):
            raise QueryError(f"{gone}: only the newest are kept; use a photo")
        try:
            return read_frame_at(str(self._source), t)
        except LvmError as error:
            raise QueryError(f"{gone} ({error})") from error
