"""Run graphs on onnxruntime: CPU everywhere, CUDA where its provider is installed."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime as ort

from engines.bundle import Buffer
from engines.errors import BundleError, CannotBuild, first_line
from engines.spec import Array, Engine, Feeds, TensorSpec

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_SAFETENSORS_DTYPES = {
    "F32": "float32",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I8": "int8",
    "U8": "uint8",
}


class OnnxRuntimeEngine(Engine):
    """One ONNX graph on one provider. Sessions may be called from several threads."""

    def __init__(
        self, graph: Buffer, weights: Buffer | None, *, provider: str = "CPUExecutionProvider", threads: int
    ) -> None:
        options = session_options(threads)
        try:
            arrays = attach_weights(options, bytes(graph), weights)
            self._session = ort.InferenceSession(bytes(graph), options, providers=[provider])
        except Exception as error:  # a dozen unrelated types, all for an unusable graph or weights
            raise BundleError(f"onnxruntime cannot load the graph: {first_line(error)}") from error
        del arrays  # the session has copied what it needs
        if provider not in self._session.get_providers():
            # onnxruntime falls back to the CPU, and only logs it.
            raise CannotBuild(
                f"onnxruntime has {provider} but cannot start it here, as a library of its is missing "
                "(CUDA and cuDNN of the versions that it was built with)"
            )
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self.backend = "onnxruntime " + provider.removesuffix("ExecutionProvider")

    @cached_property
    def _output_names(self) -> list[str]:
        return [spec.name for spec in self.outputs]

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        results = self._session.run(self._output_names, dict(feeds))
        return dict(zip(self._output_names, results, strict=True))


def session_options(threads: int) -> Any:
    """Return session options: explicit threads, and none that spin beside the camera's decoder."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # One block planned for all activations at once costs half as much memory again (a sampler of 11,760
    # tokens, d = 256: 497 MB against 326 MB) and gains nothing that could be measured on small graphs.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    # Idle workers that spin take the core that decodes and renders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def attach_weights(options: Any, graph: bytes, weights: Buffer | None) -> list[Any]:
    """Add the initialisers that a graph has in `weights.safetensors` from memory, by name.

    onnxruntime refuses names that the graph does not have, and a graph uses only its own part of the weights.
    Returns values that must stay alive until the session is made.
    """
    if weights is None:
        return []
    names, values = [], []
    for name, array in safetensors_views(weights).items():
        if name.encode() not in graph:
            continue
        names.append(name)
        values.append(ort.OrtValue.ortvalue_from_numpy(array))
    options.add_external_initializers(names, values)
    return values


def safetensors_views(data: Buffer) -> dict[str, Array]:
    """Return the arrays of a safetensors file as views of `data`: nothing is copied or executed."""
    size = int.from_bytes(bytes(data[:8]), "little")
    header = json.loads(bytes(data[8 : 8 + size]))
    views = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        raw = np.frombuffer(data, np.uint8, end - start, 8 + size + start)
        views[name] = raw.view(_SAFETENSORS_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return views


def providers() -> tuple[str, ...]:
    """Return the execution providers of the installed onnxruntime."""
    return tuple(ort.get_available_providers())


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise BundleError(f"graph tensor {node.name} has type {node.type}, expected one of {sorted(_DTYPES)}")
    return TensorSpec(
        node.name, _DTYPES[node.type], tuple(d if isinstance(d, int) else str(d) for d in node.shape)
    )
