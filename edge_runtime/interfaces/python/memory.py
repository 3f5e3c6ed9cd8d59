"""The Python API: watch a source or push images, ask questions, save and load.

    from edge_runtime import Memory

    with Memory() as memory:
        memory.watch("video.mp4")
        print(memory.time("scan", "milk.jpg").answer)

A Memory is bit for bit the same as that of `lvm-edge run` for the same images, and questions do not change
it. Not thread-safe.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import catalogue_root, default_bundle
from edge_runtime.frame import Frame, to_tick
from edge_runtime.imaging.decode import read_file
from edge_runtime.ingest.frame_loop import FrameLoop
from edge_runtime.ingest.pipeline import Ingest, batch_size, preprocess
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Version, empty_version
from edge_runtime.persistence import Header, Snapshot, StateError, StateFolder, load_snapshot, model_digest
from edge_runtime.persistence.encryption import find_key
from edge_runtime.query.answers import Answer
from edge_runtime.query.executor import Asker
from edge_runtime.query.object_encoder import ObjectEncoder
from edge_runtime.query.schema import (
    ActivityQuery,
    AnyQuery,
    BoxInFrame,
    ObjectQuery,
    Photos,
    Product,
    TimeQuery,
    parse_request,
)
from edge_runtime.service.camera_settings import CameraSettings, make_header
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.pictures import FrameRing
from edge_runtime.service.status import make_status
from edge_runtime.service.wall_clock import make_time_reader, on_clock
from edge_runtime.sources import canonicalise, is_live, open_source, read_frame_at
from edge_runtime.sources.base import Recorded
from edge_runtime.sources.clocks import SampleClock
from edge_runtime.sources.live_source import Supervision
from edge_runtime.sources.spec import identify_source
from edge_runtime.system.errors import QueryError
from edge_runtime.system.secrets import show_source
from engines.bundle import Bundle
from engines.errors import LvmError

PUSHED = "pictures of a Python program"
"""The `source` in the state of a memory with pushed images."""

AnyPath = str | Path


class Memory(AbstractContextManager["Memory"]):
    """A memory with the fixed number of tokens of `bundle` (default: the one that ships).

    `sampler` is neural, svd-novelty, random or fifo. `catalogue` is the folder of products that questions may
    name, `key` the file of the key that they are encrypted with (default: that of the environment). Close it,
    or use it in a `with` statement, to release the engines. Raises LvmError if something is missing.
    """

    _header: Header
    _ingest: Ingest
    _clock: SampleClock
    _last_t: float | None
    _last_tick: int
    _pending: list[tuple[Image, float, float | None]]
    """Pushed images of a batch that is not full yet: preprocessed, with their times in seconds."""
    _preview: Version | None
    """Cache of `version` with the pushed images that wait; None if it must be computed again."""

    def __init__(
        self,
        bundle: AnyPath | None = None,
        *,
        backend: str = "auto",
        threads: int | None = None,
        sampler: str = "neural",
        catalogue: AnyPath | None = None,
        key: AnyPath | None = None,
    ) -> None:
        opened = Bundle.open(Path(bundle) if bundle is not None else default_bundle())
        self._engines = Engines.load(opened, backend, threads)
        self._manifest = opened.manifest
        self._sampler = make_sampler(sampler, self._engines.sampler)
        settings = CameraSettings(PUSHED, Path(), sampler=sampler)
        self._source: str | None = None
        """The source of this memory; None while it is empty."""
        self._ring = FrameRing()
        folder = Path(catalogue) if catalogue is not None else catalogue_root()
        products = Catalogue(folder, find_key(Path(key) if key is not None else None))
        objects = ObjectEncoder(
            self._engines.backbone, self._manifest.network, frame_at=self._frame_at, catalogue=products
        )
        self._asker = Asker(self._manifest, self._engines.reader, objects)
        self._begin(make_header(settings, opened, None), empty_version(self._manifest.network))

    @classmethod
    def load(
        cls, folder: AnyPath, bundle: AnyPath | None = None, *, key: AnyPath | None = None, **options: Any
    ) -> Memory:
        """Load what `save` or `lvm-edge run` saved in `folder`; `options` as for a new memory.

        Raises StateError if nothing was saved there, or it was saved with another bundle.
        """
        saved = load_snapshot(Path(folder), key=find_key(Path(key) if key is not None else None))
        if saved is None:
            raise StateError(f"no memory in {folder}; save one there first")
        header = saved.header
        memory = cls(bundle or header.bundle, key=key, **({"sampler": header.sampler} | options))
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

    # -- watching ------------------------------------------------------------------------------------------

    def watch(self, source: AnyPath | int, seconds: float | None = None) -> Memory:
        """Watch a source: whatever `lvm-edge run --source` takes, or a camera's number.

        Watches until it ends, or for `seconds` of it; a camera without `seconds` until Ctrl-C. If the same
        source was watched before, continues where that ended. Raises LvmError if it cannot be read, or if
        another source was watched before.
        """
        spec = canonicalise(str(source))
        if seconds is not None and not 0 < seconds < float("inf"):
            raise LvmError(f"seconds must be a number above 0, got {seconds}")
        self._check_source(spec)
        self._flush()
        if self._header.last_t is None:
            self._header = self._header.model_copy(update={"epoch": time.time()})
        start = self._header.resume_at()
        begun = self._header.last_t is not None
        if is_live(spec) and begun and not self._header.recorded:  # the time since then is a gap
            start = max(start, time.time() - self._header.epoch)
        limit = None if seconds is None else start + seconds
        try:
            self._watch(spec, start, limit)
        except Recorded:
            self._header = self._header.model_copy(update={"recorded": True})
            self._watch(spec, start, limit)
        return self

    def _watch(self, spec: str, start: float, limit: float | None) -> None:
        """Watch a source once, from `start` to `limit` seconds or its end."""
        header, settings = self._header, self._make_opening()
        opened = open_source(spec, sample_fps=header.sample_fps, start=start, settings=settings)
        self._source = spec
        self._header = header.model_copy(update=CameraSettings(spec, Path()).source_fields)
        if opened.epoch is not None and header.last_t is None:
            self._header = self._header.model_copy(update={"epoch": opened.epoch, "clocked": True})
        seen = self._header.seen
        frames = FrameLoop(opened, self._ingest, lambda frame: frame, threading.Event(), limit)
        with opened:
            for batch in frames:
                self._ring.push(batch.newest)
                mark = opened.bookmark_at(batch.newest.t) or self._header.bookmark
                progress = {"last_t": batch.newest.t, "seen": seen + batch.seen, "bookmark": mark}
                self._header = self._header.model_copy(update=progress)
        self._header = self._header.model_copy(update={"ended": not opened.live and not frames.reached_limit})

    def _make_opening(self) -> Supervision:
        header = self._header
        return Supervision(kind=header.source_kind, bookmark=header.bookmark, epoch=header.recording_epoch)

    def push(self, image: Image, t: float) -> bool:
        """Add an image (H, W, 3) uint8 RGB of the time `t` in seconds; times must grow.

        Returns False if it was not sampled: as of a video, one image in each sampling period is used. Raises
        LvmError for an invalid image or time.
        """
        frame = Frame(check_image(image, "a pushed picture"), float(t))
        self._check_source(PUSHED)
        last = self._last_t
        if not np.isfinite(frame.t) or (last is not None and frame.t <= last):
            raise LvmError(f"a pushed picture must be newer than the one before, at {last} s, got {t} s")
        self._last_t = frame.t
        self._header = self._header.model_copy(update={"seen": self._header.seen + 1})
        if not self._clock.accept(frame.t) or to_tick(frame.t) <= self._last_tick:
            return False
        self._source, self._preview = PUSHED, None
        self._last_tick = to_tick(frame.t)
        self._ring.push(frame)
        picture = preprocess(frame, self._manifest.network.image_size).copy()
        self._pending.append((picture, frame.t, self._clock.frame_period))
        network = self._manifest.network
        if len(self._pending) == batch_size(len(self._ingest.version.pending), network.clip_frames):
            self._flush()
        return True

    # -- asking --------------------------------------------------------------------------------------------

    def activity(
        self,
        object: ObjectArgument | None = None,
        *,
        box: Box | None = None,
        at: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Answer:
        """Ask what was done with an object between `start` and `end` seconds.

        `object` is a photo (path, bytes or RGB array), several in a list, or the name of a product.
        Alternatively, `box` (x1, y1, x2, y2 in 0..1) is its place in the frame `at` seconds.
        Raises QueryError.
        """
        return self._ask_query(ActivityQuery, object=parse_object(object, box, at), start=start, end=end)

    def object(self, activity: str, *, start: float | None = None, end: float | None = None) -> Answer:
        """Ask where the object of this activity was. Raises QueryError."""
        return self._ask_query(ObjectQuery, activity=activity, start=start, end=end)

    def time(
        self,
        activity: str | None = None,
        object: ObjectArgument | None = None,
        *,
        box: Box | None = None,
        at: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Answer:
        """Ask when this was done with the object; without an activity, when anything was done with it.

        The object is given as for `activity`. Raises QueryError.
        """
        return self._ask_query(
            TimeQuery, activity=activity, object=parse_object(object, box, at), start=start, end=end
        )

    def ask(self, question: AnyQuery | Mapping[str, Any] | str) -> Answer:
        """Ask a question in the JSON that every interface takes, as text or as a dict. Raises QueryError."""
        if isinstance(question, Mapping):
            question = json.dumps(dict(question))
        if isinstance(question, str):
            request = parse_request(question)
            if request.camera is not None:
                raise QueryError(f"a memory is of one camera, got a question to {request.camera[:50]!r}")
            question = request.resolve(make_time_reader(self._header, self.version.coverage))
        return on_clock(self._asker.ask(question, self.version), self._header)

    def _ask_query(self, kind: type[ActivityQuery | ObjectQuery | TimeQuery], **fields: Any) -> Answer:
        try:
            return self.ask(kind.model_validate(fields))
        except ValidationError as error:
            raise QueryError(f"question not understood: {error.errors()[0]['msg']}") from None

    # -- contents ------------------------------------------------------------------------------------------

    @property
    def activities(self) -> list[str]:
        """Names of the activities that questions may use."""
        return [activity.name for activity in self._manifest.classes]

    @property
    def version(self) -> Version:
        """The current state of the memory, immutable; includes pushed images that wait for their batch."""
        if not self._pending:
            return self._ingest.version
        if self._preview is None:
            # In a second ingest: a question must not change the batches of the first.
            ingest = self._new_ingest(self._ingest.version)
            try:
                images, times, periods = zip(*self._pending, strict=True)
                self._preview = ingest.push_images(images, times, periods)
            finally:
                ingest.close()
        return self._preview

    def status(self) -> dict[str, Any]:
        """Return the fields of `lvm-edge status`."""
        return make_status(self._snapshot(), Path()).as_json()

    def save(self, folder: AnyPath) -> int:
        """Save to `folder`, for `load`, `lvm-edge ask --state` and `lvm-edge run`. Returns the size in bytes.

        Raises StateError if that fails, or if the folder holds another memory.
        """
        self._flush()
        with StateFolder(Path(folder)) as state:
            saved = state.load()
            if saved is not None and (saved.header.model, saved.header.source_id) != (
                self._header.model,
                self._header.source_id,
            ):
                raise StateError(f"{folder} has the memory of {saved.header.source}; name another folder")
            return state.save(self._snapshot())

    def close(self) -> None:
        """Release the engines. What was not saved is lost."""
        self._ingest.close()
        self._engines.close()

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        memory = self.version.memory
        watched = self.version.coverage.watched_seconds()
        return (
            f"<Memory of {self._header.source}: {watched:.0f} s in {memory.filled} of {memory.slots} tokens>"
        )

    def _repr_html_(self) -> str:
        from edge_runtime.interfaces.python.plot import memory_html

        return memory_html(self.version, repr(self))

    def plot(self, answer: Answer | None = None) -> Any:
        """Return a matplotlib figure of the tokens over time, and of an answer.

        Raises Unavailable if matplotlib is not installed.
        """
        from edge_runtime.interfaces.python.plot import plot_memory

        return plot_memory(self.version, answer, self._manifest.network.cells)

    # -- inside --------------------------------------------------------------------------------------------

    def _begin(self, header: Header, version: Version) -> None:
        self._header = header
        self._clock = SampleClock(header.sample_fps)
        self._last_t = header.last_t
        if header.last_t is not None:
            self._clock.accept(header.last_t)  # its sampling period has its image already
        self._last_tick = -(1 << 62) if version.last_tick is None else version.last_tick
        self._pending, self._preview = [], None
        self._ingest = self._new_ingest(version)

    def _new_ingest(self, version: Version) -> Ingest:
        network, engines = self._manifest.network, self._engines
        period = 1 / self._header.sample_fps
        return Ingest(network, engines.backbone, self._sampler, version, period=period)

    def _flush(self) -> None:
        """Process the pushed images that wait for their batch."""
        if not self._pending:
            return
        images, times, periods = zip(*self._pending, strict=True)
        self._ingest.push_images(images, times, periods)
        self._pending, self._preview = [], None
        self._header = self._header.model_copy(update={"last_t": times[-1]})

    def _check_source(self, source: str) -> None:
        if self._source is not None and self._header.source_id != identify_source(source):
            raise LvmError(
                f"this memory is of {self._header.source}; make another Memory for {show_source(source)}"
            )

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._header, self.version)

    def _frame_at(self, t: float) -> Frame:
        frame = self._ring.find(t, 1 / self._header.sample_fps)
        if frame is not None:
            return frame
        message = f"the picture at {t:g} s is no longer here"
        if self._source in (None, PUSHED):
            raise QueryError(f"{message}: only the newest are kept; use a photo")
        try:
            return read_frame_at(str(self._source), t, settings=self._make_opening())
        except LvmError as error:
            raise QueryError(f"{message} ({error})") from error


Image = NDArray[np.uint8]
PhotoArgument = str | os.PathLike[str] | bytes | Image
ObjectArgument = PhotoArgument | Sequence[PhotoArgument]
Box = Sequence[float]

EXPECTED = "expected a photo (path, bytes or array), several in a list, a product's name, or box= and at="


def parse_object(
    object: ObjectArgument | None, box: Box | None, at: float | None
) -> Photos | BoxInFrame | Product:
    """Return the object of a query. Raises QueryError if it is invalid, missing or given twice."""
    if (object is None) == (box is None):
        raise QueryError(f"name the object once: {EXPECTED}")
    if box is not None:
        return _parse_box(box, at)
    if at is not None:
        raise QueryError("at= is the time of the picture that box= lies in; a photo has none")
    if isinstance(object, str) and not Path(object).is_file():
        if os.sep in object or Path(object).suffix.lower() in {".jpg", ".jpeg", ".png", ".webp", ".bmp"}:
            raise QueryError(f"there is no photo {object[:200]!r}")
        return Product(product=object[:200] or " ")
    photos = object if isinstance(object, (list, tuple)) else [object]
    if not 1 <= len(photos) <= MAX_PHOTOS:
        raise QueryError(f"an object is shown by 1 to {MAX_PHOTOS} photos, got {len(photos)}")
    return Photos(photos=tuple(_read_photo(photo) for photo in photos))


def check_image(image: Any, what: str) -> Image:
    """Return `image` if it is (H, W, 3) uint8 RGB, else raise LvmError, which calls it `what`."""
    if not isinstance(image, np.ndarray):
        raise LvmError(f"{what} must be a numpy array (H, W, 3) of uint8, RGB, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise LvmError(f"{what} must be (H, W, 3) of uint8, RGB, got {image.shape} of {image.dtype}")
    return image


def _parse_box(box: Box, at: float | None) -> BoxInFrame:
    if at is None:
        raise QueryError("box= needs at=, the seconds at which the picture was shown")
    try:
        corners = tuple(float(corner) for corner in box)
        return BoxInFrame.model_validate({"box": corners, "t": float(at)})
    except (ValidationError, TypeError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise QueryError(f"box: {first.removeprefix('Value error, ')}") from None


def _read_photo(photo: Any) -> bytes:
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, (str, os.PathLike)):
        return read_file(Path(photo))
    image = check_image(photo, "a photo")
    success, data = cv2.imencode(".png", image[..., ::-1])  # PNG is lossless
    assert success, "an array of pixels can always be encoded"
    return bytes(data)
