"""Hide the differences between the supported versions of TensorRT: 8.6 (JetPack 6.0), 10 and 11.

    8.6     networks are weakly typed: builder flags allow half precision and int8, and layers are pinned to
            the type that the graph gives them, which the builder must obey
    10      networks are strongly typed by a flag: every tensor has the type that the graph gives it
    11      networks are always strongly typed; the flags of 8.6 and 10 are gone

The only module that imports TensorRT, and only after the driver was checked.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

from engines.cuda import driver_problem, package_problem
from engines.errors import BundleError, Unavailable
from engines.manifest import Precision

log = logging.getLogger(__name__)

_MEMORY = re.compile(r"out ?of ?memory|insufficient memory|failed to allocate|bad_alloc", re.IGNORECASE)
_ERROR, _WARNING = 1, 2
_MAX_LINES = 20
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",  # not in 8.6
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


def tensorrt_problem() -> str | None:
    """Return why TensorRT cannot run here; None where it can. Does not import it."""
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT is not installed (JetPack brings it; elsewhere pip install tensorrt)"
    return package_problem() or driver_problem()


class MessageLog:
    """TensorRT's last messages, for errors: TensorRT returns None and logs the reason."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)

    def clear(self) -> None:
        self._lines.clear()

    def add(self, severity: int, message: str) -> None:
        if severity <= _ERROR or (severity == _WARNING and _MEMORY.search(message)):
            self._lines.append(message)
        # Many of TensorRT's warnings are about nothing.
        level = {_ERROR: logging.WARNING, _WARNING: logging.INFO}.get(max(severity, _ERROR), logging.DEBUG)
        log.log(level, "TensorRT: %s", message)

    @property
    def out_of_memory(self) -> bool:
        return any(_MEMORY.search(line) for line in self._lines)

    def last(self) -> str:
        """Return the last error on one line."""
        return " ".join(self._lines[-1].split())[:300] if self._lines else "it gave no reason"


@dataclass(frozen=True)
class TensorRT:
    """The imported library, the one logger of the process, and what its version needs."""

    library: Any
    version: str
    logger: Any
    messages: MessageLog

    @property
    def _major(self) -> int:
        return int(self.version.split(".")[0])

    def network_flags(self) -> int:
        """Return the flags of a network whose types are those of its graph."""
        if self._major >= 11:
            return 0
        kinds = self.library.NetworkDefinitionCreationFlag
        return 1 << int(kinds.EXPLICIT_BATCH if self._major == 8 else kinds.STRONGLY_TYPED)

    def supports(self, precision: Precision) -> bool:
        """Whether graphs of this precision can be built."""
        return not (self._major == 8 and precision == "bf16")

    def set_precision(self, config: Any, network: Any, precision: Precision) -> None:
        """Make the builder keep the types of the parsed graph."""
        flags = self.library.BuilderFlag
        # TF32 has only ten bits of mantissa, and a graph's fp32 is there for precision.
        config.clear_flag(flags.TF32)
        if self._major != 8 or precision == "fp32":
            return
        if precision == "int8":
            # Q/DQ nodes set the types; pinned neighbours would keep their kernels from being fused.
            config.set_flag(flags.INT8)
            return
        config.set_flag(flags.FP16)
        config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
        types = self.library.DataType
        for index in range(network.num_layers):
            layer = network.get_layer(index)
            outputs = [layer.get_output(number).dtype for number in range(layer.num_outputs)]
            if not outputs or any(kind not in (types.FLOAT, types.HALF) for kind in outputs):
                continue  # shapes, indices and flags have one type only
            if layer.type != self.library.LayerType.CONSTANT:
                layer.precision = outputs[0]
            for number, kind in enumerate(outputs):
                layer.set_output_type(number, kind)

    def dtype_name(self, kind: Any) -> str:
        """Return numpy's name of a tensor type; TensorRT's own table needs names that numpy 1.24 dropped.

        Raises BundleError for types that numpy does not have.
        """
        for trt_name, name in _DTYPES.items():
            if kind == getattr(self.library.DataType, trt_name, None):
                return name
        raise BundleError(
            f"a tensor of the graph's interface has type {kind}, expected one of {sorted(_DTYPES)}"
        )


@cache
def open_tensorrt() -> TensorRT:
    """Return the process's TensorRT. Raises Unavailable in one sentence where it cannot run."""
    reason = tensorrt_problem()
    if reason is not None:
        raise Unavailable(f"TensorRT cannot run here: {reason}")
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise Unavailable(f"TensorRT cannot be imported here: {str(error).strip()[:200]}") from error
    version = str(tensorrt.__version__)
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    if not (numbers[:1] in ([10], [11]) or numbers == [8, 6]):
        raise Unavailable(f"TensorRT 8.6, 10 or 11 is needed, {version} is installed")
    messages = MessageLog()
    return TensorRT(tensorrt, version, _logger(tensorrt, messages), messages)


def _logger(library: Any, messages: MessageLog) -> Any:
    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)  # super() does not reach a bound C++ class in all versions

        def log(self, severity: Any, message: str) -> None:
            messages.add(int(severity), message)

    return Logger()
