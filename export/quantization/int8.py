"""Eight-bit graphs: each engine has its own quantiser, because neither reads the other's format well.

onnxruntime gets Q/DQ pairs from its own static quantiser (`onnxruntime_int8`), OpenVINO its intermediate
representation from nncf (`openvino_int8`): onnxruntime's Q/DQ file, read by OpenVINO, was wrong (cosine
0.93). Such graphs carry their weights.

Only products with a parameter may become eight bits. A product of two activations (attention) stays as it is,
as it does inside onnxruntime's fused attention, and so do the last products before scores, positions and
spans.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from engines.spec import Array, Engine
from export.onnx_graphs.fp32_islands import PRODUCTS, find_products, find_score_products, find_users

Feeds = Sequence[dict[str, Array]]


@dataclass(frozen=True)
class QuantisedGraph:
    """An int8 graph and, where they are a file of their own, its weights."""

    graph: bytes
    weights: bytes | None = None


class Quantiser(Protocol):
    """Makes eight-bit forms of one graph, whose ranges were measured once."""

    @property
    def parameters(self) -> Sequence[str]:
        """Parameters whose products may become eight bits."""

    def quantise(self, keep: Collection[str] = ()) -> QuantisedGraph:
        """Quantise all products but those of the parameters `keep`."""

    def load(self, quantised: QuantisedGraph) -> Engine:
        """Load an engine that runs the graph on this machine."""


@dataclass(frozen=True)
class Operators:
    """Which products of a graph may become eight bits: parameter -> names of the products that take it.

    `fixed` are the names of the products that may not.
    """

    free: dict[str, tuple[str, ...]]
    fixed: tuple[str, ...]

    @classmethod
    def from_graph(cls, graph: Path, keep: Sequence[str]) -> Operators:
        """Sort the products of the ONNX file `graph`; `keep` are patterns (fnmatch) of parameters that stay
        fp32."""
        model = ir.load(graph)
        islands = {
            str(node.name) for node in find_score_products(model.graph) | find_users(model.graph, keep)
        }
        free = {
            parameter: names
            for parameter, names in find_products(model.graph).items()
            if not islands & set(names)
        }
        named = {name for names in free.values() for name in names}
        every = [str(node.name) for node in model.graph if node.op_type in PRODUCTS]
        return cls(free, tuple(name for name in every if name not in named))

    def list_fp32(self, keep: Collection[str]) -> list[str]:
        """Return the names of the products that stay fp32 if the parameters `keep` do too."""
        return [
            *self.fixed,
            *(name for parameter in self.free if parameter in keep for name in self.free[parameter]),
        ]
