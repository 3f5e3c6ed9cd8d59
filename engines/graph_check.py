"""Check the bytes of a bundle's graph before any backend sees them.

A bundle's hashes say that it is complete, not that it is harmless. So before a graph is loaded, its size and
shapes must be bounded, its operators ONNX's own or the few others that our exporter writes, its weights in
the bundle's one weights file and nowhere else, and it must not loop. ONNX is read here without the onnx
package, which the device does not have; only what is checked is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from engines.errors import BundleError

Buffer = bytes | memoryview

MAX_NODES = 50_000
"""A Swin transformer exported operator by operator has 7,500."""
MAX_TENSORS = 50_000
MAX_DEPTH = 4
"""Levels of graphs within graphs."""
MAX_ELEMENTS = 1 << 31
"""Elements of one tensor, or of one declared shape."""
MAX_XML_BYTES = 64 << 20

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
OWN_OPERATORS = {"com.microsoft": frozenset({"MultiHeadAttention", "QuantizeLinear", "DequantizeLinear"})}
"""Operators beyond the standard that the exporter writes. Others may read files or wait for libraries."""
LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})

_EXTERNAL = 1


def check_onnx(graph: Buffer, *, weights_name: str | None, weights_bytes: int) -> None:
    """Raise BundleError, one sentence, unless `graph` is an ONNX model of the kind that our exporter writes.

    Its external weights must lie within the first `weights_bytes` bytes of `weights_name`; None allows none.
    """
    _Onnx(weights_name, weights_bytes).model(memoryview(graph))


def check_openvino(xml: Buffer) -> None:
    """Raise BundleError unless `xml` is an OpenVINO graph of standard operators."""
    data = bytes(xml)
    if len(data) > MAX_XML_BYTES:
        raise BundleError(f"graph has {len(data)} bytes, {MAX_XML_BYTES} expected at most")
    if b"<!" in data.replace(b"<!--", b""):  # document types and entities: never exported, and a known attack
        raise BundleError("graph is no OpenVINO graph: it declares a document type or entities")
    try:
        layers = list(ElementTree.fromstring(data).iter("layer"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BundleError(f"graph is no OpenVINO graph: {str(error)[:100]!r}") from None
    if not 0 < len(layers) <= MAX_NODES:
        raise BundleError(f"graph has {len(layers)} layers, 1 to {MAX_NODES} expected")
    for layer in layers:
        kind, version = layer.get("type", ""), layer.get("version", "")
        if re.fullmatch(r"opset\d+", version) is None or kind in {"Loop", "TensorIterator"}:
            raise BundleError(f"graph has a layer {_quote(kind)} of {_quote(version)}, which is not allowed")


class _Onnx:
    """Walks the messages of one model. Field numbers are those of onnx.proto."""

    def __init__(self, weights_name: str | None, weights_bytes: int) -> None:
        self._weights, self._weights_bytes = weights_name, weights_bytes
        self._nodes = self._tensors = 0

    def model(self, data: memoryview) -> None:
        graphs = 0
        for number, value in _fields(data):
            if number == 7 and isinstance(value, memoryview):
                graphs += 1
                self._graph(value, 1)
            elif number == 25:
                raise BundleError("graph defines functions of its own, which is not allowed")
            elif number == 20:
                raise BundleError("graph holds training information, which is not allowed")
        if graphs != 1:
            raise BundleError(f"graph is no ONNX model: expected one graph in it, got {graphs}")

    def _graph(self, data: memoryview, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise BundleError(f"graph holds graphs more than {MAX_DEPTH} deep")
        for number, value in _fields(data):
            if not isinstance(value, memoryview):
                continue
            if number == 1:
                self._node(value, depth)
            elif number == 5:
                self._tensor(value, may_be_external=depth == 1)
            elif number == 15:
                raise BundleError("graph holds sparse weights, which are not allowed")
            elif number in (11, 12, 13):
                _check_value(value)

    def _node(self, data: memoryview, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise BundleError(f"graph has more than {MAX_NODES} operators")
        kind = domain = ""
        for number, value in _fields(data):
            if not isinstance(value, memoryview):
                continue
            if number == 4:
                kind = _text(value)
            elif number == 7:
                domain = _text(value)
            elif number == 5:
                self._attribute(value, depth)
        if domain in STANDARD_DOMAINS:
            if kind in LOOPS:
                raise BundleError(f"graph has the operator {kind}, which may run without end")
        elif kind not in OWN_OPERATORS.get(domain, ()):
            raise BundleError(f"graph has the operator {_quote(domain)}.{_quote(kind)}, which is not allowed")

    def _attribute(self, data: memoryview, depth: int) -> None:
        for number, value in _fields(data):
            if not isinstance(value, memoryview):
                continue
            if number in (5, 10):
                self._tensor(value, may_be_external=False)
            elif number in (6, 11):
                self._graph(value, depth + 1)
            elif number in (22, 23):
                raise BundleError("graph holds sparse weights, which are not allowed")

    def _tensor(self, data: memoryview, *, may_be_external: bool) -> None:
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise BundleError(f"graph has more than {MAX_TENSORS} tensors")
        dims: list[int] = []
        external: dict[str, str] = {}
        outside = False
        for number, value in _fields(data):
            if number == 1:
                dims += _integers(value)
            elif number == 13 and isinstance(value, memoryview):
                outside = True
                key, text = _entry(value)
                external[key] = text
            elif number == 14 and value == _EXTERNAL:
                outside = True
        _check_shape(dims)
        if outside:
            if not may_be_external:
                raise BundleError("graph keeps a constant in another file, which is not allowed")
            location = external.get("location", "")
            if self._weights is None or location != self._weights:
                raise BundleError(
                    f"graph needs weights from {_quote(location)}, "
                    f"expected {self._weights or 'none outside of it'}"
                )
            try:
                offset, length = int(external.get("offset", "0")), int(external.get("length", "0"))
            except ValueError:
                offset, length = -1, -1
            if not (0 <= offset and 0 <= length and offset + length <= self._weights_bytes):
                raise BundleError(
                    f"graph needs weights from beyond the {self._weights_bytes} bytes of {location}"
                )


def _check_value(data: memoryview) -> None:
    """Check a declared value: type (2), tensor (1), shape (2), dimensions (1), size (1)."""
    for path in _down(data, (2, 1, 2)):
        dims = [
            size
            for number, dim in _fields(path)
            if number == 1 and isinstance(dim, memoryview)
            for tag, size in _fields(dim)
            if tag == 1 and isinstance(size, int)
        ]
        _check_shape([_signed(size) for size in dims])


def _down(data: memoryview, path: tuple[int, ...]) -> Iterator[memoryview]:
    if not path:
        yield data
        return
    for number, value in _fields(data):
        if number == path[0] and isinstance(value, memoryview):
            yield from _down(value, path[1:])


def _check_shape(dims: list[int]) -> None:
    elements = 1
    for size in dims:
        elements *= max(size, 1)
        if size < 0 or elements > MAX_ELEMENTS:
            raise BundleError(
                f"graph has a tensor of shape {str(dims[:8])}, {MAX_ELEMENTS} elements expected at most"
            )


# -- the wire format of protobuf ---------------------------------------------------------------------------


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of one message: an integer, or bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise BundleError("graph is damaged or no ONNX model")
        if number == 0 or at + size > end:
            raise BundleError("graph is damaged or no ONNX model")
        if kind == 2:
            yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise BundleError("graph is damaged or no ONNX model")


def _integers(value: int | memoryview) -> list[int]:
    """Return the numbers of a field: one, or several packed."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(_signed(number))
        if len(numbers) > 64:
            raise BundleError("graph has a tensor of more than 64 dimensions")
    return numbers


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _entry(data: memoryview) -> tuple[str, str]:
    pair = {number: _text(value) for number, value in _fields(data) if isinstance(value, memoryview)}
    return pair.get(1, ""), pair.get(2, "")


def _text(value: memoryview) -> str:
    return bytes(value[:1000]).decode("utf-8", "replace")


def _quote(text: str) -> str:
    """Quote a name for a person: short, without control characters."""
    return ascii(text[:80])
