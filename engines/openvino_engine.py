"""Run graphs on OpenVINO, the fastest backend on x86 CPUs. Imported only when it is chosen."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from engines.bundle import Buffer
from engines.errors import BundleError, Unavailable, first_line
from engines.manifest import Precision
from engines.spec import Array, Engine, Feeds, TensorSpec

try:
    import openvino as ov
except ImportError as error:
    raise Unavailable(
        'OpenVINO is not installed; pip install "lvm-edge[openvino]" or choose another --backend'
    ) from error

# Without the hint OpenVINO computes fp32 graphs in bf16 wherever the CPU has AMX. With the hint f16 it
# computes also the fp32 islands of a half-precision graph in fp16, and masks overflow there: NaN answers.
_HINTS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "w8": "f32", "int8": "f32"}


class OpenVinoEngine(Engine):
    """One ONNX graph on OpenVINO's CPU device."""

    def __init__(
        self,
        graph: Buffer,
        weights: Buffer | None,
        *,
        weights_name: str,
        own: Buffer | None = None,
        precision: Precision,
        threads: int,
    ) -> None:
        """Load a graph. `own` are the weights of one in OpenVINO's format; ONNX finds them in `weights`."""
        hint = _HINTS[precision]
        settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if precision == "w8":
            # Else it would also round activations to eight bits wherever weights have eight bits.
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
        try:
            if own is not None:
                model = core().read_model(bytes(graph), bytes(own))
                self._compiled = core().compile_model(model, "CPU", settings)
            else:
                self._compiled = _compile(graph, weights, weights_name, settings)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load the graph: {first_line(error)}") from error
        self.inputs = tuple(_spec(port) for port in self._compiled.inputs)
        self.outputs = tuple(_spec(port) for port in self._compiled.outputs)
        self.backend = f"OpenVINO CPU {hint}"
        self._free_requests: list[Any] = []
        """Infer requests that are free now: as many as ever ran at once, however many threads call."""

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        # An infer request serves one call at a time; questions and ingest each get their own.
        try:
            request = self._free_requests.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            request.infer(dict(feeds), share_inputs=True, share_outputs=False)
            return {
                spec.name: np.array(request.get_output_tensor(index).data)
                for index, spec in enumerate(self.outputs)
            }
        finally:
            self._free_requests.append(request)


def _compile(graph: Buffer, weights: Buffer | None, weights_name: str, settings: dict[str, Any]) -> Any:
    """Compile an ONNX graph. OpenVINO looks for external weights beside it, so both go to one folder.

    They must stay there until the model is compiled: large tensors are read no earlier.
    """
    needed = len(graph) + (0 if weights is None else len(weights))
    with tempfile.TemporaryDirectory(prefix="lvm-edge-", dir=find_memory_folder(needed)) as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(graph)
        if weights is not None:
            (Path(folder) / weights_name).write_bytes(weights)
        model = core().read_model(path, config={"ENABLE_MMAP": False})
        return core().compile_model(model, "CPU", settings)


def find_memory_folder(needed: int, folder: Path = Path("/dev/shm")) -> Path | None:
    """Return `folder`, which lies in RAM, if it takes `needed` bytes; None, the usual place, if it does not.

    A start would write the weights to a kiosk's flash three times, 90 MB with the default bundle.
    """
    if not os.access(folder, os.W_OK | os.X_OK) or shutil.disk_usage(folder).free < 2 * needed:
        return None
    return folder


@cache
def core() -> Any:
    """Return the process's one core, which is never closed.

    OpenVINO gives the thread that opens a core another stack for signals and removes it with the core. When
    two cores are closed in the order in which they were opened, the thread is left with the stack of the
    first, which is freed: the next signal that Python handles would end the process.
    """
    return ov.Core()


def _spec(port: Any) -> TensorSpec:
    shape = tuple(
        dim.get_length() if dim.is_static else f"free_{port.get_any_name()}_{axis}" if axis else "batch"
        for axis, dim in enumerate(port.get_partial_shape())
    )
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()).name, shape)
