"""Fuzz bundles: an archive, a manifest, a graph or its weights.

The first byte of a case is its kind: Z an archive, M a manifest over small files with correct hashes, G an
ONNX graph and W the weights file beside it, loaded by onnxruntime if they pass our checks, X an OpenVINO
graph (checked, not loaded).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.config.paths import default_bundle
from edge_runtime.memory.version import empty_version
from engines.bundle import Bundle
from engines.errors import BundleError
from engines.graph_check import check_onnx, check_openvino
from engines.onnxruntime_engine import OnnxRuntimeEngine
from tools.fuzzing.mutate import encode_safetensors, mutate_bytes, mutate_json, mutate_safetensors_header

WEIGHTS = "weights.safetensors"
CONTENT = b"0123456789"
WORDS = (
    "weights.safetensors", "manifest.json", "Weights.safetensors", "../x", "/etc/passwd", "a/../b", "a//b",
    "./a", "a\\b",
    "graphs/onnxruntime/backbone.onnx", "onnxruntime", "openvino", "tensorrt", "backbone", "sampler",
    "reader", "fp32", "int8",
    "sha256", "bytes", "path", "data", "files", "graphs", "classes", "network", "data_offsets", "F32",
    "shape", "dtype",
)  # fmt: skip
BYTES = tuple(word.encode() for word in WORDS) + (
    b"PK\5\6", b"PK\1\2", b"PK\3\4", b"PK\6\6", b"PK\6\7", b"com.microsoft", b"ai.onnx", b"Loop",
    b"EPContext", b"Scan",
    b"location", b"offset", b"length", b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
    b"<layer type='Loop' version='opset1'/>", b"&a;",
    b"\x6a\x08\x0a\x08location", b"\x70\x01",
)  # fmt: skip


class Target:
    max_bytes = 8192

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "bundle"
        self._archive = folder / "bundle.lvm"
        self._folder.mkdir(exist_ok=True)
        shipped: dict[str, Any] = json.loads((default_bundle() / "manifest.json").read_text())
        record = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "bytes": len(CONTENT)}
        shipped["files"] = {name: record for name in shipped["files"]}
        shipped["parity"] = shipped.get("parity", [])[:1]
        shipped["training"] = {"trained": True, "recipe": "x"}
        shipped["classes"] = shipped["classes"][:2]
        shipped["network"]["activities"] = 2
        self._manifest = shipped
        files = dict(self._manifest["files"])
        for name in files:
            file = self._folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(CONTENT)
        self._weights = encode_safetensors(
            {"w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}},
            np.arange(16, dtype=np.float32).tobytes(),
        )

    def seeds(self) -> list[bytes]:
        manifest = json.dumps(self._manifest).encode()
        (self._folder / "manifest.json").write_bytes(manifest)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as out:
            for name in ["manifest.json", *self._manifest["files"]]:
                out.writestr(zipfile.ZipInfo(name), (self._folder / name).read_bytes())
        xml = b"<net name='a'><layers><layer id='0' type='Parameter' version='opset1'/></layers></net>"
        graphs = [_make_graph(location) for location in (None, WEIGHTS, "../secret")]
        return [
            b"Z" + packed.getvalue(), b"M" + manifest, b"W" + self._weights, b"X" + xml,
            *(b"G" + graph for graph in graphs)
        ]  # fmt: skip

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        if not data:
            return None
        kind, rest = data[:1], data[1:]
        changed = None
        if kind == b"M" and rng.random() < 0.8:
            changed = mutate_json(rest, rng, WORDS)
        elif kind == b"W" and rng.random() < 0.7:
            changed = mutate_safetensors_header(rest, rng, WORDS)
        return kind + (changed if changed is not None else mutate_bytes(rest, rng, BYTES))

    def run(self, data: bytes) -> None:
        handlers = {
            b"Z": self._run_archive,
            b"M": self._run_manifest,
            b"G": self._run_graph,
            b"W": self._run_weights,
            b"X": check_openvino,
        }
        handlers.get(data[:1], self._run_archive)(data[1:])

    def _run_archive(self, data: bytes) -> None:
        self._archive.write_bytes(data)
        _read_all(Bundle.open(self._archive))

    def _run_manifest(self, data: bytes) -> None:
        (self._folder / "manifest.json").write_bytes(data)
        bundle = Bundle.open(self._folder)
        _read_all(bundle)
        version = empty_version(bundle.manifest.network)
        assert version.memory.slots == bundle.manifest.network.memory_tokens

    def _run_graph(self, data: bytes) -> None:
        check_onnx(data, weights_name=WEIGHTS, weights_bytes=len(self._weights))
        _engine(data, self._weights)

    def _run_weights(self, data: bytes) -> None:
        _engine(_make_graph(WEIGHTS), data)


def _read_all(bundle: Bundle) -> None:
    for target, graphs in bundle.manifest.graphs.items():
        for name in graphs:
            bundle.graph(target, name)
            bundle.own_weights(target, name)
    bundle.weights()


def _engine(graph: bytes, weights: bytes) -> None:
    engine = OnnxRuntimeEngine(graph, weights, threads=1)
    shapes = {spec: [size for size in spec.shape if isinstance(size, int)] for spec in engine.inputs}
    small = all(
        len(sizes) == len(spec.shape) and max(sizes, default=0) <= 64 for spec, sizes in shapes.items()
    )
    if small and len(engine.inputs) <= 4:
        try:
            engine({spec.name: np.zeros(sizes, spec.dtype) for spec, sizes in shapes.items()})
        except ValueError as error:
            raise BundleError(
                str(error)[:200].encode("ascii", "replace").decode().replace("\n", " ")
            ) from error


def _make_graph(location: str | None) -> bytes:
    """Make a graph of x (1, 4) times w (4, 4), with w inside or in the file `location`."""
    weights = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4), "w")
    if location is not None:
        onnx.external_data_helper.set_external_data(weights, location, offset=0, length=64)
        weights.ClearField("raw_data")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(model.SerializeToString())
