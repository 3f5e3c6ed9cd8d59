"""Encode a step as bytes, losslessly, in about half of the size of its tokens.

Letters: B frames, P cells of a frame, d width, m slots, k candidates.

A token is written as its difference to the token last written for its cell, in steps of half precision: on a
fixed camera most differences are small, and the two bytes of each are then coded apart. So a record can only
be read after all those before it, which is how a journal is read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import MAX_T
from edge_runtime.memory.recurrent_state import ArraySpec, check_specs
from edge_runtime.memory.token_memory import Features
from edge_runtime.memory.version import ClipUpdate, Step
from edge_runtime.persistence.header import MAX_COUNT, MAX_PERIOD_S
from edge_runtime.persistence.validation import HALF, MAX_CLIP, MAX_LENGTH, check_numbers
from engines.network_config import GRID
from engines.spec import Array

Keys = NDArray[np.uint16]  # half precision numbers in their order

_HEAD = struct.Struct("<HHIIIdQQ")
"""B, d, bytes of the tokens, k, m + k, period, frames seen and dropped by the source so far."""
_NONE = 0xFFFFFFFF
_ZERO = 0x8000
"""The key of 0; that of -0 is one less."""


@dataclass(frozen=True)
class Record:
    """A step, and the frames that the source had seen and dropped by then."""

    step: Step
    seen: int = 0
    dropped: int = 0


class RecordCoder:
    """Writes or reads the records of one journal, from its first on. One coder does one of the two.

    Frames have `cells` tokens of `width`. No record has more than `clip_frames` frames; a clip update has the
    outputs of `output_specs`.
    """

    def __init__(
        self,
        width: int,
        clip_frames: int = MAX_CLIP,
        output_specs: Mapping[str, ArraySpec] | None = None,
        *,
        cells: int = GRID * GRID,
    ) -> None:
        self._cells = cells
        self._last: Keys = np.zeros((cells, width), np.uint16)
        self._clip_frames = clip_frames
        self._specs = dict(sorted((output_specs or {}).items()))

    def encode(self, record: Record) -> bytes:
        step, update = record.step, record.step.clip_update
        keys = _to_keys(step.features)  # (B, P, d)
        nonzero = np.asarray((keys != _ZERO).any(axis=2))  # (B, P)
        tokens = _compress(np.concatenate([self._difference(keys[i], nonzero[i]) for i in range(len(keys))]))
        candidates = None if update is None or update.candidates is None else update.candidates.astype("<u4")
        scores = None if update is None else update.scores.astype("<f4")
        head = _HEAD.pack(
            len(keys),
            keys.shape[2],
            len(tokens),
            _NONE if candidates is None else len(candidates),
            _NONE if scores is None else len(scores),
            step.period,
            record.seen,
            record.dropped,
        )
        parts = [
            np.asarray(step.times, "<f8"),
            step.residual.astype("<f4"),
            np.packbits(nonzero),
            *(part for part in (candidates, scores) if part is not None),
            *(() if update is None else (_to_little_endian(update.outputs[name]) for name in self._specs)),
        ]
        return head + b"".join(part.tobytes() for part in parts) + tokens

    def decode(self, data: bytes) -> Record:
        """Return the record. Raises ValueError for bytes that no encoder wrote, and for impossible
        numbers."""
        if len(data) < _HEAD.size:
            raise ValueError("a record is shorter than its head")
        frames, width, size, k, n, period, seen, dropped = _HEAD.unpack_from(data)
        if width != self._last.shape[1] or not 0 < frames <= self._clip_frames:
            raise ValueError(f"a record of {frames} frames of width {width}")
        rest, tokens = _Reader(data, _HEAD.size), frames * self._cells
        times = rest.take("<f8", frames)
        residual = rest.take("<f4", tokens).astype(np.float32).reshape(frames, self._cells)
        bits = rest.take("u1", -(-tokens // 8)).astype(np.uint8)
        nonzero = np.unpackbits(bits, count=tokens).astype(np.bool_).reshape(frames, self._cells)
        candidates = None if k == _NONE else rest.take("<u4", k).astype(np.intp)
        update = None
        if n != _NONE:
            scores, outputs = rest.take("<f4", n).astype(np.float32), dict[str, Array]()
            for name, spec in self._specs.items():
                flat = rest.take(np.dtype(spec.dtype).newbyteorder("<").str, int(np.prod(spec.shape)))
                outputs[name] = flat.astype(spec.dtype).reshape(spec.shape)
            check_specs("a record", outputs, self._specs)  # ValueError for numbers that no engine returns
            update = ClipUpdate(candidates, scores, outputs)
        differences = _decompress(rest.take("u1", size).tobytes(), int(nonzero.sum()), width)
        rest.check_end()
        features = np.zeros((frames, self._cells, width), np.float32)
        start = 0
        for i, cells in enumerate(nonzero):
            stop = start + int(cells.sum())
            self._last[cells] += _unzigzag(differences[start:stop])
            features[i, cells] = _from_keys(self._last[cells]).astype(np.float32)
            start = stop
        step = Step(features, residual, tuple(times.tolist()), period, update)
        _check_step(step, self._clip_frames * self._cells)
        if max(seen, dropped) > MAX_COUNT:
            raise ValueError(f"a record's counts must be at most {MAX_COUNT}")
        return Record(step, seen, dropped)

    def _difference(self, keys: Keys, cells: NDArray[np.bool_]) -> Keys:
        """Return the differences of a frame's tokens to the last ones of their cells, zigzag coded. (n, d)"""
        difference = keys[cells] - self._last[cells]
        self._last[cells] = keys[cells]
        return _zigzag(difference)


def _check_step(step: Step, clip_tokens: int) -> None:
    """Raise ValueError for numbers that no step of a clip of `clip_tokens` can have."""
    check_numbers("a record's times", np.asarray(step.times), MAX_T)
    check_numbers("a record's period", np.asarray([step.period]), MAX_PERIOD_S)
    if step.period <= 0:
        raise ValueError(f"a record's period must be above 0, got {step.period:g}")
    check_numbers("a record's tokens", step.features, HALF)
    check_numbers("a record's residuals", step.residual, MAX_LENGTH)
    update = step.clip_update
    if update is None:
        return
    check_numbers("a record's scores", update.scores, float(np.finfo(np.float32).max))
    index = update.candidates
    if index is not None and not (
        (index[1:] > index[:-1]).all() and (index[-1:] < clip_tokens).all() and len(index)
    ):
        raise ValueError("a record's candidates must be tokens of its clip, in their order")


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def take(self, dtype: str, count: int) -> NDArray[np.generic]:
        stop = self._at + np.dtype(dtype).itemsize * count
        if stop > len(self._data):
            raise ValueError(f"a record of {len(self._data)} bytes should have {stop} or more")
        array = np.frombuffer(self._data, dtype, count, self._at)
        self._at = stop
        return array

    def check_end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"a record of {len(self._data)} bytes should have {self._at}")


def _to_little_endian(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<"))


def _to_keys(features: Features) -> Keys:
    """Return half precision numbers as integers in the same order; each has its own, -0 too."""
    bits = np.ascontiguousarray(features, np.float16).view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000).astype(np.uint16)


def _from_keys(keys: Keys) -> NDArray[np.float16]:
    bits = np.where(keys & 0x8000, keys & 0x7FFF, ~keys).astype(np.uint16)
    return bits.view(np.float16)


def _zigzag(difference: Keys) -> Keys:
    signed = difference.view(np.int16)
    return ((signed << 1) ^ (signed >> 15)).view(np.uint16)


def _unzigzag(folded: Keys) -> Keys:
    return np.asarray((folded >> 1) ^ (~(folded & 1) + np.uint16(1)))


def _compress(differences: Keys) -> bytes:
    """Deflate low bytes, then high bytes, by runs and Huffman codes: nothing else would match."""
    planes = np.ascontiguousarray(differences.astype("<u2")).view(np.uint8).reshape(-1, 2).T
    coder = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return coder.compress(np.ascontiguousarray(planes).tobytes()) + coder.flush()


def _decompress(data: bytes, tokens: int, width: int) -> Keys:
    size = 2 * tokens * width
    try:
        coder = zlib.decompressobj(-15)
        planes = coder.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"a record's tokens: {error}") from error
    if len(planes) != size or not coder.eof:
        raise ValueError(f"a record's tokens should be {size} bytes, got {len(planes)}")
    pairs = np.frombuffer(planes, np.uint8).reshape(2, -1).T
    return np.ascontiguousarray(pairs).view("<u2").astype(np.uint16).reshape(tokens, width)
